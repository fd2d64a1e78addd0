"""The train step for NumPy."""

from math import isfinite
from typing import Any

import numpy as np
from numpy import dot, multiply, subtract

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
    X: Array,
    Y: Array | None,
    output_error: Array,
    chain: Any,
    weights: Array,
    bias: Array,
    rate: float,
    need_input_error: bool,
) -> tuple[Array | None, Array, Array, Array, Array]:
    """``descended`` in few calls; each product becomes a result."""
    D = output_error if chain is None else chain(Y, output_error)
    input_error = dot(D, weights.T) if need_input_error else None
    dW, lr = dot(X.T, D), np.array(rate, D.dtype)  # NumPy would convert a Python float in each operation
    W, B = multiply(dW, lr), multiply(D, lr)
    return input_error, dW, D, subtract(weights, W, W), subtract(bias, B, B)
