"""Regression tests for faults that were found by misusing the library on purpose, each with a minimal example."""

import copy
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import array_api_strict
import numpy as np
import pytest

from portnn import (
    ActivationLayer,
    Adam,
    BatchNormLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    Network,
    ParallelLayer,
    ResidualLayer,
    ScaleLayer,
    get_backend,
)
from portnn.training.interrupts import Interrupts
from states import ArticleGain

X8 = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)


def small(*layers, optimizer=None):
    net = Network(layers or [FCLayer(8, 5), ActivationLayer("tanh"), FCLayer(5, 3)], seed=1)
    net.use("mse", optimizer=optimizer or Adam(1e-2))
    return net


def train(net, **options):
    return net.fit(X8, np.ones((16, net.predict(X8).shape[1])), epochs=1, batch_size=8, verbose=0, **options)


def in_threads(n, work):
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(lambda _: work(), range(n)))


# -- layers that change ------------------------------------------------------------------------------------------------


def test_threads_that_predict_after_a_change_all_see_the_new_layers():
    for _ in range(20):
        net = small()
        net.predict(X8)
        net.layers[-1] = FCLayer(5, 4)
        net.layers.insert(2, ActivationLayer("relu"))
        answers, errors = [], []

        def work(net=net, answers=answers, errors=errors):
            try:
                answers.append(net.predict(X8))
            except Exception as error:
                errors.append(error)

        in_threads(4, work)
        assert errors == []
        assert all(np.array_equal(answer, net.predict(X8)) for answer in answers)


@dataclass
class Equal(Layer):
    factor: float

    def __eq__(self, other):
        return type(self) is type(other)

    __hash__ = Layer.__hash__

    def forward(self, X):
        return self.factor * X

    def backward(self, output_error):
        return self.factor * output_error


def test_layers_that_call_themselves_equal_are_told_apart():
    net = Network([Equal(2.0), FlattenLayer()], seed=0)
    assert net.predict(X8)[0, 0] == 2 * X8[0, 0]
    net.layers[0] = Equal(3.0)
    assert net.predict(X8)[0, 0] == 3 * X8[0, 0]
    inside = Network([ResidualLayer(Equal(2.0))], seed=0)
    inside.predict(X8)
    inside.layers[0].layers[0] = Equal(3.0)
    assert inside.predict(X8)[0, 0] == 4 * X8[0, 0]


def test_a_layer_that_is_taken_out_keeps_what_it_remembers_until_it_returns():
    net = small(FCLayer(8, 8), FCLayer(8, 8), FCLayer(8, 3))
    train(net)
    taken = net.layers.pop(1)
    mean, weights = np.array(taken._slots_by_kind["mean"]["weights"]), np.array(taken.weights)
    train(net)
    net.layers.insert(1, taken)
    net.predict(X8)
    assert np.array_equal(net.slots["mean"]["1.weights"], mean)
    assert np.array_equal(net.parameters["1.weights"], weights)
    other = small(FCLayer(8, 8))
    other.layers.append(net.layers.pop(1))
    train(other)
    assert taken._updates("weights", other.step) == 2
    assert np.abs(other.slots["mean"]["1.weights"] - mean).max() > 0


@pytest.mark.parametrize(
    "change", [lambda layer, new: setattr(layer, "parameters", new), lambda layer, new: layer.parameters.update(new)]
)
def test_a_dict_of_parameters_that_is_replaced_is_looked_at(change):
    net = small()
    net.predict(X8)
    change(net.layers[2], {"weights": np.ones((5, 1), np.float32), "bias": np.ones((1, 1), np.float32)})
    with pytest.raises(ValueError, match=r"weights has shape \(5, 1\), expected \(5, 3\)"):
        net.predict(X8)
    net = small()
    net.predict(X8)
    turned = {name: np.asfortranarray(array) for name, array in net.layers[0].parameters.items()}
    before = net.predict(X8)
    change(net.layers[0], turned)
    assert np.array_equal(net.predict(X8), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: net.layers.__setitem__(0, None), "net.layers must hold layers|layer 0 must be a layer"),
        (lambda net: net.layers[1].layers.clear(), "needs at least one branch"),
        (lambda net: net.layers[1].layers.append("relu"), "ParallelLayer.layers must hold layers"),
    ],
)
def test_odd_things_in_the_lists_of_layers(change, words):
    net = small(FCLayer(8, 4), ParallelLayer(FCLayer(4, 2), FCLayer(4, 2)), FCLayer(4, 1))
    net.predict(X8)
    change(net)
    for call in (lambda: net.predict(X8), lambda: net.fit(X8, X8[:, :1], epochs=1, verbose=0)):
        with pytest.raises((ValueError, TypeError), match=words):
            call()


# -- during a fit ------------------------------------------------------------------------------------------------------


def test_what_would_mix_with_a_fit_beside_it_names_fit():
    refused = []

    class Waits(ScaleLayer):
        done = False

        def forward(self, X):
            if net.turns.held() is not None and not self.done:
                Waits.done = True
                in_threads(1, beside)
            return super().forward(X)

    def beside():
        calls = {
            "forward_propagation": lambda: net.layers[0].forward_propagation(X8),
            "move": lambda: net.layers[0].move(net.backend),
            "slots": lambda: net.slots["mean"].__setitem__("0.weights", np.zeros((8, 5))),
            "weights": lambda: setattr(net.layers[0], "weights", np.zeros((8, 5))),
            "step": lambda: setattr(net, "step", 3),
            "epoch": lambda: setattr(net, "epoch", 3),
        }
        for name, call in calls.items():
            try:
                call()
            except RuntimeError as error:
                if "fit" in str(error):
                    refused.append(name)

    net = small(FCLayer(8, 5), Waits(1.0), FCLayer(5, 3))
    Waits.done = True
    train(net)  # creates the slots
    Waits.done = False
    train(net)
    assert refused == ["forward_propagation", "move", "slots", "weights", "step", "epoch"]
    assert net.step == 4


@pytest.mark.parametrize("when", ["layer", "metric", "loss"])
def test_weights_that_are_set_within_a_step_would_be_lost(when):
    def act():
        if net.turns.held() is not None:
            net.parameters["0.weights"] = np.zeros((8, 5))

    class Acts(ScaleLayer):
        def forward(self, X):
            if when == "layer":
                act()
            return super().forward(X)

    def metric(y_true, y_pred):
        if when == "metric":
            act()
        return y_pred[:, 0]

    def loss(y_true, y_pred):
        if when == "loss":
            act()
        return ((y_true - y_pred) ** 2).mean()

    net = Network([FCLayer(8, 5), Acts(1.0), FCLayer(5, 3)], seed=1)
    net.use(loss, lambda y_true, y_pred: (y_pred - y_true) * np.float32(2 / y_pred.size), metrics=[metric])
    with pytest.raises(RuntimeError, match="within a step, whose commit would undo it"):
        train(net, learning_rate=0.1)
    assert net.step == 0
    net.parameters["0.weights"] = np.zeros((8, 5))


def test_two_threads_may_copy_a_network_that_a_third_one_trains():
    net, stop, errors = small(), [], []
    train(net)

    def training():
        while not stop:
            train(net)

    def copying():
        for _ in range(10):
            try:
                copy.deepcopy(net)
                pickle.dumps(net)
            except Exception as error:
                errors.append(error)

    trainer = threading.Thread(target=training)
    trainer.start()
    in_threads(3, copying)
    stop.append(True)
    trainer.join()
    assert errors == []


def test_a_move_that_fails_moves_nothing(monkeypatch):
    net, there = small(), get_backend(array_api_strict)
    train(net)
    before, asarray, made = net.predict(X8), there.asarray, []

    def failing(*args, **options):
        made.append(1)
        if len(made) == 4:
            raise MemoryError("planted")
        return asarray(*args, **options)

    monkeypatch.setattr(there, "asarray", failing)
    with pytest.raises(MemoryError, match="planted"):
        net.to(there)
    assert net.backend.name == "cpu"
    assert np.array_equal(net.predict(X8), before)
    train(net)


# -- signals ----------------------------------------------------------------------------------------------------------------


def test_a_fit_that_was_left_without_its_end_stands_in_nobodys_way():
    net = small()

    def left():
        turn = net.turns.take("fit")
        interrupts = Interrupts().__enter__()
        try:
            raise ValueError("as a signal handler might raise at the wrong moment")
        except ValueError:
            return sys.exc_info(), turn, interrupts  # the traceback, and everything that it refers to, is kept

    try:
        kept = left()
        assert kept[1].over is False
        train(net)
        signal.signal(signal.SIGINT, kept[2].handlers[signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_in_the_last_step_of_an_epoch_leaves_that_epoch_finished():
    class Presses(ScaleLayer):
        count = 0

        def forward(self, X, *, training=False):
            self.count += training
            if training and self.count == 2:
                signal.raise_signal(signal.SIGINT)
            return super().forward(X)

    net = small(Presses(1.0), FCLayer(8, 3))
    with pytest.raises(KeyboardInterrupt):
        net.fit(X8, np.ones((16, 3)), epochs=5, batch_size=8, verbose=0)
    assert (net.step, net.epoch, len(net.history["error"])) == (2, 1, 1)


def test_a_users_handler_is_called_for_each_further_signal_of_a_step():
    seen = []

    class Presses(ScaleLayer):
        def forward(self, X, *, training=False):
            if training and not seen:
                for _ in range(3):
                    signal.raise_signal(signal.SIGINT)
            return super().forward(X)

    net = small(Presses(1.0), FCLayer(8, 3))
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(net.step))
    try:
        train(net)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [0, 0, 1]


# -- users' code that overwrites arrays --------------------------------------------------------------------------------


def test_a_loss_that_writes_into_what_it_is_given_changes_no_step():
    def loss(y_true, y_pred):
        return ((y_pred - y_true) ** 2).mean()

    def writing(y_true, y_pred):
        y_pred -= y_true
        y_pred *= y_pred
        return y_pred.mean()

    def prime(y_true, y_pred):
        d = y_pred - y_true
        d *= np.float32(2 / d.size)
        return d

    nets = []
    for function in (loss, writing):
        net = Network([FCLayer(8, 5), ActivationLayer("tanh")], seed=1)
        net.use(function, prime, metrics=[])
        train(net, learning_rate=0.1)
        nets.append(net)
    assert all(map(np.array_equal, nets[0].parameters.values(), nets[1].parameters.values()))


def test_a_metric_that_writes_changes_no_other():
    def first(y_true, y_pred):
        y_pred *= 0.0
        return y_pred[:, 0]

    def second(y_true, y_pred):
        return y_pred[:, 0]

    values = []
    for metrics in ([second], [first, second]):
        net = small()
        net.use("mse", metrics=metrics)
        values.append((train(net, learning_rate=0.0)["second"], net.evaluate(X8, np.ones((16, 3)))["second"]))
    assert values[0] == values[1]


class Doubles(Layer):
    def forward(self, X):
        X *= 2.0
        return X

    def backward(self, output_error):
        output_error *= 2.0
        return output_error


def test_a_layer_that_writes_spoils_nothing_that_others_keep():
    for make in (
        lambda middle: [FCLayer(8, 5), ActivationLayer("tanh"), middle, FCLayer(5, 3)],
        lambda middle: [FCLayer(8, 3), ResidualLayer(middle)],
        lambda middle: [FCLayer(8, 3), ParallelLayer(middle, FCLayer(3, 3), merge="add")],
    ):
        nets = [small(*make(middle)) for middle in (ScaleLayer(2.0), Doubles())]
        for net in nets:
            train(net)
        assert all(map(np.array_equal, nets[0].parameters.values(), nets[1].parameters.values()))
        assert np.array_equal(nets[0].predict(X8), nets[1].predict(X8))


class HandsOut(Layer):
    """Returns an array that it also keeps."""

    def __init__(self, how):
        self.how = how
        self.parameters["c"] = np.ones((16, 8))

    def forward(self, X):
        return self.how(self.parameters["c"])

    def backward(self, output_error):
        return output_error


@pytest.mark.parametrize("how", [lambda c: c, lambda c: np.broadcast_to(c[:1], c.shape), lambda c: c[::-1]])
def test_an_answer_is_not_what_a_layer_keeps(how):
    net = Network([HandsOut(how)], seed=0)
    answer = net.predict(X8)
    answer[...] = 7.0
    assert np.array_equal(net.parameters["0.c"], np.ones((16, 8)))


class KeepsInside(Layer):
    def __init__(self):
        self.parameters["gain"] = np.ones(8)

    def forward(self, X, *, training=False):
        if training:
            self.context = {"x": X, "more": [{"again": X}]}
        return X * self.parameters["gain"]

    def backward(self, output_error):
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=0)
        return output_error


def test_a_batch_that_is_kept_in_a_dict_is_in_no_copy():
    net = small(KeepsInside(), FCLayer(8, 3))
    train(net)
    assert X8[8:12].tobytes() not in pickle.dumps(net)


# -- settings -----------------------------------------------------------------------------------------------------------------


def test_what_does_nothing_is_an_error():
    net, other = small(), small()
    train(net)
    for change, words in (
        (lambda: setattr(net, "parameters", other.parameters), r"net\.parameters\.update\(arrays\)"),
        (lambda: net.slots.__setitem__("mean", {}), r"net\.slots\[kind\]\[path\]"),
        (lambda: net.slots.pop("mean"), r"net\.slots\[kind\]\[path\]"),
        (lambda: setattr(net, "optimzer", Adam()), "did you mean 'optimizer'"),
        (lambda: setattr(net, "learning_rate", 0.1), r"net\.optimizer\.learning_rate"),
        (lambda: setattr(net.layers[0], "dtype", "float64"), "is fixed by its network"),
        (lambda: setattr(net.layers[0], "seed", 3), "is fixed by its network"),
        (lambda: setattr(net.layers[0], "kernels", "portable"), "is fixed by its network"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            change()
    net.note = "a user may write one"


def test_the_step_that_is_set_leaves_the_counts_of_updates_alone():
    net = small()
    for _ in range(4):
        train(net)
    net.layers[-1] = FCLayer(5, 3)
    train(net)
    for step in (7, 0, 1000):
        net.step = step
        counts = [layer._updates("weights", net.step) for layer in (net.layers[0], net.layers[2])]
        assert counts[0] - counts[1] == 8
        train(net)
        assert net.step == step + 2
        assert np.isfinite(net.parameters["2.weights"]).all()


class OldName(ArticleGain):
    """A layer written as in the article with attributes whose names later versions of the base class use too."""

    def __init__(self):
        self.shapes, self.place, self.children, self.freeze = (1, 2), "here", 3, True
        self.compute, self.fit_to, self.slots, self.counts, self.label = 1, 2, 3, 4, 5
        self.weights = np.ones((1, 8))


def test_a_layer_of_the_articles_may_use_any_name():
    net = Network([OldName(), FCLayer(8, 3)], seed=0)
    net.use("mse")
    net.fit(X8, np.ones((16, 3)), epochs=1, learning_rate=0.01, verbose=0)
    assert net.layers[0].shapes == (1, 2)
    assert np.array_equal(copy.deepcopy(net).predict(X8), net.predict(X8))


def test_subclasses_may_say_a_setting_again():
    class Mine(FCLayer):
        def __init__(self, n):
            self.input_size = n
            super().__init__(n, 3)

    assert Network([Mine(8)], seed=0).predict(X8).shape == (16, 3)


def test_a_frozen_norm_in_a_network_that_goes_on():
    norm = BatchNormLayer()
    net = small(FCLayer(8, 4), norm, FCLayer(4, 3))
    train(net)
    norm.trainable = False
    before = {name: np.array(array) for name, array in norm.buffers.items()}
    train(net)
    assert all(np.array_equal(norm.buffers[name], array) for name, array in before.items())
