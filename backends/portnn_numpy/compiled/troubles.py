"""Failures of Numba: reported by one warning and by ``python -m portnn info``. Training continues without it."""

import warnings

LOOPS, CACHE, THREADS = "loops", "cache", "threads"  # what failed: the loops, or only their cache on disk, or threads
LONGEST = 300  # characters of an error: Numba's are many lines long

_found: dict[str, list[str]] = {}
_said: set[str] = set()


class CompiledLoopsWarning(UserWarning):
    """Loops that Numba compiles are not used, or compiled again in every process, or on one thread: all are slower."""


def note(lost: str, words: str) -> None:
    """Records what failed and why, for ``say`` and ``found``."""
    noted = _found.setdefault(lost, [])
    if words not in noted:
        noted.append(words)


def say() -> None:
    """Warns of the failures noted last, once per process for each kind."""
    for lost, noted in _found.items():
        if lost not in _said:
            _said.add(lost)
            warnings.warn(noted[-1], CompiledLoopsWarning, stacklevel=3)


def found(lost: str) -> list[str]:
    """The failures of one kind that were noted; empty if all is well."""
    return _found.get(lost, [])


def words(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST] + '...'}"
