"""Convolution and pooling for NumPy, each routine of the same meaning as the portable one it is named after.

Images are kept with the batch axis fastest: what the layers see as (N, H, W, C) is a transposed view of a (C, H, W, N)
buffer. Elementwise NumPy keeps that order by itself, and patches are then long contiguous copies.
"""

from math import prod
from typing import Any

import numpy as np

from portnn_numpy.namespace import FEW, PARTS

Array = Any


def patches(x: Array, plan: Any, groups: int = 1) -> list[Array]:
    """Images (N, H, W, C) -> for each group of channels its patches (K, M), M in the order (H', W', N)."""
    source, n, size = padded(channels_first(x), plan, 0.0), x.shape[0], x.shape[-1] // groups
    p = np.empty((groups, len(plan.windows), size, *plan.output, n), x.dtype)  # (G, h*w, C/G, H', W', N)
    for k, window in enumerate(plan.windows):
        seen = source[(slice(None), *window)]  # (C, H', W', N)
        p[:, k] = seen.reshape(groups, size, *seen.shape[1:]) if groups > 1 else seen
    return list(p.reshape(groups, len(plan.windows) * size, prod(plan.output) * n))


def fold(parts: list[Array], plan: Any) -> Array:
    """The adjoint of ``patches``: (K, M) a group -> images (N, H, W, C)."""
    n = parts[0].shape[1] // prod(plan.output)
    size = parts[0].shape[0] // len(plan.windows)
    x = np.zeros((len(parts), size, *plan.padded, n), parts[0].dtype)
    for group, p in enumerate(parts):
        p = p.reshape(len(plan.windows), size, *plan.output, n)  # (h*w, C/G, H', W', N)
        for k, window in enumerate(plan.windows):
            x[(group, slice(None), *window)] += p[k]
    return channels_last(cropped(x.reshape(len(parts) * size, *plan.padded, n), plan))


def images(columns: Array, plan: Any) -> Array:
    """Columns (F, M), M in the order (H', W', N) -> images (N, H', W', F)."""
    f, m = columns.shape
    return channels_last(columns.reshape(f, *plan.output, m // prod(plan.output)))


def columns(images: Array, plan: Any) -> Array:
    """Images (N, H', W', F) -> columns (F, M), the inverse of ``images``."""
    return channels_first(images).reshape(images.shape[-1], prod(plan.output) * images.shape[0])


def max_pool(x: Array, plan: Any) -> Array:
    """Images (N, H, W, C) -> the largest value in each window, into one array that is written again and again."""
    source = padded(channels_first(x), plan, -np.inf)
    first, *others = ((slice(None), *window) for window in plan.windows)
    y = np.array(source[first])
    for window in others:
        np.maximum(y, source[window], out=y)
    return channels_last(y)


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: Any) -> Array:
    """Each window's error goes to its largest pixel, to the first one of equals; NaN counts as the largest.

    Where windows lie side by side, each pixel is written once. Products with a mask: ``numpy.where`` is far slower.
    The padding, which is NaN here, equals nothing: its share would be lost.
    """
    source, y, error = padded(channels_first(x), plan, np.nan), channels_first(y), channels_first(output_error)
    apart = all(s >= k for s, k in zip(plan.stride, plan.kernel, strict=True))
    input_error = np.zeros(source.shape, y.dtype)
    free = np.ones(y.shape, np.bool_)  # windows whose error is still to be given away
    for window in plan.windows:
        here = (slice(None), *window)
        largest = source[here] == y
        largest &= free
        free ^= largest
        if apart:
            np.multiply(error, largest, out=input_error[here])
        else:
            input_error[here] += error * largest
    if free.any():  # windows with NaN
        nan = padded(channels_first(x != x), plan, False)
        for window in plan.windows:
            here = (slice(None), *window)
            largest = nan[here] & free
            free ^= largest
            input_error[here] += np.where(largest, error, 0.0)
    return channels_last(cropped(input_error, plan))


def avg_pool(x: Array, plan: Any) -> Array:
    """Images (N, H, W, C) -> the mean of each window, summed up in one array."""
    source = padded(channels_first(x), plan, 0.0)
    y = _added([source[(slice(None), *window)] for window in plan.windows])
    y *= shares(plan, y.dtype)
    return channels_last(y)


def _added(parts: list[Array]) -> Array:
    """The sum of arrays, of many in blocks, in an array of its own."""
    if len(parts) > FEW:
        return _added([_added(parts[i : i + PARTS]) for i in range(0, len(parts), PARTS)])
    y = np.array(parts[0])
    for part in parts[1:]:
        y += part
    return y


def avg_pool_backward(output_error: Array, plan: Any) -> Array:
    """Each window's error goes to its pixels in equal shares; side by side, each pixel is written once."""
    share = channels_first(output_error) * shares(plan, output_error.dtype)
    apart = all(s == k for s, k in zip(plan.stride, plan.kernel, strict=True))
    whole = apart and all(n == m * k for n, m, k in zip(plan.padded, plan.output, plan.kernel, strict=True))
    make: Any = np.empty if whole else np.zeros
    input_error = make((share.shape[0], *plan.padded, share.shape[-1]), share.dtype)
    for window in plan.windows:
        here = (slice(None), *window)
        if apart:
            input_error[here] = share
        else:
            input_error[here] += share
    return channels_last(cropped(input_error, plan))


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


def channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (C, H, W, N), a view."""
    return x.transpose(x.ndim - 1, *range(1, x.ndim - 1), 0)


def channels_last(x: Array) -> Array:
    """(C, H, W, N) -> (N, H, W, C), a view."""
    return channels_first(x)  # to exchange the outermost axes is its own inverse


TWINS: dict[str, Any] = {
    "ops.patches": patches,
    "ops.fold": fold,
    "ops.images": images,
    "ops.columns": columns,
    "ops.max_pool": max_pool,
    "ops.max_pool_backward": max_pool_backward,
    "ops.avg_pool": avg_pool,
    "ops.avg_pool_backward": avg_pool_backward,
}
