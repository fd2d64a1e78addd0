"""Which files a Checkpoint writes, and which it removes: its own, and no others."""

import os
import shutil
import signal

import numpy as np
import pytest

from forged import forged
from portnn import SGD, Callback, Checkpoint, FCLayer, Network, load
from portnn.files.reading import newest, read

STEPS = 3  # of an epoch


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


# -- the last one ----------------------------------------------------------------------------------------------------------


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
