"""Losses, fused into one or two launches; those with weights are left to the library.

Arguments may have any memory order; results are C-contiguous.
"""

from math import prod
from typing import Any

import cupy
import numpy as np

from portnn_cupy.launch import in_order, launch
from portnn_cupy.shapes import are_alike, are_labels

Array = Any


def mse(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    if weights is not None or not are_alike(y_true, y_pred):
        return NotImplemented
    return _each_difference("squares", y_true, y_pred, 1.0).sum()


def mse_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    if weights is not None or not are_alike(y_true, y_pred):
        return NotImplemented
    return _each_difference("differences", y_true, y_pred, 2.0)


def _each_difference(name: str, y_true: Array, y_pred: Array, share: float) -> Array:
    out = cupy.empty(y_pred.shape, y_pred.dtype)
    numbers = np.int64(out.size), y_pred.dtype.type(share / max(1, out.size))
    launch(name, out.dtype, out.size, in_order(y_true), in_order(y_pred), out, *numbers)
    return out


def softmax_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    if weights is not None or not are_labels(y_true, y_pred):
        return NotImplemented
    lost, share = cupy.empty(y_pred.shape[:-1], y_pred.dtype), y_pred.dtype.type(1.0 / max(1, y_pred.shape[0]))
    launch("cross_entropy", y_pred.dtype, lost.size, *_rows(y_true, y_pred), lost, *_sizes(y_pred), share)
    return lost.sum()


def softmax_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    if weights is not None or not are_labels(y_true, y_pred):
        return NotImplemented
    dy, share = cupy.empty(y_pred.shape, y_pred.dtype), y_pred.dtype.type(1.0 / max(1, y_pred.shape[0]))
    rows = prod(y_pred.shape[:-1])
    launch("cross_entropy_prime", y_pred.dtype, rows, *_rows(y_true, y_pred), dy, *_sizes(y_pred), share)
    return dy


def _rows(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    return in_order(y_pred), in_order(y_true.astype(np.int64, copy=False))


def _sizes(y_pred: Array) -> tuple[Any, Any]:
    return np.int64(prod(y_pred.shape[:-1])), np.int64(y_pred.shape[-1])
