"""Faster versions of some functions of NumPy's namespace, with the same meaning."""

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

Array = Any
LEAST = 1 << 17  # elements: with fewer, the memory order does not matter
BLOCK = 128  # columns that ``_turned`` copies at a time
COMPETE, APART = 512, 16  # see ``_turned``: bytes; the columns that keep rows of a block from competing
FEW = 64  # terms that may be summed sequentially
PARTS = 16  # of an axis, summed side by side
A_BATCH = 256  # the most rows that ``_rows_added`` sums
reduce: Any = np.add.reduce


def matmul(a: Array, b: Array) -> Array:
    """``numpy.matmul``, faster for 2-D operands: ``dot`` uses BLAS where ``matmul`` loops (column times row)."""
    return np.dot(a, b) if a.ndim == 2 and b.ndim == 2 else np.matmul(a, b)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None, turned: Any = None) -> Array:
    """``numpy.reshape`` without its wrapper; images become rows, and rows images, with the batch axis still fastest.

    The values are those of ``numpy.reshape``, but the memory order may differ. Sample by sample, images would be
    transposed element by element; with the batch axis fastest, whole lines are copied. BLAS reads either order.
    ``turned`` is a function that returns a contiguous transpose of a C-ordered matrix, or None.
    """
    if copy is not None:
        return np.reshape(x, shape, copy=copy)
    if x.size >= LEAST and isinstance(shape, tuple) and shape[0] == x.shape[0]:
        if len(shape) == 2 and x.ndim > 2 and _batch_is_fastest(x):
            return np.ascontiguousarray(x.transpose(*range(1, x.ndim), 0)).reshape(-1, x.shape[0]).T
        if len(shape) > 2 and x.ndim == 2:
            lines = np.ascontiguousarray(x.T) if not x.flags.c_contiguous else turned(x) if turned is not None else None
            lines = _turned(x) if lines is None else lines
            return lines.reshape(*shape[1:], shape[0]).transpose(len(shape) - 1, *range(len(shape) - 1))
    return x.reshape(shape)


def _batch_is_fastest(x: Array) -> bool:
    return x.shape[0] > 1 and x.strides[0] == x.itemsize


def _turned(x: Array) -> Array:
    """A contiguous transpose of a matrix (N, K), copied in blocks of columns that fit in the cache.

    Rows that are some multiple of 512 bytes apart compete for the same few places in the cache. So each block of
    them is first copied as it is, into rows that do not.
    """
    out = np.empty((x.shape[1], x.shape[0]), x.dtype)
    block = np.empty((x.shape[0], BLOCK + APART), x.dtype) if x.strides[0] % COMPETE == 0 else None
    for start in range(0, x.shape[1], BLOCK):
        columns = x[:, start : start + BLOCK]
        if block is not None:
            copy = block[:, : columns.shape[1]]
            copy[...] = columns
            columns = copy
        out[start : start + BLOCK] = columns.T
    return out


def sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:  # noqa: A001
    """``numpy.sum`` without its wrapper, and ``total`` for floating arrays."""
    if type(axis) is not int and hasattr(axis, "__index__"):
        axis = int(axis)
    if dtype is None and type(x) is np.ndarray and x.dtype.kind == "f":
        return total(x, axis, keepdims)
    return reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)


def total(x: Array, axes: Any = None, keepdims: bool = False) -> Array:
    """The sum over ``axes``; many terms are summed in blocks.

    NumPy sums pairwise along axes that are contiguous in memory, but sequentially along others. There, 16 equally long
    parts of an axis are added at a time, which is faster too.
    """
    if x.size > FEW:
        if type(axes) is int:
            n, stride = x.shape[axes], x.strides[axes]
            if axes == 0 and n <= A_BATCH and x.ndim == 2 and x.flags.c_contiguous and type(x) is np.ndarray:
                y = _rows_added(x)
                return y if keepdims else y[0]
            if n > FEW and stride != x.itemsize:
                x = _total_along(x, axes % x.ndim)
        elif not (axes is None and x.flags.forc):
            x = _shortened(x, axes)
    return reduce(x, axis=axes, keepdims=keepdims)


def _rows_added(x: Array) -> Array:
    """The sum of the rows of a C-contiguous matrix, (1, K): as a BLAS product, which is faster than NumPy's sum."""
    if x.shape[0] > FEW and x.shape[0] % PARTS == 0:
        x = np.dot(_ones(PARTS, x.dtype), x.reshape(PARTS, -1)).reshape(-1, x.shape[1])
    return np.dot(_ones(x.shape[0], x.dtype), x)


@lru_cache(maxsize=64)
def _ones(n: int, dtype: Any) -> Array:
    ones = np.ones((1, n), dtype)
    ones.flags.writeable = False
    return ones


def _shortened(x: Array, axes: Any) -> Array:
    """The array summed over some of the axes, kept with length 1, so that NumPy can sum the others."""
    axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    while True:
        count = prod(x.shape[axis] for axis in axes)
        if count <= FEW or count <= FEW * _pairwise(x, axes):
            return x
        x = _total_along(x, max((axis for axis in axes if x.shape[axis] > 1), key=lambda axis: abs(x.strides[axis])))


def _pairwise(x: Array, axes: Any) -> int:
    """The number of terms that are contiguous in memory, along the innermost axes."""
    run, step = 1, None
    for axis in sorted((axis for axis in range(x.ndim) if x.shape[axis] > 1), key=lambda axis: abs(x.strides[axis])):
        if axis not in axes or step not in (None, x.strides[axis]):
            break
        run, step = run * x.shape[axis], x.strides[axis] * x.shape[axis]
    return run


def _total_along(x: Array, axis: int) -> Array:
    """The sum over one axis, which is kept with length 1."""
    before, rest = (slice(None),) * axis, None
    while (n := x.shape[axis]) > FEW:
        whole = n - n % PARTS
        if whole < n:  # the remainder
            left = reduce(x[(*before, slice(whole, n))], axis=axis, keepdims=True)
            x, rest = x[(*before, slice(whole))], left if rest is None else rest + left
        x = reduce(x.reshape(*x.shape[:axis], PARTS, whole // PARTS, *x.shape[axis + 1 :]), axis=axis)
    y = reduce(x, axis=axis, keepdims=True)
    return y if rest is None else y + rest
