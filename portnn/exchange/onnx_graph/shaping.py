"""Operators that give values other shapes, as layers, or as another order of the axes that needs none."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange.onnx_graph.folding import BATCH
from portnn.exchange.onnx_graph.proto import Node
from portnn.exchange.onnx_graph.steps import NoLayerError, Steps, Var
from portnn.exchange.onnx_graph.structure import Piece
from portnn.layers import FlattenLayer, GlobalAvgPoolLayer, GlobalMaxPoolLayer, ReshapeLayer


def _transpose(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = s.settled(inputs[0])
    axes = len(x.seen) + 1
    order = tuple(node.attributes.get("perm", range(axes)[::-1]))
    if sorted(order) != list(range(axes)) or order[0] != 0:
        raise NoLayerError(f"it puts the axes into the order {order}, the samples must stay the first")
    seen = tuple(x.seen[axis - 1] for axis in order[1:])
    return replace(x, seen=seen, axes=None if x.axes is None else tuple(x.axes[axis] for axis in order), free=False)


def _reshape(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, shape = inputs
    if not isinstance(shape, np.ndarray):
        raise NoLayerError("the shape is not known")
    sizes = shape.tolist()
    if not node.attributes.get("allowzero", 0):
        sizes = [(BATCH, *x.seen)[i] if n == 0 else n for i, n in enumerate(sizes)]
    return reshaped(s, x, _sample(s, x, sizes))


def _sample(s: Steps, x: Var, sizes: list[int]) -> Shape:
    """The shape of one sample, from that of a batch; -1 stands for what remains."""
    first, *rest = sizes
    known = prod(n for n in rest if n != -1)
    if first not in (BATCH, s.batch) and not (first == -1 and -1 not in rest):
        raise NoLayerError(f"shape {_shown(sizes)}: the first axis must stay that of the samples")
    if rest.count(-1) > 1 or any(n < 1 and n != -1 for n in rest):
        raise NoLayerError(f"shape {_shown(sizes)} is none")
    sample = tuple(prod(x.seen) // known if n == -1 else n for n in rest)
    if prod(sample) != prod(x.seen):
        raise NoLayerError(f"shape {_shown(sizes)} does not suit samples of shape {x.seen}")
    return sample


def _shown(sizes: list[int]) -> str:
    return f"({', '.join('N' if n == BATCH else str(n) for n in sizes)})"


def _flatten(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = inputs[0]
    if node.attributes.get("axis", 1) % (len(x.seen) + 1) != 1:
        raise NoLayerError("it flattens the axis of the samples too, or not all others")
    if len(x.seen) == 1:
        return s.add(x, Piece("flatten", FlattenLayer))
    return reshaped(s, x, (prod(x.seen),), Piece("flatten", FlattenLayer))


def _squeeze(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = inputs[0]
    axes = _axes(node, inputs, len(x.seen) + 1)
    if not axes:  # all of size 1
        axes = [i for i, n in enumerate((s.batch, *x.seen)) if n == 1]
    if 0 in axes or any(x.seen[axis - 1] != 1 for axis in axes):
        raise NoLayerError("it takes away an axis whose size is not 1")
    return reshaped(s, x, tuple(n for i, n in enumerate(x.seen, start=1) if i not in axes))


def _unsqueeze(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = inputs[0]
    given = inputs[1].tolist() if len(inputs) > 1 else node.attributes["axes"]
    axes = {axis % (len(x.seen) + 1 + len(given)) for axis in given}
    sizes = iter(x.seen)
    if 0 in axes:
        raise NoLayerError("it puts an axis in front of the samples")
    return reshaped(s, x, tuple(1 if i in axes else next(sizes) for i in range(1, len(x.seen) + 1 + len(axes))))


def _axes(node: Node, inputs: list[Any], count: int) -> list[int]:
    """The axes that an attribute or, in newer opsets, an input names."""
    given = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else node.attributes.get("axes", [])
    return [axis % count for axis in given]


def reshaped(s: Steps, x: Var, target: Shape, flatten: Piece | None = None) -> Var:
    """x as samples of another shape, ``target``, in the graph's order of the axes."""
    if x.groups is not None and target == x.whole and (x.normalized or len(x.whole) > 1):
        return replace(x, groups=None, seen=x.whole, whole=(), normalized=False)
    x = s.settled(x)
    if target == x.seen:
        return x
    if not target:
        raise NoLayerError("it leaves no axis but that of the samples")
    if x.axes is None:
        return _of_pixel(x, target)
    if x.order is not None:
        if target != x.order:
            raise NoLayerError(f"it makes {target} of a row that was {x.order} before")
        shape = (*target[1:], target[0])
        made = s.add(replace(x, order=None), Piece("reshape", lambda: ReshapeLayer(shape)), shape)
        return s.turned(made, made.channels_second)
    if x.axes == x.plain:
        if len(x.shape) == 1 and len(target) == 2:
            return replace(
                x, groups=target[0], whole=x.seen, seen=target, normalized=False
            )  # normalized in groups, or another shape
        if (piece := s.before(x, "reshape")) and piece.passing and piece.before == target:
            return s.turned(
                replace(x, step=s.all[x.step].inputs[0], shape=target, free=False), tuple(range(len(target) + 1))
            )
        made = s.add(x, flatten or Piece("reshape", lambda: ReshapeLayer(target)), target)
        # of one channel, (1, H, W) and (H, W, 1) are the same numbers in the same order
        return replace(s.turned(made, made.plain), free=len(x.shape) == 1 or target[0] == 1)
    if x.axes != x.channels_second:
        raise NoLayerError(f"it makes {target} of samples whose axes were exchanged")
    *image, channels = x.shape
    if channels == 1 and target == x.shape:
        return s.turned(x, x.plain)
    if len(target) == 1:
        made = s.add(x, Piece("flatten", FlattenLayer), target)
        return replace(s.turned(made, made.plain), order=None if 1 in (channels, prod(image)) else x.seen)
    if len(target) == 2 and channels % target[0] == 0:
        return replace(x, groups=target[0], whole=x.seen, seen=target, normalized=False)
    if target[0] == channels:
        shape = (*target[1:], channels)
        made = s.add(x, Piece("reshape", lambda: ReshapeLayer(shape)), shape)
        return s.turned(made, made.channels_second)
    raise NoLayerError(f"it makes {target} of images {x.seen}, whose channels come first")


def _of_pixel(x: Var, target: Shape) -> Var:
    """One pixel, of which the layers have the channels only."""
    if target == x.shape:
        return replace(x, seen=target, axes=x.plain)
    if prod(target) == max(target) == x.shape[0]:
        return replace(x, seen=target)
    raise NoLayerError(f"it makes {target} of a pixel of {x.shape[0]} channels")


# -- over the whole image ----------------------------------------------------------------------------------------------


def _global(layer: Any) -> Any:
    def pool(s: Steps, node: Node, inputs: list[Any]) -> Var:
        x = s.image(inputs[0])
        return _pooled(s, x, layer, (x.shape[-1], *(1 for _ in x.shape[:-1])))

    return pool


def _reduce(layer: Any) -> Any:
    def pool(s: Steps, node: Node, inputs: list[Any]) -> Var:
        x = s.full(inputs[0])
        axes = _axes(node, inputs, len(x.seen) + 1)
        if 0 in axes or sorted(x.axes[axis] for axis in axes) != list(range(1, len(x.shape))):  # type: ignore[index]
            raise NoLayerError("it reduces other axes than those of an image")
        keep = node.attributes.get("keepdims", 1)
        seen = tuple(1 if i in axes else n for i, n in enumerate(x.seen, start=1)) if keep else x.shape[-1:]
        return _pooled(s, x, layer, seen)

    return pool


def _pooled(s: Steps, x: Var, layer: Any, seen: Shape) -> Var:
    if len(x.shape) < 2 or x.order is not None:
        raise NoLayerError(f"samples of shape {x.seen} are no images")
    made = s.add(replace(x, axes=None), Piece("pool", layer), x.shape[-1:])
    return replace(made, seen=seen, axes=(0, 1) if len(seen) == 1 else None)


SHAPING = {
    "Flatten": _flatten,
    "GlobalAveragePool": _global(GlobalAvgPoolLayer),
    "GlobalMaxPool": _global(GlobalMaxPoolLayer),
    "ReduceMax": _reduce(GlobalMaxPoolLayer),
    "ReduceMean": _reduce(GlobalAvgPoolLayer),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
