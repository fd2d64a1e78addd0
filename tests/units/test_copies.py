"""Copies and pickles keep the training state, but no batch."""

import pickle

import numpy as np
import pytest

import portnn
from cases import OwnLayer
from portnn import (
    SGD,
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
)
from states import ArticleGain, leaves, same


class Gain(Layer):
    """Keeps what ``backward`` needs in attributes of its own."""

    def __init__(self):
        self.constant = np.ones(4)
        self.nothing = None
        self.parameters["gain"] = np.ones(4)

    def forward(self, X, *, training=False):
        if training:
            self.seen, self.nothing = X, [X * 1.0]
        return X * self.parameters["gain"]

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["gain"] = self.xp.sum(self.seen * output_error, axis=tuple(range(self.seen.ndim - 1)))
        return output_error * self.parameters["gain"]


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [FCLayer(784, 4), BatchNormLayer(), DropoutLayer(0.1), ActivationLayer("tanh"), Gain(), FCLayer(4, 2)],
        lambda: [
            ReshapeLayer((28, 28, 1)),
            ConvLayer((28, 28, 1), (5, 5), 4),
            MaxPoolLayer(4),
            FlattenLayer(),
            FCLayer(144, 2),
        ],
        lambda: [ResidualLayer(FCLayer(784, 784), OwnLayer(784)), ParallelLayer([FCLayer(784, 1)], FCLayer(784, 1))],
    ],
)
def test_a_copy_holds_no_batch(layers):
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 784)).astype(np.float32), np.ones((64, 2), np.float32)
    net = Network(layers(), seed=0)
    net.use("mse", optimizer=SGD(0.01, momentum=0.9))
    net.predict(x)
    before = len(pickle.dumps(net))
    net.fit(x, y, epochs=1, batch_size=64, verbose=0)
    data = pickle.dumps(net)
    slots = sum(a.nbytes for home in net.slots.values() for a in home.values())
    assert len(data) < before + slots + 3000
    assert x[:3].tobytes() not in data
    again = pickle.loads(data)
    assert np.array_equal(again.predict(x), net.predict(x))
    for part in (net, again):
        part.fit(x, y, epochs=1, batch_size=64, verbose=0)
    assert same(leaves(net), leaves(again))


def test_a_layer_alone_holds_no_batch_and_keeps_what_is_its_own():
    x = np.random.default_rng(0).random((500, 4))
    net = Network([Gain(), ArticleGain()], seed=0)
    net.use("mse")
    net.fit(x, x, epochs=1, learning_rate=0.01, verbose=0)
    gain, article = pickle.loads(pickle.dumps(net)).layers
    assert np.array_equal(gain.constant, np.ones(4))
    assert gain.nothing == [None]  # the list is kept, but without its array
    assert getattr(gain, "seen", None) is None
    assert getattr(article, "input", None) is None
    assert np.array_equal(article.weights, net.layers[1].weights)
    for layer in (FCLayer(4, 3), ConvLayer((2, 2, 1), (2, 2), 1), BatchNormLayer(), DropoutLayer(0.5), FlattenLayer()):
        shape = (500, 2, 2, 1) if isinstance(layer, ConvLayer) else (500, 4)
        layer.forward_propagation(x.reshape(shape))
        assert len(pickle.dumps(layer)) < 3000, layer


def test_plans_of_pooling_do_not_pile_up():
    layer = MaxPoolLayer(2)
    before = set(vars(layer))
    for n in range(2, 400):
        layer(np.zeros((1, n, 2, 1)))
    assert set(vars(layer)) - before <= {"backend", "xp", "ops", "device_dtype"}
    assert not any(isinstance(value, (dict, list)) and len(value) > 10 for value in vars(layer).values())
    assert portnn.layers.pool_windows._plan.cache_info().currsize <= 256
