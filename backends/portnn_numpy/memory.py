"""Freed memory is kept for the next array of its size instead of being given back to the operating system.

Arrays of more than 128 KiB come from fresh, zeroed pages each time, and the page faults of a functional train step cost
more than its arithmetic. Two settings of glibc's allocator end that. They hold for the whole process, so they are made
at the first training, never at import. Other C libraries: nothing is done.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LIMITS = (1 << 30, 1 << 25)  # older versions of glibc refuse more than 32 MiB

_kept: int | None = None


def keep_freed() -> int:
    """Asks glibc to keep freed blocks; returns the largest size it keeps, in bytes, 0 where it cannot be asked."""
    global _kept
    if _kept is None:
        _kept = next((limit for limit in _LIMITS if _mallopt(_M_MMAP_THRESHOLD, limit)), 0)
        if _kept:  # alone it would only switch off glibc's own adaptation
            _mallopt(_M_TRIM_THRESHOLD, _kept)
    return _kept


def _mallopt(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(option, value))
    except (OSError, AttributeError):  # no shared C library, or one that is not glibc's
        return False
