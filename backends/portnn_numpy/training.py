"""The train step for NumPy."""

from math import isfinite
from typing import Any

import numpy as np
from numpy import multiply, subtract

from portnn_numpy import losses

Array = Any


def update_counters(
    step: int, position: int, total: Any, finite: Any, error: Any, size: int
) -> tuple[int, int, Any, Any]:
    """``update_counters`` on Python numbers."""
    total = total + error * size
    return step + 1, position + 1, total, finite + 1 if isfinite(total) else finite


def whole(Y_true: Array, Y: Array, loss: Any, loss_prime: Any, chain: Any) -> tuple[Array, Array, Array | None]:
    """For ``mse``: the difference is computed once."""
    if loss is not losses.mse or loss_prime is not losses.mse_prime or Y.size > losses.SHORT:
        return NotImplemented
    D = subtract(Y, Y_true)
    error = np.vdot(D, D) / D.size
    multiply(D, 2.0 / D.size, out=D)
    return error, D if chain is None else chain(Y, D), None


def descended(
    X: Array, Y: Array, output_error: Array, chain: Any, weights: Array, bias: Array, rate: float
) -> tuple[Array, Array, Array, Array]:
    """``descended`` in few calls; each product becomes a result."""
    D = output_error if chain is None else chain(Y, output_error)
    dW, lr = np.dot(X.T, D), np.array(rate, D.dtype)  # NumPy would convert a Python float in each operation
    W, B = multiply(dW, lr), multiply(D, lr)
    return D, dW, subtract(weights, W, W), subtract(bias, B, B)
