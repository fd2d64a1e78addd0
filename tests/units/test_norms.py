"""Normalization layers in a network: built on the first batch, running statistics, small batches."""

import numpy as np
import pytest

from classifiers import LABELS, RNG, X10, Doubled, classifier, leaves
from portnn import (
    SGD,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GroupNormLayer,
    LayerNormLayer,
    Network,
    ParallelLayer,
    ResidualLayer,
)


@pytest.mark.parametrize("make", [BatchNormLayer, LayerNormLayer, lambda: GroupNormLayer(2)])
def test_norms_are_made_at_the_first_data(make):
    norm = make()
    with pytest.raises(RuntimeError, match=r"weights does not exist yet"):
        norm.weights  # noqa: B018
    net = Network([norm, FCLayer(6, 4)], seed=0)
    with pytest.raises(
        RuntimeError, match=r"weights does not exist yet: it is built on the first batch.*fit or predict"
    ):
        norm.weights  # noqa: B018
    assert set(net.parameters) == {"1.weights", "1.bias"}
    net.use("softmax_cross_entropy", optimizer=SGD(0.1))
    net.fit(X10, LABELS, epochs=1, batch_size=5, verbose=0)
    assert norm.weights.shape == norm.bias.shape == (6,)
    assert not np.array_equal(norm.weights, np.ones(6))  # the weights were trained
    with pytest.raises(ValueError, match=r"x has samples of shape \(7,\).*the network takes \(6,\)"):
        net.predict(np.zeros((2, 7)))


def test_norms_behind_a_layer_that_knows_its_shape_exist_at_once():
    net = Network([FCLayer(6, 5), BatchNormLayer(), ResidualLayer(LayerNormLayer(), FCLayer(5, 5))])
    assert net.layers[1].weights.shape == (5,)
    assert net.parameters["2.0.bias"].shape == (5,)
    assert set(net.layers[1].buffers) == {"running_mean", "running_var"}


def test_norms_behind_a_layer_that_says_nothing():
    net = classifier(Doubled(), ParallelLayer([BatchNormLayer(), FCLayer(12, 4)], FCLayer(12, 4), merge="add"))
    net.fit(X10, LABELS, epochs=2, batch_size=5, verbose=0)
    assert net.parameters["1.0.0.weights"].shape == (12,)
    assert net.layers[1].layers[0].layers[0].buffers["running_mean"].any()


def test_running_means_are_those_of_the_data_and_predict_uses_them():
    x = RNG.standard_normal((64, 3)) * [1.0, 5.0, 0.1] + [0.0, -3.0, 2.0]
    net = Network([BatchNormLayer(momentum=1.0), FCLayer(3, 1)], dtype="float64", seed=0)
    net.use("mse")
    net.fit(x, np.zeros((64, 1)), epochs=1, learning_rate=0.0, batch_size=64, verbose=0)
    norm = net.layers[0]
    assert np.allclose(norm.buffers["running_mean"], x.mean(axis=0))
    assert np.allclose(norm.buffers["running_var"], x.var(axis=0, ddof=1))
    before = leaves(net)
    one, all_ = net.predict(x[:1]), net.predict(x)
    assert np.allclose(one, all_[:1], rtol=1e-12)  # the prediction does not depend on the batch
    assert all(np.array_equal(before[path], a) for path, a in leaves(net).items())


@pytest.mark.parametrize("n", [33, 1])
def test_a_last_batch_of_one_under_batch_norm_is_refused_before_the_first_step(n):
    net = Network([FCLayer(6, 5), ResidualLayer(BatchNormLayer()), FCLayer(5, 1)], seed=0)
    net.use("mse", optimizer=SGD(0.1))
    before = leaves(net)
    size = min(n, 32)
    with pytest.raises(
        ValueError, match=rf"batch_size={size}.* needs batches of at least 2.*choose another batch_size"
    ):
        net.fit(np.zeros((n, 6)), np.zeros((n, 1)), epochs=1, batch_size=32, verbose=0)
    assert all(np.array_equal(before[path], a) for path, a in leaves(net).items())
    with pytest.raises(ValueError, match=r"batch_size=1, but .* needs batches of at least 2"):
        net.fit(np.zeros((8, 6)), np.zeros((8, 1)), epochs=1, verbose=0)
    net.fit(np.zeros((34, 6)), np.zeros((34, 1)), epochs=1, batch_size=32, verbose=0)


def test_batch_norm_takes_one_image():
    net = Network([ConvLayer((4, 4, 1), (3, 3), 2), BatchNormLayer(), FlattenLayer(), FCLayer(8, 1)], seed=0)
    net.use("mse")
    net.fit(np.zeros((3, 4, 4, 1)), np.zeros((3, 1)), epochs=1, learning_rate=0.1, verbose=0)
