"""Activation functions, each with its derivative beside it.

Every function takes a floating array of any shape and any array library and returns one of the same shape, library and
dtype; a list is a TypeError, and so is a plain number where a dtype is needed. Each returns its limit at infinity, and
NaN only for NaN: ``exp`` is only taken of values that are not positive, so nothing overflows, and where x is multiplied
by a factor that goes to zero, x is clipped (``_within``) at a value where the product is already 0, or 1, to the last
bit.
"""

from math import pi, sqrt
from typing import Any

from portnn._typing import Array
from portnn.backend import namespace, quiet
from portnn.ops import portable


@quiet
def tanh(x: Array) -> Array:
    """Hyperbolic tangent, f(x) = tanh x, in (-1, 1).

    >>> float(tanh(0.0))
    0.0
    """
    return namespace(x).tanh(x)


@quiet
def tanh_prime(x: Array) -> Array:
    """Derivative of ``tanh``: f'(x) = 1 - tanh(x)**2."""
    y = namespace(x).tanh(x)
    return 1.0 - y * y


@quiet
def sigmoid(x: Array) -> Array:
    """Logistic function, f(x) = 1 / (1 + exp(-x)), in (0, 1)."""
    return _sigmoid(x)


def _sigmoid(x: Array) -> Array:
    xp = namespace(x)
    z = xp.exp(-xp.abs(x))  # never more than 1, so it cannot overflow
    return xp.where(x >= 0, xp.ones_like(z), z) / (1.0 + z)


@quiet
def sigmoid_prime(x: Array) -> Array:
    """Derivative of ``sigmoid``: f'(x) = f(x) * (1 - f(x))."""
    return _sigmoid_prime(x)


def _sigmoid_prime(x: Array) -> Array:
    xp = namespace(x)
    z = xp.exp(-xp.abs(x))
    return z / ((1.0 + z) * (1.0 + z))  # f (1 - f) with both factors written out: accurate for large |x| too


def relu(x: Array) -> Array:
    """Rectified linear unit, f(x) = max(x, 0). Source: V. Nair, G. Hinton, 2010."""
    xp = namespace(x)
    return xp.maximum(x, xp.zeros_like(x))


def relu_prime(x: Array) -> Array:
    """Derivative of ``relu``: 1 where x > 0, else 0 (at the kink x = 0 too, as in PyTorch)."""
    xp = namespace(x)
    return xp.astype(x > 0, dtype_of(x))


LEAK = 0.01


@quiet
def leaky_relu(x: Array) -> Array:
    """``relu`` with slope 0.01 for negative x, f(x) = max(x, 0.01 x). Source: A. Maas et al., 2013."""
    return namespace(x).maximum(x, LEAK * x)


@quiet
def leaky_relu_prime(x: Array) -> Array:
    """Derivative of ``leaky_relu``: 1 where x > 0, else 0.01."""
    xp = namespace(x)
    return LEAK + (1.0 - LEAK) * xp.astype(x > 0, dtype_of(x))


@quiet
def elu(x: Array) -> Array:
    """Exponential linear unit, f(x) = x where x > 0, else exp(x) - 1. Source: D.-A. Clevert et al., 2016."""
    xp = namespace(x)
    zero = xp.zeros_like(x)
    return xp.maximum(x, zero) + xp.expm1(xp.minimum(x, zero))


@quiet
def elu_prime(x: Array) -> Array:
    """Derivative of ``elu``: 1 where x > 0, else exp(x)."""
    xp = namespace(x)
    return xp.exp(xp.minimum(x, xp.zeros_like(x)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@quiet
def selu(x: Array) -> Array:
    """Self-normalizing unit, f(x) = s x where x > 0, else s a (exp(x) - 1); s, a keep mean 0 and variance 1.

    Source: G. Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    xp = namespace(x)
    zero = xp.zeros_like(x)
    return SELU_SCALE * xp.maximum(x, zero) + (SELU_SCALE * SELU_ALPHA) * xp.expm1(xp.minimum(x, zero))


@quiet
def selu_prime(x: Array) -> Array:
    """Derivative of ``selu``: s where x > 0, else s a exp(x)."""
    xp = namespace(x)
    negative = (SELU_SCALE * SELU_ALPHA) * xp.exp(xp.minimum(x, xp.zeros_like(x)))
    return xp.where(x > 0, SELU_SCALE * xp.ones_like(x), negative)


@quiet
def gelu(x: Array) -> Array:
    """Gaussian error linear unit, f(x) = x P(x), where P(x) = (1 + erf(x / sqrt 2)) / 2 is the normal distribution.

    Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units", 2016.
    """
    return _within(x, -40.0, None) * _normal_below(x)


@quiet
def gelu_prime(x: Array) -> Array:
    """Derivative of ``gelu``: P(x) + x p(x), where p(x) = exp(-x**2 / 2) / sqrt(2 pi) is P's derivative."""
    x = _within(x, -40.0, 40.0)
    density = namespace(x).exp(-0.5 * x * x) * (1.0 / sqrt(2.0 * pi))
    return _normal_below(x) + x * density


def _normal_below(x: Array) -> Array:
    """P(x), the cumulative distribution function of the standard normal distribution."""
    return 0.5 + 0.5 * portable.erf(x * (1.0 / sqrt(2.0)), xp=namespace(x))


GELU_SLOPE, GELU_CUBE = sqrt(2.0 / pi), 0.044715


@quiet
def gelu_tanh(x: Array) -> Array:
    """``gelu`` with tanh in place of erf: f(x) = x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x**3).

    Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units", 2016.
    """
    return 0.5 * _within(x, -40.0, None) * (1.0 + namespace(x).tanh(_gelu_inner(_within(x, -40.0, 40.0))))


@quiet
def gelu_tanh_prime(x: Array) -> Array:
    """Derivative of ``gelu_tanh``: (1 + tanh u) / 2 + x (1 - tanh(u)**2) u' / 2."""
    x = _within(x, -40.0, 40.0)
    t = namespace(x).tanh(_gelu_inner(x))
    inner_prime = GELU_SLOPE * (1.0 + 3.0 * GELU_CUBE * x * x)
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_prime


def _gelu_inner(x: Array) -> Array:
    return GELU_SLOPE * (x + GELU_CUBE * x * x * x)


@quiet
def silu(x: Array) -> Array:
    """Sigmoid linear unit ("swish"), f(x) = x sigmoid(x). Source: S. Elfwing et al., 2017."""
    return _within(x, -1000.0, None) * _sigmoid(x)


@quiet
def silu_prime(x: Array) -> Array:
    """Derivative of ``silu``: s + x s', where s = sigmoid(x)."""
    x = _within(x, -1000.0, 1000.0)
    return _sigmoid(x) + x * _sigmoid_prime(x)


@quiet
def softplus(x: Array) -> Array:
    """Smooth relu, f(x) = log(1 + exp x) = max(x, 0) + log(1 + exp(-|x|)). Source: C. Dugas et al., 2000."""
    xp = namespace(x)
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


@quiet
def softplus_prime(x: Array) -> Array:
    """Derivative of ``softplus``: sigmoid(x)."""
    return _sigmoid(x)


@quiet
def softsign(x: Array) -> Array:
    """Softsign function, f(x) = x / (1 + |x|), in (-1, 1). Source: J. Bergstra et al., 2009."""
    x = _within(x, -1e30, 1e30)
    return x / (1.0 + namespace(x).abs(x))


@quiet
def softsign_prime(x: Array) -> Array:
    """Derivative of ``softsign``: 1 / (1 + |x|)**2."""
    d = 1.0 / (1.0 + namespace(x).abs(x))
    return d * d  # squaring the denominator could overflow


@quiet
def hard_sigmoid(x: Array) -> Array:
    """Piecewise linear sigmoid, f(x) = x / 6 + 1/2, clipped to [0, 1]. Source: A. Howard et al., 2019."""
    xp = namespace(x)
    zero = xp.zeros_like(x)
    return xp.minimum(xp.maximum(x * (1.0 / 6.0) + 0.5, zero), zero + 1.0)


@quiet
def hard_sigmoid_prime(x: Array) -> Array:
    """Derivative of ``hard_sigmoid``: 1/6 where -3 < x < 3, else 0."""
    xp = namespace(x)
    return xp.astype(xp.abs(x) < 3.0, dtype_of(x)) * (1.0 / 6.0)


# Not on the shelf, but in models of other libraries, which portnn.onnx.load reads.


@quiet
def hard_swish(x: Array) -> Array:
    """Piecewise silu, f(x) = x hard_sigmoid(x). Source: A. Howard et al., "Searching for MobileNetV3", 2019."""
    return _within(x, -1000.0, None) * hard_sigmoid(x)


@quiet
def hard_swish_prime(x: Array) -> Array:
    """Derivative of ``hard_swish``: 0 where x <= -3, 1 where x >= 3, else x / 3 + 1/2."""
    xp, dtype = namespace(x), dtype_of(x)
    inside = xp.astype(xp.abs(x) < 3.0, dtype)
    return inside * (_within(x, -3.0, 3.0) * (1.0 / 3.0) + 0.5) + xp.astype(x >= 3.0, dtype)


def _within(x: Array, least: float, most: float | None) -> Array:
    """x, clipped at ``least`` and, unless it is None, at ``most``; NaN stays NaN."""
    xp = namespace(x)
    zero = xp.zeros_like(x)
    x = xp.maximum(x, zero + least)
    return x if most is None else xp.minimum(x, zero + most)


# -- over the last axis: not for ActivationLayer, since each output depends on every input ----------------------------


@quiet
def softmax(x: Array) -> Array:
    """Probabilities on the last axis, f(x)[i] = exp(x[i]) / sum over j of exp(x[j]). As a layer: SoftmaxLayer.

    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    xp = namespace(x)
    z = xp.exp(x - xp.max(x, axis=-1, keepdims=True))  # subtracting a constant from x leaves softmax unchanged
    return z / portable.total(z, -1, True, xp=xp)


@quiet
def log_softmax(x: Array) -> Array:
    """Logarithm of ``softmax``, finite where softmax underflows: f(x)[i] = x[i] - log(sum over j of exp(x[j]))."""
    xp = namespace(x)
    z = x - xp.max(x, axis=-1, keepdims=True)
    return z - xp.log(portable.total(xp.exp(z), -1, True, xp=xp))


def dtype_of(x: Array) -> Any:
    """The dtype of an array; a Python number has none."""
    if not hasattr(x, "dtype"):
        raise TypeError(f"an array is needed, got {type(x).__name__}: make one first, such as np.asarray(x)")
    return x.dtype


# -- the chain rule where f'(X) is a simple function of Y = f(X), which the forward pass has computed -----------------


def tanh_chain(y: Array, output_error: Array) -> Array:
    """dE/dX = (1 - Y**2) dE/dY."""
    return (1.0 - y * y) * output_error


def sigmoid_chain(y: Array, output_error: Array) -> Array:
    """dE/dX = (1 - Y) Y dE/dY."""
    return (1.0 - y) * y * output_error


def relu_chain(y: Array, output_error: Array) -> Array:
    """dE/dX = dE/dY where Y > 0, else 0."""
    return output_error * namespace(y).astype(y > 0, dtype_of(y))


CHAINS = {(tanh, tanh_prime): tanh_chain, (sigmoid, sigmoid_prime): sigmoid_chain, (relu, relu_prime): relu_chain}

PAIRS = {
    "tanh": (tanh, tanh_prime),
    "sigmoid": (sigmoid, sigmoid_prime),
    "relu": (relu, relu_prime),
    "leaky_relu": (leaky_relu, leaky_relu_prime),
    "elu": (elu, elu_prime),
    "selu": (selu, selu_prime),
    "gelu": (gelu, gelu_prime),
    "gelu_tanh": (gelu_tanh, gelu_tanh_prime),
    "silu": (silu, silu_prime),
    "softplus": (softplus, softplus_prime),
    "softsign": (softsign, softsign_prime),
    "hard_sigmoid": (hard_sigmoid, hard_sigmoid_prime),
}

FOREIGN = {"hard_swish": (hard_swish, hard_swish_prime)}  # no names for ActivationLayer, but files may hold them
