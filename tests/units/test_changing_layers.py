"""Adding, removing and moving layers: slots and counts move with their layer, and new layers start without any."""

import copy

import numpy as np
import pytest

from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    DropoutLayer,
    FCLayer,
    Layer,
    Network,
    ParallelLayer,
    ResidualLayer,
    ScaleLayer,
)
from states import lenet, trained


def test_a_new_head_of_another_size_gets_slots_of_its_own():
    net, x = trained(FCLayer(20, 8), FCLayer(8, 1))
    body = {name: np.array(a) for name, a in net.slots["mean"].items() if name.startswith("0")}
    net.layers.pop()
    net.add(FCLayer(8, 600))
    assert list(net.slots["mean"]) == ["0.weights", "0.bias"]
    assert all(np.array_equal(net.slots["mean"][name], a) for name, a in body.items())
    net.fit(x, np.ones((4, 600)), epochs=2, batch_size=2, verbose=0)
    assert net.slots["mean"]["1.weights"].shape == (8, 600)


def test_adam_counts_the_updates_of_each_parameter():
    class Constant(Layer):
        """dE/dw is always 1."""

        def __init__(self):
            self.parameters["w"] = np.zeros(3)

        def forward(self, X, *, training=False):
            return X

        def backward(self, output_error, *, need_input_error=True):
            self.gradients["w"] = self.parameters["w"] * 0.0 + 1.0
            return output_error

    old = Constant()
    net = Network([old], seed=0, dtype="float64")
    net.use("mse", optimizer=Adam(1e-2))
    x = np.ones((5, 3))
    net.fit(x, x, epochs=4, verbose=0)  # 20 updates
    new = Constant()
    net.add(new)
    net.fit(x, x, epochs=1, verbose=0)
    assert np.allclose(old.parameters["w"], -25e-2, rtol=1e-6)
    assert np.allclose(new.parameters["w"], -5e-2, rtol=1e-6)  # with t = 21 the first step would be 0.32 lr
    net.layers.reverse()
    net.layers.append(Constant())
    net.fit(x, x, epochs=1, verbose=0)
    assert np.allclose(old.parameters["w"], -30e-2, rtol=1e-6)
    assert np.allclose(new.parameters["w"], -10e-2, rtol=1e-6)
    taken = net.layers.pop(0)
    net.fit(x, x, epochs=1, verbose=0)
    net.layers.insert(0, taken)  # it missed five updates
    net.fit(x, x, epochs=1, verbose=0)
    assert np.allclose(taken.parameters["w"], -15e-2, rtol=1e-6)
    assert [layer.path for layer in net.layers] == ["0", "1", "2"]


class Sometimes(Layer):
    """Its parameter gets a gradient only in every other step."""

    def __init__(self):
        self.parameters["w"] = np.zeros(3)

    def forward(self, X, *, training=False):
        return X

    def backward(self, output_error, *, need_input_error=True):
        self.gradients = {} if self.step % 2 else {"w": self.parameters["w"] * 0.0 + 1.0}
        return output_error


def test_a_parameter_without_a_gradient_counts_no_update():
    net = Network([Sometimes(), FCLayer(3, 3)], seed=0, dtype="float64")
    net.use("mse", optimizer=Adam(1e-2))
    net.fit(np.ones((7, 3)), np.ones((7, 3)), epochs=3, verbose=0)  # 21 steps, of which 11 count
    assert np.allclose(net.layers[0].parameters["w"], -11e-2, rtol=1e-6)


def test_a_head_of_equal_shape_inherits_nothing():
    net, x = trained(FCLayer(20, 8), FCLayer(8, 1), optimizer=SGD(0.01, momentum=0.9))
    net.layers.pop()
    net.add(FCLayer(8, 1))
    fresh, before = net.layers[-1], np.array(net.layers[-1].weights)
    assert "1.weights" not in net.slots["velocity"]
    net.fit(x, np.ones((4, 1)), epochs=1, batch_size=4, verbose=0)
    assert np.allclose(fresh.weights, before - 0.01 * net.gradients["1.weights"], atol=1e-7)


def test_slots_travel_with_their_layer():
    net, x = trained(FCLayer(20, 20), ActivationLayer("tanh"), FCLayer(20, 20), FCLayer(20, 2))
    old = {path: np.array(a) for path, a in net.slots["mean"].items()}
    weights = {path: np.array(a) for path, a in net.parameters.items()}
    del net.layers[1]
    net.layers.insert(0, FCLayer(20, 20))
    net.layers[1:1] = [DropoutLayer(0.5)]
    net.add(ActivationLayer("tanh"))
    assert [layer.path for layer in net.layers] == ["0", "1", "2", "3", "4", "5"]
    now = net.slots["mean"]
    for there, here in (("0", "2"), ("2", "3"), ("3", "4")):
        for name in ("weights", "bias"):
            assert np.array_equal(now[f"{here}.{name}"], old[f"{there}.{name}"])
            assert np.array_equal(net.parameters[f"{here}.{name}"], weights[f"{there}.{name}"])
    assert not any(path.startswith("0") for path in now)
    net.fit(x, np.ones((4, 2)), epochs=1, verbose=0)
    assert set(net.slots["mean"]) == set(net.parameters)


def test_masks_follow_the_path():
    x = np.ones((3, 50))
    moved, made = Network([DropoutLayer(0.5)], seed=1), Network([ScaleLayer(1.0), DropoutLayer(0.5)], seed=1)
    moved.layers.insert(0, ScaleLayer(1.0))
    moved.predict(x)
    masks = [net.layers[1].forward_propagation(x.astype(np.float32)) for net in (moved, made)]
    assert np.array_equal(*masks)


def test_layers_in_layers_come_and_go_too():
    net, x = trained(
        ResidualLayer(FCLayer(20, 20), ActivationLayer("tanh")), ParallelLayer([FCLayer(20, 3)], FCLayer(20, 2))
    )
    inner = net.layers[0].layers[0]
    net.layers[0].layers[1] = ActivationLayer("relu")
    net.layers[1].layers[0].layers.append(FCLayer(3, 4))
    net.layers[1].layers[1] = FCLayer(20, 5)
    velocity = np.array(inner._slots_by_kind["mean"]["weights"])
    assert net.predict(x).shape == (4, 9)
    assert np.array_equal(net.slots["mean"]["0.0.weights"], velocity)
    assert {"1.0.1.weights", "1.1.bias"} <= set(net.parameters)
    net.fit(x, np.ones((4, 9)), epochs=1, verbose=0)
    assert net.slots["mean"]["1.1.weights"].shape == (20, 5)


def test_a_network_of_trained_layers():
    old, x = trained(FCLayer(20, 8), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(8, 1))
    with pytest.raises(ValueError, match=r"already in a network.*copy\.deepcopy\(layer\)"):
        Network([*old.layers[:-1], FCLayer(8, 4)])
    new = Network([*copy.deepcopy(old.layers[:-1]), FCLayer(8, 4)], seed=5)
    for path in ("0.weights", "0.bias", "1.weights", "1.bias"):
        assert np.array_equal(new.parameters[path], old.parameters[path])
    assert np.array_equal(new.layers[1].buffers["running_var"], old.layers[1].buffers["running_var"])
    new.use("mse", optimizer=Adam())
    assert new.slots == {}
    new.fit(x, np.ones((4, 4)), epochs=1, batch_size=4, verbose=0)
    assert old.predict(x).shape == (4, 1)
    moved = old.layers.pop()
    other = Network([FCLayer(20, 8)], seed=2)
    other.add(moved)
    other.use("mse", optimizer=Adam())
    other.fit(x, np.ones((4, 1)), epochs=1, verbose=0)
    assert old.predict(x).shape == (4, 8)
    other.fit(x, np.ones((4, 1)), epochs=1, verbose=0)
    assert other.slots["mean"]["1.weights"].shape == (8, 1)


def test_what_does_not_fit_changes_nothing():
    net, x = trained(FCLayer(20, 8), FCLayer(8, 1))
    head = net.layers[1]
    for wrong, words in (
        (FCLayer(9, 1), "takes 9 values"),
        (net.layers[0], "is used twice"),
        (3, "must hold layers|got 3"),
    ):
        net.layers[1] = wrong
        for call in (
            lambda: net.predict(x),
            lambda: net.fit(x, x[:, :1], epochs=1, verbose=0),
            lambda: net.add(FCLayer(1, 1)),
        ):
            with pytest.raises((ValueError, TypeError), match=words):
                call()
        net.layers[1] = head
        assert net.predict(x).shape == (4, 1)
        assert set(net.slots["mean"]) == set(net.parameters)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layer: layer.parameters.update(weights=np.zeros((3, 3, 1, 6), np.float32)), "weights has shape"),
        (lambda layer: layer.parameters.update(weights=layer.weights.astype(np.float64)), "dtype float64"),
        (lambda layer: layer.parameters.update(bias=[0.0] * 8), "is a list"),
        (
            lambda layer: layer.parameters.update(bias=np.zeros(3, np.float32)),
            r"bias has shape \(3,\), expected \(8,\)",
        ),
        (lambda layer: layer.parameters.pop("bias"), "has lost its bias"),
    ],
)
def test_a_parameter_of_the_wrong_kind_is_refused_before_it_is_read(change, words):
    net = Network(lenet(), seed=0)
    net.use("mse")
    x = np.ones((64, 12, 12, 1), np.float32)
    net.predict(x)
    change(net.layers[3])
    for call in (
        lambda: net.predict(x),
        lambda: net.evaluate(x, np.ones((64, 3))),
        lambda: net.fit(x, np.ones((64, 3)), epochs=1, learning_rate=0.1, verbose=0),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_slots_and_buffers_of_the_wrong_kind_are_refused():
    net, x = trained(FCLayer(20, 8), BatchNormLayer(), FCLayer(8, 1))
    net.layers[0]._slots_by_kind["mean"]["weights"] = np.zeros(20, np.float32)
    with pytest.raises(ValueError, match=r"mean of 0\.weights is float32 of shape \(20,\).*use"):
        net.fit(x, x[:, :1], epochs=1, batch_size=2, verbose=0)
    with pytest.raises(ValueError, match=r"square of 0\.bias has shape \(1, 8\), got an array of shape \(3,\)"):
        net.slots["square"]["0.bias"] = np.zeros(3)
    net.slots["square"]["0.bias"] = np.ones((1, 8))
    assert net.layers[0]._slots_by_kind["square"]["bias"].dtype == np.float32
    net.layers[1].buffers["running_mean"] = np.zeros(8)
    with pytest.raises(TypeError, match=r"running_mean is a ndarray of dtype float64"):
        net.predict(x)
