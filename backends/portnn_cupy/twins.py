"""The fused twins: each under the name of its portable one, with its meaning, in one launch or a few.

What they get may lie in any order; what they return is in C order, but for patches,
which are (K, M) views of (M, K) arrays; ``biased`` may write into its product. Nothing is read on the host or uploaded.
"""

from math import prod
from typing import Any

import cupy
import numpy as np

from portnn_cupy.kernels import COPIES, PARAMETERS, ROW_KINDS
from portnn_cupy.launch import NULL, REALS, in_order, launch
from portnn_cupy.philox import PER_THREAD, words

Array = Any
Slots = dict[str, list[Array]]
KINDS = {None: 0, "relu": 1, "tanh": 2}
CHAINS = {"relu_prime": 1, "tanh_prime": 2, "sigmoid_prime": 3}


# -- activations, losses, dropout -------------------------------------------------------------------------------------


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    y, features = in_order(product), product.shape[-1]
    kind = KINDS[None if activation is None else activation.__name__]
    launch("biased", y.dtype, y.size, y, in_order(bias), np.int64(y.size), np.int64(features), np.int32(kind))
    return y


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    kind = CHAINS.get(prime.__qualname__) if prime.__module__ == "portnn.activations" else None
    if kind is None:
        return prime(x) * output_error
    y, d = in_order(y), in_order(output_error)
    dx = cupy.empty(y.shape, y.dtype)
    launch("chained", y.dtype, y.size, y, d, dx, np.int64(y.size), np.int32(kind))
    return dx


def mse(y_true: Array, y_pred: Array, *, plain: Any) -> Array:
    if not _are_alike(y_true, y_pred):
        return plain(y_true, y_pred)
    return _each_difference("squares", y_true, y_pred, 1.0).sum()


def mse_prime(y_true: Array, y_pred: Array, *, plain: Any) -> Array:
    if not _are_alike(y_true, y_pred):
        return plain(y_true, y_pred)
    return _each_difference("differences", y_true, y_pred, 2.0)


def _each_difference(name: str, y_true: Array, y_pred: Array, share: float) -> Array:
    out = cupy.empty(y_pred.shape, y_pred.dtype)
    numbers = np.int64(out.size), y_pred.dtype.type(share / max(1, out.size))
    launch(name, out.dtype, out.size, in_order(y_true), in_order(y_pred), out, *numbers)
    return out


def _are_alike(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype == y_pred.dtype and y_true.shape == y_pred.shape


def softmax_cross_entropy(y_true: Array, y_pred: Array, *, plain: Any) -> Array:
    if not _are_labels(y_true, y_pred):
        return plain(y_true, y_pred)
    lost, share = cupy.empty(y_pred.shape[:-1], y_pred.dtype), y_pred.dtype.type(1.0 / max(1, y_pred.shape[0]))
    launch("cross_entropy", y_pred.dtype, lost.size, *_rows(y_true, y_pred), lost, *_sizes(y_pred), share)
    return lost.sum()


def softmax_cross_entropy_prime(y_true: Array, y_pred: Array, *, plain: Any) -> Array:
    if not _are_labels(y_true, y_pred):
        return plain(y_true, y_pred)
    dy, share = cupy.empty(y_pred.shape, y_pred.dtype), y_pred.dtype.type(1.0 / max(1, y_pred.shape[0]))
    rows = prod(y_pred.shape[:-1])
    launch("cross_entropy_prime", y_pred.dtype, rows, *_rows(y_true, y_pred), dy, *_sizes(y_pred), share)
    return dy


def _are_labels(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype.kind in "iu" and y_true.ndim < y_pred.ndim and y_true.size * y_pred.shape[-1] == y_pred.size


def _rows(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    return in_order(y_pred), in_order(y_true.astype(np.int64, copy=False))


def _sizes(y_pred: Array) -> tuple[Any, Any]:
    return np.int64(prod(y_pred.shape[:-1])), np.int64(y_pred.shape[-1])


def dropout(x: Array, key: tuple[int, int], step: Any, threshold: int, scale: float) -> tuple[Array, Array]:
    x, real = in_order(x), x.dtype.type
    y, mask = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, x.dtype)
    numbers = *words(key, step), np.uint64(threshold), real(scale), np.int64(x.size)
    launch("dropout", x.dtype, -(-x.size // PER_THREAD), x, y, mask, *numbers)
    return y, mask


# -- the train step ---------------------------------------------------------------------------------------------------

KINDS_OF_ROWS = {"uint8": "byte", "int64": "number"}


def rows(
    data: Array, order: Array | None, position: Array, offsets: Array, batch_size: int, dtype: Any, *, plain: Any
) -> Array:
    taken, wanted = (KINDS_OF_ROWS.get(np.dtype(d).name, "real") for d in (data.dtype, dtype))
    real = np.dtype(dtype) if wanted == "real" else np.dtype(np.float32)
    known = (taken, wanted) in ROW_KINDS and (taken != "real" or data.dtype == real) and real.name in REALS
    if not known or position.dtype != np.int64 or not data.flags.c_contiguous:
        return plain(data, order, position, offsets, batch_size, dtype)
    out = cupy.empty((offsets.shape[0], *data.shape[1:]), dtype)
    numbers = np.int64(batch_size), np.int64(offsets.shape[0]), np.int64(prod(data.shape[1:]))
    launch(f"rows_{taken}_{wanted}", real, out.size, data, NULL if order is None else order, position, out, *numbers)
    return out


def tally(
    step: Array, position: Array, total: Array, finite: Array, error: Array, size: int, *, plain: Any
) -> tuple[Array, ...]:
    old = step, position, total, finite
    kinds = [getattr(a, "dtype", None) for a in old]
    if kinds != [np.int64, np.int64, np.float64, np.int64] or error.dtype.name not in REALS:
        return plain(*old, error, size)
    new = [cupy.empty((), a.dtype) for a in old]
    launch("tally", error.dtype, 1, *old, error, *new, np.int64(size))
    return tuple(new)


def copy_all(pairs: list[tuple[Array, Array]]) -> None:
    """Copies the values of each second array into the first, of its shape and dtype, all in one launch."""
    flat = [(target, in_order(source)) for target, source in pairs if target.nbytes]
    words = [pair for pair in flat if _is_in_words(*pair)]
    dtype = next((target.dtype for target, _ in flat if target.dtype.name in REALS), np.float32)
    for start in range(0, len(words), COPIES):
        part = words[start : start + COPIES]
        arguments: list[Any] = []
        for target, source in part:
            arguments += [np.int64(target.nbytes // 4), *(a.reshape(-1).view(np.uint32) for a in (source, target))]
        arguments += [np.int64(0), NULL, NULL] * (COPIES - len(part))
        largest = max(target.nbytes // 4 for target, _ in part)
        launch("copy_all", dtype, largest, *arguments, rows=len(part))
    for target, source in flat:
        if not _is_in_words(target, source):
            cupy.copyto(target, source)


def _is_in_words(target: Array, source: Array) -> bool:
    """Whether both are whole words of four bytes, at an address that a word may have."""
    return bool(target.flags.c_contiguous) and not (target.nbytes | target.data.ptr | source.data.ptr) % 4


# -- convolution and pooling ------------------------------------------------------------------------------------------


def window(plan: Any, channels: int) -> tuple[Any, ...]:
    """A plan as the kernels take it; a row of samples is an image of height one."""
    axes = [
        (n, k, m, s, before, _step(plan, axis))
        for axis, (n, k, m, s, (before, _)) in enumerate(
            zip(plan.image, plan.kernel, plan.output, plan.stride, plan.padding, strict=True)
        )
    ]
    (H, kh, oh, sh, ph, dh), (W, kw, ow, sw, pw, dw) = [(1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes
    return tuple(map(np.int64, (H, W, channels, kh, kw, oh, ow, sh, sw, ph, pw, dh, dw)))


def _step(plan: Any, axis: int) -> int:
    """The dilation: how far the kernel's second pixel along an axis stands from its first."""
    starts = sorted({w[axis].start for w in plan.windows})
    return starts[1] if len(starts) > 1 else 1


def patches(x: Array, plan: Any, groups: int = 1) -> list[Array]:
    return [p.T for p in _patches(x, plan, groups)]


def _patches(x: Array, plan: Any, groups: int) -> list[Array]:
    """(M, K) a group."""
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
            *window(plan, x.shape[-1]),
            np.int64(g * size),
            np.int64(size),
        )
    return found


def fold(parts: list[Array], plan: Any) -> Array:
    return _fold([in_order(p.T) for p in parts], plan)


def _fold(parts: list[Array], plan: Any) -> Array:
    """From (M, K) a group."""
    size, n = parts[0].shape[1] // len(plan.windows), parts[0].shape[0] // prod(plan.output)
    channels = size * len(parts)
    x = cupy.empty((n, *plan.image, channels), parts[0].dtype)
    for g, p in enumerate(parts):
        places = *window(plan, channels), np.int64(g * size), np.int64(size)
        launch("fold", x.dtype, x.size // len(parts), p, x, np.int64(n), *places)
    return x


def convolution(x: Array, weights: Array, plan: Any, groups: int = 1, *, plain: Any, xp: Any) -> tuple[Array, Any]:
    if groups > 1:
        return plain(x, weights, plan, groups)
    (P,) = _patches(x, plan, 1)
    filters = weights.shape[-1]
    y = xp.matmul(P, weights.reshape(-1, filters))
    return y.reshape(x.shape[0], *plan.output, filters), [P.T]


def convolution_gradient(seen: Any, output_error: Array, plan: Any, shape: Any, *, plain: Any, xp: Any) -> Array:
    if len(seen) > 1:
        return plain(seen, output_error, plan, shape)
    d = in_order(output_error).reshape(-1, shape[-1])
    return xp.matmul(seen[0], d).reshape(shape)


def convolution_backward(
    weights: Array, output_error: Array, plan: Any, groups: int = 1, *, plain: Any, xp: Any
) -> Array:
    if groups > 1:
        return plain(weights, output_error, plan, groups)
    filters = weights.shape[-1]
    d = in_order(output_error).reshape(-1, filters)
    return _fold([xp.matmul(d, weights.reshape(-1, filters).T)], plan)


def max_pool(x: Array, plan: Any) -> Array:
    return _pool("max_pool", x, plan)


def avg_pool(x: Array, plan: Any) -> Array:
    return _pool("avg_pool", x, plan)


def _pool(name: str, x: Array, plan: Any) -> Array:
    x = in_order(x)
    y = cupy.empty((x.shape[0], *plan.output, x.shape[-1]), x.dtype)
    launch(name, x.dtype, y.size, x, y, np.int64(x.shape[0]), *window(plan, x.shape[-1]))
    return y


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: Any) -> Array:
    x, y, d = in_order(x), in_order(y), in_order(output_error)
    dx = cupy.empty(x.shape, x.dtype)
    launch("max_pool_backward", x.dtype, x.size, x, y, d, dx, np.int64(x.shape[0]), *window(plan, x.shape[-1]))
    return dx


def avg_pool_backward(output_error: Array, plan: Any) -> Array:
    d = in_order(output_error)
    dx = cupy.empty((d.shape[0], *plan.image, d.shape[-1]), d.dtype)
    launch("avg_pool_backward", d.dtype, dx.size, d, dx, np.int64(d.shape[0]), *window(plan, d.shape[-1]))
    return dx


# -- sums and normalization -------------------------------------------------------------------------------------------

ROWS_A_PART = 64  # each thread adds up so many rows of a channel, or more
ONE_PART = 256  # rows: with fewer, a second launch would take longer than one thread for each channel
FEW = 1024  # numbers: so many CuPy adds well by itself, whatever the axes


def total(x: Array, axes: Any = None, keepdims: bool = False, *, plain: Any) -> Array:
    """Over the rows of (R, C) by a kernel: CuPy would have one or two blocks do it, each thread number after number."""
    if axes is None or x.dtype.name not in REALS or x.ndim == 0:
        return x.sum(axis=axes, keepdims=keepdims)
    axes = tuple(sorted(axis % x.ndim for axis in (axes if isinstance(axes, tuple) else (axes,))))
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    if x.ndim == 2 and axes == (1,) and x.T.flags.c_contiguous:  # columns of images
        x, axes = x.T, (0,)
    if x.size == 0 or axes[-1] == x.ndim - 1 or not _is_by_channel(x, axes):
        few = prod(x.shape[axis] for axis in axes) <= FEW
        return x.sum(axis=axes, keepdims=keepdims) if few else plain(x, axes, keepdims)
    x, (R, C) = in_order(x), _rows_and_channels(x)
    parts = 1 if R <= ONE_PART else _parts(R)
    sums, nothing = cupy.empty((parts, C), x.dtype), (NULL, NULL)
    launch("channel_sums", x.dtype, sums.size, x, *nothing, sums, NULL, np.int64(R), np.int64(C), np.int64(parts))
    out = sums
    if parts > 1:
        out = cupy.empty(C, x.dtype)
        launch("add_parts", x.dtype, C, sums, out, np.int64(C), np.int64(parts), x.dtype.type(1.0))
    return out.reshape(shape if keepdims else (C,))


def normalize(x: Array, axes: tuple[int, ...], epsilon: float, *, plain: Any) -> tuple[Array, Array, Array, Array]:
    if not _is_by_channel(x, axes):
        return plain(x, axes, epsilon)
    x, (R, C), real = in_order(x), _rows_and_channels(x), x.dtype.type
    shape = (1,) * (x.ndim - 1) + (C,)
    rounded, rest, mean, variance, scale = (cupy.empty(shape, x.dtype) for _ in range(5))
    parts, size = _parts(R), real(max(1, R))
    sums, squares = (cupy.empty((parts, C), x.dtype) for _ in range(2))
    sizes = np.int64(R), np.int64(C), np.int64(parts)
    launch("channel_sums", x.dtype, sums.size, x, NULL, NULL, sums, NULL, *sizes)
    launch("add_parts", x.dtype, C, sums, rounded, *sizes[1:], size)
    launch("channel_sums", x.dtype, sums.size, x, NULL, rounded, sums, squares, *sizes)
    found = sums, squares, rounded, rest, mean, variance, scale
    launch("add_squares", x.dtype, C, *found, *sizes[1:], size, real(epsilon))
    z = cupy.empty(x.shape, x.dtype)
    launch("standardize", x.dtype, x.size, x, rounded, rest, scale, z, np.int64(x.size), np.int64(C))
    return z, scale, mean, variance


def normalize_backward(dz: Array, z: Array, scale: Array, axes: tuple[int, ...], *, plain: Any) -> Array:
    if not _is_by_channel(z, axes):
        return plain(dz, z, scale, axes)
    dz, z, scale = in_order(dz), in_order(z), in_order(scale)
    (R, C), real = _rows_and_channels(z), z.dtype.type
    parts, size = _parts(R), real(max(1, R))
    sums, others = (cupy.empty((parts, C), z.dtype) for _ in range(2))
    mean, along = (cupy.empty(C, z.dtype) for _ in range(2))
    sizes = np.int64(R), np.int64(C), np.int64(parts)
    launch("channel_sums", z.dtype, sums.size, dz, z, NULL, sums, others, *sizes)
    launch("add_parts", z.dtype, C, sums, mean, *sizes[1:], size)
    launch("add_parts", z.dtype, C, others, along, *sizes[1:], size)
    dx = cupy.empty(z.shape, z.dtype)
    launch("standardize_backward", z.dtype, z.size, dz, z, mean, along, scale, dx, np.int64(z.size), np.int64(C))
    return dx


def _is_by_channel(x: Array, axes: tuple[int, ...]) -> bool:
    return tuple(axes) == tuple(range(x.ndim - 1))


def _rows_and_channels(x: Array) -> tuple[int, int]:
    return prod(x.shape[:-1]), x.shape[-1]


def _parts(rows: int) -> int:
    return max(1, min(1024, rows // ROWS_A_PART))


# -- optimizers -------------------------------------------------------------------------------------------------------


def sgd_update(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
    if not sgd.momentum:
        new, _ = _update(sgd, 0, (0.0,) * 7, parameters, gradients, slots, hyper, ())
        return new, slots
    kind, numbers = 2 if sgd.nesterov else 1, (sgd.momentum, *(0.0,) * 6)
    return _update(sgd, kind, numbers, parameters, gradients, slots, hyper, ("velocity",))


def adagrad_update(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
    numbers = (1.0, 1.0, 0.0, 0.0, 0.0, adagrad.EPSILON, adagrad.largest(_finfo(parameters)))
    return _update(adagrad, 3, numbers, parameters, gradients, slots, hyper, ("squares",))


def rmsprop_update(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
    old, new = rmsprop.decay, 1.0 - rmsprop.decay
    numbers = (old, new, 0.0, 0.0, 0.0, rmsprop.EPSILON, rmsprop.largest(_finfo(parameters)))
    return _update(rmsprop, 3, numbers, parameters, gradients, slots, hyper, ("squares",))


def adam_update(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
    decay, info = adam.weight_decay if adam.decoupled else 0.0, _finfo(parameters)
    a, b = adam.beta1, adam.beta2
    numbers = (a, 1.0 - a, b, 1.0 - b, decay, adam.epsilon_in(info), adam.largest(info))
    own = None if len(hyper) == 3 else adam.corrections(hyper, parameters)
    return _update(adam, 4, numbers, parameters, gradients, slots, hyper, ("mean", "square"), own)


def _finfo(parameters: list[Array]) -> Any:
    return np.finfo(parameters[0].dtype if parameters else np.float32)


def _update(
    optimizer: Any, kind: int, numbers: tuple[float, ...], parameters: list[Array], gradients: list[Array],
    slots: Slots, hyper: Any, kinds: tuple[str, ...], own: list[tuple[Any, Any]] | None = None,
) -> Any:  # fmt: skip
    """All parameters in one launch, or in one for each PARAMETERS; one a parameter where each has numbers of its own.

    The kernel trusts sizes and dtypes, so they are checked here.
    """
    optimizer.check(parameters, gradients, slots, *kinds)
    if not parameters:
        return [], {name: [] for name in kinds}
    gradients = optimizer.prepared(parameters, gradients)
    optimizer.check(parameters, gradients, slots)
    dtype = parameters[0].dtype
    if any(w.dtype != dtype for w in parameters):
        raise ValueError(f"parameters of several dtypes cannot be updated together: {[w.dtype for w in parameters]}")
    real = dtype.type
    new = [cupy.empty(w.shape, w.dtype) for w in parameters]
    new_slots = {name: [cupy.empty(w.shape, w.dtype) for w in parameters] for name in kinds}
    most = PARAMETERS if own is None else 1
    for start in range(0, len(parameters), most):
        part = range(start, min(start + most, len(parameters)))
        given = hyper if own is None else (hyper[0], *own[start])
        places = [h if isinstance(h, cupy.ndarray) else NULL for h in given]
        values = [real(0.0) if isinstance(h, cupy.ndarray) else real(h) for h in given]
        missing = 3 - len(places)
        common = [np.int32(kind), *places, *[NULL] * missing, *values, *[real(0.0)] * missing, *map(real, numbers)]
        arguments: list[Any] = []
        for i in part:
            old, made = ([arrays[name][i] for name in kinds] for arrays in (slots, new_slots))
            nothing = [NULL] * (2 - len(old))
            read = [in_order(a) for a in (parameters[i], gradients[i], *old)]
            arguments += [np.int64(new[i].size), *read, *nothing, new[i], *made, *nothing]
        arguments += [np.int64(0), *[NULL] * 7] * (PARAMETERS - len(part))
        largest = max(new[i].size for i in part)
        launch("update_all", dtype, largest, *common, *arguments, rows=len(part))
    return new, new_slots


TWINS: dict[str, Any] = {
    "ops.patches": patches,
    "ops.fold": fold,
    "ops.max_pool": max_pool,
    "ops.max_pool_backward": max_pool_backward,
    "ops.avg_pool": avg_pool,
    "ops.avg_pool_backward": avg_pool_backward,
    "ops.biased": biased,
    "ops.total": total,
    "ops.normalize": normalize,
    "ops.normalize_backward": normalize_backward,
    "ops.convolution": convolution,
    "ops.convolution_gradient": convolution_gradient,
    "ops.convolution_backward": convolution_backward,
    "ops.dropout": dropout,
    "activations.chain": chain,
    "feed.rows": rows,
    "training.tally": tally,
    "losses.mse": mse,
    "losses.mse_prime": mse_prime,
    "losses.softmax_cross_entropy": softmax_cross_entropy,
    "losses.softmax_cross_entropy_prime": softmax_cross_entropy_prime,
    "optimizers.SGD.update": sgd_update,
    "optimizers.AdaGrad.update": adagrad_update,
    "optimizers.RMSprop.update": rmsprop_update,
    "optimizers.Adam.update": adam_update,
}
