"""The backend apart from the captured step: its scope and its arrays."""

import pickle
import re
import threading

import numpy as np
import pytest

import portnn
import software_gpu
from captured import PlannedError
from software_gpu import control

pytestmark = pytest.mark.gpu
told = pytest.mark.skipif(not software_gpu.is_wanted(), reason="only a GPU in software tells what waits for what")

# -- the scope ---------------------------------------------------------------------------------------------------------


def waits(lines):
    """(the stream that waits, the stream waited for) of each wait in the device's log."""
    found, recorded = [], {}
    for line in lines:
        if known := re.fullmatch(r"record event (\S+) on (\S+)", line):
            recorded[known.group(1)] = address(known.group(2))
        if wait := re.fullmatch(r"(\S+) waits for event (\S+)", line):
            found.append((address(wait.group(1)), recorded[wait.group(2)]))
    return found


def address(words):
    return 0 if words == "(nil)" else int(words, 16)


@told
def test_the_scope_keeps_the_order_of_streams(backend, cupy):
    own = backend.stream.ptr
    with control.log() as lines, backend.scope():
        assert cupy.cuda.get_current_stream() == backend.stream
    assert waits(lines) == [(own, 0), (0, own)]
    assert cupy.cuda.get_current_stream().ptr == 0


@told
def test_the_scope_waits_for_the_callers_stream_too(backend, cupy):
    own, caller = backend.stream.ptr, cupy.cuda.Stream(non_blocking=True)
    with control.log() as lines, caller, backend.scope():
        pass
    assert set(waits(lines)[:2]) == {(own, 0), (own, caller.ptr)}
    assert set(waits(lines)[2:]) == {(0, own), (caller.ptr, own)}


@told
def test_the_scope_may_be_entered_again(backend, cupy):
    with control.log() as lines, backend.scope(), backend.scope(), backend.scope():
        assert cupy.cuda.get_current_stream() == backend.stream
    assert len(waits(lines)) == 2
    with control.log() as lines, pytest.raises(PlannedError), backend.scope(), backend.scope():
        raise PlannedError
    assert cupy.cuda.get_current_stream().ptr == 0
    assert len(waits(lines)) == 2


@told
def test_another_stream_within_the_scope(backend, cupy):
    """Code that enters the scope again on a stream of its own runs on the backend's stream, in the right order."""
    other, own = cupy.cuda.Stream(non_blocking=True), backend.stream.ptr
    with control.log() as lines, backend.scope(), other, backend.scope():
        assert cupy.cuda.get_current_stream() == backend.stream
    assert (own, other.ptr) in waits(lines)
    assert (other.ptr, own) in waits(lines)


def test_one_thread_at_a_time(backend):
    """If two threads shared the stream, each would capture the other's work in its graph."""
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


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_in_and_out(backend):
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
    assert x.tolist() == [[1.5, 2.5], [3.5, 4.5]]  # the backend has its own copy


def test_uploads_hand_cupy_a_copy_nobody_else_has(backend, cupy, monkeypatch):
    """CuPy may still read pinned memory after ``array`` has returned."""
    host = np.arange(6.0).reshape(2, 3)
    given = []
    array = cupy.array
    monkeypatch.setattr(cupy, "array", lambda x, **k: given.append(x) or array(x, **k))
    for source in (host, host.T, host[::2]):
        backend.asarray(source)
        assert not np.may_share_memory(given[-1], host)
        assert given[-1].flags.c_contiguous


@told
def test_device_arrays_are_cast_on_the_device(backend):
    x = backend.asarray(np.ones(3))
    with control.log() as lines:
        assert backend.asarray(x) is x
        assert backend.asarray(x, "float64") is x
        assert backend.asarray(x, copy=True) is not x
        cast = backend.asarray(x, "float32")
    assert not [line for line in lines if "DtoH" in line or "HtoD" in line]
    assert cast.dtype == np.float32
    assert backend.owns(cast)


def test_clip(backend):
    xp = backend.xp
    x = backend.asarray(np.array([-2.0, 0.5, 3.0, np.nan], np.float32))
    for low, high in ((-1, 1), (None, 1), (-1, None), (None, None), (0.25, backend.asarray(np.array(2.0)))):
        y = xp.clip(x, low, high)
        assert y.dtype == np.float32
        assert y is not x
        bounds = [None if bound is None else float(bound) for bound in (low, high)]
        assert np.array_equal(backend.to_numpy(y), np.clip(backend.to_numpy(x), *bounds), equal_nan=True)
    with backend.scope():
        assert backend.driver.capture(lambda: xp.clip(x, min=0.0, max=1.0)) is not None


def test_the_namespace_is_that_of_the_cpu(backend):
    """Both have the same names of the standard: what runs on one runs on the other."""
    assert set(vars(backend.xp)) == set(vars(portnn.get_backend("cpu").xp))
    assert backend.xp.__name__ == "cupy"


def test_a_backend_is_one_thing(backend, monkeypatch):
    other = type(backend)()
    assert backend == other
    assert hash(backend) == hash(other)
    assert backend != portnn.get_backend("cpu")
    monkeypatch.setattr("portnn.backend.finding._made", {"gpu": backend})
    assert pickle.loads(pickle.dumps(backend)) is backend


@told
def test_what_it_says_of_itself(backend, cupy):
    said = backend.describe()
    assert said["library"] == f"CuPy {cupy.__version__}"
    assert said["device"] == "NVIDIA GPU in software, compute capability 9.0"
    assert said["CUDA"] == "driver 13.0, runtime 13.0"
    assert said["memory"].endswith("GiB free")
    with control.log() as lines:
        backend.synchronize()
    assert "synchronize the device" in lines
