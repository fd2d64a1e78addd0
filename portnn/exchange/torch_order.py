"""The order in which PyTorch's network has the values of each axis that a layer's parameters belong to.

Images are (H, W, C) here and (C, H, W) in PyTorch, so after a Flatten the same values come in another order: the rows
of the next weights do too, and so does whatever is added to such values. This module follows the values through the
layers, by their shapes alone, and finds for each axis the order that PyTorch's network must have.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from portnn._typing import Shape
from portnn.layers import sequential
from portnn.layers.activation import ActivationLayer
from portnn.layers.batch_norm import BatchNormLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.dropout import DropoutLayer
from portnn.layers.fc import FCLayer
from portnn.layers.flatten import FlattenLayer
from portnn.layers.global_pooling import GlobalPoolLayer
from portnn.layers.group_norm import GroupNormLayer
from portnn.layers.normalization import NormLayer
from portnn.layers.parallel import ParallelLayer
from portnn.layers.pool_windows import PoolLayer
from portnn.layers.random_affine import RandomAffineLayer
from portnn.layers.reshape import ReshapeLayer
from portnn.layers.residual import ResidualLayer
from portnn.layers.scale import ScaleLayer
from portnn.layers.sequential import SequentialLayer
from portnn.layers.softmax import SoftmaxLayer
from portnn.layers.upsample import UpsampleLayer

MNIST = 28 * 28  # values of a sample: an image of one channel, whose order is the same in both
ELEMENTWISE = (ActivationLayer, DropoutLayer, ScaleLayer, SoftmaxLayer)  # or along the last axis, in any order
OF_IMAGES = (BatchNormLayer, ConvLayer, GlobalPoolLayer, GroupNormLayer, PoolLayer, RandomAffineLayer, UpsampleLayer)
OTHERS = (FCLayer, FlattenLayer, NormLayer, ParallelLayer, ReshapeLayer, SequentialLayer)  # each with its own rule


class Axis:
    """The order of the values of one axis: value k in PyTorch is value ``order[k]`` here; None: the same in both.

    A free one, such as the outputs of a fully connected layer, takes whatever order is needed further on. ``parts`` are
    axes joined end to end. ``unknown`` is a Flatten of samples whose shape nobody has told.
    """

    def __init__(
        self,
        size: int | None,
        order: np.ndarray | None = None,
        *,
        free: bool = False,
        parts: Sequence["Axis"] = (),
        unknown: Any = None,
    ):
        self.size, self.order, self.free, self.parts, self.unknown = size, order, free, list(parts), unknown
        self.link: Axis | None = None

    def found(self) -> "Axis":
        axis = self
        while axis.link is not None:
            axis = axis.link
        return axis

    def resolved(self, size: int) -> np.ndarray | None:
        """The order of an axis of that size; None where it is the same in both."""
        axis = self.found()
        if axis.unknown is not None and size != MNIST:
            raise ValueError(
                f"the weights after layer {axis.unknown.path} ({axis.unknown}) depend on the shape of what it takes, "
                f"since PyTorch's images have their channels first, and nothing tells that shape: give the shape of "
                "one sample, input_shape=(H, W, C), or call predict once before"
            )
        if axis.parts:
            return axis._joined()
        return axis.order

    def _joined(self) -> np.ndarray | None:
        orders, start = [], 0
        for part in (part.found() for part in self.parts):
            if part.size is None:
                raise ValueError("the shape of a sample is not known: give input_shape, or call predict once before")
            order = part.resolved(part.size)
            orders.append(start + (np.arange(part.size) if order is None else order))
            start += part.size
        joined = np.concatenate(orders)
        return None if np.array_equal(joined, np.arange(start)) else joined


def join(a: Axis, b: Axis, layer: Any) -> None:
    """Two axes have one order from now on; ValueError if they have different ones already."""
    a, b = a.found(), b.found()
    if a is b:
        return
    if a.free or (a.unknown is not None and not b.free):
        a.link = b
    elif b.free or b.unknown is not None:
        b.link = a
    elif a.parts and [part.size for part in a.parts] == [part.size for part in b.parts]:
        for one, other in zip(a.parts, b.parts, strict=True):
            join(one, other, layer)
    elif not _equal(a, b):
        raise ValueError(
            f"layer {layer.path} ({layer}) needs values in the order of this network's images, (H, W, C), which "
            "PyTorch, with (C, H, W), does not have after a Flatten: no weights make its network equal to this one. "
            "Set them one by one, net.parameters.update({path: array, ...})"
        )


def _equal(a: Axis, b: Axis) -> bool:
    size = a.size or b.size or 0
    one, other = (np.arange(size) if o is None else o for o in (a.resolved(size), b.resolved(size)))
    return np.array_equal(one, other)


def channels_first(shape: Shape) -> np.ndarray | None:
    """The order of the values of an image (H, W, C), or a sequence (L, C), whose channels come first in PyTorch."""
    order = np.moveaxis(np.arange(int(np.prod(shape))).reshape(shape), -1, 0).reshape(-1)
    return None if np.array_equal(order, np.arange(order.size)) else order


def has_images(layer: Any) -> bool:
    """Whether a layer, or one within it, takes images."""
    return any(isinstance(each, OF_IMAGES) for each in layer.walk())


class Values(NamedTuple):
    """Values between two layers: the shape of a sample, if known, and the order of the last axis.

    ``images`` says whether PyTorch has the channels first; None where no layer has told. ``reshaped`` is the axis that
    a ReshapeLayer made a sequence (L, C) of.
    """

    shape: Shape | None
    axis: Axis
    images: bool | None = None
    reshaped: Axis | None = None

    @property
    def flat(self) -> bool:
        return self.shape is None or all(n == 1 for n in self.shape[:-1])


class Orders:
    """The axes of each layer's inputs and outputs, and the shape of what it takes, by the layer's ``id``."""

    def __init__(self, layers: Sequence[Any], shape: Shape | None):
        self.inputs: dict[int, Axis] = {}
        self.outputs: dict[int, Axis] = {}
        self.shapes: dict[int, Shape | None] = {}
        self.given = Axis(shape[-1] if shape else None)
        self._through(layers, Values(shape, self.given))

    def _through(self, layers: Sequence[Any], values: Values) -> Values:
        shapes = sequential.shapes(layers, values.shape)
        for layer, before, after in zip(layers, shapes, shapes[1:], strict=False):
            values = self._step(layer, values._replace(shape=before), after)._replace(shape=after)
        return values

    def _step(self, layer: Any, values: Values, after: Shape | None) -> Values:
        """The values after a layer; what it finds about the layer's own axes goes into the tables."""
        self.shapes[id(layer)] = values.shape
        if isinstance(layer, OF_IMAGES) and not values.flat:
            values = self._as_images(layer, values)
        if isinstance(layer, (ResidualLayer, ParallelLayer)) and values.reshaped is not None and has_images(layer):
            values = self._as_images(layer, values)  # for all branches
        if isinstance(layer, ParallelLayer):
            return self._parallel(layer, values, after)
        if isinstance(layer, ResidualLayer):
            return self._residual(layer, values)
        if isinstance(layer, SequentialLayer):
            return self._through(layer.layers, values)
        if isinstance(layer, FCLayer):
            return self._fully_connected(layer, values)
        if isinstance(layer, NormLayer):
            return self._normalized(layer, values)
        if isinstance(layer, (FlattenLayer, ReshapeLayer)):
            return self._reshaped(layer, values, after)
        if isinstance(layer, ELEMENTWISE):
            return values
        if isinstance(layer, OF_IMAGES):
            return Values(after, Axis(after[-1] if after else None), True)
        return self._own(layer, values, after)

    def _as_images(self, layer: Any, values: Values) -> Values:
        if values.reshaped is not None and values.shape is not None:
            join(values.reshaped, Axis(int(np.prod(values.shape)), channels_first(values.shape)), layer)
        return values._replace(images=True, reshaped=None)

    def _as_sequence(self, layer: Any, values: Values) -> Values:
        """What a row was reshaped to has its channels last, as here: so the row has had the order of here."""
        if values.reshaped is not None and values.shape is not None:
            join(values.reshaped, Axis(int(np.prod(values.shape))), layer)
        return values._replace(reshaped=None)

    def _fully_connected(self, layer: Any, values: Values) -> Values:
        if not values.flat:  # along the last axis of several, which then is the last in PyTorch, too
            self._as_sequence(layer, values)
            return Values(None, Axis(layer.output_size), values.images or False)
        self.inputs[id(layer)] = values.axis
        self.outputs[id(layer)] = out = Axis(layer.output_size, free=True)
        return Values(None, out)

    def _normalized(self, layer: Any, values: Values) -> Values:
        if not values.flat:
            if isinstance(layer, OF_IMAGES):
                return values
            return self._as_sequence(layer, values)._replace(images=values.images or False)
        if isinstance(layer, GroupNormLayer) and layer.groups > 1:  # groups are of neighbours
            join(values.axis, Axis(values.axis.found().size), layer)
        self.outputs[id(layer)] = values.axis
        return values

    def _reshaped(self, layer: Any, values: Values, after: Shape | None) -> Values:
        target = Values(after, values.axis)
        if isinstance(layer, FlattenLayer) or target.flat:
            return Values(after, self._flattened(layer, values, after))
        if values.flat and after is not None:
            if values.axis is self.given:  # the data come in that order, whatever it is
                return Values(after, Axis(after[-1]))
            if len(after) > 2:
                join(values.axis, Axis(int(np.prod(after)), channels_first(after)), layer)
                return Values(after, Axis(after[-1]), True)
            return Values(after, Axis(after[-1]), None, values.axis)
        self._as_sequence(layer, values)
        return Values(after, Axis(after[-1] if after else None), values.images)

    def _flattened(self, layer: Any, values: Values, after: Shape | None) -> Axis:
        size = after[-1] if after else None
        if values.shape is None:
            return Axis(size, unknown=layer)
        if values.flat:
            return values.axis
        if values.reshaped is not None:  # as it was
            return values.reshaped
        first = len(values.shape) > 2 if values.images is None else values.images
        return Axis(size, channels_first(values.shape) if first else None)

    def _residual(self, layer: Any, values: Values) -> Values:
        inside = self._through(layer.layers, values)
        if values.flat:
            join(inside.axis, values.axis, layer)
            return inside
        turned = any(isinstance(each, (FlattenLayer, ReshapeLayer)) for each in layer.walk())
        if turned or inside.reshaped is not values.reshaped:  # a sum with something else than what the row became
            self._as_sequence(layer, values)
            inside = self._as_sequence(layer, inside)
        return inside._replace(images=values.images if inside.images is None else inside.images)

    def _parallel(self, layer: Any, values: Values, after: Shape | None) -> Values:
        ends = [self._through([branch], values) for branch in layer.layers]
        images = next((end.images for end in ends if end.images is not None), None)
        if not Values(after, ends[0].axis).flat:
            for end in ends:
                self._as_sequence(layer, end)
            return Values(after, Axis(after[-1] if after else None), images)
        if layer.merge == "add":
            for end in ends[1:]:
                join(ends[0].axis, end.axis, layer)
            return Values(after, ends[0].axis)
        if len(ends) == 1:  # its own axis: as a part of another it could be joined to what it is a part of
            return Values(after, ends[0].axis)
        return Values(after, Axis(after[-1] if after else None, parts=[end.axis for end in ends]))

    def _own(self, layer: Any, values: Values, after: Shape | None) -> Values:
        """A layer of a user's: its parameters are taken as they are, so what it takes must be, too."""
        if layer.parameters and values.flat:
            join(values.axis, Axis(values.axis.found().size), layer)
        if after == values.shape and after is not None:
            return values
        return Values(after, Axis(after[-1] if after else None), None if values.flat else values.images)
