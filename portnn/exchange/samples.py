"""What a network takes: the shape of one sample, and for images the range of its pixels."""

from collections.abc import Sequence
from math import prod
from typing import Any

from portnn._typing import Shape
from portnn.layers import sequential

PIXELS = 28 * 28  # of MNIST's images
IMAGES = ((28, 28, 1), (28, 28), (PIXELS,), (1, PIXELS))  # the shapes that they come in
CHAINS = ("ResidualLayer", "SequentialLayer")
SAME_SHAPE = ("ActivationLayer", "DropoutLayer", "RandomAffineLayer", "ScaleLayer", "SoftmaxLayer")
NO_SCALE = ("DropoutLayer", "FlattenLayer", "RandomAffineLayer", "ReshapeLayer")  # values go through as they are
BYTES = 255.0


def sample_shape(network: Any) -> Shape:
    """The shape of one sample that the network takes.

    It is what the layers say. Where they take samples of many shapes, or what one says does not suit those after it,
    it is that of the samples that were last predicted, or of MNIST's images, if they fit. ValueError if none does.
    """
    said = declared(network.layers)
    if said == (PIXELS,) and type(network.layers[0]).__name__ in ("FlattenLayer", "ReshapeLayer"):
        said = (28, 28)  # any shape of so many values will do
    for shape in (said, network._checked, *IMAGES):
        if shape is not None and _fits(network.layers, shape):
            return tuple(shape)
    raise ValueError(
        f"the layers do not say what shape a sample has, and {network.layers[0]} takes several: put a layer in front "
        "that does, such as ReshapeLayer((28, 28, 1)), or call predict once before"
    )


def _fits(layers: Sequence[Any], shape: Shape) -> bool:
    try:
        return sequential.shapes(layers, shape)[-1] is not None
    except ValueError:
        return False


def declared(layers: Sequence[Any]) -> Shape | None:
    """The shape of one sample that layers in order say they take; None if they do not."""
    for layer in layers:
        name = type(layer).__name__
        if name in CHAINS:
            inside = declared(layer.layers)
            if inside is not None or not all(type(each).__name__ in (*CHAINS, *SAME_SHAPE) for each in layer.walk()):
                return inside
            continue
        shape = sequential.own_input_shape(layer)
        if shape is not None or name == "ParallelLayer":
            return shape
        if name == "ReshapeLayer":
            return (prod(layer.shape),)
        channels = layer.shapes.get("weights") if name.endswith("NormLayer") else None
        if channels is not None:
            return _after(layers, layer) or channels
        if name == "UpsampleLayer":
            return _before_upsampling(layer, _after(layers, layer))
        if name not in (*SAME_SHAPE, "FlattenLayer"):
            return None
    return None


def _after(layers: Sequence[Any], layer: Any) -> Shape | None:
    """What the layers after this one say they take."""
    return declared(layers[next(i for i, each in enumerate(layers) if each is layer) + 1 :])


def _before_upsampling(layer: Any, after: Shape | None) -> Shape | None:
    if after is None or len(after) < 2:
        return None
    return (*(n // r for n, r in zip(after[:-1], layer.factors(len(after) - 1), strict=True)), after[-1])


def most(layers: Sequence[Any]) -> float:
    """The number that stands for white in the images that a network takes: 255.0 or 1.0.

    Bytes, if the first layer that computes scales them down, or is batch normalization whose running values show that
    it was given them.
    """
    for layer in layers:
        name = type(layer).__name__
        if name in NO_SCALE:
            continue
        if name == "SequentialLayer":
            if layer.layers:
                return most(layer.layers)
            continue
        if name == "ScaleLayer":
            return BYTES if abs(layer.factor) * 16.0 < 1.0 else 1.0
        if name == "BatchNormLayer" and layer.buffers:
            mean, variance = (layer.backend.to_numpy(layer.buffers[each]) for each in ("running_mean", "running_var"))
            return BYTES if float((mean * mean + variance).max()) > 4.0 else 1.0
        break
    return 1.0
