"""Loss functions E(Y*, Y), each with its derivative dE/dY beside it.

Every loss takes ``y_true`` (Y*) and ``y_pred`` (Y), arrays of one array library, and returns the mean over the batch as
a 0-d array; its prime is the derivative of that mean, of the shape of ``y_pred``. Shapes must agree but for axes of
length 1: nothing is ever broadcast.
"""

from math import prod
from typing import Any

from portnn.backend import namespace

Array = Any


def mse(y_true: Array, y_pred: Array) -> Array:
    """Mean squared error over all elements, E = mean((Y* - Y)**2).

    >>> import numpy as np
    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    xp = namespace(y_pred)
    d = matched(y_true, y_pred) - y_pred
    return xp.mean(d * d)


def mse_prime(y_true: Array, y_pred: Array) -> Array:
    """Derivative of ``mse``: dE/dY = 2 * (Y - Y*) / (number of elements)."""
    return (y_pred - matched(y_true, y_pred)) * (2.0 / prod(y_pred.shape))


def matched(y_true: Array, y_pred: Array) -> Array:
    """Returns ``y_true`` in the shape of ``y_pred``; ValueError if they differ in more than axes of length 1."""
    if y_true.shape == y_pred.shape:
        return y_true
    if [n for n in y_true.shape if n != 1] != [n for n in y_pred.shape if n != 1]:
        raise ValueError(
            f"y_true has shape {tuple(y_true.shape)} but y_pred has {tuple(y_pred.shape)}: a loss compares element "
            "with element, so both need the same shape. Reshape y_true; class numbers become rows with to_categorical"
        )
    return namespace(y_true).reshape(y_true, y_pred.shape)


PAIRS = {
    "mse": (mse, mse_prime),
}
