"""Many copies in one launch."""

from typing import Any

import cupy
import numpy as np

from portnn_cupy.kernels import COPIES
from portnn_cupy.launch import in_order, launch

Array = Any
TABLE = np.dtype([("words", np.int64, COPIES), ("from", np.uint64, COPIES), ("to", np.uint64, COPIES)])


def copy_all(pairs: list[tuple[Array, Array]]) -> None:
    """Copies the values of each second array into the first, of its shape and dtype, all in one launch."""
    flat = [(target, in_order(source)) for target, source in pairs if target.nbytes]
    words = [pair for pair in flat if _is_in_words(*pair)]
    for start in range(0, len(words), COPIES):
        part, all_of_them = words[start : start + COPIES], np.zeros((), TABLE)
        for name, values in (
            ("words", [target.nbytes // 4 for target, _ in part]),
            ("from", [source.data.ptr for _, source in part]),
            ("to", [target.data.ptr for target, _ in part]),
        ):
            all_of_them[name][: len(part)] = values
        launch("copy_all", None, max(target.nbytes // 4 for target, _ in part), all_of_them, rows=len(part))
    for target, source in flat:
        if not _is_in_words(target, source):
            cupy.copyto(target, source)


def _is_in_words(target: Array, source: Array) -> bool:
    """Whether both consist of whole words of four bytes, at aligned addresses."""
    return bool(target.flags.c_contiguous) and not (target.nbytes | target.data.ptr | source.data.ptr) % 4
