"""Resuming runs within one process: from any step, after Ctrl-C, after a stop, from the newest file."""

import os
import signal
import time
import warnings

import numpy as np
import pytest

import runs
from portnn import (
    SGD,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    FCLayer,
    JSONLogger,
    Network,
    ReduceLROnPlateau,
    TimeLimit,
    sources,
)
from portnn.training import loop


class At(Callback):
    """Runs an action once, after a given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, network, step):
        if step == self.step:
            self.step = None
            self.action(network)


class PlantedError(Exception):
    pass


def fail(network):
    raise PlantedError


def stop(network):
    network.stop_training = True


def interrupt(network):
    signal.raise_signal(signal.SIGINT)


def calls(folder, *more, **options):
    return [*runs.callbacks(folder, **options), *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The final state, the history and the log of an uninterrupted run, with checkpoints by step and by epoch."""
    found = {}
    for unit in ("step", "epoch"):
        folder, net = tmp_path_factory.mktemp(unit), runs.network()
        history = runs.train(net, calls(folder, At(None, fail), unit=unit))
        found[unit] = runs.come_to(net), history, (folder / "log.csv").read_bytes()
    return found


def assert_goes_on(folder, whole, unit="step", **options):
    net = runs.network(seed=7 if (folder / "run").exists() else 1)  # its initial values do not matter
    history = runs.train(net, calls(folder, At(None, fail), unit=unit), resume=folder / "run", **options)
    come_to, expected, log = whole[unit]
    assert runs.equal(runs.come_to(net), come_to)
    assert history == expected
    assert (folder / "log.csv").read_bytes() == log


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("step", [1, 2, 6, 7, 8, 20, 34])
def test_from_any_step(step, unit, tmp_path, whole):
    with pytest.raises(PlantedError):
        runs.train(runs.network(), calls(tmp_path, At(step, fail), unit=unit))
    assert_goes_on(tmp_path, whole, unit)


@pytest.mark.slow
def test_from_every_step(tmp_path, whole):
    for step in range(1, runs.EPOCHS * runs.STEPS + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with pytest.raises(PlantedError):
            runs.train(runs.network(), calls(folder, At(step, fail)))
        assert_goes_on(folder, whole)


def test_again_and_again(tmp_path, whole):
    for step in range(3, runs.EPOCHS * runs.STEPS, 4):
        with pytest.raises(PlantedError):
            runs.train(runs.network(), calls(tmp_path, At(step, fail)), resume=tmp_path / "run")
    assert_goes_on(tmp_path, whole)


def test_after_ctrl_c(tmp_path, whole):
    net = runs.network()
    with pytest.raises(KeyboardInterrupt):
        runs.train(net, calls(tmp_path, At(17, interrupt)))
    assert (net.step, net.epoch) == (17, 2)
    assert_goes_on(tmp_path, whole)


def test_a_run_that_was_told_to_stop_has_ended(tmp_path):
    net = runs.network()
    runs.train(net, calls(tmp_path, At(17, stop)))
    then, log = runs.come_to(net), (tmp_path / "log.csv").read_bytes()
    again = runs.network(seed=7)
    history = runs.train(again, calls(tmp_path, At(17, fail)), resume=tmp_path / "run")
    assert runs.equal(runs.come_to(again), then)
    assert len(history["error"]) == 2
    assert again.stop_training
    assert (tmp_path / "log.csv").read_bytes() == log


@pytest.mark.slow
def test_after_a_time_limit_that_no_checkpoint_has_noted(tmp_path, whole):
    """With checkpoints by epoch, the last file is from before the limit, so the run continues."""

    class Slow(Callback):
        def on_step_end(self, network, step):
            if step == 17:
                time.sleep(0.6)

    net = runs.network()
    runs.train(net, [*runs.callbacks(tmp_path, unit="epoch"), Slow(), TimeLimit(0.5)])
    assert net.step <= 17
    net = runs.network(seed=7)
    runs.train(net, [*runs.callbacks(tmp_path, unit="epoch"), Slow(), TimeLimit(100)], resume=tmp_path / "run")
    assert runs.equal(runs.come_to(net), whole["epoch"][0])


def test_a_finished_run_trains_nothing_and_more_epochs_go_on(tmp_path):
    runs.train(runs.network(), calls(tmp_path), epochs=2)
    net = runs.network(seed=7)
    history = runs.train(net, calls(tmp_path), epochs=2, resume=tmp_path / "run")
    assert (net.step, len(history["error"])) == (2 * runs.STEPS, 2)
    history = runs.train(net, calls(tmp_path), epochs=3, resume=tmp_path / "run")
    assert (net.step, len(history["error"])) == (3 * runs.STEPS, 3)
    other = tmp_path / "other"
    other.mkdir()
    expected = runs.network()
    runs.train(expected, calls(other), epochs=3)
    assert runs.equal(runs.come_to(net), runs.come_to(expected))


def test_epochs_before_the_run_stay_in_the_history(tmp_path):
    nets = runs.network(), runs.network()
    folders = tmp_path / "a", tmp_path / "b"
    for net, folder in zip(nets, folders, strict=True):
        folder.mkdir()
        runs.train(net, epochs=2, validation_split=0.0)
    expected = runs.train(nets[0], calls(folders[0], At(None, fail)), epochs=3)
    with pytest.raises(PlantedError):
        runs.train(nets[1], calls(folders[1], At(25, fail)), epochs=3)
    net = runs.network(seed=7)
    assert runs.train(net, calls(folders[1], At(None, fail)), epochs=3, resume=folders[1] / "run") == expected
    assert runs.equal(runs.come_to(net), runs.come_to(nets[0]))
    assert len(net.history["val_error"]) == 5


class AfterEpoch(At):
    def on_step_end(self, network, step):
        pass

    def on_epoch_end(self, network, epoch, logs):
        super().on_step_end(network, epoch)


@pytest.mark.parametrize("logger", [CSVLogger, JSONLogger])
def test_lines_after_the_checkpoint_are_written_once(logger, tmp_path):
    """Each run fails after writing a line but before its checkpoint; the next run replaces that line."""

    def calls(folder, at):
        return [logger(folder / "log"), AfterEpoch(at, fail), Checkpoint(folder / "run")]

    whole, here = tmp_path / "whole", tmp_path / "here"
    for folder in (whole, here):
        folder.mkdir()
    runs.train(runs.network(), calls(whole, None))
    for epoch in (1, 2, 3, 3, 4, 5):
        with pytest.raises(PlantedError):
            runs.train(runs.network(), calls(here, epoch), resume=here / "run")
    runs.train(runs.network(), calls(here, None), resume=here / "run")
    assert (here / "log").read_bytes() == (whole / "log").read_bytes()


def test_without_a_file_the_run_begins(tmp_path, whole):
    assert_goes_on(tmp_path, whole)


# -- files ---------------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_epoch_and_step_in_paths_and_keep(tmp_path):
    more = [
        Checkpoint(tmp_path / "e{epoch:02}", keep=2),
        Checkpoint(tmp_path / "s{step}-{epoch}", unit="step", every=3),
    ]
    runs.train(runs.network(), more, epochs=3)
    assert names(tmp_path) == sorted(
        ["e02", "e03", *(f"s{step}-{(step - 1) // runs.STEPS + 1}" for step in range(3, 22, 3))]
    )


def test_resume_takes_the_newest(tmp_path, whole):
    """The file with the latest modification time or, if times are equal, with the largest number."""
    path = "run{step}"
    with pytest.raises(PlantedError):
        runs.train(runs.network(), calls(tmp_path, At(12, fail), path=path, keep=3))
    assert [name for name in names(tmp_path) if name != "log.csv"] == ["run10", "run11", "run9"]
    now = time.time_ns()
    for name in ("run9", "run10", "run11"):
        os.utime(tmp_path / name, ns=(now, now))
    net = runs.network(seed=7)
    with pytest.raises(PlantedError):
        runs.train(net, calls(tmp_path, At(12, fail), path=path, keep=3), resume=tmp_path / path)
    assert net.step == 12
    assert [name for name in names(tmp_path) if name != "log.csv"] == ["run10", "run11", "run9"]
    os.utime(tmp_path / "run9", ns=(now + 1, now + 1))
    runs.train(net, calls(tmp_path, At(None, fail), path=path, keep=3), resume=tmp_path / path)
    assert runs.equal(runs.come_to(net), whole["step"][0])
    assert [name for name in names(tmp_path) if name != "log.csv"] == ["run33", "run34", "run35"]


@pytest.mark.parametrize("path", ["{step}", "{epoch:03}-{step:_>4}", "{step:06d}", "{step:x}", "[a] {step}*"])
def test_other_files_beside_checkpoints(path, tmp_path, whole):
    with pytest.raises(PlantedError):
        runs.train(runs.network(), calls(tmp_path, At(19, fail), path=path))
    found = sorted((tmp_path / "log.csv").parent.iterdir(), key=lambda each: each.stat().st_mtime_ns)
    assert len(found) == 1 + 18
    if path != "{step:x}":  # where names of letters could be hexadecimal numbers
        (tmp_path / "notes").write_text("newer")
        (tmp_path / "best").write_text("newer")
    net = runs.network(seed=7)
    runs.train(net, calls(tmp_path, At(None, fail), path=path), resume=tmp_path / path)
    assert runs.equal(runs.come_to(net), whole["step"][0])


class Table:
    """A row source that is read by slices and index arrays."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, some):
        return self.rows[some]


def batches():
    x, y = runs.data()
    return [(x[k : k + 4], y[k : k + 4]) for k in range(0, 44, 4)]


SLOW = pytest.mark.slow
SOURCES = {
    "rows": lambda: (Table(runs.data()[0]), runs.data()[1], dict(batch_size=6, shuffle=True)),
    "rows in order": lambda: (Table(runs.data()[0]), runs.data()[1], dict(batch_size=6, validation_split=0.2)),
    "batches": lambda: (batches(), None, {}),
    "batches in epochs of seven": lambda: (batches(), None, dict(steps_per_epoch=7)),
    "a function": lambda: (lambda: iter(batches()), None, {}),
    "a function, in epochs of four": lambda: (lambda: iter(batches()), None, dict(steps_per_epoch=4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize(
    "step", [3, pytest.param(8, marks=SLOW), pytest.param(12, marks=SLOW), 15, pytest.param(23, marks=SLOW)]
)
def test_every_source_of_samples(source, step, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 400)  # two batches of rows

    def train(net, *more, **options):
        x, y, given = source()
        return net.fit(
            x, y, epochs=4, verbose=0, callbacks=[Checkpoint(tmp_path / "run", unit="step"), *more], **given | options
        )

    whole, net = runs.network(), runs.network(seed=7)
    history = train(whole, At(None, fail))
    (tmp_path / "run").unlink()
    if step < whole.step:
        with pytest.raises(PlantedError):
            train(runs.network(), At(step, fail))
    again = train(net if (tmp_path / "run").exists() else runs.network(), At(None, fail), resume=tmp_path / "run")
    assert again == history
    assert runs.equal(runs.come_to(net), runs.come_to(whole)) or step >= whole.step


def test_a_crash_before_old_files_are_removed_leaves_none_behind(tmp_path, monkeypatch):
    from pathlib import Path

    def crash(self, **options):
        raise PlantedError

    monkeypatch.setattr(Path, "unlink", crash)
    with pytest.raises(PlantedError):
        runs.train(runs.network(), calls(tmp_path, path="run{step}", keep=2))
    monkeypatch.undo()
    assert [name for name in names(tmp_path) if name != "log.csv"] == ["run1", "run2", "run3"]
    runs.train(runs.network(), calls(tmp_path, path="run{step}", keep=2), resume=tmp_path / "run{step}")
    assert [name for name in names(tmp_path) if name != "log.csv"] == ["run34", "run35"]


def test_a_checkpoint_that_was_due_is_written_when_the_run_goes_on(tmp_path, monkeypatch):
    """A run that was killed between writing two files of the same step."""
    first, second = tmp_path / "a", tmp_path / "b"
    both = lambda: [Checkpoint(first, unit="step"), Checkpoint(second, unit="step", every=9)]  # noqa: E731
    write = Checkpoint.write

    def crash(self, epoch, step, save):
        if step == 9 and self.path == str(second):
            raise PlantedError
        write(self, epoch, step, save)

    monkeypatch.setattr(Checkpoint, "write", crash)
    with pytest.raises(PlantedError):
        runs.train(runs.network(), both())
    monkeypatch.undo()
    assert not second.exists()
    net = runs.network(seed=7)
    runs.train(net, both(), epochs=2, resume=first)
    expected = runs.network()
    folder = tmp_path / "whole"
    folder.mkdir()
    runs.train(
        expected, [Checkpoint(folder / "a", unit="step"), Checkpoint(folder / "b", unit="step", every=9)], epochs=2
    )
    assert runs.equal(runs.come_to(net), runs.come_to(expected))
    assert second.exists()


# -- errors and warnings -----------------------------------------------------------------------------------------------


def unchanged_by(net, action, match, kind=ValueError):
    before = runs.come_to(net)
    with pytest.raises(kind, match=match):
        action()
    assert runs.equal(runs.come_to(net), before)


def test_other_callbacks_are_refused_before_anything_changes(tmp_path):
    runs.train(runs.network(), calls(tmp_path), epochs=1)
    net = runs.network(seed=7)
    for other in ([], calls(tmp_path)[::-1], [*calls(tmp_path), TimeLimit(9)]):
        match = "callbacks EarlyStopping, ReduceLROnPlateau, CSVLogger, Checkpoint, this one has"
        unchanged_by(net, lambda other=other: runs.train(net, other, resume=tmp_path / "run"), match)


def test_a_network_that_was_saved_is_no_run(tmp_path):
    net = runs.network()
    net.save(tmp_path / "net")
    unchanged_by(net, lambda: runs.train(net, resume=tmp_path / "net"), "written by save.*Checkpoint.*portnn.load")


def test_another_batch_size_in_the_middle_of_an_epoch(tmp_path):
    with pytest.raises(PlantedError):
        runs.train(runs.network(), calls(tmp_path, At(4, fail)))
    net = runs.network(seed=7)
    more = calls(tmp_path, At(4, fail))
    unchanged_by(net, lambda: runs.train(net, more, batch_size=5, resume=tmp_path / "run"), "batch_size")
    unchanged_by(net, lambda: runs.train(net, more, steps_per_epoch=5, resume=tmp_path / "run"), "steps")


def test_an_iterator_cannot_be_resumed(tmp_path):
    batches = [(np.ones((2, 3)), np.ones((2, 1)))] * 9

    def made():
        net = Network([FCLayer(3, 1)], seed=1)
        net.use("mse", optimizer=SGD(0.1))
        return net

    expected, net = made(), made()
    expected.fit(batches, epochs=3, steps_per_epoch=4, verbose=0)
    made().fit(batches, epochs=2, steps_per_epoch=4, verbose=0, callbacks=[Checkpoint(tmp_path / "run")])
    options = dict(epochs=3, steps_per_epoch=4, verbose=0, resume=tmp_path / "run")
    more = [Checkpoint(tmp_path / "run")]
    unchanged_by(net, lambda: net.fit(iter(batches), callbacks=more, **options), "iterator")
    net.fit(batches, callbacks=more, **options)
    assert runs.equal(runs.come_to(net), runs.come_to(expected))


def test_another_environment_is_a_warning_at_the_call(tmp_path, monkeypatch):
    runs.train(runs.network(), calls(tmp_path), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.train(runs.network(), calls(tmp_path), epochs=1, resume=tmp_path / "run")
    monkeypatch.setattr(np, "__version__", "1.0")
    with pytest.warns(loop.ResumeWarning, match=r"numpy .*, now 1\.0") as caught:
        runs.train(runs.network(), calls(tmp_path), epochs=1, resume=tmp_path / "run")
    assert caught[0].filename == runs.__file__


def test_a_callback_that_stops_as_the_fit_begins_is_obeyed(tmp_path):
    class Never(Callback):
        def on_fit_begin(self, network):
            network.stop_training = True

    runs.train(runs.network(), [Checkpoint(tmp_path / "run"), EarlyStopping()], epochs=1)
    net = runs.network()

    class EarlyStopping_(Never):
        pass

    EarlyStopping_.__name__ = "EarlyStopping"
    runs.train(net, [Checkpoint(tmp_path / "run"), EarlyStopping_()], epochs=3, resume=tmp_path / "run")
    assert net.step == runs.STEPS


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_what_a_callback_does_to_the_learning_rate_is_logged_as_in_the_first_run(epochs, tmp_path):
    """The factor changes after the fit has begun; the history still has all rates."""

    class Halves(Callback):
        def on_epoch_end(self, network, epoch, logs):
            network.learning_rate_factor /= 2

    x, y = np.ones((8, 3)), np.zeros((8, 1))

    def made():
        net = Network([FCLayer(3, 1)], seed=1)
        net.use("mse", optimizer=SGD(0.1))
        return net

    whole, net = made(), made()
    more = lambda name: [Halves(), JSONLogger(tmp_path / f"{name}.log"), Checkpoint(tmp_path / name)]  # noqa: E731
    history = whole.fit(x, y, epochs=4, verbose=0, callbacks=more("whole"))
    made().fit(x, y, epochs=epochs, verbose=0, callbacks=more("run"))
    assert net.fit(x, y, epochs=4, verbose=0, callbacks=more("run"), resume=tmp_path / "run") == history
    assert history["learning_rate"] == [0.1, 0.05, 0.025, 0.0125]
    assert runs.equal(runs.come_to(net), runs.come_to(whole))
    assert (tmp_path / "run.log").read_bytes() == (tmp_path / "whole.log").read_bytes()


def test_a_plateau_in_one_run_and_in_two(tmp_path):
    x, y = np.ones((8, 3)), np.zeros((8, 1))

    def made():
        net = Network([FCLayer(3, 1)], seed=1)
        net.use("mse", optimizer=SGD(0.5))
        return net

    more = lambda name: [ReduceLROnPlateau("error", patience=1, factor=0.5), Checkpoint(tmp_path / name)]  # noqa: E731
    whole, net = made(), made()
    history = whole.fit(x, y, epochs=9, verbose=0, callbacks=more("whole"))
    made().fit(x, y, epochs=4, verbose=0, callbacks=more("run"))
    assert net.fit(x, y, epochs=9, verbose=0, callbacks=more("run"), resume=tmp_path / "run") == history
    assert len(set(history["learning_rate"])) > 2
    assert runs.equal(runs.come_to(net), runs.come_to(whole))
