"""Resuming validates files as strictly as load: invalid contents raise FileError, and nothing is changed."""

import copy

import numpy as np
import pytest

import runs
from forged import forged
from portnn import SGD, Callback, Checkpoint, CSVLogger, EarlyStopping, FCLayer, Network, ReduceLROnPlateau
from portnn.files import FileError

BROKEN = dict(epochs=3, batch_size=4, verbose=0)
X = np.random.default_rng(0).standard_normal((12, 4))


class Die(Callback):
    """Ends a run with an error after a given step."""

    step = None

    def on_step_end(self, network, step):
        if step == self.step:
            raise ZeroDivisionError


class Counts(Callback):
    """A user's callback that counts steps, and rejects a state only after it has assigned it."""

    number = 0

    def on_step_end(self, network, step):
        self.number += 1

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]
        if self.number < 0:
            raise RuntimeError("less than none")


def network(optimizer="adam", seed=1):
    net = Network([FCLayer(4, 3), FCLayer(3, 2)], seed=seed)
    net.use("mse", optimizer=optimizer, metrics=["r2"])
    return net


def callbacks(folder, **options):
    log, checkpoint = CSVLogger(folder / "log.csv"), Checkpoint(folder / "run", unit="step")
    return [Counts(), EarlyStopping("error", patience=9), log, checkpoint, Die()]


@pytest.fixture
def data(tmp_path):
    calls = callbacks(tmp_path)
    calls[-1].step = 5
    with pytest.raises(ZeroDivisionError):
        network().fit(X, X[:, :2], callbacks=calls, **BROKEN)
    return (tmp_path / "run").read_bytes()


def state(about, i):
    return about["callbacks"][i]["state"]["dict"]


def renamed(old, new):
    return lambda header: header.update({new: header.pop(old)})


def layer(**values):
    return dict(change=lambda about: about["layers"][0].update(values))


def sets(i, **values):
    return dict(change=lambda about: state(about, i).update(values))


FORGED = {
    "layers without class": (dict(change=lambda about: about["layers"][0].pop("class")), "describes a layer"),
    "arguments that are a list": (layer(arguments=[]), "describes a layer"),
    "children that are a number": (layer(children=3), "describes a layer"),
    "an optimizer without class": (dict(change=lambda about: about["optimizer"].pop("class")), "optimizer is"),
    "metrics in metrics": (dict(change=lambda about: about.update(metrics=[["r2"]])), "metrics"),
    "no size of a batch": (dict(tensors=renamed("counters/samples of a batch", "counters/x")), "samples of a batch is missing"),
    "no samples": (dict(tensors=renamed("counters/samples of the epoch", "counters/x")), "samples of the epoch is missing"),
    "no sum": (dict(tensors=renamed("counters/sum of error", "counters/x")), "sum of error: none in the file"),
    "an additional sum": (dict(tensors=renamed("counters/sum of r2", "counters/sum of r3")), "sum of r3: of shape"),
    "a misshapen sum": (dict(tensors=lambda h: h["counters/sum of error"].update(shape=[1])), r"sum of error: of shape \(1,\)"),
    "a misshapen counter": (dict(tensors=lambda h: h["counters/epochs of the run"].update(shape=[1])), "epochs of the run is"),
    "a counter of another kind": (dict(tensors=lambda h: h["counters/samples of the epoch"].update(dtype="F64")), "a whole number"),
    "a state without best": (dict(change=lambda about: state(about, 1).pop("best")), r"callback 1 \(EarlyStopping\).*lacks best"),
    "a best text": (sets(1, best="x"), "best must be float or int"),
    "a negative number of waited epochs": (sets(1, waited=-1), "waited must be int, 0 or more"),
    "best arrays that are a list": (sets(1, best_arrays={"list": []}), "best_arrays must be dict or NoneType"),
    "best arrays of another network": (sets(1, best_arrays={"dict": {}}), r"copy of parameters/0.weights must be .*got None"),
    "a list as state": (dict(change=lambda about: about["callbacks"][1].update(state={"list": []})), "must be a dict"),
    "a negative size": (sets(2, size=-5), r"callback 2 \(CSVLogger\).*size must be int, 0 or more"),
    "columns of numbers": (sets(2, columns={"list": [3]}), "columns must be a list of texts"),
    "written that is a number": (sets(3, written=3), "written must be list"),
    "due that is a number": (sets(3, due=1), "due must be bool"),
    "a state that a user's callback rejects": (sets(0, number=-3), r"callback 0 \(Counts\).*RuntimeError: less than none"),
    "a user's state without its key": (dict(change=lambda about: state(about, 0).clear()), "KeyError: 'number'"),
    "a position behind the epoch": (dict(change=lambda about: about.update(position=4)), "position is 4, in an epoch of 3"),
    "an empty history": (dict(change=lambda about: about.update(history={})), "no error"),
    "a history of fewer epochs": (dict(change=lambda about: about["history"].update(error=[], r2=[])), "has 1 epochs, but the history"),
    "a history of different lengths": (dict(change=lambda about: about["history"].update(r2=[1.0, 2.0])), "2 of r2"),
    "more epochs than the network has": (dict(change=lambda about: about.update(epoch=0)), "epochs of the run is 1"),
}  # fmt: skip


@pytest.mark.parametrize(("forgery", "match"), FORGED.values(), ids=FORGED.keys())
def test_what_no_fit_writes_is_refused(forgery, match, data, tmp_path):
    (tmp_path / "run").write_bytes(forged(data, **forgery))
    net, calls = network(seed=2), callbacks(tmp_path)
    net.fit(X, X[:, :2], epochs=1, verbose=0)
    before, then = runs.come_to(copy.deepcopy(net)), [copy.deepcopy(call.state_dict()) for call in calls]
    with pytest.raises(FileError, match=f"(?s)run: .*{match}"):
        net.fit(X, X[:, :2], callbacks=calls, resume=tmp_path / "run", **BROKEN)
    assert runs.equal(runs.come_to(net), before)
    assert [call.state_dict() for call in calls] == then
    net.fit(X, X[:, :2], epochs=1, verbose=0)


def test_the_file_as_it_was_goes_on(data, tmp_path):
    (tmp_path / "run").write_bytes(forged(data))
    net, whole = network(seed=2), network()
    net.fit(X, X[:, :2], callbacks=callbacks(tmp_path), resume=tmp_path / "run", **BROKEN)
    whole.fit(X, X[:, :2], **BROKEN)
    assert runs.equal(runs.come_to(net), runs.come_to(whole))


# -- differences from the interrupted run ------------------------------------------------------------------------------


def fitted(tmp_path, calls, epochs, net=None, **options):
    net = network(SGD(0.1)) if net is None else net
    net.fit(X, X[:, :2], epochs=epochs, verbose=0, callbacks=[*calls, Checkpoint(tmp_path / "run")], **options)
    return net


OTHER = {
    "another monitor": ([EarlyStopping("error")], [EarlyStopping("r2")], "'error' of which the smallest is best.*'r2'"),
    "another mode": ([EarlyStopping("error")], [EarlyStopping("error", mode="max")], "the largest is best"),
    "two swapped": (
        [ReduceLROnPlateau("error"), ReduceLROnPlateau("r2")],
        [ReduceLROnPlateau("r2"), ReduceLROnPlateau("error")],
        r"callback 0 \(ReduceLROnPlateau\)",
    ),
}


@pytest.mark.parametrize(("first", "second", "match"), OTHER.values(), ids=OTHER.keys())
def test_callbacks_that_watch_something_else(first, second, match, tmp_path):
    fitted(tmp_path, first, 2)
    with pytest.raises(FileError, match=match):
        fitted(tmp_path, second, 4, resume=tmp_path / "run")


def test_what_only_changes_later_epochs_may_differ(tmp_path):
    fitted(tmp_path, [EarlyStopping("error", patience=5, mode="min")], 2)
    assert fitted(tmp_path, [EarlyStopping("error", patience=9)], 4, resume=tmp_path / "run").epoch == 4


def test_a_state_of_an_older_version_is_not_compared(tmp_path):
    fitted(tmp_path, [EarlyStopping("error")], 2)

    def older(about):
        for name in ("monitor", "larger_is_better"):
            del state(about, 0)[name]

    (tmp_path / "run").write_bytes(forged((tmp_path / "run").read_bytes(), older))
    assert fitted(tmp_path, [EarlyStopping("r2", patience=9)], 4, resume=tmp_path / "run").epoch == 4


def test_another_learning_rate_given_to_fit(tmp_path):
    fitted(tmp_path, [], 1, network(None), learning_rate=0.1)
    net = network(None)
    match = r"run: the optimizer of fit.learning_rate is 0.1 in the file, but 0.25"
    with pytest.raises(FileError, match=match):
        fitted(tmp_path, [], 2, net, learning_rate=0.25, resume=tmp_path / "run")
    assert net.step == 0
    older = forged((tmp_path / "run").read_bytes(), lambda about: about.pop("fit_optimizer"))
    assert fitted(tmp_path, [], 2, net, learning_rate=0.1, resume=tmp_path / "run").epoch == 2
    (tmp_path / "run").write_bytes(older)
    assert fitted(tmp_path, [], 2, network(None), learning_rate=0.25, resume=tmp_path / "run").epoch == 2


def test_a_layer_that_is_frozen_before_the_resume_only(tmp_path):
    fitted(tmp_path, [], 1)
    net = network(SGD(0.1))
    net.layers[1].trainable = False
    with pytest.raises(FileError, match="layer 1 is trainable in the file, but frozen"):
        fitted(tmp_path, [], 2, net, resume=tmp_path / "run")
    assert (net.step, net.layers[1].trainable) == (0, False)


# -- batches that depend on the epoch --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stopped", "before"), [(1, 0), (2, 0), (3, 0), (3, 2)])
def test_a_function_that_asks_for_the_epoch_and_steps_per_epoch(stopped, before, tmp_path):
    def run(net, epochs, **options):
        def batches():
            order = np.random.default_rng([1, net.epoch]).permutation(len(X))
            for start in range(0, len(X), 3):
                some = np.sort(order[start : start + 3])
                yield X[some], X[some, :2]

        more = [Checkpoint(tmp_path / "run")]
        return net.fit(batches, epochs=epochs, steps_per_epoch=3, verbose=0, callbacks=more, **options)

    whole, part, again = (network(SGD(0.1)) for _ in range(3))
    for net in (whole, part):
        net.fit(X, X[:, :2], epochs=before, verbose=0)
    run(whole, 5)
    run(part, stopped)
    assert run(again, 5, resume=tmp_path / "run")["error"] == whole.history["error"][before:]
    assert runs.equal(runs.come_to(again), runs.come_to(whole))


def test_fewer_batches_than_the_run_has_had(tmp_path):
    batches = [(X[k : k + 2], X[k : k + 2, :2]) for k in range(0, 12, 2)]
    calls = lambda: [Checkpoint(tmp_path / "run", unit="step"), Die()]  # noqa: E731
    broken = calls()
    broken[1].step = 6
    with pytest.raises(ZeroDivisionError):
        network().fit(batches, epochs=2, verbose=0, callbacks=broken)
    with pytest.raises(ValueError, match="x gave 3 batches, but the run was interrupted after 5"):
        network().fit(batches[:3], epochs=2, verbose=0, callbacks=calls(), resume=tmp_path / "run")
