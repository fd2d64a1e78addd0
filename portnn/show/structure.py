"""What a network is made of, as a tree: each layer with its path, shapes and parameters, and the branches in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from portnn._typing import Shape
from portnn.layers import ParallelLayer, ResidualLayer, SequentialLayer, sequential


@dataclass
class Part:
    """A layer in its place. ``parameters`` counts those inside, too; None where they are still to be created."""

    layer: Any
    path: str
    before: Shape | None
    after: Shape | None
    parameters: int | None = 0
    branches: list[list["Part"]] = field(default_factory=list)
    merge: str | None = None  # how the branches' outputs become one; None where only the layer's author knows
    frozen: bool = False  # it, or a layer that holds it

    def below(self) -> Iterator["Part"]:
        """All parts inside, each followed by those in it."""
        for branch in self.branches:
            for part in branch:
                yield part
                yield from part.below()


def parts(layers: list[Any], input_shape: Shape | None) -> list[Part]:
    """The parts of a network; ``input_shape`` is by default that which the first layer declares."""
    if input_shape is None and layers:
        input_shape = sequential.own_input_shape(layers[0])
    return _chain(layers, input_shape, "", False)


def _chain(layers: list[Any], input_shape: Shape | None, above: str, frozen: bool) -> list[Part]:
    shapes = sequential.shapes(layers, input_shape)
    return [_part(layer, shapes[i], shapes[i + 1], f"{above}{i}", frozen) for i, layer in enumerate(layers)]


def _part(layer: Any, before: Shape | None, after: Shape | None, path: str, frozen: bool) -> Part:
    frozen = frozen or not layer.trainable
    part = Part(layer, path, before, after, frozen=frozen)
    if layer.layers and not layer.updates_itself:
        forward = type(layer).forward  # what a user's class does with the layers in it nobody else knows
        if forward in (SequentialLayer.forward, ResidualLayer.forward):
            part.branches, part.merge = [_chain(layer.layers, before, f"{path}.", frozen)], "chain"
            if forward is ResidualLayer.forward:
                part.branches, part.merge = [*part.branches, []], "add"
        else:
            inside = layer.shapes_inside(before)
            known = zip(layer.layers, inside, strict=True)
            part.branches = [_branch(child, shape, f"{path}.{i}", frozen) for i, (child, shape) in enumerate(known)]
            part.merge = layer.merge if forward is ParallelLayer.forward else None
    own = layer.parameter_shapes(before)
    counts = [None if not own and not layer.complete else sum(map(prod, own.values()))]
    counts += [below.parameters for branch in part.branches for below in branch]
    part.parameters = None if None in counts else sum(n for n in counts if n is not None)
    return part


def _branch(child: Any, shape: Any, path: str, frozen: bool) -> list[Part]:
    """A branch: a layer, or several in order."""
    if isinstance(child, (list, tuple)) or type(child) is SequentialLayer:
        start = shape[0] if isinstance(shape, list) and shape else None if isinstance(shape, list) else shape
        return _chain(list(child.layers if isinstance(child, SequentialLayer) else child), start, f"{path}.", frozen)
    return [_part(child, shape, sequential.shapes([child], shape)[1], path, frozen)]
