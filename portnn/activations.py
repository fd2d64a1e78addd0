"""Activation functions, each with its derivative beside it.

Every function takes an array of any shape and any array library and returns one of the same shape, library and dtype.
"""

from typing import Any

from portnn.backend import namespace

Array = Any


def tanh(x: Array) -> Array:
    """Hyperbolic tangent, f(x) = tanh x, in (-1, 1).

    >>> float(tanh(0.0))
    0.0
    """
    return namespace(x).tanh(x)


def tanh_prime(x: Array) -> Array:
    """Derivative of ``tanh``: f'(x) = 1 - tanh(x)**2."""
    y = namespace(x).tanh(x)
    return 1.0 - y * y


def sigmoid(x: Array) -> Array:
    """Logistic function, f(x) = 1 / (1 + exp(-x)), in (0, 1)."""
    xp = namespace(x)
    z = xp.exp(-xp.abs(x))  # never more than 1, so it cannot overflow
    return xp.where(x >= 0, xp.ones_like(z), z) / (1.0 + z)


def sigmoid_prime(x: Array) -> Array:
    """Derivative of ``sigmoid``: f'(x) = f(x) * (1 - f(x))."""
    xp = namespace(x)
    z = xp.exp(-xp.abs(x))
    return z / ((1.0 + z) * (1.0 + z))  # the same with both factors written out: exact for large |x| too


def relu(x: Array) -> Array:
    """Rectified linear unit, f(x) = max(x, 0)."""
    xp = namespace(x)
    return xp.maximum(x, xp.zeros_like(x))


def relu_prime(x: Array) -> Array:
    """Derivative of ``relu``: 1 where x > 0, else 0 (at the kink x = 0 too, as in PyTorch)."""
    xp = namespace(x)
    return xp.astype(x > 0, x.dtype)


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    """The chain rule, dE/dX = f'(X) * dE/dY. A backend's twin may use Y = f(X), where that is quicker than f'(X)."""
    return prime(x) * output_error


PAIRS = {
    "tanh": (tanh, tanh_prime),
    "sigmoid": (sigmoid, sigmoid_prime),
    "relu": (relu, relu_prime),
}
