"""What a compiled step depends on besides the arrays that it reads and writes: whether a later fit can use it again."""

from typing import Any

from portnn import ops

PLAIN = (bool, int, float, str)
CHANGING = {"step", "_learning_rate", "learning_rate"}  # on the device, in each step


def key_of(network: Any, optimizer: Any, state: Any) -> tuple[Any, ...] | None:
    """A key, equal for two fits whose steps compute the same; None where one may depend on something else.

    That is so where a user's code takes part, which may read anything, and where the step has the samples built in.
    """
    batches, metrics = state.batches, [metric for _, metric in state.metrics]
    layers = list(network.walk())
    parts = [*metrics, network.loss, network.loss_prime, optimizer]
    parts += [getattr(layer, name) for layer in layers for name in FUNCTIONS if hasattr(layer, name)]
    if not all(layer._own and not {"forward", "backward"} & vars(layer).keys() for layer in layers):
        return None
    if not batches.is_lasting or not all(map(_is_ours, parts)):
        return None
    data = [None if a is None else (a.dtype, tuple(a.shape[1:])) for a in (batches.x, batches.y, batches.weights)]
    return (
        network.backend,
        (network.kernels, network.dtype, network.seed),
        # The layers themselves, so that they live as long as the key and no other has their place in memory.
        tuple((Same(layer), layer._is_frozen, _settings(layer)) for layer in layers),
        tuple((getattr(part, "__qualname__", type(part)), _settings(part)) for part in parts),
        (tuple(data), batches.batch_size, batches.classes, batches.in_chunks, state.weighted),
    )


FUNCTIONS = ("activation", "activation_prime")


class Same:
    """An object, equal to itself alone, whatever its class says."""

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _settings(thing: Any) -> tuple[tuple[str, Any], ...]:
    """The attributes that are numbers, flags or words: what else there is does not change, or is an array."""
    found = getattr(thing, "__dict__", {})
    return tuple(sorted((k, v) for k, v in found.items() if type(v) in PLAIN and k not in CHANGING))


def _is_ours(part: Any) -> bool:
    part = getattr(part, "function", part)
    return ops.is_ours(part) or ops.is_ours(type(part))
