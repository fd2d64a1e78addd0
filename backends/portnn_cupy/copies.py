"""Many copies in one launch."""

from typing import Any

import cupy
import numpy as np

from portnn_cupy.kernels import COPIES
from portnn_cupy.launch import NULL, REALS, in_order, launch

Array = Any


def copy_all(pairs: list[tuple[Array, Array]]) -> None:
    """Copies the values of each second array into the first, of its shape and dtype, all in one launch."""
    flat = [(target, in_order(source)) for target, source in pairs if target.nbytes]
    words = [pair for pair in flat if _is_in_words(*pair)]
    dtype = next((target.dtype for target, _ in flat if target.dtype.name in REALS), np.float32)
    for start in range(0, len(words), COPIES):
        part = words[start : start + COPIES]
        arguments: list[Any] = []
        for target, source in part:
            arguments += [np.int64(target.nbytes // 4), *(a.reshape(-1).view(np.uint32) for a in (source, target))]
        arguments += [np.int64(0), NULL, NULL] * (COPIES - len(part))
        largest = max(target.nbytes // 4 for target, _ in part)
        launch("copy_all", dtype, largest, *arguments, rows=len(part))
    for target, source in flat:
        if not _is_in_words(target, source):
            cupy.copyto(target, source)


def _is_in_words(target: Array, source: Array) -> bool:
    """Whether both consist of whole words of four bytes, at aligned addresses."""
    return bool(target.flags.c_contiguous) and not (target.nbytes | target.data.ptr | source.data.ptr) % 4
