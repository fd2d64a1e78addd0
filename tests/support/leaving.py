"""Networks that leave the library, for the tests of every form in which they do."""

import runpy

import numpy as np

from cases import LAYERS
from pages import touched
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
    load_mnist,
)
from portnn.ops import is_ours

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
OURS = [case for case in LAYERS if all(is_ours(type(part)) for part in case.make().walk())]


def conv(shape, kernel, filters, **options):
    return ConvLayer(shape, kernel, filters, **options)


def lenet():
    return [
        ReshapeLayer((28, 28, 1)),
        ScaleLayer(1 / 255),
        RandomAffineLayer(shift=2.0, rotate=10.0, scale=0.1),
        conv((28, 28, 1), (5, 5), 6, padding="same"),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        conv((14, 14, 6), (5, 5), 16),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        FlattenLayer(),
        DropoutLayer(0.5),
        FCLayer(400, 120),
        ActivationLayer("tanh"),
        FCLayer(120, 10),
    ]


def residual():
    return [
        ReshapeLayer((28, 28, 1)),
        ScaleLayer(1 / 255),
        conv((28, 28, 1), (3, 3), 8, stride=2, padding="same", bias=False),
        BatchNormLayer(),
        ActivationLayer("relu"),
        ResidualLayer(
            conv((14, 14, 8), (3, 3), 8, padding="same"),
            GroupNormLayer(4),
            ActivationLayer("gelu"),
            conv((14, 14, 8), (3, 3), 8, padding="same"),
        ),
        GlobalAvgPoolLayer(),
        FCLayer(8, 10),
    ]


def sequence():
    return [
        ReshapeLayer((784, 1)),
        ScaleLayer(1 / 255),
        conv((784, 1), (9,), 6, stride=4, padding="same"),
        ActivationLayer("elu"),
        MaxPoolLayer(2),
        conv((98, 6), (5,), 8, dilation=2),
        ActivationLayer("relu"),
        GlobalMaxPoolLayer(),
        FCLayer(8, 10),
    ]


def mixed():
    """Branches of images with other layouts in other libraries, a residual block, pooling with padding."""
    return [
        conv((12, 12, 3), (3, 3), 8, padding="same", bias=False),
        BatchNormLayer(),
        ActivationLayer("silu"),
        ResidualLayer(
            conv((12, 12, 8), (3, 3), 8, padding="same", groups=8),
            GroupNormLayer(4),
            FCLayer(8, 8),
            LayerNormLayer(),
        ),
        AvgPoolLayer(3, stride=2, padding="same"),
        ParallelLayer(
            [conv((6, 6, 8), (1, 1), 4), UpsampleLayer(2), MaxPoolLayer(2)],
            SequentialLayer(ParallelLayer([], ScaleLayer(-1.0), merge="add"), SequentialLayer()),
            FCLayer(8, 3),
            [],
        ),
        FlattenLayer(),
        ResidualLayer(FCLayer(828, 5), ActivationLayer("softsign"), FCLayer(5, 828)),
        ParallelLayer(FCLayer(828, 7), [BatchNormLayer(), FCLayer(828, 2)]),
        SoftmaxLayer(),
    ]


def autoencoder():
    return [
        conv((4, 3, 2), (2, 2), 3),
        FlattenLayer(),
        FCLayer(18, 5),
        ActivationLayer("leaky_relu"),
        FCLayer(5, 24),
        ReshapeLayer((4, 3, 2)),
        conv((4, 3, 2), (3, 3), 2, padding=1),
    ]


NETWORKS = {
    "the article's": (lambda: [FCLayer(784, 20), ActivationLayer("tanh"), FCLayer(20, 10)], (1, 784)),
    "LeNet": (lenet, (28, 28)),
    "residual": (residual, (28, 28)),
    "1-D": (sequence, (28, 28)),
    "mixed": (mixed, (12, 12, 3)),
    "autoencoder": (autoencoder, (4, 3, 2)),
    "ends flat": (lambda: [conv((4, 3, 2), (2, 2), 3), FlattenLayer()], (4, 3, 2)),
    "volumes": (lambda: [AvgPoolLayer((2, 3, 2), padding=1, stride=2), UpsampleLayer((2, 1, 3))], (6, 5, 4, 2)),
    "volumes, largest": (lambda: [MaxPoolLayer(3, stride=(1, 2, 3), padding="same"), FlattenLayer()], (4, 5, 6, 2)),
    "nothing": (lambda: [SequentialLayer(), DropoutLayer(0.1)], (3,)),
    "twice the same": (lambda: [ResidualLayer(DropoutLayer(0.1)), ParallelLayer([], [])], (3,)),
}
ALL = {case.name: (lambda case=case: [case.make()], case.sample) for case in OURS} | NETWORKS
DIGITS = ["the article's", "LeNet", "residual", "1-D"]  # networks that read digits


def samples(shape, n=3):
    return np.random.default_rng(len(shape)).standard_normal((n, *shape))


def made(name, dtype):
    """A network of those above, with numbers of its own in all parameters, and samples for it.

    Weights are the smaller the more inputs they add up, so that no tanh or softmax is at its end.
    """
    make, shape = ALL[name]
    x = samples(shape).astype(dtype)
    network = touched(Network(make(), dtype=dtype, seed=1), x)
    for path, array in network.parameters.items():
        network.parameters[path] = array / np.sqrt(np.prod(array.shape[:-1]))
    return network, x


def reader(name):
    """A network that reads digits, with the weights it was born with, and 1,000 digits."""
    network, x = Network(NETWORKS[name][0](), seed=1), load_mnist()[1][0][:1000].astype(np.float32)
    x = x.reshape(1000, 1, 784) / 255 if name == "the article's" else x
    network.predict(x[:1])
    return network, x


def python(network, folder, name="net.py"):
    """What the exported Python file defines."""
    network.export(folder / name)
    return runpy.run_path(str(folder / name))
