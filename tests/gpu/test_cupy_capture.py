"""The captured train step: what a graph reads, writes and keeps alive."""

import gc
import weakref

import numpy as np
import pytest

from captured import RATES, Pair, State, Step, eager, same
from portnn_cupy.graph import WARM_UPS, CapturedStep

pytestmark = pytest.mark.gpu
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation

# -- one step per call -------------------------------------------------------------------------------------------------


def test_every_call_is_one_real_step(backend, launches):
    """Two steps run eagerly, the third is captured and launched, the others launched: bitwise as in an eager run."""
    expected = eager(backend, 7, rates=RATES)
    state = State(backend, rates=RATES)
    step = Step(state)
    run = backend.compile(step, state)
    for k in range(7):
        run()
        same(state.values(), expected[k])
        assert step.runs == min(k + 1, WARM_UPS + 1)
        assert len(launches) == max(0, k + 1 - WARM_UPS)
    assert not backend.stream.is_capturing()


def test_leaves_stay_where_they_are(backend):
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    run()
    places = dict(state.home)
    addresses = {key: leaf.data.ptr for key, leaf in places.items()}
    for _ in range(5):
        run()
    assert all(state.home[key] is leaf and leaf.data.ptr == addresses[key] for key, leaf in places.items())


def test_nothing_of_the_capture_is_seen_before_the_launch(backend, monkeypatch):
    """A capture runs no kernels."""
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    for _ in range(WARM_UPS):
        run()
    before, seen, capture = state.values(), [], backend.driver.capture
    monkeypatch.setattr(backend.driver, "capture", lambda work: (capture(work), seen.append(state.values()))[0])
    run()
    same(seen[0], before)


def test_each_step_is_captured_on_the_backends_stream_in_a_pool_of_its_own(backend, cupy, monkeypatch):
    pools, given, using = [], [], backend.driver.using
    monkeypatch.setattr(backend.driver, "using", lambda memory: given.append(memory) or using(memory))
    allocator = cupy.cuda.get_allocator()
    state = State(backend, rates=RATES)
    other = State(backend, rates=RATES)

    def look(step):
        assert cupy.cuda.get_current_stream() == backend.stream
        pools.append(given[-1])

    run, run_other = (backend.compile(Step(s, hook=look), s) for s in (state, other))
    for _ in range(4):
        run()
        run_other()
    assert len(pools) == 2 * (WARM_UPS + 1)
    assert len(set(map(id, pools[::2]))) == len(set(map(id, pools[1::2]))) == 1
    assert pools[0] is not pools[1]
    assert cupy.cuda.get_allocator() == allocator


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
            same(state.values() | {"step": before["step"]}, before | {"a": before["b"], "b": before["a"]})


def test_larger_shapes_make_another_graph(backend, launches):
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
    assert len(launches) == 2 + 4 + 2


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
    start = [backend.to_numpy(leaf) for leaf in state.home.values()]
    run = backend.compile(lambda: [state.home["a"] * 2, state.home["b"] + 1], state)
    for k in range(1, 6):
        run()
        assert state.lists() == ((start[0] * 2**k).tolist(), (start[1] + k).tolist())
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


# -- two graphs --------------------------------------------------------------------------------------------------------


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


# -- memory ------------------------------------------------------------------------------------------------------------


def test_out_of_memory(backend, cupy):
    """The error says how much was requested, how much was free and what to do; afterwards training can go on."""
    from portnn_cupy.backend import GpuOutOfMemoryError

    state = State(backend, rates=RATES)
    expected = eager(backend, 6, rates=RATES)
    big = weakref.WeakSet()

    class Big:
        pass

    def fail(step):
        if step.runs == 2:
            held = Big()
            big.add(held)
            raise cupy.cuda.memory.OutOfMemoryError(7_340_032, 512, 0)

    run = backend.compile(Step(state, hook=fail), state)
    run()
    before = state.values()
    words = r"(?s)last whole step: try a smaller batch_size\. Of [\d,]+ bytes, [\d,]+ were free\. .* 7,340,032 bytes"
    with pytest.raises(GpuOutOfMemoryError, match=words) as caught:
        run()
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value.__cause__, cupy.cuda.memory.OutOfMemoryError)
    gc.collect()
    assert not big  # the error's traceback keeps nothing of the step alive
    same(state.values(), before)
    for k in range(1, 6):
        run()
        same(state.values(), expected[k])


@pytest.fixture
def full(cupy, monkeypatch):
    """A GPU with as many bytes left as ``free`` says; CuPy keeps some for nobody, and releases them when asked."""

    class Full:
        free, kept = 100, 9_900

        def free_all_blocks(self):
            self.free, self.kept = self.free + self.kept, 0

    gpu, memory = Full(), cupy.cuda.Memory

    def limited(size):
        if size > gpu.free:
            raise cupy.cuda.runtime.CUDARuntimeError(OUT_OF_MEMORY)
        return memory(size)

    monkeypatch.setattr(cupy.cuda, "Memory", limited)
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: gpu)
    return gpu


def test_a_graph_takes_what_cupy_keeps_for_nobody(backend, cupy, full):
    """Out of memory outside a capture: CuPy's free blocks are released, and the allocation is tried again."""
    pool = backend.driver.new_memory(backend)
    assert pool.malloc(5_000).mem.size >= 5_000
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        pool.malloc(50_000)


def test_no_memory_within_a_capture(backend, full):
    """In a capture, CuPy's pool must not release blocks that the graph writes to: the capture is aborted instead."""
    pool = backend.driver.new_memory(backend)
    with (
        backend.scope(),
        pytest.raises(RuntimeError, match=r"the graph needs 5,\d\d\d bytes more than the GPU has left"),
    ):
        backend.driver.capture(lambda: pool.malloc(5_000))
    assert full.kept == 9_900
    with backend.scope():
        assert not backend.stream.is_capturing()


def test_pools_are_emptied_when_their_graph_is_gone(backend, cupy, monkeypatch):
    """A pool that is dropped with free blocks in it would never return them to the device."""
    made, new = [], backend.driver.new_memory
    monkeypatch.setattr(backend.driver, "new_memory", lambda owner: made.append(new(owner)) or made[-1])
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    (pool,) = made
    for _ in range(4):
        run()
    with backend.scope(), backend.driver.using(pool):
        held = cupy.zeros(1000)  # an array that a layer still has
    used = pool.total_bytes()
    del run
    gc.collect()
    assert pool in backend.driver.retired
    assert 0 < pool.total_bytes() < used
    del held
    again = backend.compile(Step(state), state)  # the next compile empties it
    assert pool not in backend.driver.retired
    again()
