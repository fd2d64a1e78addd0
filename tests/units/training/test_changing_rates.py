"""The learning rate in logs and histories when callbacks change it, and invalid values of its factor."""

import json
import math

import numpy as np
import pytest

from portnn import SGD, Callback, CSVLogger, FCLayer, JSONLogger, Network


class Acts(Callback):
    """Calls a function at the beginning of an epoch, after a step, or at the end of an epoch."""

    def __init__(self, hook, action, at):
        self.hook, self.action, self.at, self.logs = hook, action, at, []

    def act(self, hook, network, number):
        if (hook, number) == (self.hook, self.at):
            self.action(network)

    def on_epoch_begin(self, network, epoch):
        self.act("on_epoch_begin", network, epoch)

    def on_step_end(self, network, step):
        self.act("on_step_end", network, step)

    def on_epoch_end(self, network, epoch, logs):
        self.logs.append(logs)
        self.act("on_epoch_end", network, epoch)


def network():
    net = Network([FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=SGD(0.1))
    return net


def fit(net, *calls, epochs=4, **options):
    x = np.random.default_rng(0).standard_normal((8, 3))
    return net.fit(x, x, epochs=epochs, batch_size=4, callbacks=calls, verbose=0, **options)


def factor(net):
    net.learning_rate_factor = 0.5


def optimizer(net):
    net.optimizer.learning_rate = 0.05


@pytest.mark.parametrize("action", [factor, optimizer])
@pytest.mark.parametrize(("hook", "at"), [("on_epoch_begin", 3), ("on_epoch_end", 2), ("on_step_end", 3)])
def test_a_rate_that_changes_within_the_fit(hook, at, action):
    acts, net = Acts(hook, action, at), network()
    fit(net, epochs=2)
    net.step = 0
    history = fit(net, acts)
    late = (hook, action) == ("on_epoch_begin", factor)  # the factor takes effect in the next epoch
    expected = [0.1, 0.1, 0.1 if late else 0.05, 0.05]
    assert history["learning_rate"] == expected
    assert {len(values) for values in history.values()} == {4}
    assert net.history["learning_rate"][2:] == expected
    assert all(map(math.isnan, net.history["learning_rate"][:2]))
    changed = expected.index(0.05)
    assert ["learning_rate" in logs for logs in acts.logs] == [k >= changed for k in range(4)]
    assert acts.logs[-1]["learning_rate"] == 0.05
    assert {len(values) for values in net.history.values()} == {6}
    assert ("learning_rate" in fit(net)) == (action is factor)  # the next fit has a constant rate
    assert {len(values) for values in net.history.values()} == {10}


def test_a_rate_that_stays():
    assert list(fit(network(), Acts("on_epoch_end", lambda net: None, 1))) == ["error"]


def test_logs(tmp_path):
    fit(network(), CSVLogger(tmp_path / "csv"), JSONLogger(tmp_path / "json"), Acts("on_epoch_end", factor, 2))
    assert [line.count(",") for line in (tmp_path / "csv").read_text().splitlines()] == [1] * 5
    lines = map(json.loads, (tmp_path / "json").read_text().splitlines())
    assert [line.get("learning_rate") for line in lines] == [None, None, 0.05, 0.05]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(math.nan, ValueError), (math.inf, ValueError), (-0.5, ValueError), ("x", TypeError), (None, TypeError)],
)
def test_factors_that_are_none(value, kind):
    net = network()
    with pytest.raises(kind, match=r"learning_rate_factor must be (a number|0 or more)"):
        net.learning_rate_factor = value
    assert net.learning_rate_factor == 1.0
    net.learning_rate_factor = np.float32(0.5)
    assert type(net.learning_rate_factor) is float
