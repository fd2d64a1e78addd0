"""The GPU backend on a real GPU. Without one, every test here is skipped with the reason."""

import contextlib
import threading

import numpy as np
import pytest

import portnn
import software_gpu
from portnn import random

pytestmark = pytest.mark.gpu
# Numbers whose work takes a GPU some time; in software, where nothing is at work while Python goes on, any will do.
MANY = 1 << 10 if software_gpu.is_wanted() else 1 << 22


# -- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (4, 3, 2)])
def test_there_and_back(backend, dtype, shape):
    host = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    x = backend.asarray(host)
    assert backend.owns(x)
    assert x.shape == shape
    assert x.dtype == host.dtype
    back = backend.to_numpy(x)
    assert type(back) is np.ndarray
    assert back.dtype == host.dtype
    assert np.array_equal(back, host)


@pytest.mark.parametrize(
    "host", [np.arange(6.0).reshape(2, 3).T, np.arange(12.0)[::-2], np.asfortranarray(np.ones((3, 4)))]
)
def test_host_arrays_of_any_layout(backend, host):
    assert np.array_equal(backend.to_numpy(backend.asarray(host)), host)
    assert np.array_equal(backend.to_numpy(backend.asarray(host).T), host.T)


def test_casts(backend):
    x = backend.asarray([1.7, 2.2], "float32")
    assert x.dtype == np.float32
    assert backend.asarray(x) is x
    assert backend.asarray(x, copy=True) is not x
    assert np.array_equal(
        backend.to_numpy(backend.asarray(x, "float64")), np.array([1.7, 2.2], np.float32).astype(float)
    )


def test_the_callers_array_may_change_at_once(backend, cupy):
    """Even if it is in pinned memory, which the GPU may still read after the call has returned."""
    import cupyx

    pinned = cupyx.empty_pinned((4 * MANY,), np.float32)
    for host in (pinned, np.empty(4 * MANY, np.float32)):
        for number in range(3):
            host[...] = number
            x = backend.asarray(host)
            host[...] = -1.0
            assert float(cupy.abs(x - number).max()) == 0.0


def test_backend_of(backend, cupy):
    assert portnn.backend_of(cupy.ones(3)) is backend
    assert portnn.to_device(np.ones(3), "gpu").device == backend.device
    assert not backend.owns(np.ones(3))


# -- functions ---------------------------------------------------------------------------------------------------------


def test_creation_and_clip(backend):
    xp = backend.xp
    assert xp.zeros((2, 2), dtype=xp.float32, device=backend.device).dtype == np.float32
    assert set(vars(xp)) == set(vars(portnn.get_backend("cpu").xp))
    x = backend.asarray(np.array([-2.0, 0.5, 3.0, np.nan], np.float32))
    for low, high in ((-1, 1), (None, 1.0), (-1.0, None), (None, None), (backend.asarray(np.float32(0.25)), 2)):
        y = xp.clip(x, low, high)
        bounds = [None if bound is None else float(bound) for bound in (low, high)]
        assert y.dtype == np.float32
        assert np.array_equal(backend.to_numpy(y), np.clip(backend.to_numpy(x), *bounds), equal_nan=True)


def put(kind, values):
    """The values on the device, in the given layout."""
    import cupy

    m, n = values.shape
    bases = {
        "rows": cupy.empty((m, n), values.dtype),
        "columns": cupy.empty((n, m), values.dtype).T,
        "part of wider": cupy.empty((m, n + 3), values.dtype)[:, 1 : n + 1],
        "part of taller": cupy.empty((n, m + 2), values.dtype).T[1 : m + 1],
        "every second": cupy.empty((2 * m, 2 * n), values.dtype)[::2, ::2],
        "backwards": cupy.empty((m, n), values.dtype)[::-1, ::-1],
    }
    view = bases[kind]
    view[...] = cupy.asarray(values)
    return view


LAYOUTS = ["rows", "columns", "part of wider", "part of taller", "every second", "backwards"]


def close(got, expected):
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    tolerance = 1e-4 if expected.dtype == np.float32 else 1e-12
    assert np.allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_products_of_every_layout(backend, dtype, left, right):
    rng = np.random.default_rng(1)
    for m, k, n in ((128, 784, 100), (3, 4, 5), (1, 7, 3), (5, 1, 3), (3, 5, 1), (1, 1, 1)):
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
        close(backend.to_numpy(backend.xp.matmul(put(left, a), put(right, b))), a @ b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (3,)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 3), (5, 3, 4)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((2, 3), (3, 0)),
        ((0,), (0,)),
        ((4, 0, 3), (3, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_products_of_every_rank(backend, a, b, dtype):
    rng = np.random.default_rng(2)
    a, b = ((10 * rng.standard_normal(shape)).astype(dtype) for shape in (a, b))
    close(backend.to_numpy(backend.xp.matmul(backend.asarray(a), backend.asarray(b))), np.asarray(a @ b))


def test_products_are_not_tf32(backend):
    """TF32 keeps only 10 of the 23 mantissa bits: this product would have errors of about 1e-3."""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    got = backend.to_numpy(backend.xp.matmul(backend.asarray(a), backend.asarray(b)))
    assert np.abs(got - a.astype(np.float64) @ b).max() < 2e-4


def test_products_outside_and_within_the_scope(backend):
    x = backend.asarray(np.eye(3, dtype=np.float32) * 2)
    with backend.scope():
        inside = backend.xp.matmul(x, x)
    assert np.array_equal(backend.to_numpy(backend.xp.matmul(inside, x)), np.eye(3) * 8)


@pytest.mark.parametrize("key", [(0, 0), (2**64 - 1, 2**63 + 5), random.key(7, "5.mask")])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 2049, 100_003])
def test_random_bits_are_the_hosts(backend, key, n):
    for step in (0, 3, 2**40):
        expected = random.bits(key, step, n)
        for given in (step, backend.asarray(np.array(step, np.int64))):
            bits = backend.random_bits(key, given, n)
            assert bits.dtype == np.int64
            assert np.array_equal(backend.to_numpy(bits), expected)


# -- streams -----------------------------------------------------------------------------------------------------------


def slow(cupy, x, times=300):
    """Work that takes the GPU some time, and whose result shows whether all of it has finished."""
    for _ in range(times):
        x = x + 1.0
    return x


def test_the_scope_may_be_entered_again(backend, cupy):
    outside = cupy.cuda.get_current_stream()
    with backend.scope():
        assert cupy.cuda.get_current_stream() == backend.stream
        with contextlib.suppress(ZeroDivisionError), backend.scope():
            assert cupy.cuda.get_current_stream() == backend.stream
            raise ZeroDivisionError
        assert cupy.cuda.get_current_stream() == backend.stream
    assert cupy.cuda.get_current_stream() == outside


def test_arrays_of_other_streams_keep_their_order(backend, cupy):
    """Arrays made on the default stream or a user's stream and used within the scope, and vice versa."""
    own = cupy.cuda.Stream(non_blocking=True)
    for stream in (cupy.cuda.Stream.null, own):
        for _ in range(5):
            with stream:
                x = slow(cupy, cupy.zeros(MANY, np.float32))
                with backend.scope():
                    y = slow(cupy, x)
                z = slow(cupy, y)
                assert float(z.min()) == float(z.max()) == 900.0
            del x, y, z  # their memory is reused at once


def test_results_are_there_for_a_stream_that_comes_later(backend, cupy):
    with backend.scope():
        x = slow(cupy, cupy.zeros(MANY, np.float32))
    assert float(x.min()) == 300.0


def test_threads_take_turns(backend, cupy):
    results = []

    def work():
        with backend.scope():
            results.append(float(slow(cupy, cupy.zeros(MANY // 16, np.float32)).min()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [300.0] * 4


# -- the captured step -------------------------------------------------------------------------------------------------


class State:
    """A small version of a network's state: weights, momentum, the step number and a table of learning rates."""

    eager_reason = None

    def __init__(self, backend, dtype):
        rng = np.random.default_rng(5)
        self.backend, self.dtype = backend, dtype
        self.home = {
            "w": backend.asarray(rng.standard_normal((20, 30)), dtype),
            "v": backend.asarray(np.zeros((20, 30)), dtype),
            "step": backend.asarray(np.array(0)),
        }
        self.places = [(self.home, key) for key in self.home]
        self.feed = {"rates": backend.asarray(np.linspace(0.1, 0.01, 8), dtype)}
        self.inputs = [(self.feed, "rates")]
        self.x = backend.asarray(rng.standard_normal((64, 20)), dtype)

    def use_device_counters(self):
        pass

    def commit(self, leaves):
        for (home, key), leaf in zip(self.places, leaves, strict=True):
            home[key] = leaf

    def values(self):
        return [self.backend.to_numpy(leaf) for leaf in self.home.values()]


class Step:
    def __init__(self, state, rows=64):
        self.state, self.rows = state, rows

    def __call__(self):
        state, xp = self.state, self.state.backend.xp
        home, x = state.home, state.x[: self.rows, :]
        rate = xp.take(state.feed["rates"], home["step"], axis=0)
        mask = state.backend.random_bits((1, 2), home["step"], self.rows * 30) >= 1 << 31
        y = xp.tanh(xp.matmul(x, home["w"])) * xp.astype(xp.reshape(mask, (self.rows, 30)), state.dtype)
        gradient = xp.matmul(x.T, y - xp.clip(y, -0.5, 0.5)) + xp.sum(y, axis=0)
        v = 0.9 * home["v"] + gradient
        return [home["w"] - rate * v, v, home["step"] + 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replays_equal_eager_steps_bit_for_bit(backend, dtype):
    eager, captured = State(backend, dtype), State(backend, dtype)
    step = Step(eager)
    run = backend.compile(Step(captured), captured)
    for _ in range(7):
        with backend.scope():
            eager.commit(step())
        run()
        for ours, theirs in zip(captured.values(), eager.values(), strict=True):
            assert np.array_equal(ours, theirs)


def test_two_sizes_adoption_and_garbage(backend, cupy):
    """Two graphs share buffers, weights are set from outside, and other work reuses freed memory in between."""
    eager, captured = State(backend, "float32"), State(backend, "float32")
    steps = [Step(eager), Step(eager, 17)]
    runs = [backend.compile(Step(captured, rows), captured) for rows in (64, 17)]
    for k in range(8):
        if k in (3, 6):
            for state in (eager, captured):
                state.home["w"] = backend.asarray(np.full((20, 30), 0.01 * k), "float32")
        if k == 7:
            for state in (eager, captured):
                state.feed["rates"] = backend.asarray(np.linspace(0.5, 0.1, 8), "float32")
        with backend.scope():
            eager.commit(steps[k % 2]())
        runs[k % 2]()
        cupy.full(1 << 16, np.nan, np.float32)
        for ours, theirs in zip(captured.values(), eager.values(), strict=True):
            assert np.array_equal(ours, theirs)


def test_a_step_that_reads_a_value_falls_back(backend):
    from portnn_cupy.graph import EagerStepWarning

    class Reading(Step):
        def __call__(self):
            float(self.state.home["w"][0, 0])
            return super().__call__()

    eager, captured = State(backend, "float32"), State(backend, "float32")
    step, run = Step(eager), backend.compile(Reading(captured), captured)
    for k in range(5):
        with backend.scope():
            eager.commit(step())
        with pytest.warns(EagerStepWarning) if k == 2 else contextlib.nullcontext():
            run()
        for ours, theirs in zip(captured.values(), eager.values(), strict=True):
            assert np.array_equal(ours, theirs)
    with backend.scope():
        assert not backend.stream.is_capturing()


def test_out_of_memory_leaves_the_state(backend, cupy):
    from portnn_cupy.backend import GpuOutOfMemoryError

    state = State(backend, "float32")
    _, total = backend.device.mem_info

    class Greedy(Step):
        def __call__(self):
            cupy.empty(2 * total, np.uint8)
            return super().__call__()

    before = state.values()
    run = backend.compile(Greedy(state), state)
    with pytest.raises(GpuOutOfMemoryError, match="try a smaller batch_size"):
        run()
    for ours, theirs in zip(state.values(), before, strict=True):
        assert np.array_equal(ours, theirs)
    backend.compile(Step(state), state)()


@pytest.mark.parametrize("captured", [False, True], ids=["in the scope", "in a step"])
def test_a_drivers_out_of_memory_is_translated(backend, cupy, captured):
    """Where a module is loaded, or a kernel launched, it is no error of CuPy's memory."""
    from portnn_cupy.backend import GpuOutOfMemoryError

    def refuse():
        raise cupy.cuda.driver.CUDADriverError(2)

    def in_the_scope():
        with backend.scope():
            refuse()

    state = State(backend, "float32")
    with pytest.raises(GpuOutOfMemoryError, match="ran out of memory"):
        (backend.compile(refuse, state) if captured else in_the_scope)()
    with pytest.raises(cupy.cuda.driver.CUDADriverError), backend.scope():
        raise cupy.cuda.driver.CUDADriverError(1)


def test_nothing_is_freed_from_the_beginning_of_a_capture_to_its_end(backend, monkeypatch):
    """Garbage collection may free a graph while the stream begins to be captured, or ends."""
    seen, stream, driver = [], backend.stream, backend.driver

    class Spied:
        def begin_capture(self):
            seen.append(driver.capturing)
            stream.begin_capture()

        def end_capture(self):
            seen.append(driver.capturing)
            return stream.end_capture()

    monkeypatch.setattr(driver, "stream", Spied())
    with backend.scope():
        driver.capture(lambda: seen.append(driver.capturing))
    assert seen == [True] * 3
    assert not driver.capturing


def test_a_launch_over_many_arrays_has_few_arguments(backend, monkeypatch):
    """Each argument costs host time in every eager call: the addresses of all arrays are one, a table."""
    from portnn_cupy import launch

    counts, kernel = {}, launch._kernel

    def spied(name, real):
        return lambda grid, block, given: (counts.update({name: len(given)}), kernel(name, real)(grid, block, given))

    monkeypatch.setattr(launch, "_kernel", spied)
    net = portnn.Network([portnn.FCLayer(3, 4), portnn.FCLayer(4, 3)], backend=backend)
    net.use("mse", optimizer=portnn.Adam())
    net.fit(np.ones((4, 3)), np.ones((4, 3)), epochs=2, batch_size=4, verbose=0)
    assert counts["update_all"] <= 32
    assert counts["copy_all"] == 1
