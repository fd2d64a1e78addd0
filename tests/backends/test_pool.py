"""The threads of compiled loops: BLAS on one thread beside them, limits, Ctrl-C, other threads, failures."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import portnn
from pool_runs import lenet, numbers
from portnn import ActivationLayer, Callback, FCLayer, Layer, Network
from portnn_numpy import blas, compiled
from portnn_numpy.backend import NumpyBackend

pytestmark = [
    pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}"),
    pytest.mark.skipif(not blas.can_be_told(), reason="NumPy's BLAS cannot be told to use one thread"),
]
if compiled.trouble() is None:
    import numba

    from portnn_numpy.compiled import jit, pool, troubles
CPU = NumpyBackend()
BEFORE = 2  # threads of BLAS, whatever the machine


@pytest.fixture(autouse=True)
def two():
    """BLAS has two threads before each test, and must have them again after it, but for those that set another number."""
    original = blas.threads()
    blas.set_threads(BEFORE)
    yield
    left, depth, threads = blas.threads(), pool._mine.depth, pool.threads()
    blas.set_threads(original)
    assert (left, depth, threads) == (BEFORE, 0, 1)


@pytest.fixture
def afresh(monkeypatch):
    """No problems recorded and no warnings given so far."""
    monkeypatch.setattr(troubles, "_found", {})
    monkeypatch.setattr(troubles, "_said", set())


class Asks(Layer):
    """Calls a function in each forward pass."""

    def __init__(self, function):
        self.function = function
        super().__init__()

    def forward(self, x):
        self.function()
        return x

    def backward(self, output_error):
        return output_error


class Does(Callback):
    """Calls a function after each epoch."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, epoch, logs):
        self.function()


def network(*more):
    net = Network([FCLayer(3, 4), *more, ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, backend=CPU)
    net.use("mse", optimizer=portnn.SGD(0.1))
    return net


X, Y = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)


def fit(net, **options):
    net.fit(X, Y, epochs=2, batch_size=4, verbose=0, **options)


CALLS = {
    "fit": fit,
    "evaluate": lambda net: net.evaluate(X, Y),
    "predict": lambda net: net.predict(X),
    "predict, in batches": lambda net: net.predict(X, batch_size=2),
}


# -- BLAS on one thread --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_blas_has_one_thread_within_a_call_and_its_own_number_after_it(call):
    seen = []
    CALLS[call](network(Asks(lambda: seen.append(blas.threads()))))
    assert set(seen) == {1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", CALLS)
def test_after_a_layer_that_raises(call, error):
    def fail():
        raise error("of this test")

    with pytest.raises(error, match="of this test"):
        CALLS[call](network(Asks(fail)))
    assert blas.threads() == BEFORE


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_a_callback_that_raises(error):
    def fail():
        raise error("of this test")

    with pytest.raises(error, match="of this test"):
        fit(network(), callbacks=[Does(fail)])
    assert blas.threads() == BEFORE


def test_data_that_does_not_fit():
    with pytest.raises(ValueError, match="3"):
        network().predict(np.ones((4, 5), np.float32))


def test_a_call_within_a_call():
    net, seen = network(), []

    def nested():
        net.predict(X)
        seen.append(blas.threads())
        with pytest.raises(ValueError, match="3"):
            net.predict(X[:, :2])
        seen.append(blas.threads())
        fit(network())
        seen.append(blas.threads())

    fit(net, callbacks=[Does(nested)])
    assert seen == [1] * 6


def test_a_number_that_the_user_sets_meanwhile_stays():
    fit(network(), callbacks=[Does(lambda: blas.set_threads(3))])
    assert blas.threads() == 3
    blas.set_threads(BEFORE)


def test_calls_in_two_threads_that_overlap():
    """The one that began first ends first: BLAS has its threads again after the second."""
    begun, go_on = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]
    seen = []

    def call(i):
        def wait():
            begun[i].set()
            assert go_on[i].wait(60)
            seen.append(blas.threads())

        network(Asks(wait)).predict(X)

    workers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for i in range(2):
        workers[i].start()
        assert begun[i].wait(60)
    for i in range(2):
        assert blas.threads() == 1
        go_on[i].set()
        workers[i].join()
    assert seen == [1, 1]
    assert blas.threads() == BEFORE


def test_many_calls_in_many_threads():
    errors = []

    def work():
        net = network()
        for _ in range(50):
            net.predict(X)
            with pool.Scope(np.errstate()):
                if blas.threads() != 1:
                    errors.append(blas.threads())

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []


@pytest.mark.parametrize("step", ["hold", "release"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_ctrl_c_while_a_call_begins_or_ends(monkeypatch, step, done):
    plain, around = getattr(pool._blas, step), np.geterr()

    def interrupted(*arguments):
        if done:
            plain(*arguments)
        monkeypatch.undo()
        if step == "release" and not done:
            plain(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(pool._blas, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        network().predict(X)
    assert blas.threads() == BEFORE
    assert np.geterr() == around


LINES = ("hold", "release", "_give_back", "enter", "leave", "divided")


def interrupted_at(line, function):
    """Calls a function with Ctrl-C at that line of those that LINES name; returns whether there are so many.

    Not at ``with`` and ``try``: Python runs no signal handler between these, or the release of a lock, and the body.
    """
    left, source = [line], Path(pool.__file__).read_text().splitlines()

    def trace(frame, event, argument):
        if frame.f_code.co_filename != pool.__file__ or frame.f_code.co_name not in LINES:
            return None
        if event == "line" and not source[frame.f_lineno - 1].lstrip().startswith(("with ", "try:")):
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_ctrl_c_at_any_line_of_a_call_leaves_nothing_behind():
    class Loop:
        @staticmethod
        def serial():
            pass

        on_threads = serial

    def call():
        with pool.Scope(np.errstate()):
            pool._mine.threads = 2
            pool.divided(Loop, ())

    call()
    line = 0
    while interrupted_at(line, call):
        assert (blas.threads(), pool._mine.depth) == (BEFORE, 0), f"after Ctrl-C at line {line}"
        elsewhere = threading.Thread(target=call, daemon=True)  # a lock that is held would stop it
        elsewhere.start()
        elsewhere.join(10)
        assert not elsewhere.is_alive(), f"a lock is held after Ctrl-C at line {line}"
        call()
        assert (blas.threads(), pool._blas.before, pool._blas.holders, pool._user) == (BEFORE, None, set(), {})
        line += 1
    assert line > 20


def test_a_signal_handler_that_predicts_while_a_call_begins(monkeypatch):
    """It runs in the same thread, which may hold the lock."""
    net, plain, outputs = network(), blas.set_threads, []

    def set_threads(n):
        monkeypatch.undo()
        outputs.append(net.predict(X))
        plain(n)

    expected = net.predict(X)
    monkeypatch.setattr(blas, "set_threads", set_threads)
    assert np.array_equal(net.predict(X), expected)
    assert np.array_equal(outputs[0], expected)


# -- how many threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "environment", "expected"),
    [
        (8, {}, 8),
        (2, {}, 2),
        (8, {"OMP_NUM_THREADS": "1"}, 1),
        (8, {"OMP_NUM_THREADS": "3,2"}, 3),
        (8, {"OMP_NUM_THREADS": " 4 "}, 4),
        (8, {"OMP_NUM_THREADS": "many"}, 8),
        (8, {"OMP_NUM_THREADS": "0"}, 8),
        (8, {"OMP_NUM_THREADS": "99"}, 8),
        (2, {"NUMBA_NUM_THREADS": "8"}, 8),
        (2, {"NUMBA_NUM_THREADS": "8", "OMP_NUM_THREADS": "3"}, 3),
    ],
)
def test_limits(monkeypatch, cores, environment, expected):
    """Numba counts the cores when it is imported; this process may since have been given fewer."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 8)
    monkeypatch.setattr(pool, "_cores", lambda: cores)
    monkeypatch.setattr(pool, "_started", None)
    assert pool.most() == expected


def test_the_cores_of_this_process(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert pool._cores() == len(os.sched_getaffinity(0))
        monkeypatch.delattr(os, "sched_getaffinity")
    assert pool._cores() == os.cpu_count()


def test_outside_of_a_call_there_is_one_thread():
    assert (pool.threads(), pool.alone()) == (1, False)
    pool.enter()
    try:
        assert (pool.threads(), pool.alone()) == (pool.most(), True)
    finally:
        pool.leave()
    assert (pool.threads(), pool.alone()) == (1, False)


@pytest.fixture
def divided(monkeypatch):
    """The loops that were given to the threads, of which there are two in every call."""
    names, plain = [], pool.divided

    def noted(loop, arguments):
        names.append(loop.__name__)
        return plain(loop, arguments)

    monkeypatch.setattr(pool, "divided", noted)
    monkeypatch.setattr(pool, "most", lambda: 2)
    return names


def test_large_arrays_are_divided_and_small_ones_are_not(divided):
    for units, expected in ((300, {"multiply", "_momentum"}), (20, set())):
        net = Network([FCLayer(units, units)], seed=1, backend=CPU)
        net.use("mse", optimizer=portnn.SGD(0.01, momentum=0.9))
        x = np.ones((64, units), np.float32)
        net.fit(x, x, epochs=1, batch_size=64, verbose=0)
        assert set(divided) == expected
        divided.clear()


def test_the_users_own_limit_of_numbas_threads(monkeypatch, divided):
    """``numba.set_num_threads`` holds within a call, and is the same after it."""
    numbers_of_threads, x = [], np.zeros(1 << 16, np.float32)

    class Loop:
        __name__ = "loop"
        serial = staticmethod(lambda x: numbers_of_threads.append(1))
        on_threads = staticmethod(lambda x: numbers_of_threads.append(numba.get_num_threads()))

    most = numba.get_num_threads()
    for user in range(1, most + 1):
        numba.set_num_threads(user)
        pool.enter()
        for allowed in (1, 2, 99):
            pool._mine.threads = allowed
            pool.divided(Loop, (x,))
            assert numba.get_num_threads() == user
            assert numbers_of_threads.pop() == min(user, allowed)
        pool.leave()
    numba.set_num_threads(most)


def test_the_loops_of_a_second_call_meanwhile_run_on_one_thread():
    class Loop:
        __name__ = "loop"
        serial = staticmethod(lambda: "alone")

        @staticmethod
        def on_threads():
            other = []
            worker = threading.Thread(target=lambda: other.append(pool.divided(Loop, ())))
            worker.start()
            worker.join()
            return other[0]

    if numba.get_num_threads() == 1:
        pytest.skip("Numba has one thread here")
    pool.enter()
    pool._mine.threads = 2
    assert pool.divided(Loop, ()) == "alone"
    assert pool._user == {}
    pool.leave()


# -- failures --------------------------------------------------------------------------------------------------------------


def test_a_parallel_form_that_does_not_compile(monkeypatch, divided, afresh):
    """The serial one takes its place, with one warning, and the bits are the same."""
    if numba.get_num_threads() == 1:
        pytest.skip("Numba has one thread here")

    def broken(*arguments):
        tried.append(arguments)
        raise jit.LoopError("Numba could not compile a loop (of this test)")

    tried, (x, y) = [], (numbers(0, 40, 16, 16, 3).astype("float32"), np.arange(40) % 10)
    expected = lenet()
    expected.fit(x, y, epochs=2, batch_size=40, verbose=0)
    from portnn_numpy.compiled import _convolution

    gather = jit.Loop(_convolution._gather.py_func, 0)
    gather.serial, gather.parallel = _convolution._gather.serial, broken
    monkeypatch.setattr(_convolution, "_gather", gather)
    net, words = (
        lenet(),
        r"^the compiled loop gather runs on one thread: Numba could not compile a loop \(of this test\)$",
    )
    with pytest.warns(compiled.CompiledLoopsWarning, match=words) as caught:
        net.fit(x, y, epochs=2, batch_size=40, verbose=0)
    assert len(caught) == len(tried) == 1
    assert all(np.array_equal(net.parameters[name], a) for name, a in expected.parameters.items())
    assert "the compiled loop gather runs on one thread" in pool.describe()
    assert gather not in jit._lost


def test_a_loop_that_does_not_compile_at_all(monkeypatch, divided, afresh):
    """Neither form does: NumPy's function takes its place."""
    monkeypatch.setattr(jit, "_lost", set())

    def broken(*arguments):
        raise jit.LoopError("Numba could not compile a loop (of this test)")

    loop = jit.Loop(lambda x: None, 0)
    loop.serial = loop.parallel = broken
    pool.enter()
    try:
        with pytest.warns(
            compiled.CompiledLoopsWarning, match="^NumPy, which is slower, replaces the compiled"
        ) as caught:
            assert not jit.ran(loop, np.zeros(9))
        assert not jit.ran(loop, np.zeros(9))
    finally:
        pool.leave()
    assert len(caught) == 1


def test_blas_that_cannot_be_told(monkeypatch):
    """The loops then run on one thread, BLAS keeps its own, and the results are those within rounding."""
    x, y = numbers(0, 80, 16, 16, 3).astype("float32"), np.arange(80) % 10
    nets, seen = [lenet(), lenet()], []
    nets[0].fit(x, y, epochs=2, batch_size=40, verbose=0)
    monkeypatch.setattr(blas, "can_be_told", lambda: False)
    monkeypatch.setattr(pool, "divided", lambda *a: pytest.fail("divided a loop"))
    ask = Does(lambda: seen.append((blas.threads(), pool.threads(), pool.alone())))
    nets[1].fit(x, y, epochs=2, batch_size=40, verbose=0, callbacks=[ask])
    assert seen == [(BEFORE, 1, False)] * 2
    assert np.allclose(nets[0].predict(x), nets[1].predict(x), atol=1e-5)
    assert pool.describe() == "1: NumPy's BLAS cannot be told to use one thread beside them"


# -- what is said of them ----------------------------------------------------------------------------------------------------


def test_info_tells_how_many_threads_there_are(monkeypatch):
    told = CPU.describe()["threads of compiled loops"]
    assert told.startswith(f"{min(pool.most(), numba.get_num_threads())}, of Numba's layer {numba.threading_layer()}")
    monkeypatch.setattr(pool, "_forked", True)
    assert CPU.describe()["threads of compiled loops"] == "1: this process was forked"
    assert "threads of compiled loops" not in NumpyBackend(compile=False).describe()
    monkeypatch.setattr(compiled, "trouble", lambda: ImportError("no Numba"))
    assert "threads of compiled loops" not in NumpyBackend().describe()


def test_a_checkpoint_records_the_same_within_a_call_as_outside(monkeypatch):
    """And whatever the number of threads, on which no bit depends."""
    within = []
    fit(network(), callbacks=[Does(lambda: within.append(CPU.numerics()))])
    assert within == [CPU.numerics()] * 2
    assert within[0]["BLAS"] == f"{blas.core() or 'unknown'} kernels, one thread"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert CPU.numerics() == within[0]
    assert NumpyBackend(compile=False).numerics()["BLAS"].endswith(f" kernels, {BEFORE} threads")
    monkeypatch.setattr(blas, "can_be_told", lambda: False)
    assert CPU.numerics()["BLAS"].endswith(f" kernels, {BEFORE} threads")


def test_each_form_has_files_of_its_own_in_the_cache():
    """Numba names them by function and argument types: a forked process would be given the form with threads."""
    from portnn_numpy.compiled._activations import tanh_all

    names = [form._cache._cache_file._index_name for form in (tanh_all.serial, tanh_all.parallel)]
    assert len(set(names)) == 2
