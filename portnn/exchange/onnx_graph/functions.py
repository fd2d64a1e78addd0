"""An activation that other libraries' models use and portnn's shelf does not have."""

from typing import Any

from portnn import activations
from portnn._typing import Array
from portnn.backend import namespace


def hard_swish(x: Array) -> Array:
    """Piecewise silu, f(x) = x * hard_sigmoid(x). Source: A. Howard et al., "Searching for MobileNetV3", 2019."""
    return x * activations.hard_sigmoid(x)


def hard_swish_prime(x: Array) -> Array:
    """Derivative of ``hard_swish``: 0 where x <= -3, 1 where x >= 3, else x / 3 + 1/2."""
    xp = namespace(x)
    inside = xp.astype(xp.abs(x) < 3.0, x.dtype)
    return inside * (x * (1.0 / 3.0) + 0.5) + xp.astype(x >= 3.0, x.dtype)


PAIRS: dict[str, tuple[Any, Any]] = activations.PAIRS | {"hard_swish": (hard_swish, hard_swish_prime)}


def name_in_graphs(layer: Any) -> str | None:
    """The name of the function of an ActivationLayer, if a graph can hold it; None for other functions of a user's."""
    return next((name for name, pair in PAIRS.items() if pair[0] is layer.activation), None)
