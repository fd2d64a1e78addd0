"""Functions of the namespace in a quicker form, of the same meaning."""

from typing import Any

import numpy as np

Array = Any
LEAST = 1 << 17  # numbers: of fewer, the order in memory does not matter
BLOCK = 128  # columns


def matmul(a: Array, b: Array) -> Array:
    """``numpy.matmul``, quicker for 2-D operands: ``dot`` goes to BLAS where ``matmul`` loops (column times row)."""
    return np.dot(a, b) if a.ndim == 2 and b.ndim == 2 else np.matmul(a, b)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """``numpy.reshape`` without its wrapper; images become rows, and rows images, with the batch axis still fastest.

    The values are those of ``numpy.reshape``, their order in memory need not be. Written out sample by sample, images
    would be turned over number by number; as they lie, whole lines of the batch move. BLAS reads rows either way.
    """
    if copy is not None:
        return np.reshape(x, shape, copy=copy)
    if x.size >= LEAST and isinstance(shape, tuple) and shape[0] == x.shape[0]:
        if len(shape) == 2 and x.ndim > 2 and _batch_is_fastest(x):
            return np.ascontiguousarray(x.transpose(*range(1, x.ndim), 0)).reshape(-1, x.shape[0]).T
        if len(shape) > 2 and x.ndim == 2:
            lines = _turned(x) if x.flags.c_contiguous else np.ascontiguousarray(x.T)
            return lines.reshape(*shape[1:], shape[0]).transpose(len(shape) - 1, *range(len(shape) - 1))
    return x.reshape(shape)


def _batch_is_fastest(x: Array) -> bool:
    return x.shape[0] > 1 and x.strides[0] == x.itemsize


def _turned(x: Array) -> Array:
    """The transpose of a matrix (N, K) written out, a block of columns at a time: they stay in the cache."""
    out = np.empty((x.shape[1], x.shape[0]), x.dtype)
    for start in range(0, x.shape[1], BLOCK):
        out[start : start + BLOCK] = x[:, start : start + BLOCK].T
    return out


def sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:  # noqa: A001
    """``numpy.sum`` without its wrapper."""
    reduce: Any = np.add.reduce
    return reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)
