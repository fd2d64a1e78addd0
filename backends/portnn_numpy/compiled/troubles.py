"""What goes wrong with Numba: said once, told by ``python -m portnn info``. The work goes on without what was lost."""

import warnings

LOOPS, CACHE = "loops", "cache"  # what is lost: the compiled loops, or only that they are kept for the next process
LONGEST = 300  # characters of an error: Numba's go over many lines

_found: dict[str, list[str]] = {}
_said: set[str] = set()


class CompiledLoopsWarning(UserWarning):
    """Loops that Numba compiles are not used, or are compiled again in every process: both are slower."""


def note(lost: str, words: str) -> None:
    """Remembers what was lost and why, for ``say`` and ``found``."""
    noted = _found.setdefault(lost, [])
    if words not in noted:
        noted.append(words)


def say() -> None:
    """Warns of what was noted last, of each kind of loss once in a process."""
    for lost, noted in _found.items():
        if lost not in _said:
            _said.add(lost)
            warnings.warn(noted[-1], CompiledLoopsWarning, stacklevel=3)


def found(lost: str) -> list[str]:
    """What was noted of one kind of loss; nothing if all is well."""
    return _found.get(lost, [])


def words(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST] + '...'}"
