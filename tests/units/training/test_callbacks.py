"""When callbacks are called, what they may do, and what happens when they fail."""

import copy
import re

import numpy as np
import pytest

import runs
from portnn import (
    SGD,
    Callback,
    Checkpoint,
    CosineDecay,
    CSVLogger,
    EarlyStopping,
    FCLayer,
    JSONLogger,
    Network,
    ReduceLROnPlateau,
    ScaleLayer,
    StepDecay,
    TimeLimit,
)
from states import leaves, same

HOOKS = ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_fit_end"]


class PlantedError(Exception):
    pass


class Calls(Callback):
    """Records each call; at the ``at``-th call of one hook it runs an action."""

    def __init__(self, hook=None, action=None, at=1):
        self.hook, self.action, self.at, self.noted = hook, action, at, []

    def note(self, name, network, *numbers):
        self.noted.append((name, *numbers))
        if name == self.hook and [each[0] for each in self.noted].count(name) == self.at:
            self.action(network)

    def on_fit_begin(self, network):
        self.note("on_fit_begin", network)

    def on_epoch_begin(self, network, epoch):
        self.note("on_epoch_begin", network, epoch)

    def on_step_end(self, network, step):
        self.note("on_step_end", network, step)

    def on_epoch_end(self, network, epoch, logs):
        self.note("on_epoch_end", network, epoch, sorted(logs))

    def on_fit_end(self, network):
        self.note("on_fit_end", network)


def fail(network):
    raise PlantedError


def stop(network):
    network.stop_training = True


def network(optimizer=None, layers=None):
    net = Network(layers or [FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=optimizer or SGD(0.01, momentum=0.9))
    return net


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 3)), rng.standard_normal((8, 3))


def fit(net, *calls, epochs=2, **options):
    options = dict(batch_size=4, verbose=0) | options  # two steps per epoch
    return net.fit(*data(), epochs=epochs, callbacks=calls, **options)


def test_the_order_of_the_calls():
    calls, net = Calls(), network()
    fit(net)
    fit(net, calls, validation_split=0.25)
    names = ["error", "val_error"]
    assert calls.noted == [
        ("on_fit_begin",),
        *[("on_epoch_begin", 1), ("on_step_end", 5), ("on_step_end", 6), ("on_epoch_end", 1, names)],
        *[("on_epoch_begin", 2), ("on_step_end", 7), ("on_step_end", 8), ("on_epoch_end", 2, names)],
        ("on_fit_end",),
    ]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("at", [1, 2])
def test_an_exception_leaves_a_whole_step_and_every_fit_end_is_called(hook, at, tmp_path):
    at = 1 if "fit" in hook else at
    calls = Calls(), Calls(hook, fail, at), Calls()
    net, other = network(), network()
    with pytest.raises(PlantedError):
        fit(net, *calls, Checkpoint(tmp_path / "run", unit="step"))
    assert [each.noted.count(("on_fit_end",)) for each in calls] == [1, 1, 1]
    steps = {
        "on_fit_begin": 0,
        "on_epoch_begin": 2 * (at - 1),
        "on_step_end": at,
        "on_epoch_end": 2 * at,
        "on_fit_end": 4,
    }
    assert net.step == steps[hook]
    if hook == "on_step_end":
        with pytest.raises(PlantedError):
            fit(other, Calls(hook, fail, at))
    else:
        fit(other, epochs=net.step // 2)
    assert runs.equal(runs.come_to(net), runs.come_to(other)) or not net.step
    assert net.turns.held() is None
    fit(net, epochs=1)


def test_of_several_exceptions_as_the_fit_ends_none_is_lost():
    class Fails(Callback):
        def __init__(self, error):
            self.error = error

        def on_fit_end(self, network):
            raise self.error

    first, second, third = KeyError("first"), ValueError("second"), PlantedError()
    with pytest.raises(ValueError, match="second") as caught:
        fit(network(), Fails(first), Fails(second), Calls("on_step_end", lambda net: (_ for _ in ()).throw(third)))
    assert caught.value.__context__ is first
    assert first.__context__ is third


@pytest.mark.parametrize("hook", HOOKS)
def test_fit_within_a_callback(hook):
    """Fitting the same network is an error; fitting a copy is allowed."""
    x, y = data()

    def again(net):
        with pytest.raises(RuntimeError, match="fit was called within fit of the same network"):
            fit(net)
        other = copy.deepcopy(net)
        fit(other, epochs=1)
        assert other.step == net.step + 2

    def forbidden(net):
        for call in (lambda: net.use("mse"), lambda: net.to("cpu"), lambda: net.add(ScaleLayer(1.0))):
            with pytest.raises(RuntimeError, match="within fit"):
                call()

    calls, plain, net = (Calls(hook, again), Calls(hook, forbidden)), network(), network()
    fit(plain)
    fit(net, *calls)
    assert runs.equal(runs.come_to(net), runs.come_to(plain))
    assert net.predict(x).shape == y.shape


@pytest.mark.parametrize("hook", HOOKS)
def test_predict_and_evaluate_within_callbacks(hook):
    x, y = data()
    seen = []

    def look(net):
        by_hand = x.astype(np.float32) @ net.parameters["0.weights"] + net.parameters["0.bias"]
        seen.append(np.allclose(net.predict(x), by_hand, atol=1e-5))
        seen.append(np.isclose(net.evaluate(x, y)["error"], np.mean((by_hand - y) ** 2), rtol=1e-4))
        net.predict_classes(x)

    fit(network(), Calls(hook, look))
    assert seen == [True, True]


def test_setting_a_parameter_between_steps_counts():
    def zero(net):
        net.parameters["0.weights"] = np.zeros((3, 3))

    net = network(SGD(1e-9))
    fit(net, Calls("on_step_end", zero, 2))
    assert np.abs(net.parameters["0.weights"]).max() < 1e-6


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_epoch_end"])
def test_stop_training(hook):
    net, calls = network(), Calls()
    history = fit(net, Calls(hook, stop), calls, epochs=9)
    steps = {"on_fit_begin": 0, "on_epoch_begin": 1, "on_step_end": 1, "on_epoch_end": 2}[hook]
    assert (net.step, len(history["error"])) == (steps, steps // 2)
    assert calls.noted[-1] == ("on_fit_end",)
    assert net.stop_training
    fit(net, epochs=1)
    assert net.step == steps + 2


def test_a_stop_after_the_last_step_of_an_epoch_ends_it_whole():
    net, calls = network(), Calls()
    history = fit(net, Calls("on_step_end", stop, 2), calls, epochs=9, validation_split=0.25)
    assert len(history["val_error"]) == 1
    assert ("on_epoch_end", 1, ["error", "val_error"]) in calls.noted


# -- learning rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, CosineDecay(0.1, 8), StepDecay(0.1, 3, 0.5), lambda k: 0.1 / (1 + k)])
def test_the_factor_multiplies_every_schedule_from_the_next_epoch_on(rate):
    def halve(net):
        net.learning_rate_factor *= 0.5

    net, other = network(SGD(rate)), None
    at = (lambda k: rate(k)) if callable(rate) else (lambda k: rate)
    other = network(SGD(lambda k: at(k) * (1.0 if k < 2 else 0.5 if k < 6 else 0.25)))
    history = fit(net, Calls("on_step_end", halve, 1), Calls("on_epoch_end", halve, 3), epochs=5)
    expected = fit(other, epochs=5)
    assert runs.same(leaves(net), leaves(other))
    assert history["error"] == expected["error"]
    if callable(rate):
        assert history["learning_rate"] == expected["learning_rate"]
    assert net.learning_rate_factor == 0.25
    net.use("mse", optimizer=SGD(rate))
    assert net.learning_rate_factor == 1.0


def test_the_learning_rate_is_noted_where_it_changes():
    assert "learning_rate" not in fit(network())
    assert fit(network(SGD(StepDecay(0.1, 2, 0.5))))["learning_rate"] == [0.1, 0.05]
    assert fit(network(SGD(0.1)), ReduceLROnPlateau("error"))["learning_rate"] == [0.1, 0.1]
    net = network(SGD(0.1))
    net.learning_rate_factor = 0.5
    assert fit(net)["learning_rate"] == [0.05, 0.05]


# -- gradients -------------------------------------------------------------------------------------------------------------


def test_gradients_of_the_last_step():
    seen = []

    class Reads(Callback):
        reads_gradients = True

        def on_step_end(self, network, step):
            seen.append({path: np.array(g) for path, g in network.gradients.items()})

    before = network(SGD(0.5))
    net = network(SGD(0.5))
    fit(net, Reads(), epochs=1, steps_per_epoch=1)
    (gradients,) = seen
    for path, array in net.parameters.items():
        assert np.array_equal(array, before.parameters[path] - np.float32(0.5) * gradients[path])


# -- bad arguments -----------------------------------------------------------------------------------------------------------

BAD = [
    (lambda: EarlyStopping, r"write callbacks=\[EarlyStopping\(\.\.\.\)\]"),
    (lambda: EarlyStopping("error"), r"write callbacks=\[EarlyStopping\(\.\.\.\)\]"),
    (lambda: [EarlyStopping], r"holds the class EarlyStopping: write EarlyStopping\(\.\.\.\)"),
    (lambda: [print], "derives from portnn.Callback"),
    (lambda: ["early_stopping"], "derives from portnn.Callback"),
    (lambda: None, "must be a list, got None"),
    (lambda: 3, "must be a list, got 3"),
]


@pytest.mark.parametrize(("calls", "match"), BAD)
def test_callbacks_that_are_none(calls, match):
    net = network()
    before = leaves(net)
    with pytest.raises(TypeError, match=match):
        net.fit(*data(), epochs=1, callbacks=calls())
    assert same(leaves(net), before)


def test_one_object_twice():
    one = Calls()
    with pytest.raises(ValueError, match="same object twice"):
        fit(network(), one, one)


MAKES = [
    (lambda: EarlyStopping("error", patience=-1), ValueError, "patience"),
    (lambda: EarlyStopping("error", patience=1.5), TypeError, "patience"),
    (lambda: EarlyStopping("error", min_delta=-0.1), ValueError, "min_delta"),
    (lambda: EarlyStopping("error", mode="maximum"), ValueError, "did you mean 'max'|one of"),
    (lambda: EarlyStopping(3), TypeError, "monitor"),
    (lambda: EarlyStopping("error", restore_best=3), TypeError, "restore_best"),
    (lambda: ReduceLROnPlateau("error", factor=1.5), ValueError, "factor"),
    (lambda: ReduceLROnPlateau("error", patience=0), ValueError, "patience"),
    (lambda: ReduceLROnPlateau("error", least=-1.0), ValueError, "least"),
    (lambda: Checkpoint("x", unit="batch"), ValueError, "unit"),
    (lambda: Checkpoint("x", every=0), ValueError, "every"),
    (lambda: Checkpoint("x", keep=0), ValueError, "keep"),
    (lambda: Checkpoint("x{val_error}"), ValueError, r"\{epoch\} and \{step\} only"),
    (lambda: Checkpoint("x{}"), ValueError, r"\{epoch\} and \{step\} only"),
    (lambda: Checkpoint("x{epoch"), ValueError, r"\{epoch\} and \{step\} only"),
    (lambda: Checkpoint(3), TypeError, "path"),
    (lambda: Checkpoint("x", monitor="error", unit="step"), ValueError, 'leave unit="step" out'),
    (lambda: CSVLogger(""), TypeError, "path"),
    (lambda: TimeLimit(-1), ValueError, "seconds"),
    (lambda: TimeLimit("1h"), TypeError, "seconds"),
]


@pytest.mark.parametrize(("make", "kind", "match"), MAKES)
def test_bad_settings(make, kind, match):
    with pytest.raises(kind, match=match):
        make()


def test_loggers(tmp_path):

    def nothing(y_true, y_pred):
        return np.full(len(y_pred), np.nan)

    fit(network(), JSONLogger(tmp_path / "a"), CSVLogger(tmp_path / "b"), validation_split=0.25, validation_frequency=2)
    first, second = (tmp_path / "a").read_text().splitlines()
    assert re.fullmatch(r'\{"epoch": 1, "step": 2, "error": [\d.]+\}', first)
    assert re.fullmatch(r'\{"epoch": 2, "step": 4, "error": [\d.]+, "val_error": [\d.]+\}', second)
    head, first, second = (tmp_path / "b").read_text().splitlines()
    assert head == "epoch,error,val_error"
    assert re.fullmatch(r"1,[\d.]+,", first)
    assert re.fullmatch(r"2,[\d.]+,[\d.]+", second)
    net = network()
    net.use("mse", optimizer=SGD(0.01), metrics=[nothing])
    fit(net, JSONLogger(tmp_path / "a"), epochs=1)  # starts a new file
    assert re.fullmatch(r'\{"epoch": 1, "step": 2, "error": [\d.]+, "nothing": null\}\n', (tmp_path / "a").read_text())


def test_loggers_show_each_line_at_once(tmp_path):
    lines = []

    class Reads(Callback):
        def on_epoch_end(self, network, epoch, logs):
            lines.append(len((tmp_path / "a").read_text().splitlines()))

    fit(network(), CSVLogger(tmp_path / "a"), Reads(), epochs=3)
    assert lines == [2, 3, 4]


def test_an_own_layer_that_fails_in_a_step():
    class Fails(ScaleLayer):
        count = 0

        def forward(self, X, *, training=False):
            self.count += training
            if self.count == 3:
                self.count += 1
                raise PlantedError
            return super().forward(X)

    calls, net = Calls(), network(layers=[FCLayer(3, 3), Fails(1.0)])
    with pytest.raises(PlantedError):
        fit(net, calls)
    assert (net.step, calls.noted[-1]) == (2, ("on_fit_end",))
    fit(net, epochs=1)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("on_train_begin", "on_fit_begin"), ("on_epoch_ends", "on_epoch_end"), ("on_batch_end", "on_step_end")],
)
def test_a_method_that_fit_never_calls(name, meant):
    mine = type("Mine", (Callback,), {name: lambda self, network: None})
    net = Network([FCLayer(2, 1)], seed=0)
    net.use("mse")
    with pytest.raises(TypeError, match=rf"Mine defines {name}, which fit never calls; .*did you mean '{meant}'"):
        net.fit(np.ones((3, 2)), np.ones((3, 1)), epochs=1, learning_rate=0.1, callbacks=[mine()], verbose=0)
