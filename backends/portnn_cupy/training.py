"""The rows of a batch, and the counters of a train step, in one launch each."""

from math import prod
from typing import Any

import cupy
import numpy as np

from portnn_cupy.kernels import ROW_KINDS
from portnn_cupy.launch import NULL, REALS, launch

Array = Any


def update_counters(
    step: Array, position: Array, total: Array, finite: Array, error: Array, size: int
) -> tuple[Array, ...]:
    old = step, position, total, finite
    kinds = [getattr(a, "dtype", None) for a in old]
    if kinds != [np.int64, np.int64, np.float64, np.int64] or error.dtype.name not in REALS:
        return NotImplemented
    new = [cupy.empty((), a.dtype) for a in old]
    launch("update_counters", error.dtype, 1, *old, error, *new, np.int64(size))
    return tuple(new)


KINDS_OF_ROWS = {"uint8": "byte", "int64": "number"}


def rows(data: Array, order: Array | None, position: Array, offsets: Array, batch_size: int, dtype: Any) -> Array:
    taken, wanted = (KINDS_OF_ROWS.get(np.dtype(d).name, "real") for d in (data.dtype, dtype))
    real = np.dtype(dtype) if wanted == "real" else np.dtype(np.float32)
    known = (taken, wanted) in ROW_KINDS and (taken != "real" or data.dtype == real) and real.name in REALS
    if not known or position.dtype != np.int64 or not data.flags.c_contiguous:
        return NotImplemented
    out = cupy.empty((offsets.shape[0], *data.shape[1:]), dtype)
    numbers = np.int64(batch_size), np.int64(offsets.shape[0]), np.int64(prod(data.shape[1:]))
    launch(f"rows_{taken}_{wanted}", real, out.size, data, NULL if order is None else order, position, out, *numbers)
    return out
