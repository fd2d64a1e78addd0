"""The GPU in software finds where work in one stream uses what another stream is at work on, and warps that miss a lane."""

import numpy as np
import pytest

import software_gpu
from faults import refused
from software_gpu import control

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not software_gpu.is_wanted(), reason="no GPU in software: PORTNN_SOFTWARE_GPU is not set"),
]
N = 1000


@pytest.fixture
def streams(cupy):
    cupy.cuda.Device().synchronize()  # memory that another test has used may be used
    return [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]


def told():
    """The faults so far, with what they are about alone."""
    return [fault.partition(" memory that ")[0] for fault in control.faults()]


# -- streams -----------------------------------------------------------------------------------------------------------


def begin(cupy):
    """An array that all streams may use."""
    cupy.cuda.Device().synchronize()
    x = cupy.zeros(N)
    cupy.cuda.Device().synchronize()
    return x


USES = {
    "a read after a write": (lambda x: x.fill(1.0), lambda x: x + 1.0, "cupy_add__float64_float_float64 reads"),
    "a write after a read": (lambda x: x + 1.0, lambda x: x.fill(1.0), "cupy_fill writes"),
    "a write after a write": (lambda x: x.fill(1.0), lambda x: x.fill(2.0), "cupy_fill writes"),
    "a reduction": (lambda x: x.fill(1.0), lambda x: x.sum(), "CUB sum reads"),
    "a memset": (lambda x: x + 1.0, lambda x: x.data.memset_async(0, 8 * N), "memset writes"),
    "a copy to the host": (lambda x: x.fill(1.0), lambda x: x.get(), f"copy DtoH {8 * N} device pageable reads"),
    "a copy": (lambda x: x.fill(1.0), lambda x: x.copy(), "cupy_copy__float64_float64 reads"),
}


@pytest.mark.parametrize("use", USES)
def test_work_that_nothing_orders(cupy, backend, streams, use):
    before, after, words = USES[use]
    first, second, _ = streams
    ways = {
        "nothing": lambda: None,
        "an event of another stream": lambda: second.wait_event(streams[2].record()),
        "a wait for another stream": lambda: streams[2].synchronize(),
        "an event": lambda: second.wait_event(first.record()),
        "an event by a third": lambda: (streams[2].wait_event(first.record()), second.wait_event(streams[2].record())),
        "a wait": lambda: first.synchronize(),
        "a wait for an event": lambda: first.record().synchronize(),
        "a wait for all": lambda: cupy.cuda.Device().synchronize(),
    }
    for way, wait in ways.items():
        x = begin(cupy)
        control.faults()
        with first:
            before(x)
        wait()
        with second:
            after(x)
        assert told()[:1] == [words] * (list(ways).index(way) < 3), way


def test_an_event_that_is_recorded_too_early(cupy, backend, streams):
    first, second, _ = streams
    for late in (False, True):
        x = begin(cupy)
        event = first.record()
        with first:
            x.fill(1.0)
            event = first.record() if late else event
        second.wait_event(event)
        with second:
            x += 1.0
        assert bool(control.faults()) != late


def test_readers_in_several_streams(cupy, backend, streams):
    """A write has to wait for all of them."""
    first, second, third = streams
    for awaited in ([first, second], [second], [first]):
        x = begin(cupy)
        for stream in (first, second):
            with stream:
                x + 1.0
        for stream in awaited:
            third.wait_event(stream.record())
        with third:
            x.fill(2.0)
        assert bool(control.faults()) == (len(awaited) < 2)


def test_the_default_stream_waits_for_those_that_do_not_block(cupy, backend):
    for non_blocking in (False, True):
        cupy.cuda.Device().synchronize()
        x, stream = cupy.zeros(N), cupy.cuda.Stream(non_blocking=non_blocking)
        cupy.cuda.Device().synchronize()
        with stream:
            x.fill(1.0)
        x += 1.0
        with stream:
            x.fill(3.0)
        assert bool(control.faults()) == non_blocking


def test_graphs_and_products(cupy, backend, streams):
    a = backend.asarray(np.eye(30))
    with backend.scope():
        backend.xp.matmul(a, a)
        with backend.driver.using(backend.driver.new_memory(backend)):
            graph = backend.driver.capture(lambda: backend.xp.matmul(a, a))
    for wait in (True, False):
        cupy.cuda.Device().synchronize()
        with streams[0]:
            a += 1.0
        if wait:
            backend.stream.wait_event(streams[0].record())
        backend.driver.launch(graph)
        assert told() == ([] if wait else ["product 30 x 30 x 30, of a graph, reads"])


def test_memory_used_again_by_another_stream(cupy, backend, streams):
    """A pool that hands out memory to one stream while another is at work on what was there."""
    first, second, _ = streams
    with first:
        x = cupy.zeros(N)
    first.synchronize()
    second.wait_event(first.record())
    with second:
        x + 1.0
    del x
    with first:
        cupy.zeros(N)  # the same memory, of the stream that it was taken in
    assert told() == ["memset writes"]


@pytest.mark.parametrize("missing", ["outside", "inside", "upload", "arrival"])
def test_a_missing_wait_of_the_backend(cupy, backend, monkeypatch, missing):
    """Each wait between the backend's streams is needed: without it the device notes a fault, with it none."""
    from portnn_cupy.backend import CupyBackend

    wait_event = cupy.cuda.Stream.wait_event

    def work(backend):
        x = cupy.zeros(N)  # in the default stream
        with backend.scope():
            x += 1.0
            for _ in range(4):
                (y,) = backend.upload([np.ones(N)])()
                x += y
                del y
        return x + 1.0

    for planted in (False, True):
        own, waits = CupyBackend(), []

        def deaf(stream, event, own=own, waits=waits, planted=planted):
            """Leaves out one kind of wait; the first of the backend's stream is that for its caller's."""
            waits += [stream] * (stream == own.stream)
            kind = {0: "inside", own.copies.ptr: "upload"}.get(stream.ptr, "outside" if len(waits) == 1 else "arrival")
            if not planted or kind != missing:
                wait_event(stream, event)

        monkeypatch.setattr(cupy.cuda.Stream, "wait_event", deaf)
        cupy.cuda.Device().synchronize()
        control.faults()
        work(own)
        assert bool(control.faults()) == planted


# -- warps -------------------------------------------------------------------------------------------------------------

HALF = """void half(const float *x, float *y) {
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) for (int by = 8; by; by /= 2) v += __shfl_down_sync(MASK, v, by);
    __syncwarp();
    y[threadIdx.x] = v;
}"""


def test_half_a_warp(kernel, cupy):
    x, y = cupy.arange(64, dtype="f4"), cupy.empty(64, "f4")
    for order in (0, 1):
        with control.settings(order=order):
            kernel(HALF.replace("MASK", "0xffffu"))(1, 64, x, y)
            assert [float(y[i]) for i in (0, 16, 32, 63)] == [120.0, 16.0, 632.0, 63.0]
            refused("half: thread .* waits for lane", kernel(HALF.replace("MASK", "0x1ffffu")), 1, 64, x, y)
            refused(r"half: .* is not in the mask 0xff ", kernel(HALF.replace("MASK", "0xffu")), 1, 64, x, y)


WRONG = {
    "no lane of the mask": ("x[t] = __shfl_up_sync(0xff00u, x[t], 1);", 16, "is not in the mask 0xff00"),
    "a barrier of the block": ("if (t) __syncthreads(); else __syncwarp();", 32, "waits for lane 1"),
    "other masks": ("x[t] = __shfl_sync(t < 8 ? 0xffffu : 0xff0fu, x[t], 9);", 16, "waits for lane"),
    "a vote of some": ("if (t % 2) x[t] = __any_sync(~0u, 1); __syncthreads();", 32, "waits for lane 0"),
    "a ballot": ("if (t) x[t] = __ballot_sync(0xffffffffu, 1);", 32, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_lanes_that_are_missing(kernel, cupy, name):
    body, threads, words = WRONG[name]
    run = kernel(f"void lanes(float *x) {{ int t = threadIdx.x; {body} }}")
    x = cupy.zeros(threads, "f4")
    if words is None:  # a lane that has ended is not waited for
        run(1, threads, x)
        assert x.get().tolist() == [0.0] + [float(np.float32(0xFFFFFFFE))] * 31
    else:
        refused(words, run, 1, threads, x)


@pytest.mark.parametrize(
    ("body", "threads"),
    [
        ("if (t < 20) x[t] = __shfl_down_sync(~0u, x[t], 4);", 32),  # the others have ended
        ("x[t] = __shfl_down_sync(0xfffffu, x[t], 4);", 20),  # there are no others
        ("if (t < 20) x[t] = __shfl_down_sync(0xfffffu, x[t], 4); else x[t] = __shfl_sync(0xfff00000u, x[t], t);", 32),
    ],
)
def test_what_other_lanes_give_is_unknown(kernel, cupy, body, threads):
    """Neither an error, since nobody may use it, nor a number, since somebody may."""
    run = kernel(f"void last(float *x) {{ int t = threadIdx.x; {body} }}")
    x = cupy.arange(32, dtype="f4")
    run(1, threads, x)
    found = x.get()
    assert found[:16].tolist() == list(range(4, 20))
    assert np.isnan(found[16:20]).all()
    assert found[20:].tolist() == list(range(20, 32))
