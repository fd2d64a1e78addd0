"""The networks of ``portnn train``, made to fit the samples: any shape, any number of classes."""

from math import prod
from typing import Any

import numpy as np

from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    Layer,
    MaxPoolLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
)

KINDS = ("fc", "lenet", "resnet")
Shape = tuple[int, ...]


def kind_for(sample: Shape) -> str:
    """The kind to take where none was named: lenet for images, fc for everything else."""
    return "lenet" if len(sample) in (2, 3) and min(sample[:2]) >= 8 else "fc"


def layers(kind: str, x: np.ndarray, classes: int) -> list[Layer]:
    """The layers of a network that takes samples such as ``x`` (N, ...) as they are, and has a logit per class."""
    sample: Shape = tuple(x.shape[1:])
    if kind == "fc":
        shape = (*sample, 1) if len(sample) == 2 else sample  # as images have it
        made: list[Layer] = [ReshapeLayer(shape), *_scaling(x)]
        return [*made, *([FlattenLayer()] if len(shape) > 1 else []), *_dense(prod(shape), (128, 64), classes)]
    if len(sample) not in (2, 3):
        raise ValueError(
            f"{kind} takes images, samples of shape (H, W) or (H, W, C), but these have shape {sample}: --model fc "
            "takes samples of any shape"
        )
    image = (*sample, 1) if len(sample) == 2 else sample
    return [ReshapeLayer(image), *_scaling(x), *(_lenet if kind == "lenet" else _resnet)(image, classes)]


def _scaling(x: np.ndarray) -> list[Layer]:
    """What brings the values near to 0..1, or to mean 0 and variance 1; nothing where they are in 0..1 already."""
    least, most = float(x.min()), float(x.max())
    if least >= 0.0 and most <= 1.0:
        return []
    if x.dtype == np.uint8:
        return [ScaleLayer(1 / 255)]
    if x.ndim > 2:  # all values of one kind, such as pixels
        mean, deviation = float(np.mean(x, dtype=np.float64)), float(np.std(x, dtype=np.float64))
        factor = 1.0 / deviation if deviation > 0.0 else 1.0
        return [ScaleLayer(factor, offset=-mean * factor)]
    # The columns of a table: each by its own mean and variance, which stay as they are.
    columns = BatchNormLayer()
    columns.buffers = {
        "running_mean": np.mean(x, axis=0, dtype=np.float64).tolist(),
        "running_var": np.maximum(np.var(x, axis=0, dtype=np.float64), 1e-12).tolist(),
    }
    columns.epsilon = 1e-12
    columns.trainable = False
    return [columns]


def _dense(inputs: int, hidden: Shape, classes: int) -> list[Layer]:
    made: list[Layer] = []
    for units in hidden:
        made += [FCLayer(inputs, units, initializer="he_uniform"), ActivationLayer("relu")]
        inputs = units
    return [*made, FCLayer(inputs, classes)]


def _after(layers: list[Layer], shape: Any) -> Shape:
    """The shape of a sample after the layers."""
    for layer in layers:
        shape = layer.output_shape(shape)
    return tuple(shape)


def _halved(shape: Shape) -> list[Layer]:
    """Pooling by 2 along each side that has 2 pixels."""
    window = tuple(min(2, side) for side in shape[:2])
    return [MaxPoolLayer(window)] if max(window) > 1 else []


def _lenet(image: Shape, classes: int) -> list[Layer]:
    """LeNet-5 with relu and max pooling, as ``examples/mnist_lenet.py``; smaller kernels for small images."""
    made: list[Layer] = []
    shape = image
    for filters, padding in ((6, "same"), (16, "valid")):
        fits = min(shape[:2]) > 5
        side = 5 if fits else 3 if min(shape[:2]) >= 3 else 1
        padding = padding if fits else "same"
        part: list[Layer] = [
            ConvLayer(shape, (side, side), filters, padding=padding, initializer="he_uniform"),
            ActivationLayer("relu"),
        ]
        part += _halved(_after(part, shape))
        made, shape = made + part, _after(part, shape)
    return [*made, FlattenLayer(), *_dense(prod(shape), (120, 84), classes)]


def _resnet(image: Shape, classes: int) -> list[Layer]:
    """A small residual network with batch normalization, as ``examples/mnist_resnet.py``."""

    def convolution(shape: Shape, filters: int, **more: Any) -> list[Layer]:
        side = 3 if min(shape[:2]) >= 3 else 1
        conv = ConvLayer(shape, (side, side), filters, padding="same", initializer="he_normal", bias=False, **more)
        return [conv, BatchNormLayer()]

    def block(shape: Shape) -> list[Layer]:
        inside = [*convolution(shape, shape[-1]), ActivationLayer("relu"), *convolution(shape, shape[-1])]
        return [ResidualLayer(*inside), ActivationLayer("relu")]

    made: list[Layer] = [*convolution(image, 16), ActivationLayer("relu")]
    made += _halved(_after(made, image))
    made += block(_after(made, image))
    made += [*convolution(_after(made, image), 32, stride=2), ActivationLayer("relu")]
    made += block(_after(made, image))
    return [*made, GlobalAvgPoolLayer(), FCLayer(32, classes)]
