"""A network's layers and parameters, and errors during a step."""

import copy
import os
import pickle
import signal

import array_api_strict
import numpy as np
import pytest

from array_libraries import strict_backend
from portnn import SGD, ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Layer, Network, get_backend
from regressions import regression, same, weights

# -- layers, parameters ------------------------------------------------------------------------------------------------


def test_layers_given_at_once_are_layers_added_in_turn():
    layers = [FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)]
    at_once = Network(layers, seed=5)
    in_turn = Network(seed=5)
    for layer in (FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)):
        in_turn.add(layer)
    assert at_once.layers == layers
    assert same(weights(at_once), weights(in_turn))
    assert list(at_once.parameters) == ["0.weights", "0.bias", "2.weights", "2.bias"]


def test_weights_are_read_and_assigned():
    net, x, y = regression()
    given = np.arange(12.0).reshape(4, 3)
    net.layers[0].weights = given
    given[:] = 0  # assignment copies
    assert np.array_equal(net.layers[0].weights, np.arange(12.0).reshape(4, 3))
    assert net.layers[0].weights.dtype == np.float32
    assert net.parameters["0.weights"] is net.layers[0].weights
    net.layers[0].bias = [[1, 2, 3]]
    assert np.array_equal(net.layers[0].bias, [[1, 2, 3]])
    net.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
    assert net.gradients["0.bias"].shape == (1, 3)


def test_weights_assigned_before_the_layer_is_added_are_kept():
    layer = FCLayer(2, 1)
    layer.weights = [[1.0], [2.0]]
    net = Network([layer])
    assert np.array_equal(net.layers[0].weights, [[1.0], [2.0]])
    assert np.array_equal(net.layers[0].bias, [[0.0]])


def test_a_layer_alone_uses_what_it_is_given():
    x = array_api_strict.asarray([[1.0, 2.0]], dtype=array_api_strict.float64)
    layer = FCLayer(2, 3)
    assert layer(x).dtype == array_api_strict.float64
    assert np.asarray(FCLayer(2, 3)([[1.0, 2.0]])).shape == (1, 3)
    assert FCLayer(2, 3)(np.ones(2, np.float32)).shape == (3,)


def test_forward_and_backward_propagation_of_our_layers():
    layer = FCLayer(2, 1)
    layer.weights, layer.bias = [[1.0], [2.0]], [[0.5]]
    X = np.array([[3.0, 4.0]])
    assert layer.forward_propagation(X) == np.array([[11.5]])
    assert np.array_equal(layer.input, X)
    assert layer.output == np.array([[11.5]])
    assert np.array_equal(layer.backward_propagation(np.array([[2.0]]), 0.1), [[2.0, 4.0]])
    assert np.allclose(layer.weights, [[1.0 - 0.6], [2.0 - 0.8]])
    assert np.allclose(layer.bias, [[0.3]])
    assert layer.step == 1


def test_a_network_can_be_copied_and_pickled():
    net, x, y = regression()
    net.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(copied.predict(x), net.predict(x))
        copied.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
        assert not same(weights(copied), weights(net))


# -- errors during a step ----------------------------------------------------------------------------------------------


class Fails(FCLayer):
    """Raises an error, or sends Ctrl-C, in the backward pass of step ``at``."""

    at, how, count = 3, "raise", 0

    def backward(self, output_error, *, need_input_error=True):
        if self.count == self.at:
            if self.how == "raise":
                raise RuntimeError("planted")
            os.kill(os.getpid(), signal.SIGINT)
        self.count += 1
        return super().backward(output_error, need_input_error=need_input_error)


@pytest.mark.parametrize(("how", "error", "steps"), [("raise", RuntimeError, 3), ("interrupt", KeyboardInterrupt, 4)])
def test_a_step_is_made_whole_or_not_at_all(how, error, steps):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 2))
    broken = Network([Fails(4, 3), FCLayer(3, 2)], seed=0)
    broken.layers[0].how = how
    broken.use("mse", optimizer=SGD(0.1, momentum=0.9))
    with pytest.raises(error):
        broken.fit(x, y, epochs=1, verbose=0)
    whole = Network([FCLayer(4, 3), FCLayer(3, 2)], seed=0)
    whole.use("mse", optimizer=SGD(0.1, momentum=0.9))
    whole.fit(x[:steps], y[:steps], epochs=1, verbose=0)
    assert broken.step == steps
    assert same(weights(broken), weights(whole))
    assert same(broken.slots["velocity"], whole.slots["velocity"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_training_that_runs_away_says_when():
    net, x, y = regression()
    with (
        np.errstate(all="ignore"),
        pytest.raises(RuntimeError, match=r"error became (nan|inf) in epoch \d+, at step \d+ of 10"),
    ):
        net.fit(x, y, epochs=50, learning_rate=100.0, verbose=0)


def test_the_first_bad_step_is_the_one_named():
    net = Network([FCLayer(4, 2)], seed=0)
    net.use("mse")
    x = np.ones((10, 4))
    x[6, 0] = 1e38  # its square overflows float32
    with np.errstate(all="ignore"), pytest.raises(RuntimeError, match="at step 7 of 10"):
        net.fit(x, np.ones((10, 2)), epochs=1, learning_rate=0.0, verbose=0)
    with np.errstate(all="ignore"):
        history = net.fit(x, np.ones((10, 2)), epochs=1, learning_rate=0.0, verbose=0, check_finite=False)
    assert not np.isfinite(history["error"][0])


def test_shapes_that_only_the_data_can_tell():
    Network([FCLayer(4, 2), FlattenLayer(), FCLayer(10, 3)]).predict(np.ones((2, 5, 4)))
    Network([FCLayer(1, 3), ConvLayer((10, 10, 3), (3, 3), 2)]).predict(np.ones((2, 10, 10, 1)))
    with pytest.raises(ValueError, match=r"layer 2: FCLayer\(4, 1\) takes 4 values"):
        Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(4, 1)])


def test_a_device_without_float64():
    backend = get_backend(array_api_strict, device=array_api_strict.Device("no_float64"))
    net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], backend=backend, seed=0)
    net.use("mse", metrics=["accuracy"])
    assert np.isfinite(net.fit(np.eye(2), [[1.0], [0.0]], epochs=2, learning_rate=0.1, verbose=0)["error"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pytorch_tensors_run_the_same_layers(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x, y = rng.random((7, 5, 5, 1)), rng.random((7, 1))
    nets = []
    for backend in (get_backend(torch), "cpu"):
        layers = [ConvLayer((5, 5, 1), (3, 3), 2), ActivationLayer("relu"), FlattenLayer(), FCLayer(18, 1)]
        net = Network([*layers, ActivationLayer("sigmoid")], backend=backend, seed=0, dtype=dtype)
        net.use("mse", optimizer=SGD(0.1, momentum=0.9))
        net.fit(x, y, epochs=3, batch_size=3, shuffle=True, verbose=0)
        nets.append(net)
    assert isinstance(nets[0].predict(torch.asarray(x)), torch.Tensor)
    assert np.allclose(nets[0].predict(x), nets[1].predict(x), rtol=1e-5 if dtype == "float32" else 1e-12)


class Both(Layer):
    """A user's composite layer: Y = F(X) + G(X), where G is a sequence of layers."""

    def __init__(self):
        self.layers = [FCLayer(4, 3), [FCLayer(4, 2), ActivationLayer("tanh"), FCLayer(2, 3)]]

    def forward(self, X, *, training=False):
        straight, branch = self.layers
        Y = X
        for layer in branch:
            Y = layer.forward_propagation(Y) if training else layer(Y)
        return (straight.forward_propagation(X) if training else straight(X)) + Y

    def backward(self, output_error, *, need_input_error=True):
        straight, branch = self.layers
        D = output_error
        for layer in reversed(branch):
            D = layer.backward_propagation(D)
        return straight.backward_propagation(output_error) + D


def test_a_layer_of_layers():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)), rng.standard_normal((12, 3))
    results = []
    for backend in ("cpu", strict_backend()):
        net = Network([ActivationLayer("tanh"), Both()], backend=backend, dtype="float64", seed=0)
        net.use("mse", optimizer=SGD(0.1, momentum=0.9))
        errors = net.fit(x, y, epochs=30, batch_size=4, verbose=0)["error"]
        assert errors[-1] < 0.7 * errors[0]
        results.append(net.predict(x))
    assert list(net.parameters) == [f"1.{path}.{name}" for path in ("0", "1.0", "1.2") for name in ("weights", "bias")]
    assert np.allclose(*results, rtol=1e-11)
    assert np.allclose(net.to("cpu").predict(x), results[0], rtol=1e-11)


@pytest.mark.parametrize("metrics", [[], ["accuracy"], [lambda y_true, y_pred: y_pred[:, 0, 0]]])
def test_samples_of_one_row_learn_as_flat_ones_and_keep_their_shape_for_the_user(metrics):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    nets = []
    for shape in ((7, -1), (7, 1, -1)):
        net = Network([FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=0)
        net.use("mse", metrics=metrics if len(shape) == 3 else [])
        net.fit(x.reshape(shape), y.reshape(shape), epochs=3, learning_rate=0.1, batch_size=3, verbose=0)
        nets.append(net)
    assert same(weights(nets[0]), weights(nets[1]))
    assert nets[1].predict(x.reshape(7, 1, 4)).shape == (7, 1, 2)
