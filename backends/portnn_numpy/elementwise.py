"""Activations and losses for NumPy, in few passes over memory and few calls."""

from math import isfinite, prod
from typing import Any

import numpy as np

from portnn_numpy.namespace import total

Array = Any


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


SHORT = 1 << 12  # numbers: BLAS adds those of a scalar product in few sums, each one number after the other


def mse(y_true: Array, y_pred: Array) -> Array:
    """One pass for the squares and their sum. Both have one shape: the network sees to that."""
    d = y_true - y_pred
    if d.size > SHORT:
        np.multiply(d, d, out=d)
        return total(d) / d.size
    return np.vdot(d, d) / d.size


def mse_prime(y_true: Array, y_pred: Array) -> Array:
    """The difference is scaled where it stands. Both have one shape: the network sees to that."""
    d = y_pred - y_true
    return np.multiply(d, 2.0 / d.size, out=d)


def softmax_cross_entropy(y_true: Array, y_pred: Array) -> Array:
    """Class numbers are not made one-hot: of each row log(sum of exp(Y)) - Y[class], each less the row's largest Y."""
    z = _rows(y_pred) - np.maximum.reduce(_rows(y_pred), axis=1, keepdims=True)
    if _are_class_numbers(y_true, y_pred):
        picked = z[np.arange(len(z)), y_true.reshape(-1)]
        lost = np.add.reduce(np.log(total(np.exp(z, out=z), 1)) - picked)
    else:
        targets = _rows_of_targets(y_true, y_pred)
        z -= np.log(total(np.exp(z), 1, True))
        lost = -total(z * targets)
        if not isfinite(lost):  # a class that cannot be counts nothing where it is not asked for
            lost = -total(np.where(targets == 0.0, 0.0, z) * targets)
    return lost * (1.0 / max(1, len(y_pred)))


def softmax_cross_entropy_prime(y_true: Array, y_pred: Array) -> Array:
    """(softmax(Y) - Y*) / N: with class numbers, of each row only one share is changed."""
    z = _rows(y_pred) - np.maximum.reduce(_rows(y_pred), axis=1, keepdims=True)
    np.exp(z, out=z)
    share, n = total(z, 1, True), max(1, len(y_pred))
    if _are_class_numbers(y_true, y_pred):
        z *= 1.0 / (share * n)
        z[np.arange(len(z)), y_true.reshape(-1)] -= 1.0 / n
    else:
        targets = _rows_of_targets(y_true, y_pred)
        z *= total(targets, 1, True) / share
        z -= targets
        z *= 1.0 / n
    return z.reshape(y_pred.shape)


def _rows(y: Array) -> Array:
    return y if y.ndim == 2 else y.reshape(-1, y.shape[-1])


def _are_class_numbers(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype.kind in "iu" and y_true.size * y_pred.shape[-1] == y_pred.size and y_true.ndim < y_pred.ndim


def _rows_of_targets(y_true: Array, y_pred: Array) -> Array:
    return _rows(y_true.reshape(y_pred.shape)).astype(y_pred.dtype, copy=False)


def normalize(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array, Array]:
    """X - mean becomes Z in its place."""
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
    """In two arrays."""
    n = float(max(1, prod(z.shape[axis] for axis in axes)))
    t = dz * z
    np.multiply(z, total(t, axes, True) / n, out=t)
    dx = dz - total(dz, axes, True) / n
    dx -= t
    dx *= scale
    return dx


def tally(step: int, position: int, total: Any, finite: Any, error: Any, size: int) -> tuple[int, int, Any, Any]:
    """On numbers of the host."""
    total = total + error * size
    return step + 1, position + 1, total, finite + 1 if isfinite(total) else finite


TWINS: dict[str, Any] = {
    "ops.biased": biased,
    "ops.normalize": normalize,
    "ops.normalize_backward": normalize_backward,
    "activations.tanh": np.tanh,
    "activations.relu": relu,
    "activations.chain": chain,
    "losses.mse": mse,
    "losses.mse_prime": mse_prime,
    "losses.softmax_cross_entropy": softmax_cross_entropy,
    "losses.softmax_cross_entropy_prime": softmax_cross_entropy_prime,
    "training.tally": tally,
}
