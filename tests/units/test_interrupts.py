"""A train step is atomic, whatever interrupts it: a signal, Ctrl-C, or a fit of another network inside it."""

import os
import signal
import threading
from functools import partial
from time import perf_counter

import numpy as np
import pytest

from portnn import SGD, ActivationLayer, Adam, BatchNormLayer, FCLayer, Network
from portnn.training.state import State
from states import fit, leaves, same, slow_network


class AlarmError(Exception):
    pass


def interrupted_runs(number, interruptions, optimizer):
    """Trains while a signal handler raises at random moments, until that has happened ``interruptions`` times.

    Returns the number of inconsistencies: states that are not the state after a single step.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 2))

    def make():
        net = Network([FCLayer(6, 5), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1)
        net.use("mse", optimizer=optimizer())
        net.predict(x)
        return net

    def train(net):
        net.fit(x, y, epochs=15, batch_size=2, shuffle=True, verbose=0)

    whole, commit = make(), State.commit
    states = {}

    def noted(self, leaves_now):
        commit(self, leaves_now)
        states[whole.step] = leaves(whole)

    State.commit = noted
    try:
        train(whole)
    finally:
        State.commit = commit
    armed = []

    def handler(number, frame):
        if armed:
            raise AlarmError

    began = perf_counter()
    train(make())
    latest = perf_counter() - began  # so that most signals arrive during a fit
    previous = signal.getsignal(number)
    if number != signal.SIGINT:  # for Ctrl-C, fit installs its own handler
        signal.signal(number, handler)
    mixed = stopped = runs = 0
    try:
        while stopped < interruptions:
            net, runs = make(), runs + 1
            assert runs < 10 * interruptions, f"only {stopped} alarms struck"
            try:
                armed.append(True)
                called_off = sent_after(rng.uniform(1e-4, latest), number)
                try:
                    train(net)
                    armed.clear()
                finally:
                    called_off()
            except (AlarmError, KeyboardInterrupt):
                stopped += 1
            armed.clear()
            if net.step:  # before the first step, the optimizer's slots may be missing or zero
                counts = {layer._updates(name, net.step) for layer in net.walk() for name in layer.parameters}
                mixed += not same(leaves(net), states[net.step])
                mixed += counts != {net.step} or any(len(values) != net.epoch for values in net.history.values())
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                with pytest.raises(KeyboardInterrupt):  # fit's handler was left behind; the next Ctrl-C removes it
                    signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert net.turns.held() is None
    finally:
        signal.signal(number, previous)
    return mixed


def sent_after(seconds, number):
    """Sends this process a signal after some time. Returns a function that cancels it, or waits until it is sent."""
    timer = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}.get(number)
    if timer is not None:
        signal.setitimer(timer, seconds)
        return lambda: signal.setitimer(timer, 0)
    thread = threading.Timer(seconds, os.kill, (os.getpid(), number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})  # Thread.start does not bear an exception
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def called_off():
        thread.cancel()
        thread.join()

    return called_off


needs_timers = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no timers that send signals"
)
optimizers = pytest.mark.parametrize("optimizer", [Adam, partial(SGD, 0.05, momentum=0.9)], ids=["Adam", "SGD"])


# Python ignores exceptions that a handler raises in a destructor or in a callback of the garbage collector (Hypothesis
# installs one); training then continues.
dropped = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@needs_timers
@dropped
@optimizers
def test_a_handler_that_raises_anywhere_leaves_the_state_of_one_step(optimizer):
    assert interrupted_runs(signal.SIGALRM, 60, optimizer) == 0


@needs_timers
@dropped
@pytest.mark.slow
@optimizers
@pytest.mark.parametrize("name", ["SIGALRM", "SIGVTALRM", "SIGTERM", "SIGINT"])
def test_thousands_of_handlers_that_raise_leave_the_state_of_one_step(name, optimizer):
    assert interrupted_runs(getattr(signal, name), 2000, optimizer) == 0


def test_ctrl_c_is_not_lost_when_the_same_step_fails():
    def fail():
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("planted")

    net = slow_network(fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(net)
    assert str(caught.value.__context__) == "planted"
    assert net.step == 2


def test_ctrl_c_twice_ends_a_step_that_hangs():
    def hang():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    net = slow_network(hang)
    with pytest.raises(KeyboardInterrupt, match=r"twice within one step.*as it was after step 2"):
        fit(net)
    assert net.step == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fit(net)  # training can continue


def test_a_handler_that_the_user_sets_meanwhile_is_kept():
    def mine(number, frame):
        pass

    net = slow_network(lambda: signal.signal(signal.SIGINT, mine))
    try:
        fit(net)
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_users_handler_is_asked_between_two_steps():
    seen = []
    net = slow_network(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(net.step))
    try:
        fit(net)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [3]
    assert net.step == 8


def test_ctrl_c_in_a_network_within_a_network_ends_both():
    inner = slow_network(lambda: signal.raise_signal(signal.SIGINT))
    outer = slow_network(lambda: fit(inner))
    with pytest.raises(KeyboardInterrupt):
        fit(outer)
    assert (inner.step, outer.step) == (3, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_history_of_finished_epochs_is_kept():
    net = slow_network(lambda: signal.raise_signal(signal.SIGINT), at=20)
    with pytest.raises(KeyboardInterrupt):
        net.fit(np.ones((8, 3)), np.zeros((8, 3)), epochs=9, learning_rate=0.1, verbose=0)
    assert (net.step, net.epoch, len(net.history["error"])) == (20, 2, 2)
    more = fit(net)
    assert more["error"] == net.history["error"][2:]
    net.use("mse")
    assert net.history == {"error": []}
