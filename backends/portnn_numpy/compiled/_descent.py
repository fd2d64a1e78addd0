"""Gradient descent on a fully connected layer for one sample, with each weight read once."""

from typing import Any

from numba import prange

from portnn_numpy.compiled._activations import RELU, TANH
from portnn_numpy.compiled.jit import Array, loop

SHARED = 1 << 18  # weights


@loop(SHARED, contract=False)
def descend(
    w: Array, b: Array, x: Array, y: Array, error: Array,
    d: Array, dw: Array, new_w: Array, new_b: Array, lr: Any, kind: int,
) -> None:  # fmt: skip
    """d = dE/dY from the error after an activation of that kind; dE/dW, which is x^T d, and the new parameters."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    for j in range(w.shape[1]):
        e = error[0, j]
        if kind == TANH:
            e = (one - y[0, j] * y[0, j]) * e
        elif kind == RELU:
            e = e if y[0, j] > zero else zero * e  # NaN and infinity propagate, as in a product
        d[0, j] = e
        new_b[0, j] = b[0, j] - lr * e
    for i in prange(w.shape[0]):
        x_i, row, own, new = x[0, i], w[i], dw[i], new_w[i]
        for j in range(row.shape[0]):
            g = x_i * d[0, j]
            own[j] = g
            new[j] = row[j] - lr * g
