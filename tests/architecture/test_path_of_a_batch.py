"""The rooms that a batch passes on its way through ``fit``: it enters none twice, but for layers and ops.

Activations, which layers and losses call, count as part of these.
"""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import portnn
from portnn import ActivationLayer, Adam, Callback, FCLayer, Network
from portnn.samples import Samples
from rows import Rows

LIBRARY = Path(portnn.__file__).parent
N, FEATURES, CLASSES = 16, 7, 3
X = np.random.default_rng(0).standard_normal((3 * N, FEATURES)).astype(np.float32)
Y = np.arange(3 * N) % CLASSES
AGAIN = {"layers", "ops", "activations"}  # for each layer, and by losses
# The ground floor: conversions, checks of one argument, and finding the fast version of a function.
GROUND = {"backend", "checks", "functions", "habits", "transfer"}


def holds_a_batch(value, depth=3):
    if isinstance(value, (np.ndarray, Rows)):
        return value.shape[:1] == (N,)
    if isinstance(value, Samples):
        return True
    return depth > 0 and isinstance(value, (tuple, list)) and any(holds_a_batch(v, depth - 1) for v in value)


class Follower:
    """Notes each call that hands a batch from one room to another: a folder or a file of ``portnn/`` is a room."""

    def __init__(self):
        self.rooms, self.entered = {}, []

    def room(self, frame):
        name = frame.f_code.co_filename
        if name not in self.rooms:
            path = Path(name)
            inside = path.is_relative_to(LIBRARY)
            self.rooms[name] = path.relative_to(LIBRARY).parts[0].removesuffix(".py") if inside else None
        return self.rooms[name]

    def __call__(self, frame, event, _):
        room = self.room(frame) if event == "call" else None
        if room is None or room in GROUND:
            return
        code, caller = frame.f_code, frame.f_back
        while caller is not None and self.room(caller) in (None, *GROUND):
            caller = caller.f_back
        given = [frame.f_locals[name] for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        if (caller is None or self.room(caller) != room) and any(map(holds_a_batch, given)):
            self.entered.append((room, code.co_qualname))

    def follow(self, run):
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            run()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        return self.entered


def batches():
    return ((X[i : i + N], Y[i : i + N]) for i in range(0, 3 * N, N))


class Marks(Callback):
    """Notes where each step ends."""

    def __init__(self, follower):
        self.follower, self.ends = follower, []

    def on_step_end(self, network, step):
        self.ends.append(len(self.follower.entered))


SOURCES = {"arrays": (X, Y), "rows": (Rows(X), Y), "iterable": (batches, None)}
READ = "preparation validation samples losses metrics"  # by ``sources``, where its rooms end
EXPECTED = {"arrays": "losses metrics", "rows": READ, "iterable": READ}


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_enters_no_room_twice(source, monkeypatch):
    monkeypatch.setattr("portnn.sources.CHUNK", 1)  # each batch is read for itself
    monkeypatch.setattr("portnn.sources.ahead", lambda calls: (call() for call in calls))  # one after the other
    follower = Follower()
    marks = Marks(follower)
    net = Network([FCLayer(FEATURES, 5), ActivationLayer("relu"), FCLayer(5, CLASSES)], kernels="portable")
    net.use("softmax_cross_entropy", optimizer=Adam(0.01), metrics=["accuracy"])
    sizes = {} if source == "iterable" else {"batch_size": N}
    follower.follow(lambda: net.fit(*SOURCES[source], epochs=1, verbose=0, callbacks=[marks], **sizes))
    first, second = marks.ends[:2]
    rooms = [room for room, _ in follower.entered[first:second]]
    assert rooms.count("layers") == 2, "forward and backward"
    path = [room for room in rooms if room not in AGAIN]
    path = [room for room, before in zip(path, [None, *path[:-1]], strict=True) if room != before]
    assert path == EXPECTED[source].split()
    assert len(set(path)) == len(path)
