"""A network's results depend on values alone, and its state is that of a whole step: whatever lies how, whoever asks when."""

import contextlib
import copy
import pickle
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from cases import LAYERS, OwnLayer
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    AvgPoolLayer,
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
    ScaleLayer,
)
from portnn.state import State


def leaves(net):
    """Every leaf by what it is, copied."""
    found = {f"parameter {path}": np.array(a) for path, a in net.parameters.items()}
    for layer in net.walk():
        found |= {f"buffer {layer.path}.{name}": np.array(a) for name, a in layer.buffers.items()}
    for kind, home in net.slots.items():
        found |= {f"{kind} {path}": np.array(a) for path, a in home.items()}
    return found


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def in_c_order(net):
    arrays = [*net.parameters.values(), *(a for layer in net.walk() for a in layer.buffers.values())]
    arrays += [a for home in net.slots.values() for a in home.values()]
    return all(a.flags.c_contiguous and a.flags.aligned for a in arrays)


# -- the order in memory ---------------------------------------------------------------------------------------------


def reversed_view(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def every_second(a):
    wide = np.zeros((2 * len(a), *a.shape[1:]), a.dtype)
    wide[::2] = a
    return wide[::2]


def batch_fastest(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    b = raw[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


def one_further(a):
    """Aligned as its dtype asks, but at no round address."""
    raw = np.zeros(a.size + 1, a.dtype)
    b = raw[1:].reshape(a.shape)
    b[...] = a
    return b


def other_bytes(a):
    return a.astype(a.dtype.newbyteorder())


class Subclass(np.ndarray):
    pass


ORDERS = [
    np.asfortranarray,
    reversed_view,
    every_second,
    batch_fastest,
    read_only,
    misaligned,
    one_further,
    other_bytes,
    lambda a: a.view(Subclass),
]
orders = pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)


def lenet():
    return [
        ConvLayer((12, 12, 1), (3, 3), 6, padding="same"),
        ActivationLayer("tanh"),
        AvgPoolLayer(2),
        ConvLayer((6, 6, 6), (3, 3), 8),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        FlattenLayer(),
        FCLayer(32, 40),
        ActivationLayer("tanh"),
        FCLayer(40, 3),
    ]


# Large enough for what is compiled, and what is fused, to be used.
NETWORKS = {
    "lenet": (lenet, (12, 12, 1)),
    "conv first, no bias": (
        lambda: [
            ConvLayer((9, 8, 3), (3, 2), 70, bias=False),
            ActivationLayer("tanh"),
            FlattenLayer(),
            FCLayer(3430, 3),
        ],
        (9, 8, 3),
    ),
    "groups": (
        lambda: [
            ConvLayer((8, 8, 4), (3, 3), 12, groups=2),
            ResidualLayer(BatchNormLayer()),
            FlattenLayer(),
            FCLayer(432, 3),
        ],
        (8, 8, 4),
    ),
    "activation first": (lambda: [ActivationLayer("tanh"), FlattenLayer(), FCLayer(144, 3)], (12, 12, 1)),
    "norms": (lambda: [BatchNormLayer(), ActivationLayer("relu"), FlattenLayer(), FCLayer(144, 3)], (12, 12, 1)),
    "mlp": (lambda: [FCLayer(300, 200), ActivationLayer("tanh"), FCLayer(200, 3)], (300,)),
}


@orders
@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_data_and_weights_changes_no_bit(name, order):
    make, sample = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, *sample)).astype(np.float32)
    y = rng.standard_normal((80, 3)).astype(np.float32)
    results = []
    for f in (np.array, order):
        net = Network(make(), seed=1)
        net.predict(x[:1])
        for path, array in net.parameters.items():
            net.parameters[path] = f(array.copy())
        net.use("mse", optimizer=Adam(1e-3))
        before = net.predict(f(x))
        history = net.fit(f(x), f(y), epochs=2, batch_size=32, verbose=0)
        assert in_c_order(net)
        for layer in net.walk():  # slots and parameters as a user may leave them
            for home in (layer.parameters, *layer._slots_by_kind.values()):
                home.update({key: f(a) for key, a in home.items()} if f is not other_bytes else {})
        history = [history["error"], net.fit(f(x), f(y), epochs=1, batch_size=32, verbose=0)["error"]]
        assert in_c_order(net)
        results.append((leaves(net), {"before": before, "after": net.predict(f(x))}, history, net.evaluate(f(x), f(y))))
    assert same(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])
    assert results[0][2:] == results[1][2:]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_the_order_of_data_changes_no_bit_of_any_layer(case):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, *case.sample)).astype(np.float32)
    results = []
    for f in (np.array, *ORDERS[:7]):
        layer = case.make()
        Y = layer.forward_propagation(f(X))
        D = np.random.default_rng(1).standard_normal(Y.shape).astype(np.float32)
        dX = layer.backward_propagation(f(D), 0.1)
        net = Network([case.make(), FlattenLayer(), FCLayer(int(np.prod(Y.shape[1:])), 2)], seed=3)
        net.use("mse", optimizer=SGD(0.01, momentum=0.9))
        net.fit(f(X), f(np.ones((6, 2))), epochs=2, batch_size=3, verbose=0)
        arrays = {"Y": Y, "dX": dX, "predict": net.predict(f(X)), "alone": layer(f(X)), **leaves(net)}
        for part in layer.walk():
            arrays |= {f"{part.path}.{name}": a for name, a in part.parameters.items()}
        results.append({name: np.array(a) for name, a in arrays.items()})
    for other in results[1:]:
        assert same(results[0], other)


class Turned(Layer):
    """A user's layer whose gradient, and whose own update, lie in Fortran order."""

    def __init__(self):
        self.parameters["w"] = np.ones((5, 4))

    def forward(self, X, *, training=False):
        if training:
            self.input = X
        return self.xp.matmul(X, self.parameters["w"])

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["w"] = np.asfortranarray(self.xp.matmul(self.input.T, output_error))
        return self.xp.matmul(output_error, self.parameters["w"].T)


class TurningOptimizer(SGD):
    def update(self, parameters, gradients, slots, hyper):
        new, slots = super().update(parameters, gradients, slots, hyper)
        return [np.asfortranarray(w) for w in new], {k: [np.asfortranarray(a) for a in s] for k, s in slots.items()}


@pytest.mark.parametrize("optimizer", [SGD(1e-3, momentum=0.9), Adam(), TurningOptimizer(1e-3, momentum=0.5)], ids=repr)
def test_leaves_lie_in_c_order_whoever_makes_them(optimizer):
    net = Network([Turned(), FCLayer(4, 3)], seed=0)
    net.use("mse", optimizer=optimizer)
    net.fit(np.ones((6, 5)), np.ones((6, 3)), epochs=2, batch_size=2, verbose=0)
    assert in_c_order(net)
    layer = Turned()
    layer.backward_propagation(layer.forward_propagation(np.ones((3, 5))), 0.1)
    assert layer.parameters["w"].flags.c_contiguous


@pytest.mark.parametrize(
    "again", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.to("cpu")]
)
def test_a_copy_goes_on_with_the_same_bits(again):
    rng = np.random.default_rng(0)
    x, y = rng.random((96, 12, 12, 1)).astype(np.float32), rng.integers(0, 3, 96)
    once = Network([*lenet()[:-1], DropoutLayer(0.3), FCLayer(40, 3)], seed=1)
    once.use("softmax_cross_entropy", optimizer=Adam(1e-2))
    once.fit(x, y, epochs=1, batch_size=32, shuffle=True, verbose=0)
    twice = again(copy.deepcopy(once))
    assert same(leaves(once), leaves(twice))
    assert (once.step, once.epoch, once.history) == (twice.step, twice.epoch, twice.history)
    assert np.array_equal(once.predict(x), twice.predict(x))
    for net in (once, twice):
        net.fit(x, y, epochs=2, batch_size=32, shuffle=True, verbose=0)
    assert same(leaves(once), leaves(twice))
    assert in_c_order(twice)


# -- layers that come and go ---------------------------------------------------------------------------------------------


def trained(*layers, optimizer=None, sample=20, steps=3):
    net = Network(layers, seed=1)
    net.use("mse", optimizer=optimizer or Adam(1e-2))
    x = np.random.default_rng(0).standard_normal((4, sample)).astype(np.float32)
    for _ in range(steps):
        net.fit(x, np.ones(net.predict(x).shape), epochs=1, batch_size=4, verbose=0)
    return net, x


def test_a_new_head_of_another_size_gets_slots_of_its_own():
    net, x = trained(FCLayer(20, 8), FCLayer(8, 1))
    body = {name: np.array(a) for name, a in net.slots["mean"].items() if name.startswith("0")}
    net.layers.pop()
    net.add(FCLayer(8, 600))
    assert list(net.slots["mean"]) == ["0.weights", "0.bias"]
    assert all(np.array_equal(net.slots["mean"][name], a) for name, a in body.items())
    net.fit(x, np.ones((4, 600)), epochs=2, batch_size=2, verbose=0)
    assert net.slots["mean"]["1.weights"].shape == (8, 600)


def adam_step(w, g, t, lr=1e-2):
    """The first t updates with the same gradient change w by lr each, whatever t; another count would not."""
    return w - lr * g / (np.abs(g) + 1e-8) if t else w


def test_adam_counts_the_updates_of_each_parameter():
    class Constant(Layer):
        """dE/dw is 1 for ever."""

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
    """Its parameter gets a gradient in every other step only."""

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
        (net.layers[0], "stands twice"),
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


# -- one step, whole -------------------------------------------------------------------------------------------------------


class AlarmError(Exception):
    pass


def interrupted_runs(number, runs, optimizer):
    """Trains while a signal's handler raises at a random moment: how many states are of no single step, and of how many."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 2))

    def make():
        net = Network([FCLayer(6, 5), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1)
        net.use("mse", optimizer=optimizer())
        return net

    states = {}
    whole, commit = make(), State.commit

    def noted(self, leaves_now):
        commit(self, leaves_now)
        states[whole.step] = leaves(whole)

    states[0] = leaves(make())
    net = make()
    net.predict(x)
    states[0] = leaves(net)
    State.commit = noted
    try:
        whole.fit(x, y, epochs=30, batch_size=2, shuffle=True, verbose=0)
    finally:
        State.commit = commit

    def handler(number, frame):
        raise AlarmError

    previous = signal.signal(number, handler)
    mixed = stopped = 0
    try:
        for _ in range(runs):
            net = make()
            net.predict(x)
            timer = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}[number]
            try:
                signal.setitimer(timer, rng.uniform(1e-4, 2e-2))
                net.fit(x, y, epochs=30, batch_size=2, shuffle=True, verbose=0)
            except AlarmError:
                stopped += 1
            finally:
                signal.setitimer(timer, 0)
            now = leaves(net)
            if net.step:
                mixed += not (same(now, states[net.step]) and all(len(v) == net.epoch for v in net.history.values()))
            with_counts = [layer._updates(name, net.step) for layer in net.walk() for name in layer.parameters]
            mixed += set(with_counts) > {net.step, 0}
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert net.turns.held() is None
    finally:
        signal.signal(number, previous)
    return mixed, stopped


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
@pytest.mark.parametrize("optimizer", [Adam, partial(SGD, 0.05, momentum=0.9)], ids=["Adam", "SGD"])
def test_a_handler_that_raises_anywhere_leaves_the_state_of_one_step(optimizer):
    mixed, stopped = interrupted_runs(signal.SIGALRM, 150, optimizer)
    assert mixed == 0
    assert stopped > 50


def slow_network(action, at=3):
    """A layer that does something in the forward pass of step ``at``."""

    class Acts(ScaleLayer):
        count = 0

        def forward(self, X, *, training=False):
            if training:
                self.count += 1
                if self.count == at:
                    action()
            return super().forward(X)

    net = Network([FCLayer(3, 3), Acts(1.0)], seed=0)
    net.use("mse")
    return net


def fit(net, **options):
    return net.fit(np.ones((8, 3)), np.zeros((8, 3)), epochs=1, learning_rate=0.1, verbose=0, **options)


def test_ctrl_c_is_not_lost_when_the_same_step_fails():
    def fail():
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("planted")

    net = slow_network(fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(net)
    assert str(caught.value.__context__) == "planted"
    assert net.step == 2


def test_ctrl_c_twice_ends_a_step_that_hangs():
    def hang():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    net = slow_network(hang)
    with pytest.raises(KeyboardInterrupt, match=r"twice within one step.*as it was after step 2"):
        fit(net)
    assert net.step == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fit(net)  # and it goes on


def test_a_handler_that_the_user_sets_meanwhile_is_kept():
    def mine(number, frame):
        pass

    net = slow_network(lambda: signal.signal(signal.SIGINT, mine))
    try:
        fit(net)
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_users_handler_is_asked_between_two_steps():
    seen = []
    net = slow_network(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(net.step))
    try:
        fit(net)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [3]
    assert net.step == 8


def test_ctrl_c_in_a_network_within_a_network_ends_both():
    inner = slow_network(lambda: signal.raise_signal(signal.SIGINT))
    outer = slow_network(lambda: fit(inner))
    with pytest.raises(KeyboardInterrupt):
        fit(outer)
    assert (inner.step, outer.step) == (3, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_history_of_finished_epochs_is_kept():
    net = slow_network(lambda: signal.raise_signal(signal.SIGINT), at=20)
    with pytest.raises(KeyboardInterrupt):
        net.fit(np.ones((8, 3)), np.zeros((8, 3)), epochs=9, learning_rate=0.1, verbose=0)
    assert (net.step, net.epoch, len(net.history["error"])) == (20, 2, 2)
    more = fit(net)
    assert more["error"] == net.history["error"][2:]
    net.use("mse")
    assert net.history == {"error": []}


# -- somebody else at the same time ----------------------------------------------------------------------------------------


def test_fit_within_fit_names_fit():
    net = slow_network(lambda: fit(net))
    with pytest.raises(RuntimeError, match="fit was called within fit of the same network"):
        fit(net)
    assert net.step == 2
    fit(net)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("fit", fit),
        ("to", lambda net: net.to("cpu")),
        ("use", lambda net: net.use("mae")),
        ("add", lambda net: net.add(FCLayer(3, 3))),
    ],
)
def test_what_changes_a_network_waits_for_the_end_of_fit(name, call):
    inside, outside = [], []

    def act():
        try:
            call(net)
        except RuntimeError as error:
            inside.append(str(error))

        def beside():
            try:
                call(net)
            except RuntimeError as error:
                outside.append(str(error))

        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    net = slow_network(act)
    fit(net)
    assert inside[0].startswith(f"{name} was called within fit")
    assert outside[0].startswith(f"{name} was called while another thread is in fit")
    assert net.step == 8
    call(net)


class Beside:
    """A thread that trains a network until it is told to stop; which weights there were after which step."""

    def __init__(self, net, x, y):
        self.net, self.x, self.y, self.stop, self.states = net, x, y, False, {}

    def __enter__(self):
        commit = State.commit

        def noted(state, new):
            commit(state, new)
            self.states[state.progress["step"]] = [np.array(home[key]) for home, key in state.parameters]

        self.commit, State.commit = commit, noted
        self.thread = threading.Thread(target=self.train)
        self.thread.start()
        while not self.states:
            time.sleep(1e-3)
        return self

    def train(self):
        while not self.stop:
            self.net.fit(self.x, self.y, epochs=1, batch_size=4, verbose=0)

    def __exit__(self, *error):
        self.stop = True
        self.thread.join()
        State.commit = self.commit

    def is_one_step(self, arrays):
        """Whether these are the weights after some single step."""
        return any(all(map(np.array_equal, arrays, state)) for state in list(self.states.values())[-5000:])


def test_beside_a_fit_everything_read_is_of_one_step():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 8)), rng.standard_normal((40, 2))
    net = Network([FCLayer(8, 16), ActivationLayer("tanh"), FCLayer(16, 2)], seed=0)
    net.use("mse", optimizer=Adam(1e-3))
    net.predict(x)
    start = [np.array(a) for a in net.parameters.values()]
    read, answers = [], []
    with Beside(net, x, y) as beside:
        beside.states[0] = start
        for _ in range(15):
            read.append([a.copy() for a in net.parameters.values()])
            read.append([a.copy() for a in dict(net.parameters).values()])
            read.append(list(copy.deepcopy(net).parameters.values()))
            read.append(list(pickle.loads(pickle.dumps(net)).parameters.values()))
            answers.append(net.predict(x))
            assert net.evaluate(x, y)["error"] > 0
            with contextlib.suppress(RuntimeError):  # between two fits it is not refused
                copy.deepcopy(net.layers[0])
                net.layers[0].weights = net.layers[0].weights
        assert all(map(beside.is_one_step, read))
    again = Network(copy.deepcopy(net.layers), seed=0)
    possible = []
    for state in beside.states.values():
        for path, array in zip(again.parameters, state, strict=True):
            again.parameters[path] = array
        possible.append(again.predict(x))
    assert all(any(np.array_equal(answer, one) for one in possible) for answer in answers)


def test_predict_in_many_threads():
    rng = np.random.default_rng(0)
    x = rng.random((64, 12, 12, 1)).astype(np.float32)
    net = Network([*lenet()[:-1], BatchNormLayer(), DropoutLayer(0.2), FCLayer(40, 3)], seed=0)
    expected, wrong = copy.deepcopy(net).predict(x), []

    def work():
        for _ in range(10):
            wrong.append(not np.array_equal(net.predict(x), expected))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 80


# -- what is kept ----------------------------------------------------------------------------------------------------------


class Gain(Layer):
    """Keeps, in its own attributes, what its backward needs."""

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


class ArticleGain(Layer):
    def __init__(self):
        self.weights = np.ones((1, 4))

    def forward_propagation(self, input):
        self.input = input
        return input * self.weights

    def backward_propagation(self, output_error, learning_rate):
        self.weights = self.weights - learning_rate * output_error * self.input
        return output_error


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
    assert gain.nothing is None
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
    assert portnn.layers.pooling._plan.cache_info().currsize <= 256


# -- whose memory it is -----------------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("layers", [[FlattenLayer], [lambda: ReshapeLayer((2, 3)), lambda: DropoutLayer(0.5)]])
@pytest.mark.parametrize("kind", ["array", "memmap", "subclass", "holder", "strict"])
def test_an_answer_is_nobody_elses_memory(layers, kind, tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    before = x.copy()
    net = Network([make() for make in layers], seed=0, backend=strict_backend() if kind == "strict" else "cpu")
    given = x
    if kind == "memmap":
        given = x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 6))
        x[...] = before
    elif kind == "subclass":
        given = x.view(Subclass)
    elif kind == "holder":
        given = Holder(x)
    elif kind == "strict":
        given = net.backend.asarray(x)
    for batch_size in (1024, 2):
        answer = net.predict(given, batch_size=batch_size)
        answer[...] = -1.0
        x = net.backend.to_numpy(given) if kind == "strict" else x
        assert np.array_equal(x, before)


class Scribbles(Layer):
    """A user's layer that writes into its input."""

    def forward(self, X, *, training=False):
        X *= 2.0
        return X

    def backward(self, output_error, *, need_input_error=True):
        output_error *= 2.0
        return output_error


class ArticleScribbles(Layer):
    def forward_propagation(self, input):
        input += 1.0  # noqa: A001 - the article's name
        return input

    def backward_propagation(self, output_error, learning_rate):
        return output_error


def scribbling(y_true, y_pred):
    y_true -= y_pred
    return (y_true * y_true).mean()


def scribbling_prime(y_true, y_pred):
    y_true -= 1.0
    return y_pred * 0.0


def scribble(x):
    x += 1.0
    return x


@pytest.mark.parametrize("first", [Scribbles, ArticleScribbles, lambda: ActivationLayer(scribble, lambda x: x)])
@pytest.mark.parametrize("metrics", [[], [lambda y_true, y_pred: scribble(y_true)[:, 0]]])
def test_code_of_the_users_that_writes_into_a_batch_changes_no_data(first, metrics):
    x, y = np.ones((6, 3), np.float32), np.ones((6, 3), np.float32)
    for layers in ([first()], [FlattenLayer(), first()], [ResidualLayer(first())]):
        net = Network(layers, seed=0)
        net.use(scribbling, scribbling_prime, metrics=metrics)
        one = np.array(net.predict(x[:3]))
        assert np.array_equal(net.predict(x[:3]), one)
        net.evaluate(x, y)
        net.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
        assert np.array_equal(x, np.ones((6, 3)))
        assert np.array_equal(y, np.ones((6, 3)))


# -- settings -----------------------------------------------------------------------------------------------------------------


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
        ("seed", 99, r"Network\(layers, seed=...\)"),
        ("dtype", "float64", r"Network\(layers, dtype=...\)"),
        ("kernels", "portable", r"Network\(layers, kernels=...\)"),
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
    again.fit(x, y, epochs=1, batch_size=1, verbose=0)  # batch normalization that is frozen needs no variance


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
            middle.buffers["running_var"] = middle.buffers["running_var"] - middle.epsilon  # an identity
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
            r"input_size of FCLayer is fixed when it is made: make another one, FCLayer\(",
        ),
        (lambda: FCLayer(2, 3), "initializer", "zeros", "fixed when it is made"),
        (lambda: ConvLayer((4, 4, 1), (2, 2), 1), "stride", 2, "fixed when it is made"),
        (lambda: MaxPoolLayer(2), "window", 3, "fixed when it is made"),
        (lambda: ReshapeLayer((2, 2)), "shape", (4,), "fixed when it is made"),
        (lambda: ActivationLayer("tanh"), "activation", "relu", "fixed when it is made"),
        (lambda: ParallelLayer(FCLayer(2, 2)), "merge", "add", "fixed when it is made"),
        (lambda: portnn.GroupNormLayer(2), "groups", 3, "fixed when it is made"),
        (lambda: portnn.UpsampleLayer(2), "factor", 3, "fixed when it is made"),
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


# -- the doors of a layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_a_layer_that_is_called_keeps_nothing(case):
    X = np.random.default_rng(0).standard_normal((4, *case.sample))
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float64", 0, "0")
    before = [dict(vars(part)) for part in layer.walk()]
    Y = layer(X)
    for part, then in zip(layer.walk(), before, strict=True):
        now = vars(part)
        assert now.keys() == then.keys()
        assert all(now[name] is value for name, value in then.items())
    assert np.array_equal(layer(X.tolist()), Y)


def test_backward_without_a_learning_rate_changes_no_parameter():
    layer = ResidualLayer(FCLayer(3, 3), BatchNormLayer())
    Y = layer.forward_propagation(np.random.default_rng(0).standard_normal((5, 3)))
    before = [{**part.parameters, **part.buffers} for part in layer.walk()]
    dX = layer.backward_propagation(np.ones(Y.shape))
    assert dX.shape == (5, 3)
    assert [part.step for part in layer.walk()] == [0, 0, 0]
    assert layer.layers[1].new_buffers.keys() == {"running_mean", "running_var"}
    for part, then in zip(layer.walk(), before, strict=True):
        assert {**part.parameters, **part.buffers} == then
    assert layer.layers[0].gradients["weights"].shape == (3, 3)
    assert layer.backward_propagation(np.ones(Y.shape), need_input_error=False) is None
    layer.backward_propagation(np.ones(Y.shape), 0.1)
    assert [part.step for part in layer.walk()] == [1, 1, 1]
    assert layer.layers[1].buffers["running_var"] is layer.layers[1].new_buffers["running_var"]
