"""Fast twins for NumPy, each of the same meaning as the portable function it is named after.

Images are kept with the batch axis fastest: what the layers see as (N, H, W, C) is a transposed view of a (C, H, W, N)
buffer. Elementwise NumPy keeps that order by itself, and patches are then long contiguous copies.
"""

from math import isfinite, prod
from typing import Any

import numpy as np

Array = Any
LEAST = 1 << 17  # numbers: of fewer, the order in memory does not matter
BLOCK = 128  # columns


def matmul(a: Array, b: Array) -> Array:
    """``numpy.matmul``, quicker for 2-D operands: ``dot`` goes to BLAS where ``matmul`` loops (column times row)."""
    return np.dot(a, b) if a.ndim == 2 and b.ndim == 2 else np.matmul(a, b)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """``numpy.reshape`` without its wrapper; images become rows, and rows images, with the batch axis still fastest.

    The values are those of ``numpy.reshape``, their order in memory need not be. Written out sample by sample, images
    would be turned over number by number; as they lie, whole lines of the batch move. BLAS reads rows either way.
    """
    if copy is not None:
        return np.reshape(x, shape, copy=copy)
    if x.size >= LEAST and isinstance(shape, tuple) and shape[0] == x.shape[0]:
        if len(shape) == 2 and x.ndim > 2 and _batch_is_fastest(x):
            return np.ascontiguousarray(x.transpose(*range(1, x.ndim), 0)).reshape(-1, x.shape[0]).T
        if len(shape) > 2 and x.ndim == 2:
            lines = _turned(x) if x.flags.c_contiguous else np.ascontiguousarray(x.T)
            return lines.reshape(*shape[1:], shape[0]).transpose(len(shape) - 1, *range(len(shape) - 1))
    return x.reshape(shape)


def _batch_is_fastest(x: Array) -> bool:
    return x.shape[0] > 1 and x.strides[0] == x.itemsize


def _turned(x: Array) -> Array:
    """The transpose of a matrix (N, K) written out, a block of columns at a time: they stay in the cache."""
    out = np.empty((x.shape[1], x.shape[0]), x.dtype)
    for start in range(0, x.shape[1], BLOCK):
        out[start : start + BLOCK] = x[:, start : start + BLOCK].T
    return out


def sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:  # noqa: A001
    """``numpy.sum`` without its wrapper."""
    reduce: Any = np.add.reduce
    return reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)


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
    """Each window's error goes to its largest pixel, to the first one of equals.

    Where windows lie side by side, each pixel is written once. Products with a mask: ``numpy.where`` is far slower.
    """
    source, y, error = padded(channels_first(x), plan, -np.inf), channels_first(y), channels_first(output_error)
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
    return channels_last(cropped(input_error, plan))


def avg_pool(x: Array, plan: Any) -> Array:
    """Images (N, H, W, C) -> the mean of each window, summed up in one array."""
    source = padded(channels_first(x), plan, 0.0)
    first, *others = ((slice(None), *window) for window in plan.windows)
    y = np.array(source[first])
    for window in others:
        y += source[window]
    y *= shares(plan, y.dtype)
    return channels_last(y)


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


def relu(x: Array) -> Array:
    """One pass."""
    return np.maximum(x, 0.0)


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    """f(product + bias), all in ``product`` itself."""
    y = np.add(product, bias, out=product)
    if activation is None:
        return y
    return np.maximum(y, 0.0, out=y) if activation.__name__ == "relu" else np.tanh(y, out=y)


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    """dE/dX = f'(X) * dE/dY, from Y where f' is simple in it, in one array."""
    rule = _CHAINS.get(prime.__qualname__) if prime.__module__ == "portnn.activations" else None
    return prime(x) * output_error if rule is None else rule(y, output_error)


def _chain_tanh(y: Array, d: Array) -> Array:
    t = y * y
    np.subtract(1.0, t, out=t)
    return np.multiply(t, d, out=t)


def _chain_sigmoid(y: Array, d: Array) -> Array:
    t = 1.0 - y
    np.multiply(t, y, out=t)
    return np.multiply(t, d, out=t)


def _chain_relu(y: Array, d: Array) -> Array:
    return np.multiply(d, y > 0.0)


_CHAINS = {"tanh_prime": _chain_tanh, "sigmoid_prime": _chain_sigmoid, "relu_prime": _chain_relu}


def mse(y_true: Array, y_pred: Array) -> Array:
    """One pass for the squares and their sum. Both have one shape: the network sees to that."""
    d = y_true - y_pred
    return np.vdot(d, d) / d.size


def mse_prime(y_true: Array, y_pred: Array) -> Array:
    """The difference is scaled where it stands. Both have one shape: the network sees to that."""
    d = y_pred - y_true
    return np.multiply(d, 2.0 / d.size, out=d)


def count_finite(total: Any, count: Any) -> Any:
    """On numbers of the host."""
    return count + 1 if isfinite(total) else count


def sgd_update(
    sgd: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: tuple[float, ...]
) -> tuple[list[Array], dict[str, list[Array]]]:
    """``SGD.update`` with one temporary array a parameter instead of two: it becomes the result."""
    (lr,) = hyper
    gradients = sgd.prepared(parameters, gradients)
    along, new_slots = gradients, {}
    if sgd.momentum:
        along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(slots["velocity"], gradients, strict=True)]
        new_slots = {"velocity": along}
        if sgd.nesterov:
            along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(along, gradients, strict=True)]
    return [_minus(w, lr * d) for w, d in zip(parameters, along, strict=True)], new_slots


def adam_update(
    adam: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: tuple[float, ...]
) -> tuple[list[Array], dict[str, list[Array]]]:
    """``Adam.update`` in twelve passes, of which each writes into the array that becomes a result."""
    lr, lr_of_mean, root = hyper
    gradients = adam.prepared(parameters, gradients)
    b1, b2 = adam.beta1, adam.beta2
    decay = 1.0 - lr * adam.weight_decay if adam.decoupled else 1.0
    new: list[Array] = []
    means: list[Array] = []
    squares: list[Array] = []
    for w, g, m, v in zip(parameters, gradients, slots["mean"], slots["square"], strict=True):
        mean, square, d = m * b1, v * b2, g * (1.0 - b1)
        mean += d
        np.multiply(g, g, out=d)
        d *= 1.0 - b2
        square += d
        np.sqrt(square, out=d)
        if lr_of_mean:
            d *= root / lr_of_mean
            d += adam.epsilon / lr_of_mean
            np.divide(mean, d, out=d)
        else:  # a schedule's zero
            d[...] = 0.0
        np.subtract(w if decay == 1.0 else w * decay, d, out=d)
        new.append(d)
        means.append(mean)
        squares.append(square)
    return new, {"mean": means, "square": squares}


def _sum_into_first(temporary: Array, b: Array) -> Array:
    return np.add(temporary, b, out=temporary)


def _minus(a: Array, temporary: Array) -> Array:
    return np.subtract(a, temporary, out=temporary)


TWINS: dict[str, Any] = {
    "ops.patches": patches,
    "ops.fold": fold,
    "ops.images": images,
    "ops.columns": columns,
    "ops.max_pool": max_pool,
    "ops.max_pool_backward": max_pool_backward,
    "ops.avg_pool": avg_pool,
    "ops.avg_pool_backward": avg_pool_backward,
    "ops.biased": biased,
    "activations.tanh": np.tanh,
    "activations.relu": relu,
    "activations.chain": chain,
    "losses.mse": mse,
    "losses.mse_prime": mse_prime,
    "training.count_finite": count_finite,
    "optimizers.SGD.update": sgd_update,
    "optimizers.Adam.update": adam_update,
}
