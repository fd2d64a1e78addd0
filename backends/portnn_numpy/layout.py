"""The memory layout of images on NumPy, and their padding.

They are stored with the batch axis fastest: what the layers see as (N, H, W, C) is a transposed view of a (C, H, W, N)
buffer. NumPy's elementwise functions keep that order, and patches are then long contiguous copies.
"""

from math import prod
from typing import Any

import numpy as np

Array = Any


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (C, H, W, N), a view."""
    return x.transpose(x.ndim - 1, *range(1, x.ndim - 1), 0)


def channels_last(x: Array) -> Array:
    """(C, H, W, N) -> (N, H, W, C), a view."""
    return channels_first(x)  # swapping the first and last axes is its own inverse


def padded(x: Array, plan: Any, value: float) -> Array:
    """(C, H, W, N) with the plan's padding, contiguous."""
    if not plan.is_padded:
        return np.ascontiguousarray(x)
    around = np.full((x.shape[0], *plan.padded, x.shape[-1]), value, x.dtype)
    around[(slice(None), *plan.inside)] = x
    return around


def cropped(x: Array, plan: Any) -> Array:
    """(C, H, W, N) without the padding."""
    return x[(slice(None), *plan.inside)] if plan.is_padded else x


def shares(plan: Any, dtype: Any) -> Any:
    """1 / (number of a window's pixels that are not padding), a number or an array (H', W', 1)."""
    if not plan.is_padded:
        return 1.0 / prod(plan.kernel)
    counts = np.ones((1,) * (len(plan.output) + 1), dtype)
    for axis, (n, k, m, stride, (before, _)) in enumerate(
        zip(plan.image, plan.kernel, plan.output, plan.stride, plan.padding, strict=True)
    ):
        first = np.arange(m) * stride - before
        count = np.minimum(first + k, n) - np.maximum(first, 0)
        counts = counts * count.astype(dtype).reshape(m, *(1,) * (len(plan.output) - axis))
    return 1.0 / counts
