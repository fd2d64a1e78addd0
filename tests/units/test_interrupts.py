"""A step is made whole or not at all: whatever interrupts it, a signal, Ctrl-C, or a network within the network."""

import signal
from functools import partial

import numpy as np
import pytest

from portnn import SGD, ActivationLayer, Adam, BatchNormLayer, FCLayer, Network
from portnn.state import State
from states import fit, leaves, same, slow_network


class AlarmError(Exception):
    pass


def interrupted_runs(number, runs, optimizer):
    """Trains while a signal's handler raises at a random moment: how many states are of no single step, and of how many."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 2))

    def make():
        net = Network([FCLayer(6, 5), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1)
        net.use("mse", optimizer=optimizer())
        return net

    states = {}
    whole, commit = make(), State.commit

    def noted(self, leaves_now):
        commit(self, leaves_now)
        states[whole.step] = leaves(whole)

    states[0] = leaves(make())
    net = make()
    net.predict(x)
    states[0] = leaves(net)
    State.commit = noted
    try:
        whole.fit(x, y, epochs=30, batch_size=2, shuffle=True, verbose=0)
    finally:
        State.commit = commit

    def handler(number, frame):
        raise AlarmError

    previous = signal.signal(number, handler)
    mixed = stopped = 0
    try:
        for _ in range(runs):
            net = make()
            net.predict(x)
            timer = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}[number]
            try:
                signal.setitimer(timer, rng.uniform(1e-4, 2e-2))
                net.fit(x, y, epochs=30, batch_size=2, shuffle=True, verbose=0)
            except AlarmError:
                stopped += 1
            finally:
                signal.setitimer(timer, 0)
            now = leaves(net)
            if net.step:
                mixed += not (same(now, states[net.step]) and all(len(v) == net.epoch for v in net.history.values()))
            with_counts = [layer.updates(name, net.step) for layer in net.walk() for name in layer.parameters]
            mixed += set(with_counts) > {net.step, 0}
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert net.turns.held() is None
    finally:
        signal.signal(number, previous)
    return mixed, stopped


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
@pytest.mark.parametrize("optimizer", [Adam, partial(SGD, 0.05, momentum=0.9)], ids=["Adam", "SGD"])
def test_a_handler_that_raises_anywhere_leaves_the_state_of_one_step(optimizer):
    mixed, stopped = interrupted_runs(signal.SIGALRM, 150, optimizer)
    assert mixed == 0
    assert stopped > 50


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
    fit(net)  # and it goes on


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
