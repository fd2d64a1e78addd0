"""Loops over activations, each with its bias or its chain rule, in one pass."""

from typing import Any

import numpy as np
from numba import prange

from portnn_numpy.compiled.jit import Array, jit, loop

BIAS, RELU, TANH = 1, 2, 3  # what a loop is told to apply: the bias alone, or an activation as well
KINDS = {None: BIAS, "relu": RELU, "tanh": TANH}

F = np.float32
INV_LN2 = F(1.4426950408889634)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # ln 2 in two parts: k * LN2_HIGH is exact
TWO, ONE, HALF = F(2), F(1), F(0.5)
C3, C4, C5, C6, C7 = (F(1 / n) for n in (6, 24, 120, 720, 5040))  # of exp's series: 1 / 3!, 1 / 4!, ...
TEN = F(10)  # tanh is 1 to the last bit from there on


@jit
def _tanh(x: Any) -> Any:
    """tanh x = e / (e + 2) with e = exp(2 x) - 1, in float32, to three units in the last place.

    2 x = k ln 2 + r with |r| <= ln(2) / 2, so e = 2**k (exp(r) - 1) + (2**k - 1), with seven terms of exp's series.
    """
    z = TWO * min(max(x, -TEN), TEN)
    k = np.floor(z * INV_LN2 + HALF)
    r = (z - k * LN2_HIGH) - k * LN2_LOW
    p = r * (ONE + r * (HALF + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))))
    power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)  # 2**k by its exponent's bits
    e = power * p + (power - ONE)
    return e / (e + TWO)


@loop()
def tanh_all(x: Array, y: Array) -> None:
    for i in prange(x.shape[0]):
        y[i] = _tanh(x[i])


@loop()
def relu_all(x: Array, y: Array) -> None:
    zero = x.dtype.type(0)
    for i in prange(x.shape[0]):
        y[i] = zero if x[i] < zero else x[i]  # NaN stays NaN


@loop()
def tanh_chain(y: Array, d: Array, out: Array) -> None:
    one = y.dtype.type(1)
    for i in prange(y.shape[0]):
        out[i] = d[i] * (one - y[i] * y[i])


@loop()
def relu_chain(y: Array, d: Array, out: Array) -> None:
    zero = y.dtype.type(0)
    for i in prange(y.shape[0]):
        out[i] = d[i] if y[i] > zero else zero * d[i]  # NaN and infinity propagate, as in a product


@loop()
def add(y: Array, bias: Array) -> None:
    for i in prange(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            row[j] += bias[j]


@loop()
def add_relu(y: Array, bias: Array) -> None:
    zero = y.dtype.type(0)
    for i in prange(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            z = row[j] + bias[j]
            row[j] = zero if z < zero else z  # NaN stays NaN


@loop()
def add_tanh(y: Array, bias: Array) -> None:
    for i in prange(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            row[j] = _tanh(row[j] + bias[j])


@loop()
def add_each(y: Array, bias: Array) -> None:
    for i in prange(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            row[j] += b


@loop()
def add_each_relu(y: Array, bias: Array) -> None:
    zero = y.dtype.type(0)
    for i in prange(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            z = row[j] + b
            row[j] = zero if z < zero else z


@loop()
def add_each_tanh(y: Array, bias: Array) -> None:
    for i in prange(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            row[j] = _tanh(row[j] + b)


@jit
def finish(row: Array, bias: Any, kind: int) -> None:
    """row = f(row + bias), for loops that have just written it."""
    if kind == TANH:
        for j in range(row.shape[0]):
            row[j] = _tanh(row[j] + bias)
    elif kind == RELU:
        zero = row.dtype.type(0)
        for j in range(row.shape[0]):
            z = row[j] + bias
            row[j] = zero if z < zero else z
    elif kind == BIAS:
        for j in range(row.shape[0]):
            row[j] += bias
