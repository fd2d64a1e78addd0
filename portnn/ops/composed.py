"""Weighted sums, scaling, normalization and dropout, composed of other routines of the table ``ops``.

They run in any array API namespace ``xp``.
"""

from math import prod
from typing import Any

from portnn._typing import Array


def affine(x: Array, weights: Array, bias: Array | None = None, activation: Any = None, *, xp: Any, ops: Any) -> Array:
    """Y = f(X W + B) on the last axis of X (..., n), with W (n, m) and B (1, m) or None; f as in ``biased``."""
    y = xp.matmul(x if x.ndim == 2 else ops.rows(x), weights)
    if bias is not None:
        y = ops.biased(y, bias, activation)
    return y if x.ndim == 2 else xp.reshape(y, (*x.shape[:-1], weights.shape[-1]))


def column_sums(x: Array, *, xp: Any, ops: Any) -> Array:
    """The sum of the rows of a matrix (M, n), as (1, n)."""
    return x if x.shape[0] == 1 else ops.total(x, 0, True)


def scaled(x: Array, weights: Array, bias: Array, *, xp: Any, ops: Any) -> Array:
    """Y = X W + B, a W and a B (C,) for each place on the last axis of X (..., C)."""
    return x * weights + bias


def scaled_backward(output_error: Array, x: Array, weights: Array, *, xp: Any, ops: Any) -> tuple[Array, Array, Array]:
    """dE/dX, dE/dW and dE/dB of ``scaled``."""
    axes = tuple(range(x.ndim - 1))
    return output_error * weights, ops.total(output_error * x, axes), ops.total(output_error, axes)


def normalize(
    x: Array, axes: tuple[int, ...], epsilon: float, *, xp: Any, ops: Any
) -> tuple[Array, Array, Array, Array]:
    """Returns Z = S (X - mean), S = 1 / sqrt(variance + epsilon), the mean and the variance, over ``axes``.

    The last three keep these axes, with length 1. The mean is rounded; where the values differ by less than its last
    place, X - mean would be that rounding error alone. So the mean of X - mean is subtracted as well.
    """
    n = float(max(1, prod(x.shape[axis] for axis in axes)))
    mean = ops.total(x, axes, True) / n
    z = x - mean
    rest = ops.total(z, axes, True) / n
    z = z - rest
    variance = ops.total(z * z, axes, True) / n
    scale = 1.0 / xp.sqrt(variance + epsilon)
    return z * scale, scale, mean + rest, variance


def normalize_backward(dz: Array, z: Array, scale: Array, axes: tuple[int, ...], *, xp: Any, ops: Any) -> Array:
    """dE/dX for dE/dZ: dE/dZ less its mean and its projection on Z, times S."""
    n = float(max(1, prod(z.shape[axis] for axis in axes)))
    mean = ops.total(dz, axes, True) / n
    along = ops.total(dz * z, axes, True) / n
    return scale * (dz - mean - z * along)


def dropout(
    x: Array, key: tuple[int, int], step: Any, threshold: int, scale: float, *, xp: Any, ops: Any
) -> tuple[Array, Array]:
    """Returns X * M and M, which is ``scale`` where the random 32-bit word is at least ``threshold``, else 0."""
    words = ops.random_bits(key, step, prod(x.shape))
    mask = xp.astype(xp.reshape(words >= threshold, x.shape), x.dtype) * scale
    return x * mask, mask
