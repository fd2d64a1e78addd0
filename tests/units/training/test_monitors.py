"""EarlyStopping, ReduceLROnPlateau and Checkpoint(monitor=...) compared with plain loops over the same curves."""

import itertools

import numpy as np
import pytest

from portnn import SGD, Adam, BatchNormLayer, Callback, Checkpoint, EarlyStopping, FCLayer, Network, ReduceLROnPlateau
from states import leaves, same

NAN, INF = float("nan"), float("inf")
CURVES = {
    "falls": [5.0, 4.0, 3.0, 2.0, 1.0, 0.5],
    "rises": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "is flat": [2.0] * 6,
    "turns": [5.0, 3.0, 3.5, 2.9, 3.1, 3.2, 3.3, 1.0],
    "wanders": list(np.random.default_rng(0).normal(size=9)),
    "has gaps": [NAN, 3.0, NAN, 2.0, NAN, NAN, NAN, 1.0],
    "is NaN": [NAN] * 5,
    "is infinite": [INF, INF, 3.0, -INF, 2.0, INF],
}
curves = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
patiences = pytest.mark.parametrize("patience", [0, 1, 3])
deltas = pytest.mark.parametrize("min_delta", [0.0, 0.3])
modes = pytest.mark.parametrize(
    ("mode", "name"), [("min", "m"), ("max", "m"), ("auto", "m"), ("auto", "recall_of_mine")]
)
names = pytest.mark.parametrize("name", ["m", "recall_of_mine"])
frequencies = pytest.mark.parametrize("frequency", [1, pytest.param(2, marks=pytest.mark.slow)])


class Recorded:
    """A metric whose values are given by a curve."""

    def __init__(self, name, curve):
        self.name, self.curve = name, iter(curve)

    def sums(self, y_true, y_pred, weights):
        return np.zeros(1)

    def value(self, sums):
        return next(self.curve)


class Watches(Callback):
    """Records the state of the network after each epoch."""

    def on_fit_begin(self, network):
        self.after = {}

    def on_epoch_end(self, network, epoch, logs):
        self.after[epoch] = leaves(network)


def run(curve, callback, name="m", frequency=1, optimizer=None):
    """Fits with a curve of validation values (the metric is computed in each epoch, and again in each validation)."""
    every = [(value, *((value,) if k % frequency == 0 else ())) for k, value in enumerate(curve, 1)]
    net = Network([FCLayer(3, 4), BatchNormLayer(), FCLayer(4, 2)], seed=1)
    net.use("mse", optimizer=optimizer or Adam(0.1), metrics=[Recorded(name, itertools.chain(*every))])
    rng, watches = np.random.default_rng(1), Watches()
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    options = dict(batch_size=4, verbose=0, validation_split=0.25, validation_frequency=frequency)
    history = net.fit(x, y, epochs=len(curve), callbacks=[callback, watches], **options)
    return net, history, watches.after


def improvements(curve, frequency, mode, name, min_delta):
    """For each epoch, whether the value improved, or None in an epoch without validation."""
    larger, best = mode == "max" or (mode == "auto" and name.startswith("recall")), None
    for epoch, value in enumerate(curve, 1):
        if epoch % frequency:
            yield None
            continue
        better = value == value and (best is None or (value > best + min_delta if larger else value < best - min_delta))
        best = value if better else best
        yield better


def weights(arrays):
    return {name: array for name, array in arrays.items() if name.startswith(("parameter", "buffer"))}


@pytest.mark.slow
@curves
@patiences
@deltas
@modes
@frequencies
def test_early_stopping(curve, patience, min_delta, mode, name, frequency):
    end, best, waited = len(curve), None, 0
    for epoch, better in enumerate(improvements(curve, frequency, mode, name, min_delta), 1):
        if better is None:
            continue
        best, waited = (epoch, 0) if better else (best, waited + 1)
        if waited >= max(patience, 1):
            end = epoch
            break
    for restore in (True, False):
        stopping = EarlyStopping(f"val_{name}", patience=patience, min_delta=min_delta, mode=mode, restore_best=restore)
        net, history, after = run(curve, stopping, name, frequency)
        assert len(history["error"]) == len(history[f"val_{name}"]) == end
        expected = after[best if restore and best else end]
        assert same(weights(leaves(net)), weights(expected))


@curves
@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("least", [0.0, 0.03])
@names
@frequencies
def test_plateaus(curve, patience, least, name, frequency):
    rate, rates, waited = 0.1, [], 0
    for better in improvements(curve, frequency, "auto", name, 0.0):
        rates.append(rate)
        waited = waited if better is None else 0 if better else waited + 1
        if waited >= patience:
            waited, rate = 0, max(rate * 0.5, min(least, rate))
    plateau = ReduceLROnPlateau(f"val_{name}", factor=0.5, patience=patience, least=least)
    net, history, _ = run(curve, plateau, name, frequency, SGD(0.1))
    assert history["learning_rate"] == pytest.approx(rates, rel=1e-12)
    assert net.learning_rate_factor == pytest.approx(rate / 0.1, rel=1e-12)
    assert net.optimizer.learning_rate == 0.1


def test_rates_after_a_plateau_are_those_of_the_factor():
    """The weights too, not only the logged rates, are those of a run with an equivalent schedule."""
    curve = [1.0, 2.0, 3.0]
    net, *_ = run(curve, ReduceLROnPlateau("val_m", factor=0.5, patience=1), optimizer=SGD(0.1))
    by_hand, *_ = run(curve, Callback(), optimizer=SGD(lambda k: 0.1 if k < 4 else 0.05))  # two steps per epoch
    assert same(leaves(net), leaves(by_hand))


@curves
@names
@frequencies
def test_checkpoints_of_the_best(curve, name, frequency, tmp_path):
    checkpoint = Checkpoint(tmp_path / "{epoch}", monitor=f"val_{name}")
    net, _, after = run(curve, checkpoint, name, frequency)
    found = {int(path.name) for path in tmp_path.iterdir()}
    assert found == {k for k, better in enumerate(improvements(curve, frequency, "auto", name, 0.0), 1) if better}
    for epoch in found:
        net.load_weights(tmp_path / str(epoch))
        assert same(weights(leaves(net)), weights(after[epoch]))


def test_an_exception_leaves_the_weights_of_the_last_step():
    class Fails(Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 3:
                self.then = leaves(network)
                raise RuntimeError("planted")

    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.1), metrics=[Recorded("m", [1.0, 2.0, 3.0])])
    fails = Fails()
    with pytest.raises(RuntimeError, match="planted"):
        net.fit(
            np.ones((4, 3)), np.ones((4, 1)), epochs=9, verbose=0, callbacks=[EarlyStopping("m", patience=9), fails]
        )
    assert same(leaves(net), fails.then)


def test_the_best_weights_are_there_as_the_fit_ends():
    seen = {}

    class Looks(Callback):
        def on_fit_end(self, network):
            seen.update(weights(leaves(network)))

    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.1), metrics=[Recorded("m", [1.0, 2.0, 3.0])])
    net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[Looks(), EarlyStopping("m", patience=9)])
    once = Network([FCLayer(3, 1)], seed=1)
    once.use("mse", optimizer=SGD(0.1))
    once.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=1, verbose=0)
    assert same(seen, weights(leaves(once)))
    assert same(weights(leaves(net)), seen)


def test_a_callback_begins_afresh_with_each_fit():
    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.1), metrics=[Recorded("m", [1.0, 2.0, 8.0, 7.0, 6.0])])
    stopping = EarlyStopping("m", patience=1)
    for epochs, most in ((2, 9), (3, 3)):
        history = net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=most, verbose=0, callbacks=[stopping])
        assert len(history["m"]) == epochs


# -- names of values -----------------------------------------------------------------------------------------------------


def refused(match, monitor, kind=EarlyStopping, **options):
    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.1), metrics=["accuracy"])
    x, y = np.ones((4, 3)), np.ones((4, 1))
    net.fit(x, y, epochs=1, verbose=0, validation_split=0.5)  # an earlier fit has computed val_error
    before, history = leaves(net), dict(net.history)
    with pytest.raises(ValueError, match=match):
        net.fit(x, y, epochs=1, verbose=0, callbacks=[kind(monitor=monitor)], **options)
    assert same(leaves(net), before)
    assert net.history == history


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau, lambda monitor: Checkpoint("x", monitor=monitor)])
def test_values_that_the_fit_does_not_compute(kind):
    refused("watches 'val_error', but this fit computes error, accuracy.*validation_split", "val_error", kind)
    refused("did you mean 'accuracy'", "acuracy", kind)
    refused("did you mean 'val_error'", "val_eror", kind, validation_split=0.5)
    refused("did you mean 'val_accuracy'", "val_acuracy", kind, validation_split=0.5)
    refused("watches 'loss'", "loss", kind)


@pytest.mark.parametrize("wrong", ["val_loss", "val_acc", "acc"])
def test_names_of_other_libraries(wrong):
    answers = {"val_loss": "val_error", "val_acc": "val_accuracy", "acc": "accuracy"}
    refused(f"did you mean '{answers[wrong]}'", wrong, validation_split=0.5)


def test_the_learning_rate_of_an_optimizer_of_ones_own():
    class Own:
        def hyper(self, step):
            return (0.1,)

        def slots(self, parameters):
            return {}

        def update(self, parameters, gradients, slots, hyper):
            return [w - hyper[0] * g for w, g in zip(parameters, gradients, strict=True)], slots

    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=Own())
    with pytest.raises(TypeError, match="ReduceLROnPlateau changes the learning rate, but Own has no learning_rate"):
        net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=1, callbacks=[ReduceLROnPlateau("error")])
    net.learning_rate_factor = 0.5
    with pytest.raises(TypeError, match=r"learning_rate_factor is 0\.5, but Own has no learning_rate"):
        net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=1, verbose=0)
