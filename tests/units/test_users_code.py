"""Users' layers, functions and optimizers that keep, reuse or modify their arguments or arrays that portnn returned."""

import copy
import pickle
import threading
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import portnn
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    SoftmaxLayer,
    activations,
    gradcheck,
)
from portnn.backend import in_order

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((16, 3)).astype(np.float32)


def trained(layers, optimizer=None, epochs=4, kernels="auto", **options):
    net = Network(layers, seed=2, kernels=kernels, **options)
    net.use("mse", optimizer=optimizer or Adam(0.01))
    net.fit(X, Y, epochs=epochs, batch_size=4, verbose=0)
    return net


# -- derived classes, and outputs that are modified --------------------------------------------------------------------


def doubled(layer):
    class Doubled(layer):
        """Returns -2 times the layer's output."""

        def forward(self, X, *, training=False):
            given = {"training": training} if layer._trains else {}
            return -2.0 * super().forward(X, **given)

        def backward(self, output_error):
            return super().backward(-2.0 * output_error)

    return Doubled


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "gelu"])
def test_an_activation_layer_whose_output_is_changed_by_a_derived_class(name):
    assert gradcheck(doubled(ActivationLayer)(name), input_shape=(5,)).passed


def test_other_layers_whose_output_is_changed_by_a_derived_class():
    assert gradcheck(doubled(SoftmaxLayer)(), input_shape=(5,)).passed
    assert gradcheck(doubled(MaxPoolLayer)(2), input_shape=(4, 4, 2)).passed


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_a_straight_through_estimator_learns_with_fast_kernels_too(name):
    class Sign(ActivationLayer):
        def forward(self, X):
            return self.xp.sign(super().forward(X))

    auto, portable = (
        trained([FCLayer(8, 6), Sign(name), FCLayer(6, 3)], kernels=kernels) for kernels in ("auto", "portable")
    )
    for path in auto.parameters:
        assert np.allclose(auto.parameters[path], portable.parameters[path], rtol=1e-4, atol=1e-6), path


class AddsInPlace(Layer):
    """A residual layer that adds to its child's output in place."""

    def __init__(self, child):
        self.layers = [child]

    def forward(self, X, *, training=False):
        child = self.layers[0]
        Y = child.forward_propagation(X) if training else child(X)
        Y += X
        return Y

    def backward(self, output_error):
        return output_error + self.layers[0].backward_propagation(output_error)


@pytest.mark.parametrize("child", [ActivationLayer("tanh"), SoftmaxLayer(), FCLayer(8, 8)], ids=repr)
def test_a_composite_that_writes_into_what_its_child_returned(child):
    assert gradcheck(AddsInPlace(copy.deepcopy(child)), input_shape=(8,)).passed
    auto, portable = (
        trained([AddsInPlace(copy.deepcopy(child)), FCLayer(8, 3)], kernels=kernels) for kernels in ("auto", "portable")
    )
    assert np.allclose(auto.predict(X), portable.predict(X), rtol=1e-4, atol=1e-5)


def test_an_activation_that_is_neither_hashable_nor_comparable():
    @dataclass
    class Swish:
        beta: float = 1.0

        def __call__(self, x):
            return x * activations.sigmoid(self.beta * x)

        def prime(self, x):
            s = activations.sigmoid(self.beta * x)
            return s + self.beta * x * s * (1.0 - s)

    assert np.isfinite(trained([FCLayer(8, 5), ActivationLayer(Swish()), FCLayer(5, 3)]).history["error"]).all()


# -- reused buffers, and arrays that are overwritten -------------------------------------------------------------------


class Reuses(Layer):
    """Writes the outputs of all batches into the same buffer."""

    def forward(self, X):
        if not hasattr(self, "buffer"):
            self.buffer = np.empty((64, X.shape[1]), X.dtype)
        return np.maximum(X, 0.0, out=self.buffer[: X.shape[0]])

    def backward(self, output_error):
        return output_error * (self.input > 0)


class ArticleReuses(Layer):
    out = np.empty((1, 8), np.float32)

    def forward_propagation(self, input):
        return np.multiply(input, 2.0, out=self.out)

    def backward_propagation(self, output_error, learning_rate):
        return 2.0 * output_error


@pytest.mark.parametrize(
    ("layer", "expected"), [(Reuses(), np.maximum(X, 0.0)), (ArticleReuses(), 2 * X)], ids=["ours", "article"]
)
def test_a_layer_that_returns_the_same_array_each_time(layer, expected):
    net = Network([layer], seed=0)
    assert np.array_equal(net.predict(X, batch_size=4), expected)
    assert np.array_equal(net.predict(X), expected)


class WritesIntoInput(Layer):
    def forward(self, X):
        return X * 1.0

    def backward(self, output_error):
        np.multiply(self.input, 0.0, out=self.input)
        np.multiply(self.output, 0.0, out=self.output)
        return output_error


class Passes(Layer):
    def forward(self, X):
        return X * 1.0

    def backward(self, output_error):
        return output_error


def test_a_backward_that_writes_into_what_it_was_given():
    x, results = X.copy(), []
    for layer in (WritesIntoInput, Passes):
        net = Network([layer(), FCLayer(8, 5), ActivationLayer("sigmoid"), layer(), FCLayer(5, 3), layer()], seed=0)
        net.use("mse", optimizer=SGD(0.1), metrics=["accuracy"])
        results.append(net.fit(x, np.eye(3)[np.arange(16) % 3], epochs=3, batch_size=8, verbose=0))
    assert results[0] == results[1]
    assert np.array_equal(x, X)


class InPlace:
    """A user's optimizer that updates its arguments in place."""

    def slots(self, parameters):
        return {"velocity": [0.0 * w for w in parameters]}

    def hyper(self, step):
        return (0.1,)

    def update(self, parameters, gradients, slots, hyper):
        for w, g, v in zip(parameters, gradients, slots["velocity"], strict=True):
            v *= 0.9
            v += g
            w -= hyper[0] * v
        return parameters, slots


def test_an_optimizer_that_updates_in_place_leaves_whole_steps():
    net, seen = trained([FCLayer(8, 3)], InPlace(), epochs=0 + 1), []
    before = net.parameters.copy()

    def fails(y_true, y_pred):
        seen.append(0)
        if len(seen) == 3:
            raise RuntimeError("in the third step")
        return y_pred[:, 0]

    net.use("mse", optimizer=InPlace(), metrics=[fails])
    started = {path: w.copy() for path, w in before.items()}
    with pytest.raises(RuntimeError, match="in the third step"):
        net.fit(X, Y, epochs=1, batch_size=4, verbose=0)
    assert net.step == 2
    assert all(
        np.array_equal(before[path], started[path]) for path in before
    )  # arrays that were read before do not change
    other = Network([FCLayer(8, 3)], seed=5)
    other.predict(X[:1])
    other.parameters.update(started)
    other.use("mse", optimizer=InPlace())
    other.fit(X[:8], Y[:8], epochs=1, batch_size=4, verbose=0)
    assert all(np.array_equal(net.parameters[path], other.parameters[path]) for path in before)


# -- layers used directly ----------------------------------------------------------------------------------------------


def test_a_layer_is_not_run_beside_a_fit_of_its_network():
    inside, done = threading.Event(), threading.Event()

    class Waits(Passes):
        def backward(self, output_error):
            inside.set()
            done.wait(5)
            return output_error

    net = Network([FCLayer(8, 3), Waits()], seed=0)
    net.use("mse", optimizer=SGD(0.1))
    thread = threading.Thread(target=net.fit, args=(X, Y, 1), kwargs={"batch_size": 16, "verbose": 0})
    thread.start()
    try:
        assert inside.wait(5)
        with pytest.raises(RuntimeError, match="running a layer while another thread is in fit"):
            net.layers[0](X)
    finally:
        done.set()
        thread.join()
    assert net.layers[0](X).shape == (16, 3)


def test_a_layer_called_directly_is_checked():
    layer = FCLayer(8, 3)
    layer(X)
    layer.parameters["bias"] = np.zeros((5, 1), np.float32)
    for call in (layer, layer.forward_propagation):
        with pytest.raises(ValueError, match=r"FCLayer\(8, 3\)\.bias has shape \(5, 1\), expected \(1, 3\)"):
            call(X)
    layer.parameters["bias"] = None
    with pytest.raises(TypeError, match="bias is a NoneType"):
        layer(X)
    norm = BatchNormLayer()
    net = trained([norm, FCLayer(8, 3)])
    del norm.buffers["running_var"]
    with pytest.raises(ValueError, match="has lost its running_var"):
        net.predict(X)


def test_a_masked_array_is_refused_by_a_layer_too():
    layer = FCLayer(8, 3)
    layer(X)
    for call in (layer, layer.forward_propagation):
        with pytest.raises(TypeError, match="masked"):
            call(np.ma.masked_less(X, 0.0))


def test_a_shallow_copy_of_a_layer_shares_nothing_that_training_changes():
    net = trained([FCLayer(8, 3)])
    before = net.predict(X)
    other = Network([copy.copy(net.layers[0])], dtype="float64", seed=0)
    other.use("mse", optimizer=SGD(0.5))
    other.fit(X, Y, epochs=2, verbose=0)
    assert np.array_equal(net.predict(X), before)


@pytest.mark.parametrize("state", [{"all": "raise"}, {"all": "warn"}])
def test_a_layer_of_a_network_called_directly_does_not_speak_of_underflow(state):
    net = Network([FCLayer(2, 2), ActivationLayer("tanh")], seed=0)
    net.layers[0].weights = np.full((2, 2), 1e-30)
    with np.errstate(**state):
        assert net.layers[0](np.full((1, 2), 1e-30, np.float32)).tolist() == [[0.0, 0.0]]
        assert FCLayer(2, 2)(np.full((1, 2), 3e38, np.float32)).shape == (1, 2)


def test_parameters_without_axes_stay_arrays():
    class Gain(Layer):
        def __init__(self):
            self.parameters["gain"] = np.array(1.0)

        def forward(self, X):
            return X * self.parameters["gain"]

        def backward(self, output_error):
            self.gradients["gain"] = self.xp.sum(output_error * self.input)
            return output_error * self.parameters["gain"]

    net = trained([Gain(), FCLayer(8, 3)])
    leaves = [net.layers[0].parameters["gain"], *(home["gain"] for home in net.layers[0]._slots_by_kind.values())]
    assert all(type(a) is np.ndarray and a.shape == () for a in leaves)
    assert type(in_order(np.float32(2.0))) is np.ndarray


# -- trained layers, and views of parameters ---------------------------------------------------------------------------


def test_frozen_layers_keep_their_values_in_a_network_of_trained_layers():
    frozen = FCLayer(8, 5)
    frozen.trainable = False
    net = trained([frozen, ActivationLayer("tanh"), FCLayer(5, 3)])
    for layers in (copy.deepcopy(net.layers), [portnn.ScaleLayer(1.0), *copy.deepcopy(net.layers)]):
        assert np.array_equal(Network(layers, seed=77).predict(X), net.predict(X))


def test_parameters_in_a_variable_are_always_those_of_now(tmp_path):
    net = trained([FCLayer(8, 3)])
    kept = net.parameters
    slots = net.slots["mean"]
    net.fit(X, Y, epochs=1, batch_size=4, verbose=0)
    for view, now in ((kept, net.parameters.copy()), (slots, net.slots["mean"].copy())):
        for made in (dict(view), {**view}, view | {}, {} | view, dict(view.items()), {k: view[k] for k in view}):
            assert made.keys() == now.keys()
            assert all(np.array_equal(made[path], now[path]) for path in now)
    np.savez(tmp_path / "weights.npz", **kept)
    assert np.array_equal(np.load(tmp_path / "weights.npz")["0.weights"], net.layers[0].weights)
    other = Network([FCLayer(8, 3)], seed=9)
    other.predict(X[:1])
    other.parameters.update(kept)
    assert np.array_equal(other.predict(X), net.predict(X))
    with pytest.raises(KeyError, match=r"there is no parameter '0\.weight': did you mean '0\.weights'"):
        kept["0.weight"]


def test_a_layer_whose_forward_was_replaced_is_not_fused():
    net = Network([FCLayer(8, 3), ActivationLayer("relu")], seed=0)
    net.layers[0].forward = lambda X: X[:, :3] * 2.0
    assert np.array_equal(net.predict(X), np.maximum(X[:, :3] * 2.0, 0.0))


def test_slots_that_are_no_arrays():
    net = trained([FCLayer(8, 3)])
    net.layers[0]._slots_by_kind["mean"]["weights"] = None
    with pytest.raises(TypeError, match=r"the optimizer's mean of 0\.weights is None, not an array"):
        net.fit(X, Y, epochs=1, verbose=0)


def test_lists_that_a_user_changes_himself():
    net = trained([FCLayer(8, 3)])
    with pytest.raises(AttributeError, match="append"):
        net.metrics.append("accuracy")
    net.layers.append("relu")
    with pytest.raises(TypeError, match="relu"):
        net.summary()
    net.layers.pop()
    net.layers = tuple(net.layers)
    with pytest.raises(TypeError, match=r"net\.layers must be a list"):
        net.add(FCLayer(3, 3))


def test_axes_may_be_numpys_numbers():
    a = np.random.default_rng(0).standard_normal((5, 90)).astype(np.float32)
    xp = portnn.get_backend("cpu").xp
    for axis in (np.int64(0), np.int32(1), np.uint8(1)):
        assert np.allclose(xp.sum(a, axis=axis), a.sum(axis=int(axis)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep", [lambda X: SimpleNamespace(X=X), lambda X: deque([X]), lambda X: {"all": [(X,)]}])
def test_a_batch_that_a_layer_keeps_in_a_container_is_in_no_pickle(keep):
    class Keeps(Layer):
        def forward(self, X, *, training=False):
            if training:
                self.kept = keep(X)
            return X

        def backward(self, output_error):
            return output_error

    net = trained([Keeps(), FCLayer(8, 3)])
    state = pickle.dumps([layer.__getstate__() for layer in net.layers[1:]]) + pickle.dumps(
        net.layers[0].__getstate__()["kept"]
    )
    assert X[12:16].tobytes() not in state


def test_copies_of_a_network_with_convolutions_hold_no_tables():
    net = Network([ConvLayer((6, 6, 1), (3, 3), 2), ActivationLayer("relu"), FlattenLayer(), FCLayer(32, 3)], seed=0)
    x = np.random.default_rng(0).standard_normal((4, 6, 6, 1))
    size = len(pickle.dumps(net))
    net.predict(x)
    assert len(pickle.dumps(net)) < size + 100
