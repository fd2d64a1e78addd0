"""Functions of the standard that can be captured, in place of those that cannot.

array_api_compat's ``clip`` and ``sign`` write through a mask, whose count CuPy reads on the host; CuPy's
``concatenate`` uploads the addresses of many arrays. During a capture neither is allowed.
"""

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


# All that array_api_compat has: what functions get that ask for the namespace of an array.
_replaced: dict[str, Any] = {"clip": clip, "concat": concat, "matmul": matmul, "sign": sign, "stack": stack}
namespace = SimpleNamespace(**vars(compat) | _replaced)
