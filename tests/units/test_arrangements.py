"""Layers that go from one network to another, that are out for a while, or are copied before they have run."""

import copy
import pickle

import array_api_strict
import numpy as np
import pytest

from portnn import (
    ActivationLayer,
    Adam,
    Callback,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ScaleLayer,
    SequentialLayer,
    get_backend,
)
from portnn.layers.layer import Layer as Base

rng = np.random.default_rng(0)
X = rng.standard_normal((32, 4)).astype(np.float32)
Y = rng.standard_normal((32, 2)).astype(np.float32)
TWICE = "already in a network"
COPIES = [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))]
copies = pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "copy", "pickle"])


def network(*layers, dtype="float32", trained=True):
    net = Network(layers or [FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1, dtype=dtype)
    net.use("mse", optimizer=Adam(0.01))
    if trained:
        fit(net)
    return net


def fit(net, epochs=2):
    return net.fit(X, Y, epochs=epochs, batch_size=8, verbose=0)


def same(a, b):
    return a.parameters.keys() == b.parameters.keys() and all(
        np.array_equal(a.parameters[path], b.parameters[path]) for path in a.parameters
    )


# -- one layer, two networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [False, True])
def test_a_layer_that_went_to_another_network_is_not_used_here_too(inner):
    net = network(SequentialLayer(FCLayer(4, 4), FCLayer(4, 4)), FCLayer(4, 2)) if inner else network()
    home = net.layers[0].layers if inner else net.layers
    head = home.pop()
    other = Network([FCLayer(4, head.input_size)], seed=3, dtype="float64")
    other.add(head)
    home.append(head)
    calls = [lambda: net.predict(X), lambda: fit(net), lambda: net.add(ScaleLayer(1.0)), lambda: net.use("mae")]
    for call in calls:
        with pytest.raises(ValueError, match=TWICE):
            call()
    assert other.predict(X).dtype == np.float64
    other.layers.remove(head)  # given back, it is built for this network once more
    assert net.predict(X).dtype == np.float32
    assert {array.dtype.name for array in net.parameters.values()} == {"float32"}
    fit(net)
    assert {array.dtype.name for array in net.slots["mean"].values()} == {"float32"}


class Fails(Layer):
    def build(self, *given):
        raise ValueError("no")

    def forward(self, X):
        return X

    def backward(self, output_error):
        return output_error


def test_a_failed_add_leaves_the_layer_as_it_was():
    net, untouched = network(), network()
    head = net.layers.pop()
    other = Network([FCLayer(4, 5)], dtype="float64")
    with pytest.raises(ValueError, match="no"):
        other.add(SequentialLayer(head, Fails()))
    net.layers.append(head)
    assert np.array_equal(net.predict(X), untouched.predict(X))
    assert np.array_equal(net.slots["mean"]["2.weights"], untouched.slots["mean"]["2.weights"])
    fit(net)
    fit(untouched)
    assert same(net, untouched)


def test_a_failed_arrangement_draws_nothing():
    net = network()
    new = FCLayer(4, 4)
    net.layers[:] = [new, net.layers[0], Fails()]
    with pytest.raises(ValueError, match="no"):
        net.predict(X)
    net.layers[:] = [ScaleLayer(1.0), new, FCLayer(4, 2)]
    net.predict(X)
    assert same(net, Network([ScaleLayer(1.0), FCLayer(4, 4), FCLayer(4, 2)], seed=1))


# -- out for a while ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arranged", [False, True])
def test_use_begins_afresh_for_a_layer_that_was_out(arranged):
    net = network()
    expected = copy.deepcopy(net)
    head = net.layers.pop()
    if arranged:
        net.predict(X)
    net.use("mse", optimizer=Adam(0.01))
    net.layers.append(head)
    expected.use("mse", optimizer=Adam(0.01))
    fit(net)
    fit(expected)
    assert same(net, expected)


@pytest.mark.parametrize("arranged", [False, True])
def test_a_layer_that_was_out_follows_its_network_to_another_backend(arranged):
    net = network()
    expected, head = net.predict(X), net.layers.pop()
    if arranged:
        net.predict(X)
    net.to(get_backend(array_api_strict))
    net.layers.append(head)
    assert np.allclose(net.predict(X), expected, atol=1e-6)
    fit(net)
    assert {type(array).__name__ for array in (*net.parameters.values(), *net.slots["mean"].values())} == {"Array"}


# -- copied before it has run ------------------------------------------------------------------------------------------


@copies
def test_a_copy_of_a_network_with_a_new_head(copied):
    net = network()
    net.layers[-1] = FCLayer(5, 2)
    again = copied(net)
    assert np.array_equal(again.predict(X), net.predict(X))
    fit(net)
    fit(again)
    assert same(net, again)


@copies
def test_a_copy_of_a_network_with_an_inserted_layer(copied):
    net = network(FCLayer(4, 5), DropoutLayer(0.5), FCLayer(5, 2))
    net.layers.insert(0, ScaleLayer(1.0))
    again = copied(net)
    fit(net)
    fit(again)
    assert same(net, again)


# -- all or nothing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_move_moves_nothing(call, monkeypatch):
    net = network()
    expected, calls, bound = net.predict(X), [], Base._bound

    def interrupted(layer, backend):
        calls.append(layer)
        if len(calls) == call:
            raise KeyboardInterrupt
        return bound(layer, backend)

    monkeypatch.setattr(Base, "_bound", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.to(get_backend(array_api_strict))
    monkeypatch.undo()
    assert {layer.backend.name for layer in net.walk()} == {net.backend.name} == {"cpu"}
    assert np.allclose(net.predict(X), expected, atol=1e-6)
    fit(net)


def test_use_and_to_set_everything_by_one_call(monkeypatch):
    """A signal's handler runs between two instructions of Python, so all of a change is one call into C."""
    net = network()
    sizes = []

    monkeypatch.setattr("portnn.network.set_all", lambda bindings: sizes.append(len(bindings)))
    net.use("mse", optimizer=Adam(0.01))
    assert sizes == [3 * 3 + 9]


# -- memory order of what users' code returns --------------------------------------------------------------------------

ORDERS = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "misaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


def trained_with(order):
    class Own(Layer):
        def forward(self, X):
            return order(2.0 * X)

        def backward(self, output_error):
            return order(2.0 * output_error)

    class Puts(Callback):
        def on_epoch_end(self, network, epoch, logs):
            home = network.layers[0].parameters
            home["weights"] = order(home["weights"] * 1.0)

    f = ActivationLayer(lambda x: order(x * x), lambda x: order(2.0 * x))
    net = Network([FCLayer(4, 33), Own(), f, FCLayer(33, 17), ActivationLayer("tanh"), FCLayer(17, 2)], seed=0)
    loss = lambda t, p: ((p - t) ** 2).mean()  # noqa: E731
    net.use(loss, lambda t, p: order(2.0 * (p - t) / p.size), optimizer=Adam(0.01, clip_norm=0.1))
    net.fit(X, Y, epochs=3, batch_size=16, verbose=0, callbacks=[Puts()])
    return net


@pytest.mark.parametrize("order", ORDERS)
def test_bits_do_not_depend_on_the_order_in_which_users_code_returns_arrays(order):
    assert same(trained_with(ORDERS[order]), trained_with(lambda a: a))


# -- a layer's own doors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: FCLayer(4, 4), FlattenLayer, lambda: DropoutLayer(0.0), SequentialLayer])
def test_a_layer_called_by_itself_shares_no_memory_with_its_caller(make):
    layer, reference = make(), make()
    given, D = np.ones((1, 4), np.float32), np.ones((1, 4), np.float32)
    for each in (layer, reference):
        each.build((4,), get_backend("cpu"), "float32", 0, "")
    Y = layer(given)
    Y[...] = 7.0
    assert np.array_equal(given, np.ones((1, 4)))
    layer.forward_propagation(given)
    given[...] = 9.0  # backward needs X as it was
    dX = layer.backward_propagation(D)
    reference.forward_propagation(np.ones((1, 4), np.float32))
    reference.backward_propagation(np.ones((1, 4), np.float32))
    dX[...] = 5.0
    assert np.array_equal(D, np.ones((1, 4)))
    D[...] = 99.0
    for name, gradient in reference.gradients.items():
        assert np.array_equal(layer.gradients[name], gradient)


@pytest.mark.parametrize("layer", [ConvLayer((5, 5, 1), (3, 3), 2), MaxPoolLayer((2, 2)), MaxPoolLayer((2,))], ids=repr)
def test_a_sample_without_its_batch_axis_at_a_layers_door(layer):
    sample = np.ones((5, 5, 1) if "(2,)" not in repr(layer) else (5, 1), np.float32)
    for call in (layer, layer.forward_propagation):
        with pytest.raises(ValueError, match=r"without a batch axis: give X\[None\]"):
            call(sample)
    assert layer(sample[None]).shape[0] == 1


class Spoils(Callback):
    def __init__(self, name, value):
        self.name, self.value = name, value

    def on_step_end(self, network, step):
        if self.value is None:
            del network.layers[0].parameters[self.name]
        else:
            network.layers[0].parameters[self.name] = self.value


@pytest.mark.parametrize(
    "value", [None, [[1.0] * 5], np.ones((1, 5)), np.ones((1, 4), np.float32)], ids=["none", "list", "float64", "short"]
)
def test_what_a_callback_puts_into_a_layer_must_fit(value):
    net = network(trained=False)
    with pytest.raises((TypeError, ValueError), match=r"FCLayer\(4, 5\).*bias"):
        net.fit(X, Y, epochs=1, batch_size=8, verbose=0, callbacks=[Spoils("bias", value)])
