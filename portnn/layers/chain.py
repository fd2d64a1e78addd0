"""Layers one after the other: the shapes between them, and the ways up and down."""

from collections.abc import Iterator, Sequence
from typing import Any

from portnn.layers import checks
from portnn.layers.layer import Layer
from portnn.ops import is_ours

Array = Any
Shape = tuple[int, ...] | None


def shapes(layers: Sequence[Any], input_shape: Shape) -> list[Shape]:
    """The shape of one sample before each layer and behind the last; None where it is not known."""
    found, shape, whole = [input_shape], input_shape, True
    for i, layer in enumerate(layers):
        # Behind FCLayer(2, 3) and an unknown input a sample is (3,), or (1, 3), or (5, 5, 3).
        known = shape if whole or layer.last_axis_only else None
        if not whole and known is None:
            found[-1] = None
        try:
            shape = None if layer.written_as_in_the_article else layer.output_shape(known)
            if not (shape is None or isinstance(shape, tuple)):
                raise TypeError(f"{layer}.output_shape must return a tuple or None, got {shape!r:.60}")
        except ValueError as error:
            raise checks.within(f"layer {i}: ", error) from error
        whole = not layer.last_axis_only or (whole and known is not None)
        found.append(shape)
    if not whole:
        found[-1] = None
    return found


def own_input_shape(layer: Any) -> Shape:
    """The shape of one sample as a layer, or the first one in it, states it itself; None where none does.

    It is the attribute ``input_shape``, or ``input_size``, as the article's layers have them too.
    """
    shape, size = getattr(layer, "input_shape", None), getattr(layer, "input_size", None)
    if isinstance(shape, (tuple, list)) and all(hasattr(n, "__index__") for n in shape):
        return tuple(int(n) for n in shape)
    if size is not None and hasattr(size, "__index__") and not isinstance(size, bool):
        return (int(size),)
    for child in layer.layers:
        for inside in child if isinstance(child, (list, tuple)) else [child]:
            return own_input_shape(inside)
    return None


def forward(layers: Sequence[Any], X: Array, training: bool) -> Array:
    """Y of the last layer for X into the first."""
    Y = X
    for layer in layers:
        Y = layer.forward(Y, training=training)
        if not is_ours(type(layer)):
            checks.answer(layer, "forward", Y, samples=X.shape[0])
    return Y


def backward(layers: Sequence[Any], output_error: Array, need_input_error: bool) -> Array:
    """dE/dX of the first layer for dE/dY of the last, setting every layer's gradients; None if it is not needed."""
    D = output_error
    lowest = 0 if need_input_error else lowest_that_learns(layers)
    for i in range(len(layers) - 1, lowest - 1, -1):
        D = layers[i].backward(D, need_input_error=need_input_error or i > lowest)
        if not is_ours(type(layers[i])) and (need_input_error or i > lowest):
            checks.answer(layers[i], "backward", D)
    return D if need_input_error else None


def lowest_that_learns(layers: Sequence[Any]) -> int:
    """The first layer with something to learn; below it, nobody needs dE/dX. With none, the number of layers."""
    for i, layer in enumerate(layers):
        if any((below.parameters and not below._frozen) or below.written_as_in_the_article for below in layer.walk()):
            return i
    return len(layers)


def smallest_batch(layers: Sequence[Any], shapes: Sequence[Shape]) -> tuple[int, Any]:
    """The fewest samples that all layers can be trained with, and the layer that asks for so many.

    ``shapes`` of one sample before each layer.
    """
    needs = [(1, None)]
    for layer, shape in zip(layers, shapes, strict=False):
        if not layer.written_as_in_the_article:
            needs.append((layer.smallest_batch(shape), layer))
    return max(needs, key=lambda need: need[0])


def owner(layer: Any) -> Any:
    """The network that a layer is part of; None if there is none, or it has been taken out."""
    network = None if layer._owner is None else layer._owner()
    return network if network is not None and any(layer is part for part in network.walk()) else None


def named(layers: Sequence[Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All layers with the path of the place where they stand now, each followed by its children."""
    for i, layer in enumerate(layers):
        yield from _named(layer, f"{above}{i}")


def _named(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, layer
    for i, j, child in layer.children():
        yield from _named(child, f"{path}.{i}" if j is None else f"{path}.{i}.{j}")


def parts(layer: Any, above: list[Any], network: Any = None) -> list[Any]:
    """A layer and all layers below it; refuses what is no layer, or stands in two places.

    ``network``: the one that it may be part of.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"{type(above[-1]).__name__}.layers must hold layers, or lists of layers, got {layer!r:.60}")
    if owner(layer) not in (None, network):
        raise ValueError(
            f"{layer} is already in a network, and a layer keeps the state of one place: give this one a copy, "
            "copy.deepcopy(layer), weights and all, or make another"
        )
    if any(layer is other for other in above):
        raise ValueError(
            f"one {type(layer).__name__} stands twice in a network: make two, or put in a copy, copy.deepcopy(layer); "
            "each keeps the state of one place"
        )
    for kind in ("parameters", "buffers"):
        if not isinstance(getattr(layer, kind), dict):
            raise TypeError(f"{type(layer).__name__}.{kind} must be a dict of arrays, got {getattr(layer, kind)!r:.60}")
    found: list[Any] = [layer]
    for child in layer.layers if isinstance(layer.layers, (list, tuple)) else [layer.layers]:
        for below in child if isinstance(child, (list, tuple)) else [child]:
            found += parts(below, [*above, *found], network)
    return found
