"""``portnn run``: a script written as the article's, unchanged, on portnn."""

import argparse
import atexit
import builtins
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import portnn
from portnn.cli import arguments, children, console

DESCRIPTION = """Runs SCRIPT as `python SCRIPT` would. The modules that the article's scripts
import are portnn's: network, layer, fc_layer, activation_layer, conv_layer,
flatten_layer, activations, losses, unless they lie in the script's folder.
Where Keras is not installed, keras.datasets.mnist gives the digits that come
with portnn (the first 5,000 and 1,000 of MNIST's), and keras.utils.np_utils
and keras.utils.to_categorical are served too. SCRIPT is a file, a folder or zip
file with __main__.py, or - for stdin. Options stand before it; what stands
after it is the script's."""

EXAMPLES = """The exit status is that of the script.

examples:
  portnn run xor.py
  portnn run --backend gpu mnist_fc.py
  portnn run --original-weights --seed 0 --dtype float64 mnist_fc.py
"""


def add(command: Any) -> None:
    parser = command("run", help="run a script written as the article's", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--backend", type=arguments.backend, help='the backend of networks that name none: "cpu", "gpu"'
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], help="the dtype of networks that name none")
    parser.add_argument("--full", action="store_true", help="all of MNIST, downloaded once, instead of the sample")
    parser.add_argument(
        "--original-weights",
        action="store_true",
        help="draw weights as the article does, np.random.rand(...) - 0.5, weights, then bias, as layers are made; on "
        "the CPU, round as its code does, too",
    )
    parser.add_argument(
        "--seed",
        type=arguments.seed,
        metavar="S",
        help="calls np.random.seed(S) first, and is the seed of networks that name none",
    )
    parser.add_argument("script", metavar="SCRIPT", type=arguments.given)
    rest = parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER)
    rest.required = False  # else argparse names it beside a missing SCRIPT
    parser.set_defaults(run=run)


ENDED = "\0--"


def protected(arguments: list[str]) -> list[str]:
    """The command line with ``--`` where argparse does not see it, and leaves it to the script."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    return [ENDED if word == "--" else word for word in arguments] if command == "run" else arguments


def run(options: argparse.Namespace) -> int:
    if options.script == ENDED:  # portnn run -- SCRIPT
        if not options.args:
            raise arguments.BadArgumentsError("the SCRIPT to run is missing")
        options.script, *options.args = options.args
    options.args = ["--" if word == ENDED else word for word in options.args]
    if options.backend is not None:
        portnn.get_backend(options.backend)  # its error is ours, not the script's
    script = read(options.script)
    given = {name: getattr(options, name) for name in ("backend", "dtype", "seed", "full", "original_weights")}
    with ExitStack() as stack:
        stack.enter_context(_as_main([options.script, *options.args], script))
        stack.enter_context(children.told({"folder": script.folder, **given}))
        stack.enter_context(children.world(script.folder, **given))
        if getattr(options, "whole_process", False):
            # Threads and exit functions of the script come later. Those run in reverse order: ours, which is the first
            # to be registered, is the last to run.
            atexit.register(stack.pop_all().close)
        return _execute(script, getattr(options, "debug", False))


class Script(NamedTuple):
    """What is to run: the source or compiled code, its ``__file__``, and the folder that modules come from first."""

    code: Any
    file: str | None
    folder: str
    spec: Any = None  # of __main__ in a folder or a zip file


def read(script: str) -> Script:
    """A file, a folder or zip file with ``__main__.py``, or stdin for ``-``; OSError or ValueError for others."""
    if script == "-":
        if sys.stdin is None:
            raise ValueError("- reads the script from stdin, which is closed")
        return Script(sys.stdin.buffer.read(), None, os.getcwd())
    path = os.path.join(os.getcwd(), script)  # as Python has it in __file__
    importer = pkgutil.get_importer(path)
    if importer is not None:
        spec = importer.find_spec("__main__")
        if spec is None or spec.loader is None:
            raise ValueError(f"{script}: it holds no __main__.py to run")
        return Script(spec.loader.get_code("__main__"), spec.origin, path, spec)  # type: ignore[attr-defined]
    with open(script, "rb") as file:
        return Script(file.read(), path, os.path.dirname(os.path.realpath(path)))


def _execute(script: Script, debug: bool) -> int:
    """Runs the code as ``__main__``; its exit status, as Python's own."""
    try:
        code = script.code
        if isinstance(code, bytes):
            code = compile(code, script.file or "<stdin>", "exec", dont_inherit=True)
        exec(code, vars(sys.modules["__main__"]))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = int(end.code or 0)
            return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
        console.tell(str(end.code))
        return 1
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and console.is_unread():
            raise
        console.flush()
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            shown = traceback.TracebackException.from_exception(error)
            if not debug:
                _leave_out(shown, set())
            console.tell("".join(shown.format()).rstrip("\n"))
        return 1
    return 0


OURS = str(Path(portnn.__file__).parent) + os.sep


def _leave_out(shown: traceback.TracebackException | None, seen: set[int]) -> None:
    """Leaves portnn's frames, and those of the import system, out of a traceback and of those it is chained to."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    frames = [frame for frame in shown.stack if not frame.filename.startswith((OURS, "<frozen importlib"))]
    shown.stack = traceback.StackSummary.from_list(frames)
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        _leave_out(other, seen)


@contextmanager
def _as_main(argv: list[str], script: Script) -> Iterator[None]:
    """A context in which sys.argv, sys.path and ``__main__`` are as for ``python SCRIPT ARGS...``."""
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __spec__=script.spec)
    if script.file is not None:
        vars(main).update(__file__=script.file, __cached__=None)
    if script.spec is not None:
        vars(main).update(__package__="", __loader__=script.spec.loader)
    before = sys.argv, sys.path[:], sys.modules["__main__"]
    # What Python has put first for portnn itself: the folder of the program, or with -m the current one.
    first = sys.path[:1] if not sys.flags.safe_path else []
    own = {"", os.getcwd(), os.path.dirname(os.path.realpath(sys.argv[0] or "."))}
    rest = sys.path[1:] if first and first[0] in own else sys.path[:]
    sys.argv = argv
    sys.path[:] = rest if sys.flags.safe_path else [script.folder, *rest]
    sys.modules["__main__"] = main
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before
        sys.excepthook = hook
