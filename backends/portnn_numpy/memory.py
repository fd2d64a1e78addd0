"""Keeps freed memory for later arrays instead of returning it to the operating system.

By default, arrays of more than 128 KiB get fresh, zeroed pages each time, and the page faults of a functional train
step can cost more than its arithmetic. Two settings of glibc's allocator avoid that. They affect the whole process, so
they are made at the first training, never at import. With other C libraries nothing is done.
"""

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LIMITS = (1 << 30, 1 << 25)  # older versions of glibc refuse more than 32 MiB

_kept: int | None = None


def keep_freed() -> int:
    """Makes glibc keep freed blocks; returns the largest size that it keeps, in bytes, 0 for other C libraries."""
    global _kept
    if _kept is None:
        _kept = next((limit for limit in _LIMITS if _mallopt(_M_MMAP_THRESHOLD, limit)), 0)
        if _kept:  # on its own it would only switch off glibc's adaptive threshold
            _mallopt(_M_TRIM_THRESHOLD, _kept)
    return _kept


def describe() -> str:
    """What happens to freed memory here, as text; changes nothing."""
    if _kept:
        return f"kept for the next step, in blocks of up to {_kept >> 20} MiB"
    if _kept == 0 or _library() is None:
        return "returned to the system after each step: this C library has no setting for it"
    return "kept for the next step from the first fit on"


def _mallopt(option: int, value: int) -> bool:
    library = _library()
    return library is not None and bool(library.mallopt(option, value))


def _library() -> Any:
    """The C library, if it is glibc; None otherwise."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:  # no shared C library
        return None
    return library if hasattr(library, "mallopt") else None
