"""The steps of a network that is being read, and the values between them, with the order of their axes in the graph."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange.onnx_graph.functions import PAIRS
from portnn.exchange.onnx_graph.proto import check_values
from portnn.exchange.onnx_graph.structure import Piece, Step
from portnn.exchange.onnx_graph.writing import places
from portnn.files.errors import FileError
from portnn.layers import ActivationLayer, ReshapeLayer, ScaleLayer
from portnn.ops.windows import POSITIONS

MOST_NUMBERS = 1 << 29  # weights of all layers
MOST_BRANCHES = 1_000  # of one sum, or of one row of channels
ALIKE = ("activation", "scale")  # kinds of layers that treat all values alike


class NoLayerError(Exception):
    """A node asks for what no layer does; the reason."""


@dataclass(frozen=True)
class Var:
    """A value of the graph: what a step returns.

    ``shape`` is that of one sample as portnn has it, ``seen`` as the graph has it. ``axes`` says for each axis of the
    graph's batch which of portnn's it is; None if ``seen`` has other axes, all but one of size 1. ``order`` is, of a
    row that was flattened with the channels first, (C, H, W). ``pads`` are zeros around the image that the next
    convolution is to add. ``groups``: the graph has divided the channels into so many, which it may have
    ``normalized``, and the image was ``whole``.
    ``free``: a row was given this shape, so that the order of its axes is not settled.
    """

    step: int
    shape: Shape
    seen: Shape
    axes: tuple[int, ...] | None
    order: Shape | None = None
    pads: tuple[tuple[int, int], ...] | None = None
    groups: int | None = None
    whole: Shape = ()
    normalized: bool = False
    free: bool = False

    @property
    def plain(self) -> tuple[int, ...]:
        """The axes of a value that the graph has as portnn has it."""
        return tuple(range(len(self.shape) + 1))

    @property
    def channels_second(self) -> tuple[int, ...]:
        """The axes of a value whose channels the graph has in front of the image."""
        return second(len(self.shape))

    @property
    def channel(self) -> int:
        """The axis of the graph that is portnn's last."""
        if self.axes is None:
            return 1 + self.seen.index(self.shape[-1])
        return self.axes.index(len(self.shape))


def second(axes: int) -> tuple[int, ...]:
    return (0, axes, *range(1, axes)) if axes > 1 else (0, 1)


class Steps:
    """All steps so far. ``shared`` are those whose result several nodes use: nothing may be folded into them."""

    def __init__(self, dtype: str, opset: int, batch: int | None):
        self.dtype, self.opset, self.batch = dtype, opset, batch
        self.all = [Step([])]
        self.shared: set[int] = set()
        self.positions = self.numbers = 0
        self.path = ""  # of the layer that the node belongs to, where the graph says it

    def begin(self, shape: Shape, channels_second: bool) -> Var:
        """The network's input."""
        x = Var(0, shape, shape, tuple(range(len(shape) + 1)))
        return self.turned(x, second(len(shape))) if channels_second else x

    def turned(self, x: Var, axes: tuple[int, ...]) -> Var:
        """The value with its axes in that order."""
        return replace(x, axes=axes, seen=tuple(x.shape[axis - 1] for axis in axes[1:]))

    def add(self, x: Var, piece: Piece, shape: Shape | None = None) -> Var:
        """A layer after x, whose output has the same order of the axes."""
        after = x.shape if shape is None else shape
        check_values(after, "a layer of the model")
        piece.path = self.path
        self.all.append(Step([x.step], [piece]))
        piece.before = x.shape
        made = replace(x, step=len(self.all) - 1, shape=after, free=x.free and piece.kind in ALIKE)
        if shape is None or x.axes is None:
            return made
        return self.turned(made, x.axes if len(after) == len(x.shape) else made.plain)

    def merge(self, values: list[Var], how: str, shape: Shape) -> Var:
        """The sum of several values, or one after the other."""
        check_values(shape, "a layer of the model")
        if len(values) > MOST_BRANCHES:
            raise NoLayerError(f"it joins {len(values):,} values, {MOST_BRANCHES:,} at most are read")
        self.all.append(Step([value.step for value in values], merge=how))
        made = replace(values[0], step=len(self.all) - 1, shape=shape, free=False)
        return made if made.axes is None else self.turned(made, made.axes)

    def before(self, x: Var, *kinds: str) -> Piece | None:
        """The layer that makes x, if it is of one of these kinds and nothing else uses what it returns."""
        step = self.all[x.step]
        if x.step in self.shared or not step.pieces or step.pieces[-1].kind not in kinds:
            return None
        return step.pieces[-1]

    def count(self, kernel: Shape) -> None:
        """Limits the windows of all layers, of which they keep lists."""
        self.positions += prod(kernel)
        if self.positions > POSITIONS:
            raise FileError(f"the kernels and windows of the model have more than {POSITIONS:,} positions in all")

    def pay(self, count: int) -> None:
        """Limits the weights of all layers: a small file may name the same ones in many nodes."""
        self.numbers += count
        if self.numbers > MOST_NUMBERS:
            raise FileError(f"the layers of the model have more than {MOST_NUMBERS:,} weights")

    def weights(self, array: Any, shape: Shape | None = None) -> np.ndarray:
        """A constant as a parameter; NoLayerError if it is none, or has another shape."""
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise NoLayerError("its weights are no constant floating numbers")
        if shape is not None and array.shape != shape:
            raise NoLayerError(f"its weights have shape {array.shape}, expected {shape}")
        self.pay(array.size)
        return np.array(array, self.dtype, order="C")

    def in_order(self, x: Var, array: np.ndarray) -> np.ndarray:
        """Values, one for each of a row's, in portnn's order of that row."""
        if x.order is None:
            return array
        ours = np.empty_like(array)
        ours[places(x.order)] = array
        return ours

    def settled(self, x: Var) -> Var:
        """x where its axes matter: groups of channels that were not normalized are another shape."""
        if x.groups is None:
            return x
        if len(x.whole) == 1:  # a row
            x = self.add(replace(x, groups=None), Piece("reshape", lambda: ReshapeLayer(x.seen)), x.seen)
            return replace(self.turned(x, x.plain), free=True)
        if x.groups != x.shape[-1]:
            raise NoLayerError(f"a shape {x.seen} that divides the channels of {x.whole}")
        shape = (*x.seen[1:], x.groups)
        return self.turned(
            self.add(replace(x, groups=None, axes=second(2)), Piece("reshape", lambda: ReshapeLayer(shape)), shape),
            second(2),
        )

    def full(self, x: Var) -> Var:
        """x with all the axes that the graph sees."""
        x = self.settled(x)
        if x.axes is not None:
            return x
        shape = (*(1 for _ in x.seen[1:]), *x.shape)
        made = self.add(replace(x, axes=(0, 1)), Piece("reshape", lambda: ReshapeLayer(shape)), None)
        made = replace(made, shape=shape)
        return self.turned(made, made.channels_second if x.seen[0] == x.shape[0] else made.plain)

    def image(self, x: Var) -> Var:
        """x, whose channels must be second in the graph; NoLayerError if they are not."""
        x = self.full(x)
        if len(x.shape) < 2:
            raise NoLayerError(f"a sample of shape {x.seen} is no image")
        if x.axes == x.plain:
            x = self._as_before(x)
        if x.axes == x.plain and x.free:
            x = self._channels_last(x)
        if x.axes != x.channels_second:
            raise NoLayerError("the channels are not the second axis")
        return x

    def _as_before(self, x: Var) -> Var:
        """x without the layer that gave images (H, W, 1) the shape (1, H, W): no value moves, so that exporters write
        Reshape for Transpose. Layers between that and x, which treat all values alike, stay."""
        at = self._behind(x.step)
        if at is None:
            return x
        pieces = self.all[at].pieces
        if pieces[-1].kind != "reshape" or x.shape[0] != 1 or pieces[-1].before != (*x.shape[1:], 1):
            return x
        pieces.pop()
        made = replace(x, shape=(*x.shape[1:], 1), free=False)
        return self.turned(made, made.channels_second)

    def _channels_last(self, x: Var) -> Var:
        """A row that became an image (C, H, W): in portnn's order, by the weights of the FCLayer that made the row."""
        channels, *image = x.shape
        shape = (*image, channels)
        at = self._behind(x.step)
        if at is None or self.all[at].pieces[-1].kind != "reshape":
            raise NoLayerError("the image is used in two orders of its axes")
        if 1 not in (channels, prod(image)) and not self._reordered(self.all[at].inputs[0], x.shape):
            raise NoLayerError("the row that became this image was not made by a layer whose weights can be reordered")
        self.all[at].pieces[-1] = Piece("reshape", lambda: ReshapeLayer(shape))
        made = replace(x, shape=shape, free=False)
        return self.turned(made, made.channels_second)

    def _behind(self, at: int) -> int | None:
        """The step after which there are only layers that treat all values alike; None if others use what it makes."""
        while at not in self.shared and self.all[at].pieces:
            if self.all[at].pieces[-1].kind not in ALIKE:
                return at
            at = self.all[at].inputs[0]
        return None

    def _reordered(self, step: int, order: Shape) -> bool:
        at = self._behind(step)
        if at is None or self.all[at].pieces[-1].kind != "linear":
            return False
        arrays = self.all[at].pieces[-1].arrays
        if arrays["weights"].ndim != 2 or arrays["weights"].shape[1] != prod(order):
            return False
        for name, array in arrays.items():
            ours = np.empty_like(array)
            ours[:, places(order)] = array
            arrays[name] = ours
        return True


# -- pieces that several operators need --------------------------------------------------------------------------------


class Scale(Piece):
    """A ScaleLayer; a sum that follows it may become its offset."""

    def __init__(self, factor: float, offset: float = 0.0):
        super().__init__("scale", lambda: ScaleLayer(self.factor, offset=self.offset))
        self.factor, self.offset = factor, offset


def function(name: str) -> Piece:
    """An ActivationLayer."""
    return Piece("activation", lambda: ActivationLayer(*((name,) if name != "hard_swish" else PAIRS[name])))
