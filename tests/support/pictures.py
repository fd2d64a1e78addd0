"""Trained networks to draw, and what is written in a picture."""

from functools import cache

import numpy as np

from portnn import (
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    CosineDecay,
    FCLayer,
    FlattenLayer,
    Network,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    load_mnist,
)

XOR = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]], float), np.array([[[0]], [[1]], [[1]], [[0]]], float)


@cache
def xor(dtype="float32"):
    """The article's network, with its data in the article's shapes, and its history."""
    net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1), ActivationLayer("tanh")], seed=1, dtype=dtype)
    net.use("mse")
    return net, *XOR, net.fit(*XOR, epochs=400, learning_rate=0.1, verbose=0)


@cache
def three_classes():
    """Three clouds of points with class numbers, and a network that tells most of them apart."""
    x = np.random.default_rng(0).normal(size=(90, 2)) + np.array([[0, 2], [2, -1], [-2, -1]])[np.arange(90) % 3]
    y = np.arange(90) % 3
    net = Network([FCLayer(2, 16), ActivationLayer("relu"), FCLayer(16, 3)], seed=1)
    net.use("softmax_cross_entropy", optimizer=Adam(CosineDecay(1e-2, 100)), metrics=["accuracy"])
    history = net.fit(x, y, epochs=8, batch_size=8, verbose=0, validation_split=0.2, validation_frequency=2)
    return net, x, y, history


@cache
def digits():
    """A small convolutional network trained on some of the bundled digits, and others."""
    (x, y), (x_test, y_test) = load_mnist()
    block = ResidualLayer(ConvLayer((7, 7, 4), (3, 3), 4, padding="same"), BatchNormLayer(), ActivationLayer("relu"))
    net = Network(
        [
            ReshapeLayer((28, 28, 1)),
            ScaleLayer(1 / 255),
            ConvLayer((28, 28, 1), (5, 5), 4, stride=4, padding="same", initializer="he_uniform"),
            ActivationLayer("relu"),
            block,
            FlattenLayer(),
            FCLayer(196, 10),
        ],
        seed=1,
    )
    net.use("softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
    history = net.fit(x[:1000], y[:1000], epochs=2, batch_size=32, verbose=0)
    return net, x_test[:100], y_test[:100], history


def texts(drawn):
    """All that is written in Axes, or in the whole of a Figure."""
    from matplotlib.text import Text

    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def panels(figure):
    """The axes of a figure, without colour bars."""
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
