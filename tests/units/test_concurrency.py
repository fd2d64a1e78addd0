"""Concurrent use: what is refused during a fit, and that whatever is read belongs to a single step."""

import contextlib
import copy
import pickle
import threading
import time

import numpy as np
import pytest

from portnn import ActivationLayer, Adam, BatchNormLayer, DropoutLayer, FCLayer, Network
from portnn.training.state import State
from states import fit, lenet, slow_network


def test_fit_within_fit_names_fit():
    net = slow_network(lambda: fit(net))
    with pytest.raises(RuntimeError, match="fit was called within fit of the same network"):
        fit(net)
    assert net.step == 2
    fit(net)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("fit", fit),
        ("to", lambda net: net.to("cpu")),
        ("use", lambda net: net.use("mae")),
        ("add", lambda net: net.add(FCLayer(3, 3))),
    ],
)
def test_what_changes_a_network_waits_for_the_end_of_fit(name, call):
    inside, outside = [], []

    def act():
        try:
            call(net)
        except RuntimeError as error:
            inside.append(str(error))

        def beside():
            try:
                call(net)
            except RuntimeError as error:
                outside.append(str(error))

        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    net = slow_network(act)
    fit(net)
    assert inside[0].startswith(f"{name} was called within fit")
    assert outside[0].startswith(f"{name} was called while another thread is in fit")
    assert net.step == 8
    call(net)


class Beside:
    """A thread that trains a network until it is told to stop, and records the weights after each step."""

    def __init__(self, net, x, y):
        self.net, self.x, self.y, self.stop, self.states = net, x, y, False, {}

    def __enter__(self):
        commit = State.commit

        def noted(state, new):
            commit(state, new)
            self.states[state.progress["step"]] = [np.array(home[key]) for home, key in state.parameters]

        self.commit, State.commit = commit, noted
        self.thread = threading.Thread(target=self.train)
        self.thread.start()
        while not self.states:
            time.sleep(1e-3)
        return self

    def train(self):
        while not self.stop:
            self.net.fit(self.x, self.y, epochs=1, batch_size=4, verbose=0)

    def __exit__(self, *error):
        self.stop = True
        self.thread.join()
        State.commit = self.commit

    def is_one_step(self, arrays):
        """Whether these are the weights after some single step."""
        return any(all(map(np.array_equal, arrays, state)) for state in list(self.states.values())[-5000:])


def test_beside_a_fit_everything_read_is_of_one_step():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 8)), rng.standard_normal((40, 2))
    net = Network([FCLayer(8, 16), ActivationLayer("tanh"), FCLayer(16, 2)], seed=0)
    net.use("mse", optimizer=Adam(1e-3))
    net.predict(x)
    start = [np.array(a) for a in net.parameters.values()]
    read, answers = [], []
    with Beside(net, x, y) as beside:
        beside.states[0] = start
        for _ in range(15):
            read.append([a.copy() for a in net.parameters.values()])
            read.append([a.copy() for a in dict(net.parameters).values()])
            read.append(list(copy.deepcopy(net).parameters.values()))
            read.append(list(pickle.loads(pickle.dumps(net)).parameters.values()))
            answers.append(net.predict(x))
            assert net.evaluate(x, y)["error"] > 0
            with contextlib.suppress(RuntimeError):  # refused during a fit, but not between two fits
                copy.deepcopy(net.layers[0])
                net.layers[0].weights = net.layers[0].weights
        assert all(map(beside.is_one_step, read))
    again = Network(copy.deepcopy(net.layers), seed=0)
    possible = []
    for state in beside.states.values():
        for path, array in zip(again.parameters, state, strict=True):
            again.parameters[path] = array
        possible.append(again.predict(x))
    assert all(any(np.array_equal(answer, one) for one in possible) for answer in answers)


def test_predict_in_many_threads():
    rng = np.random.default_rng(0)
    x = rng.random((64, 12, 12, 1)).astype(np.float32)
    net = Network([*lenet()[:-1], BatchNormLayer(), DropoutLayer(0.2), FCLayer(40, 3)], seed=0)
    expected, wrong = copy.deepcopy(net).predict(x), []

    def work():
        for _ in range(10):
            wrong.append(not np.array_equal(net.predict(x), expected))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 80
