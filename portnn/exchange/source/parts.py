"""What the sources of other libraries share: the check of what has no counterpart there, and which parts are used."""

import re
from collections.abc import Collection, Mapping
from math import prod
from typing import Any

from portnn import losses
from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.functions import name_of

MOST_AXES = 3  # of an image: neither library has windows on more


def check(network: Any, language: str, known: Collection[str]) -> None:
    """ValueError that lists all layers, and the loss, that have no counterpart; RuntimeError for no layers."""
    if not network.layers:
        raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    strange = [
        f"layer {layer.path} {name}" for layer in network.walk() if (name := counterparts.strange_in(layer, known))
    ]
    if network.loss is not None and loss_name(network) is None:
        strange.append(f"loss {name_of(network.loss)}")
    if strange:
        listed = "".join(f"\n  {line}" for line in strange)
        raise ValueError(
            f"{language} has no counterpart for {len(strange)} of the network's parts; to_source has one for portnn's "
            f"own, not for layers and functions of yours:{listed}"
        )
    counterparts.check_complete(network)


def check_axes(layer: Any, shape: Shape, language: str) -> int:
    """The number of an image's axes; ValueError for more than the other library has."""
    axes = len(shape) - 1
    if axes > MOST_AXES:
        raise ValueError(
            f"{language} has no counterpart for 1 of the network's parts:\n  layer {layer.path} "
            f"{counterparts.one_line(repr(layer))} on samples of shape {counterparts.shown(shape)}, an image of "
            f"{axes} axes: it has windows on {MOST_AXES} at most"
        )
    return axes


def loss_name(network: Any) -> str | None:
    """The name of one of our own losses, ``Huber`` and ``SoftmaxCrossEntropy`` among them; None for a user's."""
    kind = type(network.loss)
    if kind in (losses.Huber, losses.SoftmaxCrossEntropy):
        return kind.__name__
    return next((name for name, pair in losses.PAIRS.items() if pair[0] is network.loss), None)


def about(layer: Any, shape: Shape, after: Shape) -> str:
    """The comment of a layer: its path, how it is made here, the shapes of a sample."""
    kind = type(layer).__name__
    composite = kind in ("SequentialLayer", "ResidualLayer", "ParallelLayer")
    what = kind if composite else counterparts.one_line(repr(layer))
    return f"# {layer.path}  {what}: {counterparts.shown(shape)} -> {counterparts.shown(after)}"


def used(parts: Mapping[str, str], calling: str) -> list[str]:
    """Of classes and functions by name those that some code uses."""
    return [text.strip() for name, text in parts.items() if re.search(rf"(?<![\w.]){name}\b", calling)]


def one(sizes: Collection[int]) -> str:
    """A size per axis, as one number where they are equal."""
    numbers = tuple(sizes)
    return str(numbers[0]) if len(set(numbers)) == 1 else str(numbers)


def flat(shape: Shape) -> bool:
    """Whether a sample is one row of numbers, such as (784,) or (1, 784)."""
    return all(n == 1 for n in shape[:-1])


def count(shape: Shape) -> int:
    return prod(shape)
