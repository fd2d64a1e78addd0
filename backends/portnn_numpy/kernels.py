"""Fast twins for NumPy, each of the same meaning as the portable function it is named after.

Images are kept with the batch axis fastest: what the layers see as (N, H, W, C) is a transposed view of a (C, H, W, N)
buffer. Elementwise NumPy keeps that order by itself, and patches are then long contiguous copies.
"""

from math import isfinite, prod
from typing import Any

import numpy as np

Array = Any


def matmul(a: Array, b: Array) -> Array:
    """``numpy.matmul``, quicker for 2-D operands: ``dot`` goes to BLAS where ``matmul`` loops (column times row)."""
    return np.dot(a, b) if a.ndim == 2 and b.ndim == 2 else np.matmul(a, b)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """``numpy.reshape`` without its wrapper, which costs more than the work."""
    return x.reshape(shape) if copy is None else np.reshape(x, shape, copy=copy)


def sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:  # noqa: A001
    """``numpy.sum`` without its wrapper."""
    reduce: Any = np.add.reduce
    return reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)


def patches(x: Array, plan: Any) -> Array:
    """Images (N, H, W, C) -> patches (K, M), M in the order (H', W', N)."""
    source = np.ascontiguousarray(_channels_first(x))
    p = np.empty((len(plan.windows), plan.channels, *plan.output, x.shape[0]), x.dtype)  # (h*w, C, H', W', N)
    for k, window in enumerate(plan.windows):
        p[k] = source[(slice(None), *window)]
    return p.reshape(plan.patch_size, prod(plan.output) * x.shape[0])


def fold(p: Array, plan: Any) -> Array:
    """The adjoint of ``patches``: (K, M) -> images (N, H, W, C)."""
    n = p.shape[1] // prod(plan.output)
    p = p.reshape(len(plan.windows), plan.channels, *plan.output, n)  # (h*w, C, H', W', N)
    x = np.zeros((plan.channels, *plan.image, n), p.dtype)
    for k, window in enumerate(plan.windows):
        x[(slice(None), *window)] += p[k]
    return _channels_last(x)


def images(columns: Array, plan: Any) -> Array:
    """Columns (F, M), M in the order (H', W', N) -> images (N, H', W', F)."""
    f, m = columns.shape
    return _channels_last(columns.reshape(f, *plan.output, m // prod(plan.output)))


def columns(images: Array, plan: Any) -> Array:
    """Images (N, H', W', F) -> columns (F, M), the inverse of ``images``."""
    return _channels_first(images).reshape(images.shape[-1], prod(plan.output) * images.shape[0])


def _channels_first(x: Array) -> Array:
    """(N, H, W, C) -> (C, H, W, N), a view."""
    return x.transpose(x.ndim - 1, *range(1, x.ndim - 1), 0)


def _channels_last(x: Array) -> Array:
    """(C, H, W, N) -> (N, H, W, C), a view."""
    return _channels_first(x)  # to exchange the outermost axes is its own inverse


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    """dE/dX = f'(X) * dE/dY, from Y where f' is a polynomial of it."""
    name = prime.__qualname__ if prime.__module__ == "portnn.activations" else ""
    if name == "tanh_prime":
        t = y * y
        np.subtract(1.0, t, out=t)
    elif name == "sigmoid_prime":
        t = 1.0 - y
        np.multiply(t, y, out=t)
    else:
        return prime(x) * output_error
    return np.multiply(t, output_error, out=t)


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
    along, new_slots = gradients, {}
    if sgd.momentum:
        along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(slots["velocity"], gradients, strict=True)]
        new_slots = {"velocity": along}
        if sgd.nesterov:
            along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(along, gradients, strict=True)]
    return [_minus(w, lr * d) for w, d in zip(parameters, along, strict=True)], new_slots


def _sum_into_first(temporary: Array, b: Array) -> Array:
    return np.add(temporary, b, out=temporary)


def _minus(a: Array, temporary: Array) -> Array:
    return np.subtract(a, temporary, out=temporary)


TWINS: dict[str, Any] = {
    "ops.patches": patches,
    "ops.fold": fold,
    "ops.images": images,
    "ops.columns": columns,
    "activations.tanh": np.tanh,
    "activations.chain": chain,
    "losses.mse": mse,
    "losses.mse_prime": mse_prime,
    "training.count_finite": count_finite,
    "optimizers.SGD.update": sgd_update,
}
