"""Signals during fit: between steps and validation batches, with users' handlers, threads and nested fits."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runs
from portnn import SGD, Callback, Checkpoint, EarlyStopping, FCLayer, Network
from portnn.files.reading import read
from states import leaves, same

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system sends no signals to itself")


@pytest.fixture
def terminated():
    """Installs a SIGTERM handler that records the signal."""
    seen = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, previous)


class Sends(Callback):
    """Sends a signal after a step, or at the end of an epoch."""

    def __init__(self, number, step=None, epoch=None):
        self.number, self.step, self.epoch, self.ended = number, step, epoch, 0

    def on_step_end(self, network, step):
        if step == self.step:
            signal.raise_signal(self.number)

    def on_epoch_end(self, network, epoch, logs):
        if epoch == self.epoch:
            signal.raise_signal(self.number)

    def on_fit_end(self, network):
        self.ended += 1


def network():
    net = Network([FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=SGD(0.01, momentum=0.9))
    return net


def fit(net, *calls, epochs=3, **options):
    rng = np.random.default_rng(0)
    options = dict(batch_size=2, verbose=0) | options
    return net.fit(rng.standard_normal((8, 3)), rng.standard_normal((8, 3)), epochs=epochs, callbacks=calls, **options)


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


# -- validation ------------------------------------------------------------------------------------------------------------


class Validates:
    """Batches for validation; a signal is sent while one of them is read."""

    def __init__(self, number, at):
        self.number, self.at, self.given = number, at, 0

    def __iter__(self):
        for _ in range(5):
            self.given += 1
            if self.given == self.at:
                signal.raise_signal(self.number)
            yield np.ones((2, 3)), np.ones((2, 3))


def test_ctrl_c_between_batches_of_validation():
    validates, net = Validates(signal.SIGINT, at=7), network()
    before = handlers()
    with pytest.raises(KeyboardInterrupt):
        fit(net, validation_data=validates)
    assert validates.given == 7
    assert (net.step, net.epoch, len(net.history["error"])) == (8, 1, 1)
    assert handlers() == before
    fit(net, epochs=1)
    assert (net.step, net.epoch, len(net.history["error"])) == (12, 3, 2)  # the interrupted epoch is counted


@pytest.mark.parametrize("at", [2, 6, 8, 15])
def test_sigterm_in_a_validation_and_a_resume(at, tmp_path, terminated):
    """The last checkpoint is from before the validation, so the resumed run starts with it."""

    class LeftError(Exception):
        pass

    def leave(number, frame):
        raise LeftError

    signal.signal(signal.SIGTERM, leave)
    expected, net = network(), network()
    history = fit(expected, Checkpoint(tmp_path / "a"), validation_data=Validates(0, at=-1))
    with pytest.raises(LeftError):
        fit(network(), Checkpoint(tmp_path / "b"), validation_data=Validates(signal.SIGTERM, at))
    saved = read(tmp_path / "b")
    assert (saved.step, saved.position, saved.epoch) == (4 * ((at + 4) // 5), 4, (at - 1) // 5)
    again = fit(net, Checkpoint(tmp_path / "b"), validation_data=Validates(0, at=-1), resume=tmp_path / "b")
    assert again == history
    assert runs.equal(runs.come_to(net), runs.come_to(expected))


# -- SIGTERM ---------------------------------------------------------------------------------------------------------------


def test_sigterm_is_a_checkpoint_then_the_handler_and_then_the_training_goes_on(tmp_path, terminated):
    states = []

    class Looks(Callback):
        def on_step_end(self, network, step):
            states.append(leaves(network))

    net, sends = network(), Sends(signal.SIGTERM, step=6)
    fit(net, sends, Looks(), Checkpoint(tmp_path / "run", every=9), Checkpoint(tmp_path / "best", monitor="error"))
    assert terminated == [signal.SIGTERM]
    saved = read(tmp_path / "run")
    assert (saved.step, saved.epoch, saved.position) == (6, 1, 2)
    net.load_weights(tmp_path / "run")
    parameters = {name: array for name, array in states[5].items() if name.startswith("parameter")}
    assert same({name: array for name, array in leaves(net).items() if name in parameters}, parameters)
    assert (net.step, sends.ended) == (12, 1)
    assert read(tmp_path / "best").epoch == 3


SCRIPT = """
import os, signal, sys, time
sys.path[:0] = {path!r}
import numpy as np
from portnn import Callback, Checkpoint, FCLayer, Network, ScaleLayer

class Hangs(ScaleLayer):
    count = 0
    def forward(self, X, *, training=False):
        self.count += training
        if training and self.count == 3 and {hangs}:
            print("hangs", flush=True)
            while True:
                time.sleep(0.01)
        return super().forward(X)

class Waits(Callback):
    def on_step_end(self, network, step):
        if step == 2:
            print("waits", flush=True)
            time.sleep({waits})

net = Network([FCLayer(3, 3), Hangs(1.0)], seed=1)
net.use("mse")
net.fit(np.ones((8, 3)), np.ones((8, 3)), epochs=1, learning_rate=0.1, verbose=0,
        callbacks=[Waits(), Checkpoint({checkpoint!r})])
print("finished")
"""


def process(tmp_path, hangs=False, waits=0.0):
    checkpoint = str(tmp_path / "run")
    script = SCRIPT.format(path=[path for path in sys.path if path], hangs=hangs, waits=waits, checkpoint=checkpoint)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(running, word):
    while (line := running.stdout.readline()).strip() != word:
        assert line, running.communicate()[1]


def test_sigterm_ends_a_process_after_a_checkpoint(tmp_path):
    running = process(tmp_path, waits=0.3)
    read_until(running, "waits")
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (-signal.SIGTERM, "", "")
    assert (read(tmp_path / "run").step, read(tmp_path / "run").position) == (2, 2)


@pytest.mark.slow
def test_a_second_sigterm_ends_a_step_that_hangs(tmp_path):
    running = process(tmp_path, hangs=True)
    read_until(running, "hangs")
    running.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGTERM
    assert not (tmp_path / "run").exists()  # nothing is saved in the middle of a step


@pytest.mark.slow
def test_sigterm_and_ctrl_c_in_a_step_that_hangs(tmp_path):
    """Ctrl-C ends the step; then SIGTERM, which had arrived before, ends the process."""
    running = process(tmp_path, hangs=True)
    read_until(running, "hangs")
    running.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGTERM
    saved = read(tmp_path / "run")  # the last complete step
    assert (saved.step, saved.position) == (2, 2)


def test_a_checkpoint_that_fails_does_not_keep_the_process_alive(tmp_path, terminated):
    class Removes(Callback):
        def on_step_end(self, network, step):
            if step == 5:
                (tmp_path / "gone").rmdir()

    net = network()
    (tmp_path / "gone").mkdir()
    with pytest.raises(OSError, match="folder"):
        fit(net, Removes(), Sends(signal.SIGTERM, step=6), Checkpoint(tmp_path / "gone" / "run", every=9))
    assert terminated == [signal.SIGTERM]
    assert net.step == 6


def test_no_checkpoint_of_what_is_no_step(tmp_path, terminated):
    """SIGTERM at the end of the fit, or together with an exception in a callback, writes no checkpoint."""

    class Late(Callback):
        def on_fit_end(self, network):
            signal.raise_signal(signal.SIGTERM)

    class Fails(Callback):
        def on_step_end(self, network, step):
            signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("planted")

    stopping = EarlyStopping("error", mode="max", patience=9)
    fit(network(), Late(), stopping, Checkpoint(tmp_path / "run", every=9))
    assert terminated == [signal.SIGTERM]
    with pytest.raises(RuntimeError, match="planted"):
        fit(network(), Fails(), Checkpoint(tmp_path / "run", every=9))
    assert terminated == [signal.SIGTERM] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_signal_as_the_fit_ends_leaves_no_handler_behind(terminated):
    before = handlers()

    class Late(Callback):
        def on_fit_end(self, network):
            signal.raise_signal(signal.SIGTERM)

    fit(network(), Late())
    assert handlers() == before
    fit(network(), Late())
    assert terminated == [signal.SIGTERM] * 2


def test_sigterm_as_the_last_epoch_ends(tmp_path, terminated):
    fit(network(), Sends(signal.SIGTERM, epoch=3), Checkpoint(tmp_path / "run", every=2))
    assert terminated == [signal.SIGTERM]
    assert (read(tmp_path / "run").step, read(tmp_path / "run").position) == (12, 0)


def test_sigterm_and_a_stop_in_one_step(tmp_path, terminated):
    class Stops(Callback):
        def on_step_end(self, network, step):
            network.stop_training = step == 6

    fit(network(), Sends(signal.SIGTERM, step=6), Stops(), Checkpoint(tmp_path / "run"))
    saved = read(tmp_path / "run")
    assert terminated == [signal.SIGTERM]
    assert (saved.step, saved.position, saved.stop_training) == (6, 2, True)


# -- threads, and fits within fits -----------------------------------------------------------------------------------------


def test_a_fit_in_another_thread_sets_no_handlers():
    before, seen, net = handlers(), [], network()

    class Looks(Callback):
        def on_step_end(self, network, step):
            seen.append(handlers())

    thread = threading.Thread(target=fit, args=(net, Looks()))
    thread.start()
    thread.join()
    assert seen == [before] * 12
    assert net.epoch == 3


def test_ctrl_c_while_another_thread_trains():
    """It interrupts the main thread, not the training."""
    net, reached = network(), threading.Event()

    class Waits(Callback):
        def on_step_end(self, network, step):
            reached.set()
            time.sleep(0.01)

    thread = threading.Thread(target=fit, args=(net, Waits()))
    thread.start()
    reached.wait()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    thread.join()
    assert net.step == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_within_a_callback_of_another_networks_fit(number, tmp_path):
    inner, outer = network(), network()
    ended = []

    class Nests(Callback):
        def on_step_end(self, network, step):
            if step == 5:
                fit(inner, Sends(number, step=2), Checkpoint(tmp_path / "inner"))

        def on_fit_end(self, network):
            ended.append(network)

    before = handlers()

    def leave(number, frame):
        raise InterruptedError

    if number == signal.SIGTERM:
        signal.signal(number, leave)
    try:
        with pytest.raises((KeyboardInterrupt, InterruptedError)) as caught:
            fit(outer, Nests(), Checkpoint(tmp_path / "outer", unit="step", every=5))
    finally:
        signal.signal(signal.SIGTERM, before[1])
    assert caught.type is (KeyboardInterrupt if number == signal.SIGINT else InterruptedError)
    assert (inner.step, outer.step) == (2, 5)
    assert ended == [outer]
    assert handlers() == before
    if number == signal.SIGTERM:
        assert read(tmp_path / "inner").step == 2
    for net in (inner, outer):
        fit(net, epochs=1)


def test_signals_that_the_user_ignores_stay_ignored(tmp_path):
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        net = network()
        fit(
            net,
            Sends(signal.SIGTERM, step=2),
            Sends(signal.SIGINT, step=3),
            Checkpoint(Path(tmp_path) / "run", every=9),
        )
        assert net.step == 12
        assert handlers() == (signal.SIG_IGN, signal.SIG_IGN)
        assert list(tmp_path.iterdir()) == []
    finally:
        signal.signal(signal.SIGTERM, previous[0])
        signal.signal(signal.SIGINT, previous[1])


def test_a_handler_that_is_set_within_the_fit_is_kept(terminated):
    def mine(number, frame):
        terminated.append("mine")

    class Sets(Callback):
        def on_step_end(self, network, step):
            signal.signal(signal.SIGTERM, mine)

    fit(network(), Sets(), Sends(signal.SIGTERM, step=5))
    assert terminated == ["mine"]
    assert signal.getsignal(signal.SIGTERM) is mine
