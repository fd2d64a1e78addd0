"""What every command has in common: streams that take any text, and one line for whatever went wrong."""

import codecs
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

FAILED, BAD_ARGUMENTS = 1, 2
INTERRUPTED, CLOSED_PIPE = 130, 141  # 128 + the number of the signal, as shells count

# Characters that tables and formulas are written with, for a terminal whose encoding lacks them.
ASCII = {
    **dict.fromkeys("─━═―–—−‐‑", "-"),  # noqa: RUF001
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝", "+"),
    **dict.fromkeys("█▓▒▇▆▅▄", "#"),
    **dict.fromkeys("‘’‚", "'"),  # noqa: RUF001
    **dict.fromkeys("“”„«»", '"'),
    "×": "x",  # noqa: RUF001
    "·": "*",
    "…": "...",
    "→": "->",
    "←": "<-",
    "▶": ">",
    "◀": "<",
    "∂": "d",
    "Σ": "sum",
    "∑": "sum",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "±": "+-",
    "²": "^2",
    "ᵀ": "^T",
    "\N{NO-BREAK SPACE}": " ",
}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(ASCII.get(character, "?") for character in bad), error.end


codecs.register_error("portnn.ascii", _in_ascii)


@contextmanager
def any_text() -> Iterator[None]:
    """A context in which stdout replaces what its encoding lacks, instead of raising UnicodeEncodeError."""
    out: Any = sys.stdout
    before = getattr(out, "errors", None)
    can = before in ("strict", "surrogateescape") and hasattr(out, "reconfigure")  # the latter in the C locale
    if can:
        out.reconfigure(errors="portnn.ascii")
    try:
        yield
    finally:
        if can:
            with suppress(ValueError, OSError):  # closed meanwhile, or its pipe is
                out.reconfigure(errors=before)


def one_line(text: str) -> str:
    """A message folded into one line, without characters that would move the cursor."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    folded = ""
    for line in filter(None, lines):
        folded += ("" if not folded else " " if folded[-1] in ":;,.(" else "; ") + line
    return "".join(character if character.isprintable() else "?" for character in folded)


def message(error: BaseException) -> str:
    """What an error says, in one line; of an unforeseen one its kind too."""
    if isinstance(error, MemoryError):
        return one_line(f"not enough memory. {error}")
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, (str, os.PathLike)) else ""
        return one_line(f"{where}{error.strerror}")
    text = one_line(str(error))
    if not text:
        return type(error).__name__
    if isinstance(error, (ValueError, RuntimeError, OSError, ImportError)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


@contextmanager
def about(path: str) -> Iterator[None]:
    """A context whose errors name the file that they are about."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        told = message(error)
        raise (error if told.startswith(one_line(path)) else ValueError(f"{path}: {told}")) from None


def tell(text: str) -> None:
    """A line on stderr."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text.encode("utf-8", "replace").decode(), file=sys.stderr, flush=True)


@contextmanager
def short_warnings(command: str) -> Iterator[None]:
    """A context in which a warning is one line on stderr."""

    def show(warning: Any, *place: Any, **more: Any) -> None:
        tell(f"portnn {command}: warning: {one_line(str(warning))}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def is_unread() -> bool:
    """Whether stdout is a pipe that its reader has closed."""
    try:
        import select

        poll = select.poll()  # none on Windows
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))  # asked for nothing, it tells of errors only
    except (ImportError, AttributeError, OSError, ValueError):
        return False


def give_up_stdout() -> None:
    """After a closed pipe: what is still buffered goes nowhere, so that the interpreter does not fail at its exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
