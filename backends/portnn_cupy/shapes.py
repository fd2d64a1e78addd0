"""Shapes, as the kernels take them."""

from math import prod
from typing import Any

import numpy as np

Array = Any


def rows_and_columns(x: Array) -> tuple[int, int]:
    """The rows of an array (..., C), and C."""
    return prod(x.shape[:-1]), x.shape[-1]


def is_by_channel(x: Array, axes: tuple[int, ...]) -> bool:
    return tuple(axes) == tuple(range(x.ndim - 1))


def are_alike(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype == y_pred.dtype and y_true.shape == y_pred.shape


def are_labels(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype.kind in "iu" and y_true.ndim < y_pred.ndim and y_true.size * y_pred.shape[-1] == y_pred.size


def window_of(plan: Any, channels: int) -> tuple[Any, ...]:
    """A plan as the kernels take it; a sequence is an image of height one."""
    axes = [
        (n, k, m, s, before, _step(plan, axis))
        for axis, (n, k, m, s, (before, _)) in enumerate(
            zip(plan.image, plan.kernel, plan.output, plan.stride, plan.padding, strict=True)
        )
    ]
    (H, kh, oh, sh, ph, dh), (W, kw, ow, sw, pw, dw) = [(1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes
    return tuple(map(np.int64, (H, W, channels, kh, kw, oh, ow, sh, sw, ph, pw, dh, dw)))


def are_apart(plan: Any) -> bool:
    """Whether windows are next to each other: none overlap, and there is no padding."""
    return plan.stride == plan.kernel and not plan.is_padded


def _step(plan: Any, axis: int) -> int:
    """The dilation along an axis: the distance between neighbouring pixels of the kernel."""
    starts = sorted({w[axis].start for w in plan.windows})
    return starts[1] if len(starts) > 1 else 1
