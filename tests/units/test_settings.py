"""Which attributes of networks and layers can be set, and what the error advises for the others; frozen layers."""

import copy
import pickle

import numpy as np
import pytest

import portnn
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
)
from states import ArticleGain, leaves, trained


def test_parameters_are_a_view_that_can_be_set():
    net, x = trained(FCLayer(20, 3), FCLayer(3, 1))
    view = net.parameters
    w = np.arange(60.0).reshape(3, 20).T
    view["0.weights"] = w
    assert np.array_equal(net.layers[0].weights, w)
    assert net.layers[0].weights.dtype == np.float32
    assert net.layers[0].weights is net.parameters["0.weights"] is view["0.weights"]
    w[...] = 0
    assert net.layers[0].weights.any()
    net.parameters.update({"0.bias": [[1, 2, 3]], "1.bias": [[7.0]]})
    net.parameters |= {"1.weights": np.ones((3, 1))}
    assert net.predict(np.zeros((1, 20)))[0, 0] == 13.0
    with pytest.raises(ValueError, match=r"no parameter '0\.weigths': did you mean '0\.weights'"):
        net.parameters["0.weigths"] = w
    with pytest.raises(ValueError, match="has shape"):
        net.parameters["0.weights"] = w.T
    with pytest.raises(ValueError, match="no parameter"):
        net.parameters.update({"0.bias": [[9, 9, 9]], "5.bias": [[7.0]]})
    assert np.array_equal(net.layers[0].bias, [[1, 2, 3]])
    for call in (lambda: view.pop("0.bias"), view.clear, lambda: view.setdefault("9.w", w), lambda: view.popitem()):
        with pytest.raises(TypeError, match="neither added nor removed"):
            call()
    with pytest.raises(TypeError, match="neither added nor removed"):
        del view["0.bias"]
    net.fit(x, x[:, :1], epochs=1, verbose=0)
    assert all(view[path] is array for path, array in net.parameters.items())
    assert type(pickle.loads(pickle.dumps(view))) is dict
    assert copy.deepcopy(net.slots).keys() == {"mean", "square"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", 99, r"Network\(copy.deepcopy\(net.layers\), seed=...\)"),
        ("dtype", "float64", r"Network\(copy.deepcopy\(net.layers\), dtype=...\)"),
        ("kernels", "portable", r"Network\(copy.deepcopy\(net.layers\), kernels=...\)"),
        ("backend", "gpu", r"net\.to\(backend\)"),
        ("loss", "mae", r"net\.use\("),
        ("loss_prime", len, r"net\.use\("),
        ("optimizer", Adam(), r"net\.use\("),
        ("metrics", ["accuracy"], r"net\.use\("),
        ("history", {}, r"net\.use\("),
        ("parameters", {}, r"net\.parameters\[path\] = array"),
        ("slots", {}, r"net\.slots\[kind\]\[path\]"),
        ("step", -1, "step must be 0 or more"),
        ("epoch", 1.5, "epoch must be a whole number"),
    ],
)
def test_what_is_settled_says_where(name, value, words):
    net = Network([FCLayer(2, 1)], seed=0)
    before = copy.copy(net.__dict__)
    with pytest.raises((ValueError, TypeError), match=words):
        setattr(net, name, value)
    assert net.__dict__ == before


def test_a_frozen_layer_is_left_alone():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 6)), rng.standard_normal((12, 2))
    first, norm = FCLayer(6, 5), BatchNormLayer()
    net = Network([first, norm, ResidualLayer(FCLayer(5, 5), DropoutLayer(0.5)), FCLayer(5, 2)], seed=0)
    net.use("mse", optimizer=Adam(1e-2, weight_decay=0.1, clip_norm=0.5))
    net.fit(x, y, epochs=2, batch_size=4, verbose=0)
    frozen = [first, norm, net.layers[2]]
    for layer in frozen:
        layer.trainable = False
    before = leaves(net)
    net.fit(x, y, epochs=2, batch_size=4, verbose=0)
    after = leaves(net)
    for name, array in before.items():
        assert np.array_equal(array, after[name]) == (".3." not in f".{name.split()[1]}"), name
    assert set(net.gradients) == {"3.weights", "3.bias"}
    again = pickle.loads(pickle.dumps(net))
    assert [layer.trainable for layer in again.layers] == [False, False, False, True]
    for layer in frozen:
        layer.trainable = np.True_
    net.fit(x, y, epochs=1, batch_size=4, verbose=0)
    assert first._updates("weights", net.step) == 9
    assert net.layers[3]._updates("weights", net.step) == 15
    assert not np.array_equal(first.weights, after["parameter 0.weights"])
    again.fit(x, y, epochs=1, batch_size=1, verbose=0)  # frozen batch normalization accepts batches of one sample


def test_a_frozen_layer_counts_in_no_norm_and_its_error_goes_on():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)).astype(np.float64), rng.standard_normal((6, 2))
    results = []
    for freeze in (False, True):
        middle = BatchNormLayer() if freeze else ScaleLayer(1.0)
        net = Network([FCLayer(4, 3), middle, FCLayer(3, 2)], seed=0, dtype="float64")
        net.predict(x)
        middle.trainable = not freeze
        if freeze:
            middle.buffers["running_var"] = (
                middle.buffers["running_var"] - middle.epsilon
            )  # makes the layer an identity
        net.use("mse", optimizer=SGD(0.1, clip_norm=0.01))
        net.fit(x, y, epochs=2, batch_size=3, verbose=0)
        results.append([net.parameters[path] for path in ("0.weights", "0.bias", "2.weights", "2.bias")])
    assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(*results, strict=True))


def test_a_layer_of_the_articles_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"ArticleGain.*cannot freeze it"):
        ArticleGain().trainable = False
    with pytest.raises(TypeError, match="trainable must be True or False, got 'no'"):
        FCLayer(2, 2).trainable = "no"


def test_a_layer_alone_that_is_frozen_keeps_its_weights():
    layer = FCLayer(3, 2)
    layer.trainable = False
    Y = layer.forward_propagation(np.ones((4, 3)))
    before = np.array(layer.weights)
    assert layer.backward_propagation(Y, 0.5).shape == (4, 3)
    assert np.array_equal(layer.weights, before)


@pytest.mark.parametrize(
    ("make", "name", "value", "words"),
    [
        (
            lambda: FCLayer(2, 3),
            "input_size",
            5,
            r"input_size of FCLayer is fixed when it is created: create another one, FCLayer\(",
        ),
        (lambda: FCLayer(2, 3), "initializer", "zeros", "fixed when it is created"),
        (lambda: ConvLayer((4, 4, 1), (2, 2), 1), "stride", 2, "fixed when it is created"),
        (lambda: MaxPoolLayer(2), "window", 3, "fixed when it is created"),
        (lambda: ReshapeLayer((2, 2)), "shape", (4,), "fixed when it is created"),
        (lambda: ActivationLayer("tanh"), "activation", "relu", "fixed when it is created"),
        (lambda: ParallelLayer(FCLayer(2, 2)), "merge", "add", "fixed when it is created"),
        (lambda: portnn.GroupNormLayer(2), "groups", 3, "fixed when it is created"),
        (lambda: portnn.UpsampleLayer(2), "factor", 3, "fixed when it is created"),
        (lambda: DropoutLayer(0.5), "rate", 1.5, r"rate must be in \[0, 1\)"),
        (lambda: DropoutLayer(0.5), "rate", "no", "rate must be a number"),
        (lambda: BatchNormLayer(), "momentum", np.nan, "momentum must be finite"),
        (lambda: BatchNormLayer(), "epsilon", -1, "epsilon must be more than 0"),
        (lambda: ScaleLayer(2.0), "factor", [1, 2], "factor must be a number"),
        (lambda: ScaleLayer(2.0), "offset", "1", "offset must be a number"),
    ],
)
def test_settings_of_layers_are_checked_or_fixed(make, name, value, words):
    layer = make()
    before = dict(vars(layer))
    with pytest.raises((ValueError, TypeError), match=words):
        setattr(layer, name, value)
    assert vars(layer) == before


def test_settings_that_are_numbers_of_numpys_promote_nothing():
    layers = [ScaleLayer(1.0), DropoutLayer(0.5), BatchNormLayer()]
    layers[0].factor, layers[0].offset = np.float64(2.0), np.float64(1.0)
    layers[1].rate, layers[2].momentum, layers[2].epsilon = np.float64(0.25), np.float64(0.3), np.float64(1e-3)
    net = Network([*layers, FCLayer(4, 2)], seed=0)
    net.use("mse")
    net.fit(np.ones((6, 4)), np.ones((6, 2)), epochs=1, learning_rate=0.1, batch_size=3, verbose=0)
    assert {a.dtype for a in leaves(net).values()} == {np.dtype(np.float32)}
    assert net.predict(np.ones((2, 4))).dtype == np.float32
    assert type(layers[1].rate) is float
