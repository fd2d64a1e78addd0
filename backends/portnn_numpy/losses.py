"""Losses for NumPy, with few passes over memory and few calls. The network ensures that shapes and dtypes agree."""

from math import isfinite
from typing import Any

import numpy as np

from portnn_numpy.namespace import total

Array = Any
SHORT = 1 << 12  # elements: in a longer dot product BLAS keeps only a few running sums, which is inaccurate


def mse(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """``mse`` in one pass for the squares and their sum."""
    d = y_true - y_pred
    if weights is not None:
        np.multiply(d, d, out=d)
        return total(_weighed(d, weights)) * (len(d) / max(1, d.size))
    if d.size > SHORT:
        np.multiply(d, d, out=d)
        return total(d) / d.size
    return np.vdot(d, d) / d.size


def mse_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """``mse_prime``, scaling the difference in place."""
    d = y_pred - y_true
    if weights is not None:
        return _weighed(d, weights, 2.0 * len(d) / max(1, d.size))
    return np.multiply(d, 2.0 / d.size, out=d)


def softmax_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Without one-hot rows for class numbers: log(sum of exp(Y)) - Y[class] per row, where Y is less its maximum."""
    if weights is not None:
        return total(_weighed(_lost(y_true, y_pred).reshape(y_pred.shape[:-1]), weights))
    z = _rows(y_pred) - np.maximum.reduce(_rows(y_pred), axis=1, keepdims=True)
    if _are_class_numbers(y_true, y_pred):
        picked = z[np.arange(len(z)), y_true.reshape(-1)]
        lost = np.add.reduce(np.log(total(np.exp(z, out=z), 1)) - picked)
    else:
        targets = _rows_of_targets(y_true, y_pred)
        z -= np.log(total(np.exp(z), 1, True))
        lost = -total(z * targets)
        if not isfinite(lost):  # a logit of minus infinity counts nothing where its target is zero
            lost = -total(np.where(targets == 0.0, 0.0, z) * targets)
    return lost * (1.0 / max(1, len(y_pred)))


def softmax_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """(softmax(Y) - Y*) / N; with class numbers, only one probability of each row changes."""
    z = _rows(y_pred) - np.maximum.reduce(_rows(y_pred), axis=1, keepdims=True)
    np.exp(z, out=z)
    share, n = total(z, 1, True), max(1, len(y_pred))
    if weights is not None:
        n = 1  # _weighed divides
    if _are_class_numbers(y_true, y_pred):
        z *= 1.0 / (share * n)
        z[np.arange(len(z)), y_true.reshape(-1)] -= 1.0 / n
    else:
        targets = _rows_of_targets(y_true, y_pred)
        z *= total(targets, 1, True) / share
        z -= targets
        z *= 1.0 / n
    dy = z.reshape(y_pred.shape)
    return dy if weights is None else _weighed(dy, weights)


def _lost(y_true: Array, y_pred: Array) -> Array:
    """The cross-entropy of each row."""
    z = _rows(y_pred) - np.maximum.reduce(_rows(y_pred), axis=1, keepdims=True)
    log_sum = np.log(total(np.exp(z), 1, True))
    if _are_class_numbers(y_true, y_pred):
        return log_sum[:, 0] - z[np.arange(len(z)), y_true.reshape(-1)]
    targets = _rows_of_targets(y_true, y_pred)
    return total(np.where(targets == 0.0, 0.0, log_sum - z) * targets, 1)


def _weighed(x: Array, weights: Array, factor: float = 1.0) -> Array:
    """x (N, ...) times ``factor`` and each sample's share w_i / (sum of w), in place; zeros where the weight is 0."""
    w = weights.astype(x.dtype, copy=False)
    share = w / (total(w) or 1.0) * factor
    x *= share.reshape(len(x), *(1,) * (x.ndim - 1))
    x[w == 0.0] = 0.0  # not 0 * NaN
    return x


def _rows(y: Array) -> Array:
    return y if y.ndim == 2 else y.reshape(-1, y.shape[-1])


def _are_class_numbers(y_true: Array, y_pred: Array) -> bool:
    return y_true.dtype.kind in "iu" and y_true.size * y_pred.shape[-1] == y_pred.size and y_true.ndim < y_pred.ndim


def _rows_of_targets(y_true: Array, y_pred: Array) -> Array:
    return _rows(y_true.reshape(y_pred.shape)).astype(y_pred.dtype, copy=False)
