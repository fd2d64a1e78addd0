"""The activations that a graph can hold."""

from typing import Any

from portnn import activations

PAIRS: dict[str, tuple[Any, Any]] = activations.PAIRS | activations.FOREIGN


def name_in_graphs(layer: Any) -> str | None:
    """The name of the function of an ActivationLayer, if it is one of portnn's; None for a user's."""
    return next((name for name, pair in PAIRS.items() if pair[0] is layer.activation), None)
