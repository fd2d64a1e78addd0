"""Validation, callbacks that only read, progress bars and logs change no results; and what fit prints."""

import os
import subprocess
import sys

import numpy as np
import pytest

import runs
from portnn import SGD, Callback, CSVLogger, FCLayer, JSONLogger, Network
from portnn.training.progress import line


class Looks(Callback):
    """Reads, predicts and evaluates in every hook."""

    x, y = runs.data()

    def look(self, network, *rest):
        network.predict(self.x[:5])
        network.evaluate(self.x, self.y, batch_size=7)
        self.seen = {**network.parameters, "step": network.step, "slots": {**network.slots}}

    on_fit_begin = on_epoch_begin = on_step_end = on_epoch_end = on_fit_end = look


@pytest.fixture(scope="module")
def plain():
    return fitted(validation_split=0.1)


def fitted(calls=(), **options):
    net = runs.network()
    x, y = runs.data()
    options = dict(epochs=3, batch_size=6, shuffle=True, verbose=0) | options
    history = net.fit(x, y, callbacks=calls, **options)
    return *runs.come_to(net)[:2], history


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_callbacks_that_only_watch_bar_and_logs(plain, verbose, tmp_path):
    calls = [Looks(), CSVLogger(tmp_path / "a"), JSONLogger(tmp_path / "b")]
    found = fitted(calls, validation_split=0.1, verbose=verbose)
    assert runs.equal(found, plain)
    assert (tmp_path / "a").read_text().splitlines()[
        0
    ] == "epoch,error,accuracy,f1,val_error,val_accuracy,val_f1,learning_rate"
    assert len((tmp_path / "b").read_text().splitlines()) == 3


def test_with_and_without_validation(plain):
    x, y = runs.data()
    start = int(len(x) * 0.9)
    net = runs.network()
    history = net.fit(x[:start], y[:start], epochs=3, batch_size=6, shuffle=True, verbose=0)
    assert runs.same(runs.come_to(net)[0], plain[0])
    assert history == {name: values for name, values in plain[2].items() if not name.startswith("val_")}


@pytest.mark.parametrize("split", [0.1, 0.25, 0.5, 0.95])
def test_a_split_is_that_by_hand(split):
    x, y = runs.data()
    start = int(len(x) * (1 - split))
    nets = runs.network(), runs.network()
    options = dict(epochs=2, batch_size=6, shuffle=True, verbose=0, drop_last=start > 6)
    a = nets[0].fit(x, y, validation_split=split, **options)
    b = nets[1].fit(x[:start], y[:start], validation_data=(x[start:], y[start:]), **options)
    assert runs.same(a, b)
    assert runs.equal(*map(runs.come_to, nets))


def test_both_are_an_error():
    x, y = runs.data()
    with pytest.raises(ValueError, match="validation_data and validation_split"):
        fitted(validation_data=(x, y), validation_split=0.5)


def test_epochs_without_validation_have_nan():
    found = fitted(validation_split=0.1, epochs=5, validation_frequency=2)[2]
    every = fitted(validation_split=0.1, epochs=5)[2]
    assert [np.isnan(value) for value in found["val_error"]] == [True, False, True, False, True]
    assert found["val_f1"][3] == every["val_f1"][3]
    net = runs.network()
    x, y = runs.data()
    for options in ({}, {"validation_split": 0.1}, {}):
        history = net.fit(x, y, epochs=2, batch_size=6, drop_last=True, verbose=0, **options)
    assert "val_error" not in history
    assert {len(values) for values in net.history.values()} == {6}
    assert [np.isnan(value) for value in net.history["val_error"]] == [True, True, False, False, True, True]


def test_no_epochs():
    ends = []

    class Ends(Callback):
        def on_fit_end(self, network):
            ends.append(network.step)

    net = runs.network()
    x, y = runs.data()
    before = runs.come_to(net)
    history = net.fit(x, y, epochs=0, batch_size=6, validation_split=0.1, callbacks=[Ends()])
    assert set(map(len, history.values())) == {0}
    assert repr(history) == "History(0 epochs)"
    now = runs.come_to(net)[0]
    assert all(np.array_equal(now[name], array) for name, array in before[0].items())
    assert (net.step, net.epoch, ends) == (0, 0, [0])


# -- lines and bars ------------------------------------------------------------------------------------------------------


def test_the_line_of_the_article(capfd):
    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse")
    history = net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=3, learning_rate=0.1)
    out, err = capfd.readouterr()
    assert out == "".join(f"epoch {k}/3   error={error:f}\n" for k, error in enumerate(history["error"], 1))
    assert err == ""
    assert line(1, 3, {"error": 0.125}) == "epoch 1/3   error=0.125000"


def test_further_values_are_behind_it(capfd):
    history = fitted(verbose=1, epochs=2, validation_split=0.1, validation_frequency=2)[2]
    first, second = capfd.readouterr().out.splitlines()
    values = {name: values[1] for name, values in history.items()}
    assert first.startswith(f"epoch 1/2   error={history['error'][0]:f}   accuracy={history['accuracy'][0]:.4f}   f1=")
    assert "val_" not in first
    rest = [f"   {name}={values[name]:.4f}" for name in ("accuracy", "f1", "val_error", "val_accuracy", "val_f1")]
    assert second == f"epoch 2/2   error={values['error']:f}{''.join(rest)}   learning_rate={values['learning_rate']:g}"


def test_lines_are_flushed(monkeypatch):
    class Out:
        pending, text = "", ""

        def write(self, text):
            self.pending += text

        def flush(self):
            self.text, self.pending = self.text + self.pending, ""

    out = Out()
    monkeypatch.setattr(sys, "stdout", out)

    class Reads(Callback):
        def on_epoch_end(self, network, epoch, logs):
            assert out.pending == ""
            assert out.text.count("\n") == epoch

    fitted([Reads()], verbose=1)


def screen(written):
    """The lines that remain visible on a terminal, where a carriage return overwrites the line."""
    seen = []
    for text in written.replace("\x1b[A", "").replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in text.split("\r"):
            shown = part + shown[len(part) :]
        seen.append(shown.rstrip())
    return [text for text in seen if text]


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_bar_is_on_stderr_and_vanishes(verbose, capfd):
    fitted(verbose=verbose)
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 3
    if verbose == 1:  # stderr is not a terminal
        assert err == ""
    else:
        assert "epoch 1/3" in err
        assert "8step" in err.replace(" ", "") or "/8" in err
        assert screen(err) == []


SCRIPT = """
import time
import numpy as np
from portnn import Callback, FCLayer, Network
from portnn.training import progress
progress.DELAY = {delay}

class Slow(Callback):
    def on_step_end(self, network, step):
        time.sleep(0.05)

net = Network([FCLayer(3, 1)], seed=1)
net.use("mse")
net.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=1, learning_rate=0.1, callbacks=[Slow()])
"""


@pytest.mark.skipif(os.name != "posix", reason="this system has no pseudo-terminals")
@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.1, 5.0])
def test_a_terminal_shows_the_bar_of_a_long_epoch(delay):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(delay=delay)], stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 4096):
            written += part
    except OSError:  # the end of the output, on Linux
        pass
    out = process.communicate(timeout=60)[0].decode()
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith("epoch 1/1   error=")
    assert ("epoch 1/1:" in written.decode()) == (delay < 1)
    assert screen(written.decode()) == []


def test_a_bar_is_closed_when_a_step_fails(capfd):
    class Fails(Callback):
        def on_step_end(self, network, step):
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        fitted([Fails()], verbose=2)
    assert screen(capfd.readouterr().err) == []


def test_an_iterable_of_unknown_length_has_a_bar(capfd):
    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.1))
    net.fit([(np.ones((2, 3)), np.ones((2, 1)))] * 3, epochs=2, verbose=2)
    assert screen(capfd.readouterr().err) == []
