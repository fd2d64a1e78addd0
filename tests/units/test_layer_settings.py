"""Misspelled attributes of layers, and assigning parameters that do not exist yet."""

import numpy as np
import pytest

from portnn import BatchNormLayer, DropoutLayer, FCLayer, GroupNormLayer, Layer, Network, ParallelLayer, ResidualLayer

X = np.random.default_rng(0).standard_normal((8, 4))


class Gain(Layer):
    def __init__(self):
        self.parameters["gain"] = np.ones(4)

    def forward(self, X):
        return X * self.parameters["gain"]

    def backward(self, output_error):
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=0)
        return output_error * self.parameters["gain"]


def fit(net, **options):
    net.use("mse")
    net.fit(X, np.ones(net.predict(X).shape), epochs=1, learning_rate=0.1, batch_size=4, verbose=0, **options)


@pytest.mark.parametrize(
    ("make", "name", "meant"),
    [
        (lambda: FCLayer(4, 4), "trainble", "trainable"),
        (lambda: FCLayer(4, 4), "Trainable", "trainable"),
        (lambda: FCLayer(4, 4), "requires_grad", "trainable"),
        (lambda: FCLayer(4, 4), "frozen", "trainable"),
        (lambda: FCLayer(4, 4), "weight", "weights"),
        (lambda: FCLayer(4, 4), "initialiser", "initializer"),
        (lambda: DropoutLayer(0.5), "p", "rate"),
        (BatchNormLayer, "momentm", "momentum"),
        (BatchNormLayer, "eps", "epsilon"),
        (Gain, "trainble", "trainable"),
        (Gain, "trianable", "trainable"),
    ],
)
def test_a_misspelt_setting_of_a_layer_is_an_error_before_training(make, name, meant):
    for within in (lambda layer: layer, ResidualLayer):
        layer = make()
        setattr(layer, name, False)
        net = Network([FCLayer(4, 4), within(layer)], seed=0)
        with pytest.raises(ValueError, match=rf"has no setting '{name}'; did you mean '{meant}'\?"):
            fit(net)
        assert net.step == 0
        delattr(layer, name)
        fit(net)


def test_other_attributes_are_free():
    for make in (lambda: FCLayer(4, 4), DropoutLayer, BatchNormLayer, Gain):
        layer = make(0.5) if make is DropoutLayer else make()
        layer.name, layer.tag, layer.trained, layer._trainble = "encoder", 3, True, False
        fit(Network([FCLayer(4, 4), layer], seed=0))


def test_a_users_layer_may_name_its_own_attributes():
    layer = Gain()
    layer.weight, layer.frozen, layer.p, layer.training, layer.trained = 1, False, 2, True, True
    fit(Network([layer], seed=0))


# -- parameters that are created on the first batch -----------------------------------------------------------------------


@pytest.mark.parametrize("norm", [BatchNormLayer, lambda: GroupNormLayer(2)])
def test_parameters_of_a_layer_that_is_not_built_can_be_set_by_path(norm):
    trained = Network([norm(), FCLayer(4, 3)], seed=0)
    fit(trained)
    for set_all in (lambda net, arrays: net.parameters.update(arrays), one_by_one):
        net = Network([norm(), FCLayer(4, 3)], seed=5)
        set_all(net, trained.parameters.copy())
        x = X[:1]  # the running statistics are buffers, not parameters
        if norm is BatchNormLayer:
            trained.layers[0].buffers.update({"running_mean": np.zeros(4, "f4"), "running_var": np.ones(4, "f4")})
        assert np.array_equal(net.predict(x), trained.predict(x))
        assert list(net.parameters) == list(trained.parameters)


def one_by_one(net, arrays):
    for path in reversed(arrays):
        net.parameters[path] = arrays[path].tolist()


def test_names_of_parameters_that_do_not_exist():
    with pytest.raises(ValueError, match=r"BatchNormLayer\(\) has no gamma, it has weights, bias"):
        BatchNormLayer().assign("gamma", np.ones(4))
    net = Network([BatchNormLayer(), FCLayer(4, 3)], seed=0)
    for act in (net.parameters.__setitem__, lambda path, array: net.parameters.update({path: array})):
        with pytest.raises(
            ValueError, match=r"'0.weight': did you mean '0.weights'\? Known: 1.weights, 1.bias, 0.weig"
        ):
            act("0.weight", np.ones(4))
    net.parameters["0.weights"] = np.ones(7)
    with pytest.raises(
        ValueError, match=r"BatchNormLayer\(\).weights has shape \(7,\), but for this data it must have \(4,\)"
    ):
        net.predict(X)


def test_an_update_that_fails_sets_nothing():
    net = Network([ParallelLayer([BatchNormLayer()], [FCLayer(4, 4)])], seed=0)
    before = net.parameters.copy()
    wrong = {"0.0.0.weights": np.ones(4), "0.1.0.weights": np.ones((4, 4)), "0.1.0.bias": np.ones(7)}
    with pytest.raises(ValueError, match=r"bias has shape \(1, 4\), got an array of shape \(7,\)"):
        net.parameters.update(wrong)
    assert list(net.parameters) == list(before)
    assert all(np.array_equal(net.parameters[path], array) for path, array in before.items())
