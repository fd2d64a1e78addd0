"""Which files a Checkpoint writes, and that it removes only its own; time limits and logs."""

import os
import shutil
import signal

import numpy as np
import pytest

from forged import forged
from portnn import SGD, Callback, Checkpoint, CSVLogger, EarlyStopping, FCLayer, JSONLogger, Network, TimeLimit, load
from portnn.files.reading import newest, read

STEPS = 3  # per epoch


def network():
    net = Network([FCLayer(4, 2)], seed=1)
    net.use("mse", optimizer=SGD(0.1, momentum=0.9))
    return net


def fit(*calls, epochs, net=None, **options):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 4))
    net = net or network()
    net.fit(x, x[:, :2], epochs=epochs, batch_size=4, verbose=0, callbacks=calls, **options)
    return net


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- keep ------------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_copied_removes_no_file_of_the_original(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    fit(Checkpoint(first / "ck-{epoch}", keep=2), epochs=3)
    shutil.copytree(first, second)
    fit(Checkpoint(second / "ck-{epoch}", keep=2), epochs=6, resume=second / "ck-{epoch}")
    assert names(first) == ["ck-2", "ck-3"]
    assert names(second) == ["ck-5", "ck-6"]


@pytest.mark.parametrize("entry", ["{victim}", ["{victim}", 1], [1.5, 2], [-1, 2], [True, 2], None, [1]])
def test_what_a_file_lists_cannot_name_others_to_be_removed(entry, tmp_path):
    victim = tmp_path / "thesis.tex"
    victim.write_text("...")
    entry = str(victim) if entry == "{victim}" else entry
    path = tmp_path / "ck-{epoch}"
    fit(Checkpoint(path, keep=1), epochs=1)

    def change(about):
        about["callbacks"][0]["state"]["dict"]["written"] = {"list": [entry, [1, 3]]}

    (tmp_path / "ck-1").write_bytes(forged((tmp_path / "ck-1").read_bytes(), change))
    fit(Checkpoint(path, keep=1), epochs=2, resume=path)
    assert names(tmp_path) == ["ck-2", "thesis.tex"]


def test_files_of_an_earlier_run_stay(tmp_path):
    fit(Checkpoint(tmp_path / "ck-{epoch}"), epochs=3)
    fit(Checkpoint(tmp_path / "ck-{epoch}", keep=1), epochs=2)
    assert names(tmp_path) == ["ck-2", "ck-3"]


def test_several_files_of_one_name():
    with pytest.raises(ValueError, match=r"keep=3 needs a path with \{epoch\} or \{step\}, got 'run'"):
        Checkpoint("run", keep=3)
    Checkpoint("run", keep=1)
    checkpoint = Checkpoint("run")
    checkpoint.keep = 2
    with pytest.raises(ValueError, match="keep=2 needs a path"):
        fit(checkpoint, epochs=1)


def test_another_folder_within_the_fit(tmp_path, monkeypatch):
    class Goes(Callback):
        def on_epoch_end(self, network, epoch, logs):
            os.chdir(tmp_path / "other")

    for name in ("{begun}", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "{begun}")
    fit(Goes(), Checkpoint("ck-{epoch}", keep=2), epochs=4)
    assert names(tmp_path / "{begun}") == ["ck-3", "ck-4"]
    assert names(tmp_path / "other") == []


# -- the file at SIGTERM -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="this system sends no signals to itself")
def test_sigterm_within_an_epoch_leaves_the_file_of_the_epoch_before(tmp_path):
    class LeftError(Exception):
        pass

    class Sends(Callback):
        def on_step_end(self, network, step):
            if step == 2 * STEPS + 2 and sends:
                signal.raise_signal(signal.SIGTERM)

    def leave(number, frame):
        raise LeftError

    path, sends = tmp_path / "epoch-{epoch}", True
    previous = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(LeftError):
            fit(Sends(), Checkpoint(path, keep=2), epochs=4)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert names(tmp_path) == ["epoch-2", "epoch-3"]
    assert [read(tmp_path / name).step for name in names(tmp_path)] == [2 * STEPS, 2 * STEPS + 2]
    assert newest(path) == str(tmp_path / "epoch-3")
    clean = fit(epochs=2)
    assert np.array_equal(load(tmp_path / "epoch-2").layers[0].weights, clean.layers[0].weights)
    sends = False
    fit(Sends(), Checkpoint(path, keep=2), epochs=3, resume=path)
    assert names(tmp_path) == ["epoch-2", "epoch-3"]
    assert (read(tmp_path / "epoch-3").step, read(tmp_path / "epoch-3").position) == (3 * STEPS, 0)
    net = fit(Sends(), Checkpoint(path, keep=2), epochs=4, resume=path)
    assert names(tmp_path) == ["epoch-3", "epoch-4"]
    assert np.array_equal(net.layers[0].weights, fit(epochs=4).layers[0].weights)


# -- a time limit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"unit": "step"}, {"unit": "epoch"}, {"every": 9}, {"unit": "step", "every": 2}])
def test_a_run_that_a_time_limit_stopped_goes_on(options, tmp_path):
    expected, path, steps = fit(epochs=3), tmp_path / "run", []
    for _ in range(3 * STEPS):
        net = fit(TimeLimit(0.0), Checkpoint(path, **options), epochs=3, resume=path)
        steps.append(net.step)
        assert not read(path).stop_training
    assert net.stop_training
    assert steps == list(range(1, 3 * STEPS + 1))
    assert np.array_equal(net.layers[0].weights, expected.layers[0].weights)
    assert net.history == expected.history


def test_what_stops_beside_a_time_limit_stays_stopped(tmp_path):
    class Stops(Callback):
        def on_step_end(self, network, step):
            network.stop_training = step == 4

    path = tmp_path / "run"
    for _ in range(2):
        calls = [Stops(), TimeLimit(1000.0), Checkpoint(path, unit="step")]
        assert fit(*calls, epochs=3, resume=path).step == 4
    assert read(path).stop_training
    path = tmp_path / "both"
    for _ in range(3):
        net = fit(TimeLimit(0.0), EarlyStopping("error", min_delta=1e9), Checkpoint(path), epochs=9, resume=path)
    assert net.step == STEPS  # the first epoch is the best so far
    for _ in range(9):
        net = fit(TimeLimit(0.0), EarlyStopping("error", min_delta=1e9), Checkpoint(path), epochs=9, resume=path)
    assert net.step == 2 * STEPS


def test_a_time_limit_saves_the_best_epoch_no_more(tmp_path):
    fit(TimeLimit(0.0), Checkpoint(tmp_path / "best", monitor="error"), epochs=3)
    assert names(tmp_path) == []


# -- logs ------------------------------------------------------------------------------------------------------------------


def test_a_log_in_another_folder_and_one_that_was_lost(tmp_path, monkeypatch):
    class Goes(Callback):
        def on_epoch_end(self, network, epoch, logs):
            os.chdir(tmp_path / "other")

    def calls():
        return [Goes(), CSVLogger("a.csv"), JSONLogger("a.json"), Checkpoint("run")]

    for name in ("begun", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "begun")
    fit(*calls(), epochs=2)
    assert names(tmp_path / "begun") == ["a.csv", "a.json", "run"]
    assert names(tmp_path / "other") == []
    monkeypatch.chdir(tmp_path / "begun")
    whole = (tmp_path / "begun" / "a.csv").read_text().splitlines()
    assert len(whole) == 3
    os.remove("a.csv")
    fit(*calls(), epochs=3, resume="run")
    head, line = (tmp_path / "begun" / "a.csv").read_text().splitlines()
    assert (head, line[:2]) == (whole[0], "3,")


def test_what_a_callback_does_to_its_logs_is_its_own():
    seen = []

    class Clears(Callback):
        def on_epoch_end(self, network, epoch, logs):
            seen.append(dict(logs))
            logs.clear()

    net = fit(Clears(), EarlyStopping("error", min_delta=1e9), Clears(), epochs=5)
    assert net.epoch == 2
    assert seen[0] == seen[1] == {"error": net.history["error"][0]}
