"""Networks of random layers, every kind of the shelf with random options: for what must hold of any network."""

import numpy as np

from leaving import random_layer
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
)
from portnn.layers import sequential

NAMES = (
    "tanh sigmoid relu leaky_relu elu selu gelu gelu_tanh silu softplus softsign hard_sigmoid".split()  # noqa: SIM905
)


def shape_after(layers, shape):
    return sequential.shapes(layers, shape)[-1] if layers else shape


def same_shape(rng, shape, depth):
    """A layer that leaves the shape as it is."""
    channels = shape[-1]
    kinds = [
        lambda: ActivationLayer(NAMES[rng.integers(len(NAMES))]),
        lambda: ScaleLayer(float(rng.uniform(0.5, 2.0)), float(rng.uniform(-1.0, 1.0))),
        lambda: DropoutLayer(0.3),
        lambda: BatchNormLayer(momentum=0.2, epsilon=1e-3),
        LayerNormLayer,
        lambda: GroupNormLayer(int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))),
        SoftmaxLayer,
        lambda: FCLayer(channels, channels, bias=bool(rng.integers(2))),
        SequentialLayer,
    ]
    if len(shape) in (2, 3):
        kernel = (3, 2)[: len(shape) - 1]
        kinds += [lambda: ConvLayer(shape, kernel, channels, padding="same", groups=channels)] * 2
    if len(shape) == 3:
        kinds.append(lambda: RandomAffineLayer(shift=1.0, rotate=5.0))
    if depth:
        kinds += [lambda: ResidualLayer(*(same_shape(rng, shape, depth - 1) for _ in range(2)))] * 2
        kinds.append(lambda: SequentialLayer(*(same_shape(rng, shape, depth - 1) for _ in range(2))))
        kinds.append(lambda: ParallelLayer(same_shape(rng, shape, depth - 1), [], merge="add"))
    return kinds[rng.integers(len(kinds))]()


def other_shape(rng, shape):
    """A layer, or several, of which another shape comes out."""
    kinds = [
        lambda: ParallelLayer([same_shape(rng, shape, 0)], same_shape(rng, shape, 0), []),
        lambda: FCLayer(shape[-1], int(rng.integers(1, 6))),
    ]
    if len(shape) == 1:
        n = int(rng.integers(1, 4))
        kinds.append(lambda: SequentialLayer(FCLayer(shape[0], 6 * n), ReshapeLayer((3, 2, n))))
        kinds.append(lambda: SequentialLayer(FCLayer(shape[0], 4 * n), ReshapeLayer((4, n))))
    if len(shape) in (2, 3):
        kinds += [GlobalAvgPoolLayer, GlobalMaxPoolLayer, lambda: UpsampleLayer(2), FlattenLayer]
    return kinds[rng.integers(len(kinds))]()


def drawn(seed, most=7):
    """Layers, and the shape of a sample: windows with random options first, in one axis to three, or a row."""
    rng = np.random.default_rng(seed)
    layers, shape = [], (int(rng.integers(1, 8)),)
    if rng.integers(3):
        first, shape = random_layer(rng)
        layers = [first]
    for _ in range(int(rng.integers(2, most))):
        now = shape_after(layers, shape)
        layers.append(same_shape(rng, now, 2) if rng.integers(3) else other_shape(rng, now))
    return layers, shape
