"""Composite layers: paths of children, branches, and the summary of a network."""

import copy
import pickle
import re

import array_api_strict
import numpy as np
import pytest

import portnn
from classifiers import LABELS, RNG, X10, Doubled, classifier, leaves
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ResidualLayer,
    UpsampleLayer,
    get_backend,
)

# -- composite layers --------------------------------------------------------------------------------------------------------


def inception(seed=0, **options):
    layers = [
        ConvLayer((6, 6, 1), (3, 3), 4, padding="same"),
        ParallelLayer(
            ConvLayer((6, 6, 4), (1, 1), 2),
            [ConvLayer((6, 6, 4), (1, 1), 2), ConvLayer((6, 6, 2), (3, 3), 3, padding=1)],
            [],
        ),
        ResidualLayer(ConvLayer((6, 6, 9), (3, 3), 9, padding="same"), BatchNormLayer(), ActivationLayer("relu")),
        ParallelLayer(
            [AvgPoolLayer(2), ConvLayer((3, 3, 9), (1, 1), 4)], ConvLayer((6, 6, 9), (2, 2), 4, stride=2), merge="add"
        ),
        UpsampleLayer(2),
        GlobalAvgPoolLayer(),
        FCLayer(4, 3),
    ]
    return Network(layers, seed=seed, **options)


def test_paths_of_children():
    net = inception()
    assert {
        "1.0.weights",
        "1.1.0.weights",
        "1.1.1.bias",
        "2.0.weights",
        "2.1.weights",
        "3.0.1.weights",
        "3.1.bias",
    } <= set(net.parameters)
    assert "3.0.0.weights" not in net.parameters


def test_a_network_of_branches_trains_moves_copies_and_pickles():
    x, y = RNG.standard_normal((12, 6, 6, 1)), RNG.integers(0, 3, 12)
    net = inception(dtype="float64")
    net.use("softmax_cross_entropy", optimizer=Adam(1e-2))
    errors = net.fit(x, y, epochs=20, batch_size=6, verbose=0)["error"]
    assert errors[-1] < 0.8 * errors[0]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.predict(x), net.predict(x))
        a = other.fit(x, y, epochs=2, batch_size=6, verbose=0)
        b = copy.deepcopy(net).fit(x, y, epochs=2, batch_size=6, verbose=0)
        assert a == b
    before = net.predict(x)
    moved = net.to(get_backend(array_api_strict))
    assert np.allclose(portnn.to_numpy(moved.predict(x)), before, rtol=1e-12)


def test_portable_kernels_are_the_same():
    x, y = RNG.standard_normal((12, 6, 6, 1)), RNG.integers(0, 3, 12)
    nets = [inception(dtype="float64", kernels=kernels) for kernels in ("auto", "portable")]
    for net in nets:
        net.use("softmax_cross_entropy", optimizer=SGD(0.1, momentum=0.9))
        net.fit(x, y, epochs=3, batch_size=5, shuffle=True, verbose=0)
    for path, w in leaves(nets[0]).items():
        assert np.allclose(w, leaves(nets[1])[path], rtol=1e-9, atol=1e-12), path


def test_an_articles_layer_in_a_branch():
    class Shift(Layer):
        def __init__(self, n):
            self.offset = np.zeros((1, n))

        def forward_propagation(self, input):
            return input + self.offset

        def backward_propagation(self, output_error, learning_rate):
            self.offset = self.offset - learning_rate * output_error
            return output_error

    shift = Shift(4)
    net = classifier(FCLayer(6, 4), ResidualLayer(FCLayer(4, 4), shift))
    net.fit(X10, LABELS, epochs=1, verbose=0)
    assert shift.offset.any()
    with pytest.raises(ValueError, match=r"layer 1\.1 \(Shift\) is written as in the article"):
        net.fit(X10, LABELS, epochs=1, batch_size=2, verbose=0)


def test_an_articles_layer_may_call_its_weights_kernels():
    class Filters(Layer):
        def __init__(self):
            self.kernels = np.full((6, 4), 0.1)

        def forward_propagation(self, input):
            self.input = input
            return input @ self.kernels

        def backward_propagation(self, output_error, learning_rate):
            below = output_error @ self.kernels.T
            self.kernels -= learning_rate * self.input.T @ output_error
            return below

    layer = Filters()
    net = classifier(layer)
    net.fit(X10, LABELS, epochs=1, verbose=0)
    assert not np.allclose(layer.kernels, 0.1)
    assert portnn.gradcheck(Filters(), input_shape=(6,)).passed


# -- the summary -----------------------------------------------------------------------------------------------------------------


def test_summary_counts_everything_without_data():
    net = inception()
    text = net.summary()
    assert text.rows[0] == {
        "path": "0",
        "layer": "ConvLayer",
        "output shape": (6, 6, 4),
        "parameters": 9 * 4 + 4,
        "bytes": 4 * 40,
        "multiply-adds": 36 * 9 * 4,
    }
    assert text.total["parameters"] == sum(a.size for a in net.parameters.values())
    assert text.total["bytes"] == 4 * text.total["parameters"]
    branch = next(row for row in text.rows if row["path"] == "1")
    assert branch["multiply-adds"] == 36 * 4 * 2 + 36 * 4 * 2 + 36 * 9 * 2 * 3
    assert branch["output shape"] == (6, 6, 9)
    assert [row["path"] for row in text.rows[1:5]] == ["1", "1.0", "1.1.0", "1.1.1"]
    assert re.search(r"^6 FCLayer +\(3,\) +15 +60 +12$", text, re.MULTILINE)
    assert "?" not in text


def test_summary_of_layers_of_any_shape():
    net = Network([MaxPoolLayer(2), GroupNormLayer(2), FlattenLayer(), Doubled()])
    assert "?" in net.summary()
    text = net.summary((4, 6, 2))
    assert [row["output shape"] for row in text.rows] == [(2, 3, 2), (2, 3, 2), (12,), None]
    assert text.rows[1]["parameters"] == 4
    assert Network(dtype="float64").summary().total["parameters"] == 0
    with pytest.raises(TypeError, match=r"input_shape must be the shape of one sample"):
        net.summary(784)


def test_multiply_adds_of_grouped_and_one_dimensional_convolutions():
    net = Network([ConvLayer((8, 4), (3,), 6, groups=2, stride=2), FlattenLayer(), FCLayer(18, 2)])
    assert net.layers[0].multiply_adds(None) == 3 * 3 * 2 * 6
    assert net.summary().total["multiply-adds"] == 3 * 3 * 2 * 6 + 36
