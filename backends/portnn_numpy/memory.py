"""Where arrays lie: freed memory is kept for later ones, and what stays for long begins at a cache line.

By default, arrays of more than 128 KiB get fresh, zeroed pages each time, and the page faults of a functional train
step can cost more than its arithmetic. Two settings of glibc's allocator keep freed memory instead. They affect the
whole process, so they are made at the first training, never at import. With other C libraries nothing is done.
"""

import ctypes
import sys
from typing import Any

import numpy as np

LINE, LARGE = 64, 1 << 14  # bytes: of a cache line; of arrays for which it matters
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


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy in C order that begins at a cache line, where it is large enough to matter.

    Products of a matrix with few rows read it once, so their time depends on how it lies: NumPy's memory begins at a
    multiple of 16 bytes only, wherever the program happened to be in its heap.
    """
    if array.nbytes < LARGE or array.dtype.hasobject or not array.dtype.isnative:
        return np.array(array, order="C")
    memory = np.empty(array.nbytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


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
