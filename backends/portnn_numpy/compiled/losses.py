"""Losses of large outputs, without weights, by the loops of ``_losses.py``; for both at once see ``training.whole``.

The mean squared error alone is as fast in NumPy.
"""

from portnn_numpy.compiled._losses import computed
from portnn_numpy.compiled.jit import Array


def binary_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    found = computed("binary_cross_entropy", y_true, y_pred, False) if weights is None else None
    return NotImplemented if found is None else found[0]


def binary_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    found = computed("binary_cross_entropy", y_true, y_pred) if weights is None else None
    return NotImplemented if found is None else found[1]


def softmax_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    found = computed("softmax_cross_entropy", y_true, y_pred, False) if weights is None else None
    return NotImplemented if found is None else found[0]


def softmax_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    found = computed("softmax_cross_entropy", y_true, y_pred) if weights is None else None
    return NotImplemented if found is None else found[1]
