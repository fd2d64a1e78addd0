"""Networks to be explained, each with a few samples and their targets: (network, x, y)."""

import numpy as np

from portnn import (
    ActivationLayer,
    AdamW,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    MaxPoolLayer,
    Network,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    load_mnist,
    to_categorical,
)


def digits(n=4):
    (x, y), _ = load_mnist()
    return x[:n], y[:n]


def xor():
    """The article's first network."""
    net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1), ActivationLayer("tanh")], seed=1)
    net.use("mse")
    x = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
    return net, x, np.array([[[0]], [[1]], [[1]], [[0]]])


def article():
    """The article's network for digits."""
    inside = [layer for n, m in ((784, 100), (100, 50), (50, 10)) for layer in (FCLayer(n, m), ActivationLayer("tanh"))]
    net = Network(inside, seed=2)
    net.use("mse")
    x, y = digits()
    return net, x.reshape(-1, 1, 784) / 255, to_categorical(y, 10).reshape(-1, 1, 10)


def lenet():
    net = Network(
        [
            *(ScaleLayer(1 / 255), ReshapeLayer((28, 28, 1))),
            *(ConvLayer((28, 28, 1), (5, 5), 6, padding="same"), ActivationLayer("tanh"), AvgPoolLayer(2)),
            *(ConvLayer((14, 14, 6), (5, 5), 16), ActivationLayer("tanh"), MaxPoolLayer(2), FlattenLayer()),
            *(FCLayer(400, 120), ActivationLayer("relu"), DropoutLayer(0.3)),
            *(FCLayer(120, 84), ActivationLayer("gelu_tanh"), FCLayer(84, 10)),
        ],
        seed=5,
    )
    net.use("softmax_cross_entropy", optimizer="adam")
    return net, *digits()


def residual():
    def block():
        first, second = (ConvLayer((14, 14, 4), (3, 3), 4, padding="same", bias=False) for _ in range(2))
        return ResidualLayer(first, BatchNormLayer(), ActivationLayer("relu"), second, BatchNormLayer())

    net = Network(
        [
            *(ScaleLayer(1 / 255), ConvLayer((28, 28, 1), (3, 3), 4, stride=2, padding="same"), BatchNormLayer()),
            *(ActivationLayer("relu"), block(), ActivationLayer("relu"), block(), ActivationLayer("relu")),
            *(GlobalAvgPoolLayer(), FCLayer(4, 10)),
        ],
        seed=1,
    )
    net.use("softmax_cross_entropy", optimizer=AdamW(1e-3, clip_norm=1.0))
    x, y = digits()
    return net, x[..., None], y


def small_images():
    net = Network(
        [
            *(ConvLayer((6, 5, 2), (3, 2), 4, groups=2, dilation=(1, 2)), ActivationLayer("silu"), MaxPoolLayer(2)),
            *(FlattenLayer(), FCLayer(8, 3)),
        ],
        seed=8,
    )
    net.use("softmax_cross_entropy", optimizer="rmsprop")
    return net, np.random.default_rng(4).standard_normal((3, 6, 5, 2)), np.array([2, 0, 1])
