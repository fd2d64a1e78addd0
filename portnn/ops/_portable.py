"""The plain version of every routine: any array API namespace, given as ``xp``.

Convolution becomes one matrix product when every patch of the image that the kernel covers is written out as a column
("im2col": K. Chellapilla et al., 2006). There are M = N * H' * W' columns, one per output pixel; a backend may keep
them in any order it likes, as long as its own four routines agree. Here the order is (N, H', W').
"""

from math import prod
from typing import Any

from portnn.ops._plan import ConvPlan

Array = Any


def patches(x: Array, plan: ConvPlan, *, xp: Any) -> Array:
    """Images (N, H, W, C) -> patches (K, M), K = h * w * C in the order of the weights' first three axes."""
    seen = [x[(slice(None), *window, slice(None))] for window in plan.windows]  # h*w times (N, H', W', C)
    return xp.reshape(xp.concat(seen, axis=-1), (x.shape[0] * prod(plan.output), plan.patch_size)).T


def fold(p: Array, plan: ConvPlan, *, xp: Any) -> Array:
    """The adjoint of ``patches``: (K, M) -> images (N, H, W, C), each pixel the sum of its copies in the patches."""
    n = p.shape[1] // prod(plan.output)
    p = xp.reshape(p.T, (n, *plan.output, len(plan.windows), plan.channels))  # (N, H', W', h*w, C)
    x = xp.zeros((n, *plan.image, plan.channels), dtype=p.dtype, device=p.device)
    for k, window in enumerate(plan.windows):
        x[(slice(None), *window, slice(None))] += p[..., k, :]
    return x


def images(columns: Array, plan: ConvPlan, *, xp: Any) -> Array:
    """Columns (F, M), one per output pixel -> images (N, H', W', F)."""
    n = columns.shape[1] // prod(plan.output)
    return xp.reshape(columns.T, (n, *plan.output, columns.shape[0]))


def columns(images: Array, plan: ConvPlan, *, xp: Any) -> Array:
    """Images (N, H', W', F) -> columns (F, M), the inverse of ``images``."""
    return xp.reshape(images, (images.shape[0] * prod(plan.output), images.shape[-1])).T
