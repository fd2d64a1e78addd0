"""Functions of the standard that can be captured, in place of those that cannot.

array_api_compat's ``clip`` and ``sign`` write through a mask, whose count CuPy reads on the host; CuPy's
``concatenate`` uploads the addresses of many arrays, and its products use a cuBLAS handle that it shuts while a stream
is captured. None of that is allowed during a capture.
"""

from math import prod
from types import SimpleNamespace
from typing import Any

import array_api_compat.cupy as compat
import cupy

from portnn_cupy.blas import matmul

Array = Any
_joined: Any = vars(compat)["concat"]
AT_ONCE = 8  # arrays: CuPy joins so many by copies alone


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    y = x if min is None else cupy.maximum(x, min)
    y = y if max is None else cupy.minimum(y, max)
    return y.astype(x.dtype, copy=y is x)


def sign(x: Array, /) -> Array:
    if x.dtype.kind == "c":
        return vars(compat)["sign"](x)
    return cupy.where(x == x, cupy.sign(x), x) if x.dtype.kind == "f" else cupy.sign(x)  # CuPy's is 0 for NaN


def concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
    arrays = list(arrays)
    while len(arrays) > AT_ONCE:
        arrays = [_joined(arrays[i : i + AT_ONCE], axis=axis) for i in range(0, len(arrays), AT_ONCE)]
    return _joined(arrays, axis=axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Array:
    return concat([cupy.expand_dims(array, axis) for array in arrays], axis=axis)


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    ours, theirs = (range(-axes, 0) if axes else (), range(axes)) if isinstance(axes, int) else axes
    ours, theirs = [axis % x1.ndim for axis in ours], [axis % x2.ndim for axis in theirs]
    if [x1.shape[axis] for axis in ours] != [x2.shape[axis] for axis in theirs]:
        raise ValueError(f"tensordot of shapes {x1.shape} and {x2.shape}: the axes {axes} have different lengths")
    rows = [axis for axis in range(x1.ndim) if axis not in ours]
    columns = [axis for axis in range(x2.ndim) if axis not in theirs]
    left, right = x1.transpose([*rows, *ours]), x2.transpose([*theirs, *columns])
    m, k, n = (prod(shape) for shape in (left.shape[: len(rows)], left.shape[len(rows) :], right.shape[len(theirs) :]))
    shape = left.shape[: len(rows)] + right.shape[len(theirs) :]
    return matmul(left.reshape(m, k), right.reshape(k, n)).reshape(shape)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    product = cupy.conj(x1) * x2
    return product.sum(axis=axis, dtype=product.dtype)


# All that array_api_compat has: what functions get that ask for the namespace of an array.
replaced: dict[str, Any] = {
    function.__name__: function for function in (clip, concat, matmul, sign, stack, tensordot, vecdot)
}
namespace = SimpleNamespace(**vars(compat) | replaced)
