"""All counters of a train step, in one launch."""

from typing import Any

import cupy
import numpy as np

from portnn_cupy.launch import REALS, launch

Array = Any


def tally(step: Array, position: Array, total: Array, finite: Array, error: Array, size: int) -> tuple[Array, ...]:
    old = step, position, total, finite
    kinds = [getattr(a, "dtype", None) for a in old]
    if kinds != [np.int64, np.int64, np.float64, np.int64] or error.dtype.name not in REALS:
        return NotImplemented
    new = [cupy.empty((), a.dtype) for a in old]
    launch("tally", error.dtype, 1, *old, error, *new, np.int64(size))
    return tuple(new)
