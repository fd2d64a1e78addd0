"""The captured train step, and the backend around it, on a stand-in that tapes and replays (see stand_in_cupy)."""

import gc
import pickle
import threading
import warnings
import weakref
from contextlib import nullcontext

import numpy as np
import pytest

import portnn
import stand_in_cupy
from portnn_cupy.graph import WARM_UPS, CapturedStep, EagerStepWarning
from stand_in_cupy import OutOfMemoryError, Tape


@pytest.fixture
def stand_in(monkeypatch):
    return stand_in_cupy.install(monkeypatch)


@pytest.fixture
def backend(stand_in):
    return stand_in.backend.CupyBackend()


class State:
    """A state of two weights, a counter and, once an epoch, a table of learning rates."""

    def __init__(self, backend, rates=(0.5, 0.25, 0.125), eager_reason=None):
        self.backend, self.eager_reason = backend, eager_reason
        self.home = {"a": self.array([1.0, 2.0]), "b": self.array([[3.0, 4.0]]), "step": 0}
        self.feed = {}
        self.places = [(self.home, key) for key in self.home]
        self.load(rates)

    def array(self, values, dtype=np.float64):
        return self.backend.asarray(np.array(values, dtype))

    def load(self, rates):
        """The host's part of an epoch."""
        self.feed["rates"] = self.array(rates)
        self.home["step"] = 0 if isinstance(self.home["step"], int) else self.array(0, np.int64)

    @property
    def inputs(self):
        return [(self.feed, "rates")]

    def use_device_counters(self):
        if isinstance(self.home["step"], int):
            self.home["step"] = self.array(self.home["step"], np.int64)

    def commit(self, leaves):
        for (home, key), leaf in zip(self.places, leaves, strict=True):
            home[key] = leaf

    def values(self):
        return {key: np.array(leaf) for key, leaf in self.home.items()}

    def rate(self):
        xp, step = self.backend.xp, self.home["step"]
        return self.feed["rates"][step] if isinstance(step, int) else xp.take(self.feed["rates"], step, axis=0)


class Step:
    """a <- a - rate * a * sum(b); b <- b + rate * tanh(b) a a^T. Counts how often its Python runs."""

    def __init__(self, state, scale=1.0, hook=lambda step: None):
        self.state, self.scale, self.hook, self.runs = state, scale, hook, 0

    def __call__(self):
        self.runs += 1
        home, xp = self.state.home, self.state.backend.xp
        rate = self.state.rate()
        a = home["a"] - rate * home["a"] * xp.sum(home["b"]) * self.scale
        outer = xp.matmul(xp.reshape(home["a"], (2, 1)), xp.reshape(home["a"], (1, 2)))
        b = home["b"] + rate * xp.matmul(xp.tanh(home["b"]), outer) * self.scale
        self.hook(self)
        return [a, b, home["step"] + 1]


def eager(backend, steps, **options):
    """The state after each of so many steps, committed by rebinding."""
    state = State(backend, **options)
    step, after = Step(state), []
    for _ in range(steps):
        state.commit(step())
        after.append(state.values())
    return after


def same(values, expected):
    assert values.keys() == expected.keys()
    for key in values:
        assert np.array_equal(values[key], expected[key]), key


RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


# -- one step a call ---------------------------------------------------------------------------------------------------


def test_every_call_is_one_real_step(backend, stand_in):
    """Two eager, the third captured and launched, the rest launched: always the bits of the eager run."""
    expected = eager(backend, 7, rates=RATES)
    state = State(backend, rates=RATES)
    step = Step(state)
    run = backend.compile(step, state)
    for k in range(7):
        run()
        same(state.values(), expected[k])
        assert step.runs == min(k + 1, WARM_UPS + 1)
        assert stand_in.log.count("launch") == max(0, k + 1 - WARM_UPS)
    assert Tape.current is None


def test_leaves_stay_where_they_are(backend):
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    run()
    places = dict(state.home)
    addresses = {key: leaf.ctypes.data for key, leaf in places.items()}
    for _ in range(5):
        run()
    assert all(state.home[key] is leaf and leaf.ctypes.data == addresses[key] for key, leaf in places.items())


def test_nothing_of_the_capture_is_seen_before_the_launch(backend, stand_in):
    """A capture runs no kernel: the stand-in would show a write that is not on the tape."""
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    for _ in range(WARM_UPS):
        run()
    before = state.values()
    seen = []
    stand_in.cupy.cuda.Stream.end_capture, end = spied(
        stand_in.cupy.cuda.Stream.end_capture, lambda: seen.append(state.values())
    )
    run()
    stand_in.cupy.cuda.Stream.end_capture = end
    same(seen[0], before)


def spied(function, look):
    def spy(*args):
        look()
        return function(*args)

    return spy, function


def test_each_step_is_captured_on_the_backends_stream_in_a_pool_of_its_own(backend, stand_in):
    pools = []
    state = State(backend, rates=RATES)
    other = State(backend, rates=RATES)

    def look(step):
        assert stand_in.cupy.cuda.get_current_stream() == backend.stream
        pools.append(stand_in.allocators[-1].__self__)

    run, run_other = (backend.compile(Step(s, hook=look), s) for s in (state, other))
    for _ in range(4):
        run()
        run_other()
    assert len(pools) == 2 * (WARM_UPS + 1)
    assert len(set(map(id, pools[::2]))) == len(set(map(id, pools[1::2]))) == 1
    assert pools[0] is not pools[1]
    assert stand_in.allocators == []
    assert backend.blas.library is stand_in.library
    assert "CuPy's own product" not in stand_in.log


# -- what comes from outside -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_leaf_set_from_outside_is_adopted(backend, at):
    new = [-3.0, 0.5]
    expected = State(backend, rates=RATES)
    reference = Step(expected)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    for k in range(6):
        if k == at:
            expected.home["a"] = state.array(new)
            state.home["a"] = given = state.array(new)
        expected.commit(reference())
        run()
        same(state.values(), expected.values())
    assert given.tolist() == new  # read, never written


def test_an_epochs_inputs_are_adopted(backend):
    expected, state = State(backend, rates=RATES), State(backend, rates=RATES)
    reference, run = Step(expected), backend.compile(Step(state), state)
    for epoch in range(3):
        for s in (expected, state):
            s.load([rate * (epoch + 1) for rate in RATES])
        for _ in range(3):
            expected.commit(reference())
            run()
            same(state.values(), expected.values())


def test_leaves_exchanged_from_outside(backend):
    """Each is the other's buffer: both must be read before one is written."""
    state = State(backend)
    state.home["b"] = state.array([5.0, 6.0])
    run = CapturedStep(lambda: [state.home["a"], state.home["b"], state.home["step"] + 1], state, backend.driver)
    with backend.scope():
        for _ in range(4):
            before = state.values()
            state.home["a"], state.home["b"] = state.home["b"], state.home["a"]
            run()
            assert np.array_equal(state.home["a"], before["b"])
            assert np.array_equal(state.home["b"], before["a"])


def test_other_shapes_make_another_graph(backend, stand_in):
    """A table of another length: the old graph does not fit; warm-ups and capture start again, no step is lost."""
    expected, state = State(backend, rates=RATES), State(backend, rates=RATES)
    reference, step = Step(expected), Step(state)
    run = backend.compile(step, state)
    for rates in (RATES, RATES[:5], [*RATES, 1.0]):
        for s in (expected, state):
            s.load(rates)
        for _ in range(4):
            expected.commit(reference())
            run()
            same(state.values(), expected.values())
    assert step.runs == 3 * (WARM_UPS + 1)
    assert stand_in.log.count("launch") == 3 * 2


# -- leaves that lie in each other ---------------------------------------------------------------------------------------


class Pair:
    """Two leaves of one shape and no counters."""

    eager_reason, inputs = None, []

    def __init__(self, backend, a=(1.0, 2.0), b=(3.0, 4.0)):
        self.backend = backend
        self.home = {"a": backend.asarray(np.array(a)), "b": backend.asarray(np.array(b))}
        self.places = [(self.home, "a"), (self.home, "b")]

    def use_device_counters(self):
        pass

    def commit(self, leaves):
        self.home["a"], self.home["b"] = leaves

    def lists(self):
        return self.home["a"].tolist(), self.home["b"].tolist()


@pytest.mark.parametrize(
    "new",
    [
        lambda a, b: [b, a],  # exchanged
        lambda a, b: [b, a + b],  # a takes b's place
        lambda a, b: [b[::-1], a[::-1]],  # views of each other
        lambda a, b: [a[::-1], b],  # a view of itself, and an unchanged one
        lambda a, b: [a, a],  # one array twice
        lambda a, b: [a, b],  # nothing new
    ],
)
def test_leaves_that_are_each_others(backend, new):
    expected, state = Pair(backend), Pair(backend)
    run = backend.compile(lambda: new(state.home["a"], state.home["b"]), state)
    for _ in range(6):
        expected.commit([leaf.copy() for leaf in new(expected.home["a"], expected.home["b"])])
        run()
        assert state.lists() == expected.lists()


@pytest.mark.parametrize("share", [lambda z: (z, z), lambda z: (z[:2], z[1:3]), lambda z: (z[:2], z)])
def test_buffers_never_share_memory(backend, share):
    """Slots that start as one array of zeros are two leaves all the same."""
    state = Pair(backend)
    z = backend.asarray(np.array([1.0, 2.0, 3.0]))
    state.home["a"], state.home["b"] = share(z)
    start = [np.array(leaf) for leaf in state.home.values()]
    run = backend.compile(lambda: [state.home["a"] * 2, state.home["b"] + 1], state)
    for k in range(1, 6):
        run()
        assert np.array_equal(state.home["a"], start[0] * 2**k)
        assert np.array_equal(state.home["b"], start[1] + k)
    assert z.tolist() == [1.0, 2.0, 3.0] or z is state.home["a"] or z is state.home["b"]


def test_a_leaf_that_stays_is_not_copied(backend, monkeypatch):
    state, copied = Pair(backend), []
    copy = backend.driver.copy
    monkeypatch.setattr(backend.driver, "copy", lambda pairs: copied.extend(t for t, _ in pairs) or copy(pairs))
    run = backend.compile(lambda: [state.home["a"], state.home["b"] + 1], state)
    for _ in range(4):
        run()
    assert len(copied) == WARM_UPS + 1
    assert all(target is state.home["b"] for target in copied)


# -- two graphs ----------------------------------------------------------------------------------------------------------


def test_two_sizes_share_their_buffers(backend):
    """A full batch three times, then the last, smaller one; each has its graph, both write to the same places."""
    expected, state = State(backend, rates=RATES), State(backend, rates=RATES)
    references = [Step(expected), Step(expected, scale=0.5)]
    runs = [backend.compile(Step(state, scale=scale), state) for scale in (1.0, 0.5)]
    buffers = None
    for epoch in range(5):
        for s in (expected, state):
            s.load([rate / (epoch + 1) for rate in RATES])
        for which in (0, 0, 0, 1):
            expected.commit(references[which]())
            runs[which]()
            same(state.values(), expected.values())
            buffers = buffers or dict(state.home)
            assert all(state.home[key] is buffer for key, buffer in buffers.items())


# -- what cannot be captured ---------------------------------------------------------------------------------------------


def reads_on_the_host(step):
    if float(step.state.home["a"][0]) > 1e9:
        raise AssertionError


def raises_in_a_capture(step):
    if Tape.current is not None:
        raise NotImplementedError("calling cuSOLVER API during stream capture is\n currently unsupported")


def uploads(step):
    step.state.array([1.0, 2.0])


def batched_product(step):
    xp, a = step.state.backend.xp, step.state.array(1.0)
    cube = xp.ones((2, 2, 2))
    xp.matmul(cube, cube * a)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (reads_on_the_host, "RuntimeError: D2H transfers are disallowed during stream capture"),
        (
            raises_in_a_capture,
            "NotImplementedError: calling cuSOLVER API during stream capture is currently unsupported",
        ),
        (uploads, "RuntimeError: H2D transfers are disallowed"),
        (batched_product, r"NotImplementedError: the product of \(2, 2, 2\) float64"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_step_that_cannot_be_captured_runs_eagerly(backend, stand_in, hook, words, broken):
    """No step is lost or made twice, the note comes once, and the stream is out of the capture."""
    stand_in.broken_capture = broken
    expected = eager(backend, 7, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state, hook=hook), state)
    for k in range(7):
        told = pytest.warns(EagerStepWarning, match=f"^training runs eagerly, which is slower: {words}")
        with told if k == WARM_UPS else nullcontext():
            run()
        same(state.values(), expected[k])
        assert Tape.current is None
        assert stand_in.allocators == []
    assert "launch" not in stand_in.log


def test_a_capture_that_cannot_be_ended(backend, stand_in):
    """CUDA finds only at the end that something invalidated the capture."""
    stand_in.broken_capture = True
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    run()
    run()
    with pytest.warns(EagerStepWarning, match="cudaErrorStreamCaptureInvalidated"):
        run()
    run()
    run()
    same(state.values(), expected[-1])


def test_the_note_as_an_error_loses_no_step(backend):
    """Under ``-W error`` the call that would have captured raises before its step; the next one takes it."""
    expected = eager(backend, 4, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state, hook=raises_in_a_capture), state)
    run()
    run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EagerStepWarning):
            run()
        same(state.values(), expected[1])
        for k in (2, 3):
            run()
            same(state.values(), expected[k])


def test_one_of_two_sizes_cannot_be_captured(backend, stand_in):
    expected, state = State(backend, rates=RATES), State(backend, rates=RATES)
    references = [Step(expected), Step(expected, scale=0.5)]
    runs = [
        backend.compile(Step(state, scale=s, hook=h), state)
        for s, h in ((1.0, lambda s: None), (0.5, raises_in_a_capture))
    ]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for epoch in range(6):
            for s in (expected, state):
                s.load([rate / (epoch + 1) for rate in RATES])
            for which in (0, 0, 1, 0, 1):
                expected.commit(references[which]())
                runs[which]()
                same(state.values(), expected.values())
    assert [note.category for note in notes] == [EagerStepWarning]
    assert "launch" in stand_in.log


def test_a_reason_known_beforehand(backend, stand_in):
    """Rebinding, host counters, one note."""
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES, eager_reason="layer 2 (MyLayer) is written as in the article")
    with pytest.warns(EagerStepWarning, match=r"slower: layer 2 \(MyLayer\) is written as in the article$") as notes:
        run = backend.compile(Step(state), state)
    for k in range(5):
        before = state.home["a"]
        run()
        assert state.home["a"] is not before
        same(state.values(), expected[k])
    assert len(notes) == 1
    assert state.home["step"] == 5
    assert type(state.home["step"]) is int
    assert "launch" not in stand_in.log


@pytest.mark.parametrize("misfit", [lambda a: a.astype(np.float32), lambda a: a[:1]])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_leaf_that_changes_its_kind(backend, misfit, when):
    """NumPy's backend rebinds it without a word; so does this one, but not in a graph."""
    state = Pair(backend)
    runs = iter(range(1, 100))

    def step():
        a = state.home["a"] * 2
        return [misfit(a) if next(runs) == when else a, state.home["b"] + 1]

    run = backend.compile(step, state)
    for _ in range(when - 1):
        run()
    with pytest.warns(EagerStepWarning, match=r"'a' was \(dtype\('float64'\), \(2,\)\), and the step made it"):
        run()
    assert state.home["a"][0] == 2.0**when
    assert state.home["b"].tolist() == [3.0 + when, 4.0 + when]
    run()
    assert state.home["b"].tolist() == [4.0 + when, 5.0 + when]


# -- errors ----------------------------------------------------------------------------------------------------------------


class PlannedError(Exception):
    pass


@pytest.mark.parametrize("when", [1, 2])
def test_an_error_in_a_warm_up_changes_nothing(backend, when):
    state = State(backend, rates=RATES)
    expected = eager(backend, 6, rates=RATES)

    def fail(step):
        if step.runs == when:
            raise PlannedError

    run = backend.compile(Step(state, hook=fail), state)
    for _ in range(when - 1):
        run()
    before = state.values()
    with pytest.raises(PlannedError):
        run()
    same(state.values(), before)
    for k in range(when - 1, 6):
        run()
        same(state.values(), expected[k])


def test_an_error_in_capture_and_step_alike(backend):
    """The capture fails, then the eager step, too: the state is that of the step before."""
    state = State(backend, rates=RATES)
    broken = []

    def fail(step):
        if broken:
            raise PlannedError("in both")

    run = backend.compile(Step(state, hook=fail), state)
    run()
    run()
    before = state.values()
    broken.append(True)
    with pytest.warns(EagerStepWarning, match="PlannedError: in both"), pytest.raises(PlannedError):
        run()
    same(state.values(), before)
    broken.clear()
    run()
    same(state.values(), eager(backend, 3, rates=RATES)[-1])


def test_a_keyboard_interrupt_in_the_capture_ends_it(backend):
    state = State(backend, rates=RATES)

    def interrupt(step):
        if Tape.current is not None and step.runs == 3:
            raise KeyboardInterrupt

    run = backend.compile(Step(state, hook=interrupt), state)
    run()
    run()
    before = state.values()
    with pytest.raises(KeyboardInterrupt):
        run()
    assert Tape.current is None
    same(state.values(), before)
    run()  # captures now
    same(state.values(), eager(backend, 3, rates=RATES)[-1])


def test_a_layer_that_binds_its_own(backend):
    """What a step binds itself is undone: only what it returns counts."""
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES)

    def rebind(step):
        step.state.home["a"] = step.state.home["a"] * 1000.0

    run = backend.compile(Step(state, hook=rebind), state)
    for k in range(5):
        run()
        same(state.values(), expected[k])


# -- memory ----------------------------------------------------------------------------------------------------------------


def test_out_of_memory(backend, stand_in):
    """Says how much was asked for and was free, and what to do; the network goes on."""
    state = State(backend, rates=RATES)
    expected = eager(backend, 6, rates=RATES)
    big = weakref.WeakSet()

    class Big:
        pass

    def fail(step):
        if step.runs == 2:
            held = Big()
            big.add(held)
            raise OutOfMemoryError("Out of memory allocating 7,340,032 bytes (allocated so far: 512 bytes).")

    run = backend.compile(Step(state, hook=fail), state)
    run()
    before = state.values()
    words = (
        r"(?s)last whole step: try a smaller batch_size\. Of 1,000,000 bytes, 123,456 were free\. .* 7,340,032 bytes"
    )
    with pytest.raises(stand_in.backend.GpuOutOfMemoryError, match=words) as caught:
        run()
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value.__cause__, OutOfMemoryError)
    gc.collect()
    assert not big  # the error holds the frames of the step, but nothing that they held
    assert stand_in.default_pool.freed == 1
    same(state.values(), before)
    for k in range(1, 6):
        run()
        same(state.values(), expected[k])


def test_a_graph_takes_what_cupy_keeps_for_nobody(backend, stand_in):
    """Out of memory outside a capture: CuPy's free blocks are given back, and it is tried again."""
    stand_in.free = 100
    free = stand_in.default_pool.free_all_blocks

    def give_back():
        free()
        stand_in.free = 10_000

    stand_in.default_pool.free_all_blocks = give_back
    pool = backend.driver.new_memory(backend)
    assert pool.malloc(5_000).size == 5_000
    with pytest.raises(stand_in_cupy.CUDARuntimeError):
        pool.malloc(50_000)  # of CuPy's own kind: its pool makes an OutOfMemoryError of it


def test_no_memory_within_a_capture(backend, stand_in):
    """There CuPy's pool must not give back blocks that the graph writes to: the capture is given up."""
    pool = backend.driver.new_memory(backend)
    stand_in.free = 100
    with backend.scope(), pytest.raises(RuntimeError, match="the graph needs 5,000 bytes more than the GPU has left"):
        backend.driver.capture(lambda: pool.malloc(5_000))
    assert stand_in.default_pool.freed == 0
    assert Tape.current is None


def test_pools_are_emptied_when_their_graph_is_gone(backend, stand_in):
    """A pool that is dropped with free blocks in it would never give them back."""
    made = []
    new = stand_in.cupy.cuda.MemoryPool
    stand_in.cupy.cuda.MemoryPool = lambda allocator: made.append(new(allocator)) or made[-1]
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    (pool,) = made
    pool.held = 512  # an array that a layer still has
    for _ in range(4):
        run()
    freed = pool.freed
    del run
    gc.collect()
    assert pool.freed == freed + 1
    assert backend.driver.retired == [pool]
    pool.held = 0
    again = backend.compile(Step(state), state)  # the next one looks after it
    assert pool not in backend.driver.retired
    again()


# -- the scope -------------------------------------------------------------------------------------------------------------


def test_the_scope_keeps_the_order_of_streams(backend, stand_in):
    own = backend.stream.ptr
    del stand_in.log[:]
    with backend.scope():
        assert stand_in.cupy.cuda.get_current_stream() == backend.stream
        assert stand_in.log == [(own, "waits for", 0)]
    assert stand_in.log == [(own, "waits for", 0), (0, "waits for", own)]
    assert stand_in.cupy.cuda.get_current_stream().ptr == 0


def test_the_scope_waits_for_the_callers_stream_too(backend, stand_in):
    own, caller = backend.stream.ptr, stand_in.cupy.cuda.Stream(ptr=5)
    del stand_in.log[:]
    with caller, backend.scope():
        pass
    entered = {(own, "waits for", 0), (own, "waits for", 5)}
    assert set(stand_in.log[:2]) == entered
    assert set(stand_in.log[2:]) == {(other, "waits for", own) for other in (0, 5)}


def test_the_scope_may_be_entered_again(backend, stand_in):
    del stand_in.log[:]
    with backend.scope(), backend.scope(), backend.scope():
        assert stand_in.cupy.cuda.get_current_stream() == backend.stream
    assert len(stand_in.log) == 2
    with pytest.raises(PlannedError), backend.scope(), backend.scope():
        raise PlannedError
    assert stand_in.cupy.cuda.get_current_stream().ptr == 0
    assert len(stand_in.log) == 4


def test_another_stream_within_the_scope(backend, stand_in):
    """A user's layer that calls the network on a stream of its own comes back to ours, in order."""
    other = stand_in.cupy.cuda.Stream(ptr=9)
    with backend.scope(), other, backend.scope():
        assert stand_in.cupy.cuda.get_current_stream() == backend.stream
        assert (backend.stream.ptr, "waits for", 9) in stand_in.log
    assert (9, "waits for", backend.stream.ptr) in stand_in.log


def test_one_thread_at_a_time(backend):
    """Two threads on one stream would find their work in each other's graph."""
    inside, order = threading.Event(), []

    def other():
        inside.wait(5)
        with backend.scope():
            order.append("second")

    thread = threading.Thread(target=other)
    thread.start()
    with backend.scope():
        inside.set()
        thread.join(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


# -- arrays ------------------------------------------------------------------------------------------------------------------


def test_arrays_in_and_out(backend, stand_in):
    host = np.array([[1.5, 2.5], [3.5, 4.5]])
    x = backend.asarray(host)
    assert backend.owns(x)
    assert not backend.owns(host)
    assert np.array_equal(backend.to_numpy(x), host)
    assert backend.asarray(host, "float32").dtype == np.float32
    assert backend.asarray([[1, 2], [3, 4]]).dtype == np.int64
    assert backend.asarray(host.T).tolist() == host.T.tolist()
    assert backend.asarray(3.0).shape == ()
    host[...] = 0.0
    assert x.tolist() == [[1.5, 2.5], [3.5, 4.5]]  # the caller's array is the caller's


def test_uploads_hand_cupy_a_copy_nobody_else_has(backend, stand_in, monkeypatch):
    """CuPy goes on reading pinned memory after it has returned."""
    host = np.arange(6.0).reshape(2, 3)
    given = []
    array = stand_in.cupy.array
    monkeypatch.setattr(stand_in.cupy, "array", lambda x, **k: given.append(x) or array(x, **k))
    for source in (host, host.T, host[::2]):
        backend.asarray(source)
        assert not np.may_share_memory(given[-1], host)
        assert given[-1].flags.c_contiguous


def test_device_arrays_are_cast_on_the_device(backend, stand_in, monkeypatch):
    x = backend.asarray(np.ones(3))
    monkeypatch.setattr(stand_in.cupy.ndarray, "get", None)
    assert backend.asarray(x) is x
    assert backend.asarray(x, "float64") is x
    assert backend.asarray(x, copy=True) is not x
    cast = backend.asarray(x, "float32")
    assert cast.dtype == np.float32
    assert backend.owns(cast)


def test_arrays_of_another_gpu_are_not_owned(backend, monkeypatch):
    x = backend.asarray(np.ones(3))
    monkeypatch.setattr(type(x), "device_id", 1)
    assert not backend.owns(x)


def test_clip(backend):
    xp = backend.xp
    x = backend.asarray(np.array([-2.0, 0.5, 3.0, np.nan], np.float32))
    for low, high in ((-1, 1), (None, 1), (-1, None), (None, None), (0.25, backend.asarray(np.array(2.0)))):
        y = xp.clip(x, low, high)
        assert y.dtype == np.float32
        assert y is not x
        assert np.array_equal(y, np.clip(np.array(x), low, high), equal_nan=True)
    assert backend.driver.capture(lambda: xp.clip(x, min=0.0, max=backend.asarray(1.0))) is not None


def test_the_namespace_is_that_of_the_cpu(backend):
    """The same names of the standard on both: what runs on one runs on the other."""
    assert set(vars(backend.xp)) == set(vars(portnn.get_backend("cpu").xp))
    assert backend.xp.__name__ == "cupy"


def test_a_backend_is_one_thing(backend, stand_in, monkeypatch):
    other = stand_in.backend.CupyBackend()
    assert backend == other
    assert hash(backend) == hash(other)
    assert backend != portnn.get_backend("cpu")
    monkeypatch.setattr("portnn.backend._made", {"gpu": backend})
    assert pickle.loads(pickle.dumps(backend)) is backend


def test_what_it_says_of_itself(backend, stand_in):
    said = backend.describe()
    assert said["library"] == "CuPy 14.2.0"
    assert said["device"] == "Stand-in, compute capability 9.0"
    assert said["CUDA"] == "driver 13.0, runtime 12.9"
    assert said["memory"].endswith("GiB free")
    backend.synchronize()
    assert "synchronize" in stand_in.log


# -- a whole network ---------------------------------------------------------------------------------------------------------


def network(backend, kernels="portable"):
    layers = [
        portnn.ConvLayer((6, 6, 1), (3, 3), 2),
        portnn.ActivationLayer("tanh"),
        portnn.FlattenLayer(),
        portnn.FCLayer(32, 5),
        portnn.ActivationLayer("sigmoid"),
        portnn.FCLayer(5, 3),
    ]
    net = portnn.Network(layers, backend=backend, seed=3, kernels=kernels, dtype="float64")
    net.use("mse", optimizer=portnn.SGD(lambda k: 0.1 / (1 + k), momentum=0.9), metrics=["accuracy"])
    return net


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_a_network_trains_as_on_the_cpu(backend, stand_in, kernels):
    """Full and last batches, shuffled, schedule and momentum, two calls of fit: replays and NumPy give the same run."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 6, 6, 1)), rng.standard_normal((22, 3))
    gpu, cpu = network(backend, kernels), network("cpu")
    for epochs in (5, 4):
        ours, theirs = (net.fit(x, y, epochs=epochs, batch_size=4, shuffle=True) for net in (gpu, cpu))
        for name in theirs:
            assert np.allclose(ours[name], theirs[name], rtol=1e-12, atol=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-12, atol=1e-15), path
    assert stand_in.log.count("launch") == (5 * 5 - 2) + (5 - 2) + (4 * 5 - 2) + (4 - 2)
    assert "CuPy's own product" not in stand_in.log
    assert np.allclose(gpu.predict(x), cpu.predict(x), rtol=1e-12)


def everything(backend, kernels):
    """A network of all that has a fused version."""
    layers = [
        portnn.ConvLayer((8, 8, 1), (3, 3), 4, padding="same"),
        portnn.ActivationLayer("relu"),
        portnn.MaxPoolLayer(2),
        portnn.ConvLayer((4, 4, 4), (3, 3), 4, padding=1, groups=2, bias=False),
        portnn.BatchNormLayer(),
        portnn.ActivationLayer("tanh"),
        portnn.AvgPoolLayer(2),
        portnn.FlattenLayer(),
        portnn.DropoutLayer(0.3),
        portnn.FCLayer(16, 12),
        portnn.ActivationLayer("tanh"),
        portnn.FCLayer(12, 3),
    ]
    net = portnn.Network(layers, backend=backend, seed=3, kernels=kernels, dtype="float64")
    net.use("softmax_cross_entropy", optimizer=portnn.AdamW(portnn.CosineDecay(0.01, 40)), metrics=["accuracy"])
    return net


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_all_fused_functions_in_one_captured_step(backend, stand_in, kernels):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 8, 8, 1)), rng.integers(0, 3, 22)
    gpu, cpu = everything(backend, kernels), everything("cpu", "portable")
    ours, theirs = (net.fit(x, y, epochs=4, batch_size=4, shuffle=True, verbose=0) for net in (gpu, cpu))
    for name in theirs:
        assert np.allclose(ours[name], theirs[name], rtol=1e-9, atol=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-7, atol=1e-10), path
    assert "CuPy's own product" not in stand_in.log
    assert stand_in.log.count("launch") == (4 * 5 - 2) + (4 - 2)
    assert np.allclose(gpu.predict(x), cpu.predict(x), rtol=1e-9)


def test_an_epoch_is_graph_launches_and_nothing_else(backend, stand_in):
    """Once captured: one upload of the epoch's numbers, the launches, one reading of the sums."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 8, 8, 1)), rng.integers(0, 3, 20)
    net, seen = everything(backend, "auto"), []
    launch, capture = backend.driver.launch, backend.driver.capture
    backend.driver.launch = lambda graph: (launch(graph), seen.append("launch"))
    backend.driver.capture = lambda work: (seen.append("capture"), capture(work))[1]
    steps = portnn.training.step.TrainStep.__call__
    portnn.training.step.TrainStep.__call__ = lambda self: (seen.append("step"), steps(self))[1]
    try:
        net.fit(x, y, epochs=3, batch_size=4, shuffle=True, verbose=0)
    finally:
        portnn.training.step.TrainStep.__call__ = steps
    assert seen == ["step", "step", "capture", "step"] + ["launch"] * (3 * 5 - 2)


def test_how_many_launches_a_step_is(backend, stand_in):
    """784-100-50-10: the batch 3, products 8, bias and activation 3, their derivatives 6, the loss 3, and 3 for the
    optimizer, the counters and the copies of all that is new; the figures are in docs/gpu.md.
    """
    counts, capture = {}, backend.driver.capture
    for kernels in ("auto", "portable"):
        backend.driver.capture = lambda work, name=kernels: counts.setdefault(name, capture(work))
        net = portnn.Network(seed=0, backend=backend, kernels=kernels)
        for n_in, n_out in ((784, 100), (100, 50), (50, 10)):
            net.add(portnn.FCLayer(n_in, n_out))
            net.add(portnn.ActivationLayer("tanh"))
        net.use("mse", optimizer=portnn.SGD(0.1))
        net.fit(np.zeros((640, 784)), np.zeros((640, 10)), epochs=1, batch_size=128, shuffle=True, verbose=0)
    launches = {name: len(graph.tape.calls) for name, graph in counts.items()}
    assert launches == {"auto": 26, "portable": 66}


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_without_capture_every_step_runs_call_by_call(stand_in, kernels):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 8, 8, 1)), rng.integers(0, 3, 22)
    eager = stand_in.backend.CupyBackend(capture=False)
    histories = [everything(where, kernels).fit(x, y, epochs=3, batch_size=4, verbose=0) for where in (eager, "cpu")]
    assert np.allclose(histories[0]["error"], histories[1]["error"], rtol=1e-9)
    assert "launch" not in stand_in.log
    assert eager != stand_in.backend.CupyBackend()


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_the_note_names_the_layer_that_cannot_be_captured(backend, way):
    class Peeking(portnn.Layer):
        def forward(self, X, *, training=False):
            if way == "forward":
                float(self.xp.sum(X))
            self.output = X
            return X

        def backward(self, output_error, *, need_input_error=True):
            float(self.xp.sum(output_error))
            return output_error

    x, y = np.ones((12, 4)), np.zeros((12, 2))
    net = portnn.Network([portnn.FCLayer(4, 3), Peeking(), portnn.FCLayer(3, 2)], backend=backend, seed=1)
    net.use("mse")
    with pytest.warns(EagerStepWarning, match=r"slower: layer 1 \(Peeking\) cannot be captured: RuntimeError: D2H"):
        net.fit(x, y, epochs=3, batch_size=4, learning_rate=0.1, verbose=0)


def test_an_array_that_somebody_holds_keeps_its_values(backend):
    """A graph writes into its buffers; what was taken out of the network before a fit is not one of them."""
    x, y = np.random.default_rng(0).standard_normal((22, 8, 8, 1)), np.arange(22) % 3
    net = everything(backend, "auto")
    for _ in range(3):
        held = dict(net.parameters)
        before = {path: np.array(backend.to_numpy(w)) for path, w in held.items()}
        net.fit(x, y, epochs=2, batch_size=4, verbose=0)
        assert all(np.array_equal(backend.to_numpy(held[path]), w) for path, w in before.items())
        assert not np.array_equal(backend.to_numpy(net.parameters["9.weights"]), before["9.weights"])


def test_memory_is_reported_and_released(backend, stand_in):
    stand_in.default_pool.held = 700
    assert backend.memory() == {"used": 700, "kept": 0, "free": 123_456, "total": 1_000_000}
    backend.release()
    assert stand_in.default_pool.freed == stand_in.pinned_pool.freed == 1


def test_out_of_memory_names_a_batch_size(backend, stand_in):
    class Greedy(portnn.Layer):
        def forward(self, X, *, training=False):
            if X.shape[0] > 2:
                raise OutOfMemoryError("Out of memory allocating 7,340,032 bytes.")
            return X

        def backward(self, output_error, *, need_input_error=True):
            return output_error

    x, y = np.ones((12, 4)), np.zeros((12, 2))
    net = portnn.Network([portnn.FCLayer(4, 3), Greedy(), portnn.FCLayer(3, 2)], backend=backend, seed=1)
    net.use("mse")
    before = {path: backend.to_numpy(w) for path, w in net.parameters.items()}
    too_much = stand_in.backend.GpuOutOfMemoryError
    with pytest.raises(too_much, match="as it was after the last whole step: try batch_size=4"):
        net.fit(x, y, epochs=1, batch_size=8, learning_rate=0.1, verbose=0)
    with pytest.raises(too_much, match="try a smaller batch_size"):
        net.predict(x)
    assert all(np.array_equal(backend.to_numpy(net.parameters[path]), w) for path, w in before.items())
    net.fit(x, y, epochs=1, batch_size=2, learning_rate=0.1, verbose=0)


def test_a_network_with_a_layer_of_the_users_that_synchronizes(backend):
    class Peeking(portnn.Layer):
        def forward(self, X, *, training=False):
            return X * (2.0 if float(self.xp.sum(X)) > 0.0 else 1.0)

        def backward(self, output_error, *, need_input_error=True):
            return output_error

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)), rng.standard_normal((12, 2))
    made = []
    for where in (backend, "cpu"):
        net = portnn.Network(
            [portnn.FCLayer(4, 3), Peeking(), portnn.FCLayer(3, 2)], backend=where, seed=1, dtype="float64"
        )
        net.use("mse")
        told = nullcontext() if where == "cpu" else pytest.warns(EagerStepWarning, match="D2H")
        with told:
            net.fit(x, y, epochs=3, batch_size=4, learning_rate=0.1, verbose=0)
        made.append(net.predict(x))
    assert np.allclose(*made, rtol=1e-12)


def test_a_network_of_the_articles_layers(backend):
    class Double(portnn.Layer):
        def __init__(self):
            self.weights = np.array([2.0])

        def forward_propagation(self, input):
            self.input = input
            return input * self.weights

        def backward_propagation(self, output_error, learning_rate):
            gradient = self.xp.sum(output_error * self.input)
            error = output_error * self.weights
            self.weights = self.weights - learning_rate * gradient
            return error

    x, y = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0], [0.5]])
    made = []
    for where in (backend, "cpu"):
        net = portnn.Network([portnn.FCLayer(2, 1), Double()], backend=where, seed=1, dtype="float64")
        net.use("mse")
        told = (
            nullcontext() if where == "cpu" else pytest.warns(EagerStepWarning, match=r"layer 1 \(Double\) is written")
        )
        with told:
            net.fit(x, y, epochs=4, learning_rate=0.05, verbose=0)
        made.append(net.predict(x))
    assert np.allclose(*made, rtol=1e-12)
