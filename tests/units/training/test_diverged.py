"""DivergedError: the network is back in its state at the start of the epoch, and the message says where it diverged."""

import re

import numpy as np
import pytest

import runs
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    Callback,
    Checkpoint,
    DropoutLayer,
    FCLayer,
    Network,
    TimeLimit,
    load,
)
from portnn.training import DivergedError


def rates(*bad):
    """A schedule with a rate that is far too large at some steps."""
    return lambda k: 1e30 if k in bad else 0.01 + 1e-4 * k


def network(schedule, optimizer=SGD, **options):
    net = Network([FCLayer(6, 8), BatchNormLayer(), ActivationLayer("tanh"), DropoutLayer(0.3), FCLayer(8, 2)], seed=1)
    net.use("mse", optimizer=optimizer(schedule, **options), metrics=["mean_absolute_error"])
    return net


def fit(net, epochs=4, calls=(), **options):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 6)), rng.standard_normal((22, 2))
    options = dict(batch_size=5, shuffle=True, verbose=0, drop_last=True) | options  # four steps per epoch
    return net.fit(x, y, epochs=epochs, callbacks=calls, **options)


class Keeps(Callback):
    """Records the state of the network at the beginning of the current epoch."""

    def on_epoch_begin(self, network, epoch):
        self.begun, self.epoch = runs.come_to(network), epoch


@pytest.mark.parametrize("epochs", [0, 2])
def test_the_network_is_as_when_the_epoch_began(epochs):
    """Weights of 1e30, whose squares overflow in float32, show up in the error of the next step."""
    for options in ({"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        bad = 4 * epochs + 1
        net, keeps = network(rates(bad), **options), Keeps()
        where = rf"epoch {epochs + 1}, at step 3 of 4, with a learning rate of {rates()(bad + 1):g}"
        with pytest.raises(DivergedError, match=re.escape(where)):
            fit(net, calls=[keeps])
        now = runs.come_to(net)
        assert runs.equal(now, keeps.begun) if epochs else runs.same(now[0], keeps.begun[0])
        assert (net.step, net.epoch, len(net.history["error"])) == (4 * epochs, epochs, epochs)
        assert np.isfinite(net.history["error"]).all()


def test_it_trains_on_as_if_the_epoch_had_not_been():
    net = network(rates(9), momentum=0.9)
    with pytest.raises(DivergedError):
        fit(net)
    other = network(rates(), momentum=0.9)
    fit(other, 2)
    assert runs.equal(runs.come_to(net), runs.come_to(other))
    net.optimizer.learning_rate = other.optimizer.learning_rate
    for each in (net, other):
        fit(each, 2)
    assert runs.equal(runs.come_to(net), runs.come_to(other))


def test_the_last_update_of_all():
    """The last update affects no error that is computed, so the parameters are checked."""
    net, keeps = network(lambda k: 1e38 if k == 7 else 1e-30), Keeps()
    net.parameters["4.weights"] = np.full((8, 2), 1e10)
    where = r"\d\.\w+ holds NaN or infinity in epoch 2, after step 4 of 4, with a learning rate of 1e\+38"
    with pytest.raises(DivergedError, match=where):
        fit(net, 2, [keeps])
    assert runs.equal(runs.come_to(net), keeps.begun)


def test_a_run_that_is_stopped_within_an_epoch_is_checked_too():
    class Stops(Callback):
        def on_step_end(self, network, step):
            network.stop_training = step == 7

    net, keeps = network(rates(5)), Keeps()
    with pytest.raises(DivergedError, match="epoch 2, at step 3 of 4"):
        fit(net, calls=[keeps, Stops()])
    assert runs.equal(runs.come_to(net), keeps.begun)


def test_counts_of_frozen_layers_and_adams_slots():
    net = network(rates(9), Adam)
    fit(net, 1)
    net.layers[0].trainable = False
    fit(net, 1)
    net.layers[0].trainable = True
    keeps = Keeps()
    net.parameters["4.weights"] = np.full((8, 2), 1e19)
    with pytest.raises(DivergedError):
        fit(net, 1, [keeps])
    assert runs.equal(runs.come_to(net), keeps.begun)
    assert keeps.begun[1][-1]["0"]["weights"] == 4


def test_an_epoch_that_was_resumed(tmp_path):
    """The network is back in its state after the resume; the message counts steps from the beginning of the epoch."""

    class Fails(Callback):
        at = 6

        def on_step_end(self, network, step):
            if step == self.at + 1:
                raise RuntimeError("planted")

    class Never(Fails):
        at = None

    Never.at, Never.__name__ = 1000, "Fails"
    with pytest.raises(RuntimeError, match="planted"):
        fit(network(rates(6)), calls=[Fails(), Checkpoint(tmp_path / "run", unit="step")])
    net, then = network(rates(6)), network(rates(6))
    fit(then, 0, [Never(), Checkpoint(tmp_path / "run", unit="step")], resume=tmp_path / "run")
    assert then.step == 6
    with pytest.raises(DivergedError, match="epoch 2, at step 4 of 4"):
        fit(net, calls=[Never(), Checkpoint(tmp_path / "other", unit="step")], resume=tmp_path / "run")
    assert runs.equal(runs.come_to(net), runs.come_to(then))


def test_without_a_check_it_trains_on():
    net = network(rates(5))
    with np.errstate(all="ignore"):
        history = fit(net, 3, check_finite=False)
    assert not np.isfinite(history["error"]).all()
    assert net.epoch == 3


def test_an_iterable_and_rows_read_in_chunks():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 2))
    net, keeps = network(rates(5)), Keeps()
    with pytest.raises(DivergedError, match=r"epoch 2, at step 3, with a learning rate of 0\.0106"):
        net.fit([(x[k : k + 5], y[k : k + 5]) for k in range(0, 20, 5)], epochs=3, verbose=0, callbacks=[keeps])
    assert runs.equal(runs.come_to(net), keeps.begun)


# -- other ways in which a fit ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_the_history_keeps_finished_epochs(error):
    class Fails(Callback):
        def on_step_end(self, network, step):
            if step == 10:
                raise error

    net, other = network(rates(), momentum=0.9), network(rates(), momentum=0.9)
    with pytest.raises(error):
        fit(net, calls=[Fails()])
    assert (net.step, net.epoch, len(net.history["error"])) == (10, 2, 2)
    history = fit(other, 2)
    assert net.history == history
    again = fit(net, 1)
    assert net.history["error"] == history["error"] + again["error"]


def test_a_time_limit_ends_a_fit_quietly():
    net = network(rates())
    history = fit(net, 1000, [TimeLimit(0.0)])
    assert (net.step, len(history["error"])) == (1, 0)
    assert net.stop_training


# -- the last update of an epoch -------------------------------------------------------------------------------------------


def root(y_true, y_pred):
    return (abs(y_true - y_pred) ** 0.5).mean()


def root_prime(y_true, y_pred):
    """0/0 where a target is hit exactly, so that the gradient is NaN while the error is finite."""
    return 0.5 * np.sign(y_pred - y_true) / np.sqrt(abs(y_pred - y_true)) / y_pred.size


@pytest.mark.parametrize("when", [1, 3])
def test_the_last_update_of_any_epoch(when, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = x @ np.ones((3, 1))

    class Hits(Callback):
        def on_epoch_begin(self, network, epoch):
            if epoch == when:
                network.parameters.update({path: 0.0 * array for path, array in network.parameters.items()})

    y[0] = 0.0
    net, path = Network([FCLayer(3, 1)], seed=1), tmp_path / "run"
    net.use(root, root_prime, optimizer=SGD(0.1))
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergedError, match=f"holds NaN or infinity in epoch {when}, after step 1 of 1"),
    ):
        net.fit(x, y, epochs=5, batch_size=12, verbose=0, callbacks=[Hits(), Checkpoint(path)])
    assert not net.parameters["0.weights"].any()
    assert (net.step, net.epoch, len(net.history["error"])) == (when - 1, when - 1, when - 1)
    assert path.exists() == (when > 1)
    if when > 1:
        assert np.isfinite(load(path, layers=[root, root_prime]).parameters["0.weights"]).all()


@pytest.mark.parametrize("epochs", [0, 2])
def test_short_epochs_that_nobody_looks_at(epochs):
    """The error of the next epoch shows it, and the network is back in its state before the epoch that caused it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = np.zeros((12, 1))
    net = Network([FCLayer(3, 1)], seed=1)
    net.use(root, root_prime, optimizer=SGD(0.1))
    net.fit(x, y + 9.0, epochs=epochs, batch_size=12, verbose=0)
    y[0], then = net.predict(x)[0], runs.come_to(net)
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="became nan in epoch 2, at step 1 of 1"):
        net.fit(x, y, epochs=5, batch_size=12, verbose=0)
    assert runs.equal(runs.come_to(net), then)


def test_a_checkpoint_by_step_holds_no_nan(tmp_path):
    schedule = rates(5)
    net, path = network(schedule), tmp_path / "run"
    with pytest.raises(DivergedError, match="the error became inf in epoch 2, at step 3 of 4"):
        fit(net, calls=[Checkpoint(path, unit="step")])
    saved = load(path, layers=[schedule])
    assert saved.step == 6  # the weights are huge, but still finite
    assert all(np.isfinite(array).all() for array in saved.parameters.values())
    assert net.step == 4


def test_finite_parameters_whose_sum_of_squares_is_none():
    net = Network([FCLayer(2, 1)], seed=1)
    net.use("mse", optimizer=SGD(1e-30))
    net.parameters["0.weights"] = np.full((2, 1), 1e30)
    history = net.fit(np.zeros((4, 2)), np.zeros((4, 1)), epochs=3, verbose=0)
    assert len(history["error"]) == 3
