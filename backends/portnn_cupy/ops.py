"""The routines of ``portnn.ops``, fused into one or a few launches.

Arguments may have any memory order; results are C-contiguous, except for patches, which are (K, M) views of (M, K)
arrays; ``biased`` may write into its product. There are no transfers between host and device.
"""

from math import prod, radians
from typing import Any

import cupy
import numpy as np

from portnn_cupy import direct
from portnn_cupy.blas import matmul
from portnn_cupy.launch import NULL, REALS, in_order, launch
from portnn_cupy.philox import PER_THREAD, words
from portnn_cupy.shapes import is_by_channel, rows_and_columns, window_of
from portnn_cupy.sums import launch_rows, summed, summed_with

Array = Any


# -- bias and dropout --------------------------------------------------------------------------------------------------

KINDS = {None: 0, "relu": 1, "tanh": 2}


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    y, features = in_order(product), product.shape[-1]
    kind = KINDS[None if activation is None else activation.__name__]
    launch("biased", y.dtype, y.size, y, in_order(bias), np.int64(y.size), np.int64(features), np.int32(kind))
    return y


def dropout(x: Array, key: tuple[int, int], step: Any, threshold: int, scale: float) -> tuple[Array, Array]:
    x, real = in_order(x), x.dtype.type
    y, mask = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, x.dtype)
    numbers = *words(key, step), np.uint64(threshold), real(scale), np.int64(x.size)
    launch("dropout", x.dtype, -(-x.size // PER_THREAD), x, y, mask, *numbers)
    return y, mask


# -- convolution and pooling -------------------------------------------------------------------------------------------


def patches(x: Array, plan: Any, groups: int = 1) -> list[Array]:
    return [p.T for p in _patches(x, plan, groups)]


def _patches(x: Array, plan: Any, groups: int) -> list[Array]:
    """Returns (M, K) per group."""
    x, size = in_order(x), x.shape[-1] // groups
    n, shape = x.shape[0], (x.shape[0] * prod(plan.output), len(plan.windows) * size)
    found = [cupy.empty(shape, x.dtype) for _ in range(groups)]
    for g, p in enumerate(found):
        launch(
            "patches",
            x.dtype,
            p.size,
            x,
            p,
            np.int64(n),
            *window_of(plan, x.shape[-1]),
            np.int64(g * size),
            np.int64(size),
        )
    return found


def fold(parts: list[Array], plan: Any) -> Array:
    return _fold([in_order(p.T) for p in parts], plan)


def _fold(parts: list[Array], plan: Any) -> Array:
    """Takes (M, K) per group."""
    size, n = parts[0].shape[1] // len(plan.windows), parts[0].shape[0] // prod(plan.output)
    channels = size * len(parts)
    x = cupy.empty((n, *plan.image, channels), parts[0].dtype)
    for g, p in enumerate(parts):
        places = *window_of(plan, channels), np.int64(g * size), np.int64(size)
        launch("fold", x.dtype, x.size // len(parts), p, x, np.int64(n), *places)
    return x


def convolution(x: Array, weights: Array, plan: Any, groups: int = 1) -> tuple[Array, Any]:
    if direct.suits(x, weights, plan, groups):
        x = in_order(x)
        return direct.convolved(x, weights, NULL, 0, plan, groups)[0], direct.Seen(x, groups)
    if groups > 1:
        return NotImplemented
    (P,) = _patches(x, plan, 1)
    filters = weights.shape[-1]
    y = matmul(P, weights.reshape(-1, filters))
    return y.reshape(x.shape[0], *plan.output, filters), [P.T]


def convolution_gradient(seen: Any, output_error: Array, plan: Any, shape: Any) -> Array:
    if isinstance(seen, direct.Seen):
        return direct.gradient(seen, output_error, plan, shape)
    if len(seen) > 1:
        return NotImplemented
    d = in_order(output_error).reshape(-1, shape[-1])
    return matmul(seen[0], d).reshape(shape)


def convolution_backward(weights: Array, output_error: Array, plan: Any, groups: int = 1) -> Array:
    if direct.suits_backward(weights, output_error, plan, groups):
        return direct.backward(weights, output_error, plan, groups)
    if groups > 1:
        return NotImplemented
    filters = weights.shape[-1]
    d = in_order(output_error).reshape(-1, filters)
    return _fold([matmul(d, weights.reshape(-1, filters).T)], plan)


def max_pool(x: Array, plan: Any) -> Array:
    return _pool("max_pool", x, plan)


def avg_pool(x: Array, plan: Any) -> Array:
    return _pool("avg_pool", x, plan)


def _pool(name: str, x: Array, plan: Any) -> Array:
    x = in_order(x)
    y = cupy.empty((x.shape[0], *plan.output, x.shape[-1]), x.dtype)
    launch(name, x.dtype, y.size, x, y, np.int64(x.shape[0]), *window_of(plan, x.shape[-1]))
    return y


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: Any) -> Array:
    x, y, d = in_order(x), in_order(y), in_order(output_error)
    dx = cupy.empty(x.shape, x.dtype)
    launch("max_pool_backward", x.dtype, x.size, x, y, d, dx, np.int64(x.shape[0]), *window_of(plan, x.shape[-1]))
    return dx


def avg_pool_backward(output_error: Array, plan: Any) -> Array:
    d = in_order(output_error)
    dx = cupy.empty((d.shape[0], *plan.image, d.shape[-1]), d.dtype)
    launch("avg_pool_backward", d.dtype, dx.size, d, dx, np.int64(d.shape[0]), *window_of(plan, d.shape[-1]))
    return dx


# -- images moved at random --------------------------------------------------------------------------------------------


def random_maps(x: Array, key: tuple[int, int], step: Any, shift: float, rotate: float, scale: float) -> Array:
    n, height, width, _ = x.shape
    maps = cupy.empty((n, 2, 3), np.float64)
    most = map(np.float64, (shift, radians(rotate), scale))
    middle = map(np.float64, ((height - 1) / 2, (width - 1) / 2))
    launch("random_maps", x.dtype, -(-n // 2), maps, *words(key, step), *most, *middle, np.int64(n))
    return maps


def resample(x: Array, maps: Array) -> Array:
    x, maps = in_order(x), in_order(maps)
    y = cupy.empty(x.shape, x.dtype)
    launch("resample", x.dtype, y.size, x, maps, y, *map(np.int64, x.shape))
    return y


def resample_backward(output_error: Array, maps: Array, reach: int) -> Array:
    d, maps = in_order(output_error), in_order(maps)
    dx = cupy.empty(d.shape, d.dtype)
    launch("resample_backward", d.dtype, dx.size, d, maps, dx, *map(np.int64, (*d.shape, reach)))
    return dx


# -- sums and normalization -------------------------------------------------------------------------------------------

FEW = 1024  # elements: up to here CuPy's own sum is accurate enough, whatever the axes
MANY = 1 << 14  # elements: above this CuPy's sum over all axes is not accurate enough


def total(x: Array, axes: Any = None, keepdims: bool = False) -> Array:
    """Sums the rows of (R, C) by a kernel of ours: CuPy would use one or two blocks, whose threads sum sequentially."""
    if x.dtype.name in REALS and axes is None and x.size > MANY:  # CuPy's threads sum sequentially
        return total(in_order(x).reshape(-1, 1), 0).reshape((1,) * x.ndim if keepdims else ())
    if axes is None or x.dtype.name not in REALS or x.ndim == 0:
        return x.sum(axis=axes, keepdims=keepdims)
    axes = tuple(sorted(axis % x.ndim for axis in (axes if isinstance(axes, tuple) else (axes,))))
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    if x.size and x.ndim == 2 and axes == (1,) and x.T.flags.c_contiguous:  # columns of images
        x, axes = x.T, (0,)
    if x.size == 0 or axes[-1] == x.ndim - 1 or not is_by_channel(x, axes):
        few = prod(x.shape[axis] for axis in axes) <= FEW
        return x.sum(axis=axes, keepdims=keepdims) if few else NotImplemented
    R, C = rows_and_columns(x)
    return summed(in_order(x), R, C).reshape(shape if keepdims else (C,))


def normalize(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array, Array]:
    if not is_by_channel(x, axes) or x.size == 0:
        return NotImplemented
    x, (R, C), real = in_order(x), rows_and_columns(x), x.dtype.type
    size = real(max(1, R))
    rounded = summed(x, R, C, size)
    shape = (1,) * (x.ndim - 1) + (C,)
    rest, mean, variance, scale = found = tuple(cupy.empty(shape, x.dtype) for _ in range(4))
    launch_rows("sum_squares", x.dtype, R, C, x, rounded, *found, size, real(epsilon), np.int64(R), np.int64(C))
    z = cupy.empty(x.shape, x.dtype)
    launch("standardize", x.dtype, x.size, x, rounded, rest, scale, z, np.int64(x.size), np.int64(C))
    return z, scale, mean, variance


def normalize_backward(dz: Array, z: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    if not is_by_channel(z, axes) or z.size == 0:
        return NotImplemented
    dz, z, scale = in_order(dz), in_order(z), in_order(scale)
    R, C = rows_and_columns(z)
    mean, along = summed_with(dz, z, R, C, max(1, R))
    dx = cupy.empty(z.shape, z.dtype)
    launch("standardize_backward", z.dtype, z.size, dz, z, mean, along, scale, dx, np.int64(z.size), np.int64(C))
    return dx
