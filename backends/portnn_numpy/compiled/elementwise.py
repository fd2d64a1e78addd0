"""Activations, each with its bias or its chain rule, in one pass."""

from typing import Any

import numpy as np

from portnn_numpy import elementwise as plain
from portnn_numpy.compiled.jit import LEAST, Array, empty_like, flat, jit

F = np.float32
INV_LN2 = F(1.4426950408889634)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # ln 2 in two parts: k * LN2_HIGH is exact
SEVEN, SIX, FIVE, FOUR, THREE, TWO, ONE, HALF = (F(a) for a in (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 2, 1, 0.5))
TEN = F(10)  # tanh is 1 to the last bit from there on


@jit
def _tanh(x: Any) -> Any:
    """tanh x = e / (e + 2) with e = exp(2 x) - 1, in float32, to three units in the last place.

    2 x = k ln 2 + r with |r| <= ln(2) / 2, so e = 2**k (exp(r) - 1) + (2**k - 1), and seven terms of exp's series do.
    """
    z = TWO * min(max(x, -TEN), TEN)
    k = np.floor(z * INV_LN2 + HALF)
    r = (z - k * LN2_HIGH) - k * LN2_LOW
    p = r * (ONE + r * (HALF + r * (THREE + r * (FOUR + r * (FIVE + r * (SIX + r * SEVEN))))))
    power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)  # 2**k by its exponent's bits
    e = power * p + (power - ONE)
    return e / (e + TWO)


@jit
def _tanh_all(x: Array, y: Array) -> None:
    for i in range(x.shape[0]):
        y[i] = _tanh(x[i])


@jit
def _tanh_chain(y: Array, d: Array, out: Array) -> None:
    one = y.dtype.type(1)
    for i in range(y.shape[0]):
        out[i] = d[i] * (one - y[i] * y[i])


@jit
def _relu_chain(y: Array, d: Array, out: Array) -> None:
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        out[i] = d[i] if y[i] > zero else zero * d[i]  # NaN and infinity are not hidden, as with a product


@jit
def _add(y: Array, bias: Array) -> None:
    for i in range(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            row[j] += bias[j]


@jit
def _add_relu(y: Array, bias: Array) -> None:
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            z = row[j] + bias[j]
            row[j] = zero if z < zero else z  # NaN stays NaN


@jit
def _add_tanh(y: Array, bias: Array) -> None:
    for i in range(y.shape[0]):
        row = y[i]
        for j in range(row.shape[0]):
            row[j] = _tanh(row[j] + bias[j])


@jit
def _add_each(y: Array, bias: Array) -> None:
    for i in range(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            row[j] += b


@jit
def _add_each_relu(y: Array, bias: Array) -> None:
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            z = row[j] + b
            row[j] = zero if z < zero else z


@jit
def _add_each_tanh(y: Array, bias: Array) -> None:
    for i in range(y.shape[0]):
        row, b = y[i], bias[i]
        for j in range(row.shape[0]):
            row[j] = _tanh(row[j] + b)


ALONG_ROWS = {None: _add, "relu": _add_relu, "tanh": _add_tanh}
EACH_ROW = {None: _add_each, "relu": _add_each_relu, "tanh": _add_each_tanh}


def biased(product: Array, bias: Array, activation: Any = None) -> Array:
    """f(product + bias) in ``product`` itself: rows of features, or images whose channels lie one after the other."""
    if product.size < LEAST:
        return plain.biased(product, bias, activation)
    name = None if activation is None else activation.__name__
    mine = flat(product)
    if mine is None or bias.dtype != product.dtype or (name == "tanh" and product.dtype != np.float32):
        return plain.biased(product, bias, activation)
    features = product.shape[-1]
    bias = np.array(bias).reshape(features)  # writable, as the loops are compiled for
    if product.flags.c_contiguous:
        ALONG_ROWS[name](mine[0].reshape(-1, features), bias)
    elif product.strides[-1] == max(product.strides):
        EACH_ROW[name](mine[0].reshape(features, -1), bias)
    else:
        return plain.biased(product, bias, activation)
    return product


def tanh(x: Array) -> Array:
    """One pass, in float32."""
    mine = flat(x) if x.dtype == np.float32 else None
    if mine is None:
        return np.tanh(x)
    y, numbers = empty_like(x)
    _tanh_all(mine[0], numbers)
    return y


CHAINS = {"tanh_prime": _tanh_chain, "relu_prime": _relu_chain}


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    """dE/dX = f'(X) * dE/dY, from Y where f' is simple in it, in one pass."""
    if y.size < LEAST:
        return plain.chain(prime, x, y, output_error)
    loop = CHAINS.get(prime.__qualname__) if prime.__module__ == "portnn.activations" else None
    mine = flat(y, output_error) if loop else None
    if loop is None or mine is None:
        return plain.chain(prime, x, y, output_error)
    input_error, numbers = empty_like(y)
    loop(*mine, numbers)
    return input_error


TWINS: dict[str, Any] = {"ops.biased": biased, "activations.tanh": tanh, "activations.chain": chain}
