"""The backend apart from the captured step, on the stand-in: its scope and its arrays."""

import pickle
import threading

import numpy as np
import pytest

import portnn
from captured import PlannedError

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
    """Code that enters the scope again on a stream of its own runs on the backend's stream, in the right order."""
    other = stand_in.cupy.cuda.Stream(ptr=9)
    with backend.scope(), other, backend.scope():
        assert stand_in.cupy.cuda.get_current_stream() == backend.stream
        assert (backend.stream.ptr, "waits for", 9) in stand_in.log
    assert (9, "waits for", backend.stream.ptr) in stand_in.log


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
    assert x.tolist() == [[1.5, 2.5], [3.5, 4.5]]  # the backend has its own copy


def test_uploads_hand_cupy_a_copy_nobody_else_has(backend, stand_in, monkeypatch):
    """CuPy may still read pinned memory after ``array`` has returned."""
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
    """Both have the same names of the standard: what runs on one runs on the other."""
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
