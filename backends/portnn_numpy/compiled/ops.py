"""The routines of ``portnn.ops`` that compiled loops make faster; these are in ``_convolution.py``, ``_strips.py``,
``_pooling.py``, ``_resampling.py``, ``_normalization.py`` and ``_activations.py``. Small arrays, and cases without a
loop, are left to NumPy.
"""

from math import prod
from typing import Any

import numpy as np

from portnn_numpy.compiled import _activations as loops
from portnn_numpy.compiled import _convolution as conv
from portnn_numpy.compiled import _normalization as norm
from portnn_numpy.compiled import _pooling as pooling
from portnn_numpy.compiled import _resampling as moves
from portnn_numpy.compiled import _strips as strips
from portnn_numpy.compiled._products import LEAST_WORK, product
from portnn_numpy.compiled.jit import LEAST, Array, empty_like, flat, ran, writable
from portnn_numpy.compiled.pool import threads
from portnn_numpy.layout import channels_first, channels_last, cropped, padded
from portnn_numpy.namespace import FEW

# -- convolution and pooling -------------------------------------------------------------------------------------------


def convolution(x: Array, weights: Array, plan: Any, groups: int = 1) -> tuple[Array, Any]:
    found = conv.convolved(x, weights, plan, groups)
    return NotImplemented if found is None else found


def patches(x: Array, plan: Any, groups: int = 1) -> list[Array]:
    found = conv.patches_of(x, plan, groups)
    return NotImplemented if found is None else found


def convolution_gradient(seen: Any, output_error: Array, plan: Any, shape: Any) -> Array:
    if not isinstance(seen, conv.Seen) or not conv.sums_fit(prod(shape[:-1]), shape[-1] // len(seen)):
        return NotImplemented
    source = seen.source
    groups, channels, n = source.shape[0], shape[-2], source.shape[-1]
    conv.check_fit("X", source, (groups, channels, *plan.image, n))
    conv.check_fit("dE/dY", output_error, (n, *plan.output, shape[-1]))
    size, taps = shape[-1] // groups, prod(shape[:-1])
    lines = padded(source.reshape(groups * channels, *plan.image, n), plan, 0.0).reshape(groups, -1)
    error = writable(channels_first(output_error)).reshape(groups, size, -1)
    starts, runs = conv.line_table(conv.shape_of(plan), plan.padded, channels, n)
    blocks, tasks = conv.filter_blocks(size), conv.gradient_tasks(starts.size, len(runs), threads())
    dw = np.empty((taps, groups, size), np.float32)
    for g in range(groups):
        d = (
            error[g]
            if size >= conv.SIX
            else np.append(error[g], np.zeros((conv.SIX - size, error.shape[2]), np.float32), axis=0)
        )
        sums = np.zeros((tasks[-1, -1] + 1, starts.size, blocks.size * conv.SIX * conv.LANES), np.float32)
        if not ran(conv.gradient_sums, lines[g], d.reshape(-1), sums, starts, runs, d.shape[1], blocks, tasks):
            return NotImplemented
        found = (sums.sum(axis=0) if len(sums) > 1 else sums[0])[:taps]
        found = np.dot(found.reshape(-1, conv.LANES), conv.ONES).reshape(taps, -1, conv.SIX)  # (T, B, 6)
        for block, start in enumerate(blocks.tolist()):
            dw[:, g, start : start + conv.SIX] = found[:, block, :size]
    return dw.reshape(shape)


def convolution_backward(weights: Array, output_error: Array, plan: Any, groups: int = 1) -> Array:
    entries = prod(plan.image) * len(plan.windows) * (weights.shape[-1] // groups + 1)
    few = weights.shape[-2] < conv.FEWEST_CHANNELS or entries > conv.LARGEST_TABLE
    if few or not conv.suits(output_error, weights, plan, groups):
        return NotImplemented
    n, size, channels = output_error.shape[0], weights.shape[-1] // groups, weights.shape[-2]
    conv.check_fit("dE/dY", output_error, (n, *plan.output, weights.shape[-1]))
    conv.check_fit("the weights", weights, (*plan.kernel, channels, weights.shape[-1]))
    error = writable(channels_first(output_error)).reshape(groups, size, *plan.output, n)
    w = weights.reshape(-1, channels, groups, size).transpose(2, 0, 3, 1)  # (G, h*w, F/groups, C/groups)
    nothing = np.empty((groups, 0), np.float32)
    if strips.suits(plan, size, channels):  # a convolution with the kernel turned around
        before = tuple(k - 1 - before for k, (before, _) in zip(plan.kernel, plan.padding, strict=True))
        turned = w[:, ::-1].reshape(groups, -1, channels)
        x = strips.convolved(error, turned, plan.kernel, before, plan.image, nothing, None)
    else:
        table = conv.backward_table(conv.shape_of(plan), size, n)
        x = conv.gathered(error, w.reshape(groups, -1, channels), table, nothing, None)
    if x is None:
        return NotImplemented
    return channels_last(x.reshape(groups * channels, *plan.image, n))


def max_pool(x: Array, plan: Any) -> Array:
    if not pooling.suits(x):
        return NotImplemented
    pooling.check_fit("X", x, x, plan.image)
    source = padded(channels_first(x), plan, -np.inf)
    y = np.empty((source.shape[0], *plan.output, source.shape[-1]), x.dtype)
    if not ran(pooling.largest_of, writable(source).reshape(-1), pooling.lines(y), *pooling.windows(source, plan)):
        return NotImplemented
    return channels_last(y)


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: Any) -> Array:
    if not (pooling.suits(x) and x.dtype == y.dtype == output_error.dtype):
        return NotImplemented
    pooling.check_fit("X", x, x, plan.image)
    for what, a in (("Y", y), ("dE/dY", output_error)):
        pooling.check_fit(what, a, x, plan.output)
    source = padded(channels_first(x), plan, np.nan)  # equal to nothing, so that padding never receives an error
    found, error = (writable(channels_first(a)) for a in (y, output_error))
    input_error = np.zeros(source.shape, x.dtype)
    arrays = writable(source).reshape(-1), pooling.lines(found), pooling.lines(error), input_error.reshape(-1)
    parts = *pooling.windows(source, plan), source.shape[0]
    if not ran(pooling.largest_backward, *arrays, *parts):  # or there is NaN
        return NotImplemented
    return channels_last(cropped(input_error, plan))


def avg_pool(x: Array, plan: Any) -> Array:
    if not pooling.suits(x) or len(plan.windows) == 1 or len(plan.windows) > FEW:
        return NotImplemented
    pooling.check_fit("X", x, x, plan.image)
    source = padded(channels_first(x), plan, 0.0)
    y = np.empty((source.shape[0], *plan.output, source.shape[-1]), x.dtype)
    parts = *pooling.windows(source, plan), pooling.shares(plan, x.dtype)
    return (
        channels_last(y)
        if ran(pooling.mean_of, writable(source).reshape(-1), pooling.lines(y), *parts)
        else NotImplemented
    )


def avg_pool_backward(output_error: Array, plan: Any) -> Array:
    if not pooling.suits(output_error):
        return NotImplemented
    pooling.check_fit("dE/dY", output_error, output_error, plan.output)
    error = writable(channels_first(output_error))
    input_error = np.zeros((error.shape[0], *plan.padded, error.shape[-1]), error.dtype)
    parts = *pooling.windows(input_error, plan), pooling.shares(plan, error.dtype), error.shape[0]
    if not ran(pooling.mean_backward, pooling.lines(error), input_error.reshape(-1), *parts):
        return NotImplemented
    return channels_last(cropped(input_error, plan))


# -- images moved at random --------------------------------------------------------------------------------------------


def resample(x: Array, maps: Array) -> Array:
    if not moves.suits(x, maps):
        return NotImplemented
    y = np.empty(x.shape, x.dtype)
    return y if ran(moves.gather, writable(x), writable(maps), y) else NotImplemented


def resample_backward(output_error: Array, maps: Array, reach: int) -> Array:
    if not moves.suits(output_error, maps):
        return NotImplemented
    input_error = np.zeros(output_error.shape, output_error.dtype)
    arrays = writable(output_error), writable(maps), input_error
    return input_error if ran(moves.scatter, *arrays) else NotImplemented


# -- normalization -----------------------------------------------------------------------------------------------------


def scaled(x: Array, weights: Array, bias: Array) -> Array:
    if x.size < LEAST or not weights.dtype == bias.dtype == x.dtype or not weights.shape == bias.shape == x.shape[-1:]:
        return NotImplemented
    form = norm.form(x, range(x.ndim - 1))
    if form is None:
        return NotImplemented
    order, (channels, _, row) = form
    y, numbers = empty_like(x)
    lines = (a.reshape(channels, -1) if row == 1 else a.reshape(-1, row) for a in (norm.line(x, order), numbers))
    return y if ran(norm.scaled, *lines, writable(weights), writable(bias), row == 1) else NotImplemented


def scaled_backward(output_error: Array, x: Array, weights: Array) -> tuple[Array, Array, Array]:
    form = norm.form(x, range(x.ndim - 1))
    if form is None or output_error.shape != x.shape or not weights.dtype == output_error.dtype == x.dtype:
        return NotImplemented
    if weights.shape != x.shape[-1:]:
        return NotImplemented
    order, sizes = form
    dx, numbers = empty_like(x)
    sums = np.empty((2, weights.size), x.dtype)
    given = norm.line(output_error, order), norm.line(x, order), numbers, sizes, writable(weights), sums, False
    return (dx, sums[1], sums[0]) if ran(norm.backward, *given) else NotImplemented


def normalize(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array, Array]:
    form = norm.form(x, axes)
    if form is None:
        return NotImplemented
    order, sizes = form
    z, numbers = empty_like(x)
    scale, mean, variance = (np.empty(sizes[0] * sizes[2], x.dtype) for _ in range(3))
    given = norm.line(x, order), numbers, sizes, x.dtype.type(epsilon)
    if not ran(norm.normalize, *given, scale, mean, variance):
        return NotImplemented
    scale, mean, variance = (norm.kept(a, order, axes, x) for a in (scale, mean, variance))
    return z, scale, mean, variance


def normalize_backward(dz: Array, z: Array, scale: Array, axes: tuple[int, ...]) -> Array:
    form = norm.form(z, axes)
    if form is None or dz.shape != z.shape or not dz.dtype == scale.dtype == z.dtype:
        return NotImplemented
    order, sizes = form
    if scale.ndim != z.ndim or scale.size != sizes[0] * sizes[2]:
        return NotImplemented
    dx, numbers = empty_like(z)
    sums = np.empty((2, sizes[0] * sizes[2]), z.dtype)
    given = norm.line(dz, order), norm.line(z, order), numbers, sizes, norm.line(scale, order), sums, True
    return dx if ran(norm.backward, *given) else NotImplemented


# -- rows and bias -----------------------------------------------------------------------------------------------------


def affine(x: Array, weights: Array, bias: Array | None = None, activation: Any = None) -> Array:
    """``affine`` for large products, divided among the threads."""
    if x.size * weights.shape[-1] < LEAST_WORK:
        return NotImplemented
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    name = None if activation is None else activation.__name__
    if name == "tanh" and x.dtype != np.float32:
        return NotImplemented
    y = product(rows, weights, bias, name)
    return NotImplemented if y is None else y.reshape(*x.shape[:-1], y.shape[1])


_ALONG_ROWS = {None: loops.add, "relu": loops.add_relu, "tanh": loops.add_tanh}
_EACH_ROW = {None: loops.add_each, "relu": loops.add_each_relu, "tanh": loops.add_each_tanh}


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    """f(product + bias), written into ``product``: rows of features, or images stored channel by channel."""
    if product.size < LEAST:
        return NotImplemented
    name = None if activation is None else activation.__name__
    mine = flat(product)
    if mine is None or bias.dtype != product.dtype or (name == "tanh" and product.dtype != np.float32):
        return NotImplemented
    features = product.shape[-1]
    bias = writable(bias).reshape(features)
    if product.flags.c_contiguous:
        done = ran(_ALONG_ROWS[name], mine[0].reshape(-1, features), bias)
    elif product.strides[-1] == max(product.strides):
        done = ran(_EACH_ROW[name], mine[0].reshape(features, -1), bias)
    else:
        return NotImplemented
    return product if done else NotImplemented
