"""The sequential layer, and the functions that run layers in order and compute the shapes between them."""

from collections.abc import Sequence
from typing import Any

from portnn import article, checks
from portnn._typing import Array, Shape
from portnn.layers.layer import Layer


class SequentialLayer(Layer):
    """Runs layers in order; without any it is the identity.

        Y     = Fn(... F2(F1(X)))
        dE/dX = dE/dX of the first layer, where each layer's dE/dX is dE/dY of the one before it

    ``layers`` may be of any kind. X has the shape that the first one takes, Y the shape that the last one returns.

    >>> import numpy as np
    >>> from portnn import ScaleLayer
    >>> SequentialLayer(ScaleLayer(2.0), ScaleLayer(10.0))(np.array([[1.0, 2.0]]))
    array([[20., 40.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        return run(article.adapted(self.layers), X, training, known=all(layer._own for layer in self.layers))

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        return run_backward(article.adapted(self.layers), output_error, need_input_error)

    def __init__(self, *layers: Layer):
        self.layers = checks.branch(type(self).__name__, layers)

    @property
    def last_axis_only(self) -> bool:  # type: ignore[override]
        return all(layer.last_axis_only for layer in self.layers)

    def output_shape(self, input_shape: Shape | None) -> Shape | None:
        return self._shapes_through(input_shape)[-1]

    def shapes_inside(self, input_shape: Shape | None) -> list[Any]:
        return self._shapes_through(input_shape)[:-1]

    def smallest_batch(self, input_shape: Shape | None) -> int:
        return smallest_batch(self.layers, self.shapes_inside(input_shape))[0]

    def _shapes_through(self, input_shape: Shape | None) -> list[Shape | None]:
        try:
            return shapes(self.layers, input_shape)
        except ValueError as error:
            raise checks.within(f"in {type(self).__name__}, ", error) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


def run(layers: Sequence[Any], X: Array, training: bool, at: list[Any] | None = None, *, known: bool = True) -> Array:
    """Returns Y of the last layer for the input X of the first.

    ``known``: the shapes in between have been checked; after a user's layer without ``output_shape`` they could not be.
    ``at[0]`` is set to the layer that is running, for error messages.
    """
    for layer in layers:
        if at is not None:
            at[0] = layer
        if not known:
            layer.fit_to(X)
        X = layer.compute(X, training)
    return X


def run_backward(
    layers: Sequence[Any],
    output_error: Array,
    need_input_error: bool,
    at: list[Any] | None = None,
    lowest: int | None = None,
) -> Array | None:
    """dE/dX of the first layer for dE/dY of the last, setting every layer's gradients; None if it is not needed.

    ``lowest`` is the index of the first layer that learns, if the caller knows it.
    """
    D: Array | None = output_error
    if lowest is None:
        lowest = 0 if need_input_error else lowest_that_learns(layers)
    for i in range(len(layers) - 1, lowest - 1, -1):
        if at is not None:
            at[0] = layers[i]
        D = layers[i].compute_backward(D, need_input_error or i > lowest)
    return D if need_input_error else None


def lowest_that_learns(layers: Sequence[Any]) -> int:
    """The index of the first layer that learns: below it dE/dX is not needed. If none does, the number of layers."""
    for i, layer in enumerate(layers):
        if any((below.parameters and not below._is_frozen) or below.updates_itself for below in layer.walk()):
            return i
    return len(layers)


def shapes(layers: Sequence[Any], input_shape: Shape | None) -> list[Shape | None]:
    """The shape of one sample before each layer and after the last; None where it is not known."""
    found, shape, whole = [input_shape], input_shape, True  # whole: no axis of the shape is missing
    for i, layer in enumerate(layers):
        # After FCLayer(2, 3) with an unknown input a sample is (3,), or (1, 3), or (5, 5, 3).
        known = shape if whole or layer.last_axis_only else None
        if not whole and known is None:
            found[-1] = None
        try:
            shape = None if layer.updates_itself else layer.output_shape(known)
            if not (shape is None or isinstance(shape, tuple)):
                raise TypeError(f"{layer}.output_shape must return a tuple or None, got {shape!r:.60}")
        except ValueError as error:
            raise checks.within(f"layer {i}: ", error) from error
        whole = not layer.last_axis_only or (whole and known is not None)
        found.append(shape)
    if not whole:
        found[-1] = None
    return found


def smallest_batch(layers: Sequence[Any], shapes: Sequence[Shape | None]) -> tuple[int, Any]:
    """The smallest batch that all layers can be trained with, and the layer that needs that many samples.

    ``shapes`` are those of one sample before each layer.
    """
    needs = [(1, None)]
    for layer, shape in zip(layers, shapes, strict=False):
        if not layer.updates_itself:
            needs.append((layer.smallest_batch(shape), layer))
    return max(needs, key=lambda need: need[0])


def own_input_shape(layer: Any) -> Shape | None:
    """The shape of one sample that a layer, or the first one in it, declares; None where none does.

    It is read from the attribute ``input_shape``, or ``input_size``; the article's layers have them too.
    """
    shape, size = getattr(layer, "input_shape", None), getattr(layer, "input_size", None)
    if isinstance(shape, (tuple, list)) and all(hasattr(n, "__index__") for n in shape):
        return tuple(int(n) for n in shape)
    if size is not None and hasattr(size, "__index__") and not isinstance(size, bool):
        return (int(size),)
    return next((own_input_shape(child) for _, _, child in layer._children()), None)
