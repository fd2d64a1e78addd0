"""Metrics: what a network is judged by beside its loss. Each returns one number a sample, which is averaged."""

from typing import Any

from portnn.backend import namespace

Array = Any


def accuracy(y_true: Array, y_pred: Array) -> Array:
    """1.0 for each sample whose largest output is at the right class, else 0.0.

    ``y_pred`` (N, ..., classes); ``y_true`` class numbers (N,) or one-hot rows with as many elements as ``y_pred``.
    Returns (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    array([1., 0.])
    """
    xp = namespace(y_pred)
    n = y_pred.shape[0]
    guess = xp.argmax(xp.reshape(y_pred, (n, -1)), axis=1)
    truth = y_true if y_true.shape == (n,) else xp.argmax(xp.reshape(y_true, (n, -1)), axis=1)
    return xp.astype(guess == xp.astype(truth, guess.dtype), y_pred.dtype)


METRICS = {"accuracy": accuracy}
