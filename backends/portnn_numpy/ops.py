"""The routines of ``portnn.ops`` for NumPy, with few passes over memory. For the layout see ``layout.py``."""

from math import prod
from typing import Any

import numpy as np

from portnn_numpy._pooling import is_tiled, to_largest
from portnn_numpy.layout import channels_first, channels_last, cropped, padded, shares
from portnn_numpy.namespace import FEW, PARTS
from portnn_numpy.namespace import total as total

Array = Any

SMALL = 1 << 13  # elements; see ``compiled.jit.LEAST``
ZERO = np.zeros((), np.float32)  # NumPy converts it faster than a Python float


# -- convolution and pooling -------------------------------------------------------------------------------------------


def patches(x: Array, plan: Any, groups: int = 1) -> list[Array]:
    """Images (N, H, W, C) -> for each group of channels its patches (K, M), M in the order (H', W', N)."""
    source, n, size = padded(channels_first(x), plan, 0.0), x.shape[0], x.shape[-1] // groups
    p = np.empty((groups, len(plan.windows), size, *plan.output, n), x.dtype)  # (G, h*w, C/G, H', W', N)
    for k, window in enumerate(plan.windows):
        seen = source[(slice(None), *window)]  # (C, H', W', N)
        p[:, k] = seen.reshape(groups, size, *seen.shape[1:]) if groups > 1 else seen
    return list(p.reshape(groups, len(plan.windows) * size, prod(plan.output) * n))


def fold(parts: list[Array], plan: Any) -> Array:
    """The adjoint of ``patches``: (K, M) per group -> images (N, H, W, C)."""
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
    """Images (N, H, W, C) -> the largest value in each window, accumulated in one array."""
    source = padded(channels_first(x), plan, -np.inf)
    first, *others = ((slice(None), *window) for window in plan.windows)
    y = np.array(source[first])
    for window in others:
        np.maximum(y, source[window], out=y)
    return channels_last(y)


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: Any) -> Array:
    """Each window's error goes to its largest pixel; without overlap, each pixel is written once."""
    make: Any = np.empty if is_tiled(plan) else np.zeros
    input_error = make((x.shape[-1], *plan.padded, len(x)), y.dtype)
    to_largest(x, y, output_error, plan, input_error)
    return channels_last(cropped(input_error, plan))


def avg_pool(x: Array, plan: Any) -> Array:
    """Images (N, H, W, C) -> the mean of each window, accumulated in one array."""
    source = padded(channels_first(x), plan, 0.0)
    y = _added([source[(slice(None), *window)] for window in plan.windows])
    y *= shares(plan, y.dtype)
    return channels_last(y)


def _added(parts: list[Array]) -> Array:
    """The sum of arrays in a new array; many are summed in blocks."""
    if len(parts) > FEW:
        return _added([_added(parts[i : i + PARTS]) for i in range(0, len(parts), PARTS)])
    y = np.array(parts[0])
    for part in parts[1:]:
        y += part
    return y


def avg_pool_backward(output_error: Array, plan: Any) -> Array:
    """Each window's error is divided equally among its pixels; without overlap, each pixel is written once."""
    share = channels_first(output_error) * shares(plan, output_error.dtype)
    apart = plan.stride == plan.kernel
    make: Any = np.empty if is_tiled(plan) else np.zeros
    input_error = make((share.shape[0], *plan.padded, share.shape[-1]), share.dtype)
    for window in plan.windows:
        here = (slice(None), *window)
        if apart:
            input_error[here] = share
        else:
            input_error[here] += share
    return channels_last(cropped(input_error, plan))


# -- images moved at random --------------------------------------------------------------------------------------------


def resample_backward(output_error: Array, maps: Array, reach: int) -> Array:
    """``resample_backward`` by adding each error, in order and in float64, to the pixels that it came from."""
    _, height, width, channels = output_error.shape
    u = _sources(maps[:, 0], height, width)
    v = _sources(maps[:, 1], height, width)
    places, amounts = [], []
    for a in (0, 1):
        for b in (0, 1):
            p, q = np.floor(u) + a, np.floor(v) + b
            weight = (1.0 - np.abs(u - p)) * (1.0 - np.abs(v - q))
            inside = (p >= 0.0) & (p < height) & (q >= 0.0) & (q < width) & (weight > 0.0)
            image = np.nonzero(inside)[0]
            pixel = (image * height + p[inside].astype(np.int64)) * width + q[inside].astype(np.int64)
            places.append(pixel[:, None] * channels + np.arange(channels))
            amounts.append(weight[inside][:, None] * output_error[inside])
    place, amount = np.concatenate(places).reshape(-1), np.concatenate(amounts).reshape(-1)
    return np.bincount(place, amount, output_error.size).reshape(output_error.shape).astype(output_error.dtype)


def _sources(row: Array, height: int, width: int) -> Array:
    """A coordinate of where the pixels of the result come from (N, H, W), by a row (N, 3) of each map."""
    a, b, c = row.T[:, :, None, None]
    return a * np.arange(height)[:, None] + b * np.arange(width) + c


# -- rows, bias and normalization --------------------------------------------------------------------------------------


def rows(x: Array) -> Array:
    """``rows`` by the array's own method, which takes less time than ``xp.reshape``."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def column_sums(x: Array) -> Array:
    """``column_sums`` with ``total`` called directly, not through the table of ops."""
    return x if x.shape[0] == 1 else total(x, 0, True)


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    """f(product + bias), computed in place in ``product``."""
    y = np.add(product, bias, product)
    if activation is None:
        return y
    return np.maximum(y, ZERO, out=y) if activation.__name__ == "relu" else np.tanh(y, y)


def affine(x: Array, weights: Array, bias: Array | None = None, activation: Any = None) -> Array:
    """``affine`` for matrices with a small product; for others ``biased`` is called, which may be a compiled loop."""
    if x.ndim != 2 or x.shape[0] * weights.shape[-1] >= SMALL:
        return NotImplemented
    y = np.dot(x, weights)
    return y if bias is None else biased(y, bias, activation)


def scaled(x: Array, weights: Array, bias: Array) -> Array:
    """``scaled`` with one new array."""
    y = x * weights
    y += bias
    return y


def normalize(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array, Array]:
    """``normalize``, turning X - mean into Z in place."""
    n = float(max(1, prod(x.shape[axis] for axis in axes)))
    mean = total(x, axes, True) / n
    z = x - mean
    rest = total(z, axes, True) / n
    z -= rest
    variance = total(z * z, axes, True) / n
    scale = 1.0 / np.sqrt(variance + epsilon)
    z *= scale
    return z, scale, mean + rest, variance


def normalize_backward(dz: Array, z: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    """``normalize_backward`` with two new arrays of the size of X."""
    n = float(max(1, prod(z.shape[axis] for axis in axes)))
    t = dz * z
    np.multiply(z, total(t, axes, True) / n, out=t)
    dx = dz - total(dz, axes, True) / n
    dx -= t
    dx *= scale
    return dx
