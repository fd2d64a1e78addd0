"""Metrics: measures of a network besides its loss. Each returns one value per sample; fit reports their mean."""

from math import prod
from typing import Any

from portnn import losses
from portnn._typing import Array
from portnn.backend import namespace


def accuracy(y_true: Array, y_pred: Array) -> Array:
    """The fraction of each sample's rows whose largest output is at the right class: 1.0 or 0.0 where it has one row.

    ``y_pred`` is (N, ..., classes); ``y_true`` is class numbers (N, ...), or one-hot rows with as many elements as
    ``y_pred``. With a single output per row, an output of more than 0.5 predicts 1, any other 0. A row that holds NaN
    is wrong. Returns (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    array([1., 0.])
    """
    xp = namespace(y_pred)
    n, *rows, classes = y_pred.shape if y_pred.ndim > 1 else (*y_pred.shape, 1)
    if classes == 1:
        return _on_one_side(y_true, y_pred, 0.5)
    shape = (n, prod(rows), classes)
    y_pred = xp.reshape(y_pred, shape)
    guess, largest = xp.argmax(y_pred, axis=2), xp.max(y_pred, axis=2)
    numbers = prod(y_true.shape) == n * prod(rows)
    truth = xp.reshape(y_true, shape[:2]) if numbers else xp.argmax(xp.reshape(y_true, shape), axis=2)
    right = xp.logical_and(guess == xp.astype(truth, guess.dtype), largest == largest)  # NaN is not
    return xp.mean(xp.astype(right, y_pred.dtype), axis=1)


def logit_accuracy(y_true: Array, y_pred: Array) -> Array:
    """The fraction of each sample's outputs that are on the right side of zero.

    This is ``"accuracy"`` with the losses binary_cross_entropy and hinge, where each output is a prediction of its own.
    ``y_pred`` (N, ...) holds logits; ``y_true`` has as many elements, more than 0.5 for class 1. NaN is wrong. Returns
    (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> logit_accuracy(np.array([[1.0, 0.0]]), np.array([[2.0, 3.0]]))
    array([0.5])
    """
    return _on_one_side(y_true, y_pred, 0.0)


def _on_one_side(y_true: Array, y_pred: Array, threshold: float) -> Array:
    xp = namespace(y_pred)
    shape = (y_pred.shape[0], prod(y_pred.shape[1:]))
    y_pred = xp.reshape(y_pred, shape)
    right = xp.logical_and((y_pred > threshold) == (xp.reshape(y_true, shape) > 0.5), y_pred == y_pred)
    return xp.mean(xp.astype(right, y_pred.dtype), axis=1)


METRICS = {"accuracy": accuracy}
BESIDE = {losses.binary_cross_entropy: {"accuracy": logit_accuracy}, losses.hinge: {"accuracy": logit_accuracy}}


def find(name: str, loss: Any) -> Any:
    """The metric of that name for use with ``loss``; None if there is none."""
    own = BESIDE[loss] if loss in (losses.binary_cross_entropy, losses.hinge) else {}
    return own.get(name) or METRICS.get(name)
