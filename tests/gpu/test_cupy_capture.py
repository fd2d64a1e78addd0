"""The captured train step, on the stand-in that records and replays: what a graph reads, writes and keeps alive."""

import gc
import weakref

import numpy as np
import pytest

import stand_in_cupy
from captured import RATES, Pair, State, Step, eager, same
from portnn_cupy.graph import WARM_UPS, CapturedStep
from stand_in_cupy import OutOfMemoryError, Tape

# -- one step per call -------------------------------------------------------------------------------------------------


def test_every_call_is_one_real_step(backend, stand_in):
    """Two steps run eagerly, the third is captured and launched, the others launched: bitwise as in an eager run."""
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
    """A capture runs no kernels: on the stand-in, a write that is not on the tape would show at once."""
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


# -- changes from outside ----------------------------------------------------------------------------------------------


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
    assert given.tolist() == new  # only read, never written


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
    """Each is the other's buffer: both must be read before either is written."""
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


def test_larger_shapes_make_another_graph(backend, stand_in):
    """A longer table: the old graph does not fit; warm-ups and capture start again, no step is lost. A shorter one
    goes into the buffer of the old one.
    """
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
    assert step.runs == 2 * (WARM_UPS + 1)
    assert stand_in.log.count("launch") == 2 + 4 + 2


# -- leaves that share memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "new",
    [
        lambda a, b: [b, a],  # exchanged
        lambda a, b: [b, a + b],  # a takes b's place
        lambda a, b: [b[::-1], a[::-1]],  # views of each other
        lambda a, b: [a[::-1], b],  # a view of itself, and an unchanged leaf
        lambda a, b: [a, a],  # the same array twice
        lambda a, b: [a, b],  # unchanged
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
    """Two leaves that start as the same array still get separate buffers."""
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
    """Three full batches, then a smaller last one: each size has its own graph, and both write to the same buffers."""
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


# -- memory ----------------------------------------------------------------------------------------------------------------


def test_out_of_memory(backend, stand_in):
    """The error says how much was requested, how much was free and what to do; afterwards training can go on."""
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
    assert not big  # the error's traceback keeps nothing of the step alive
    assert stand_in.default_pool.freed == 1
    same(state.values(), before)
    for k in range(1, 6):
        run()
        same(state.values(), expected[k])


def test_a_graph_takes_what_cupy_keeps_for_nobody(backend, stand_in):
    """Out of memory outside a capture: CuPy's free blocks are released, and the allocation is tried again."""
    stand_in.free = 100
    free = stand_in.default_pool.free_all_blocks

    def give_back():
        free()
        stand_in.free = 10_000

    stand_in.default_pool.free_all_blocks = give_back
    pool = backend.driver.new_memory(backend)
    assert pool.malloc(5_000).size == 5_000
    with pytest.raises(stand_in_cupy.CUDARuntimeError):
        pool.malloc(50_000)  # CuPy's own error, which its pool turns into an OutOfMemoryError


def test_no_memory_within_a_capture(backend, stand_in):
    """In a capture, CuPy's pool must not release blocks that the graph writes to: the capture is aborted instead."""
    pool = backend.driver.new_memory(backend)
    stand_in.free = 100
    with backend.scope(), pytest.raises(RuntimeError, match="the graph needs 5,000 bytes more than the GPU has left"):
        backend.driver.capture(lambda: pool.malloc(5_000))
    assert stand_in.default_pool.freed == 0
    assert Tape.current is None


def test_pools_are_emptied_when_their_graph_is_gone(backend, stand_in):
    """A pool that is dropped with free blocks in it would never return them to the device."""
    made = []
    new = stand_in.cupy.cuda.MemoryPool
    stand_in.cupy.cuda.MemoryPool = lambda allocator: made.append(new(allocator)) or made[-1]
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    (pool,) = made
    pool.held = 512  # an array that a layer still holds
    for _ in range(4):
        run()
    freed = pool.freed
    del run
    gc.collect()
    assert pool.freed == freed + 1
    assert backend.driver.retired == [pool]
    pool.held = 0
    again = backend.compile(Step(state), state)  # the next compile empties it
    assert pool not in backend.driver.retired
    again()
