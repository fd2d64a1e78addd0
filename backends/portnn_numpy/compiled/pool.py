"""The threads that run compiled loops, and BLAS on one thread beside them.

OpenBLAS has threads of its own, which wait busily for milliseconds after each product: threads of ours would get what
they leave. So within a public call (``enter`` and ``leave``) BLAS runs on one thread, and the loops, the products of
matrices among them (``_products.py``), are divided among Numba's. Where NumPy's BLAS cannot be told so, or Numba has no
threads, all loops run on one thread.

No result depends on the number of threads: a loop divides its work into parts that depend on shapes only, or into parts
that do not share a sum.
"""

import os
import threading
import warnings
from threading import get_ident
from typing import Any

import numba

from portnn_numpy import blas
from portnn_numpy.compiled import troubles

# The Python thread that uses the threads: another one meanwhile runs its loops on its own. Not a lock: Ctrl-C between
# its acquisition and the ``try`` after it would keep it for good, but a thread that is in here may go on.
_user: dict[str, int] = {}


class _OfThread(threading.local):
    """What a Python thread may use: 1 outside of a public call; 0 in one that has not asked yet."""

    depth = 0
    threads = 1


class _Blas:
    """BLAS on one thread while any Python thread is within a public call."""

    def __init__(self) -> None:
        self.before: int | None = None  # how many threads it had, from before they are taken until it has them again
        self.holders: set[int] = set()  # threads: Ctrl-C may end a call before it holds
        self.lock = threading.RLock()  # a signal handler that runs here may make a public call

    def hold(self) -> None:
        with self.lock:
            if not self.holders or self.before is None:
                found = blas.threads() or 1
                if found > 1:
                    self.before = found
                    blas.set_threads(1)
            self.holders.add(get_ident())

    def release(self, *threads: int) -> None:
        """These threads hold it no more; after the last holder BLAS has its threads again."""
        with self.lock:
            self.holders.difference_update(threads)
            if not self.holders:
                try:
                    self._give_back()
                except BaseException:  # Ctrl-C
                    self._give_back()
                    raise

    def _give_back(self) -> None:
        if self.before is not None and blas.threads() == 1:  # else somebody has set another number
            blas.set_threads(self.before)
        self.before = None


_mine, _blas = _OfThread(), _Blas()
_forked = False
_started: bool | None = None  # False: Numba has no threads here


class Scope:
    """A public call, within another context."""

    __slots__ = ("around", "depth")

    def __init__(self, around: Any):
        self.around = around

    def __enter__(self) -> None:
        self.around.__enter__()
        self.depth = _mine.depth
        try:
            enter()
        except BaseException as error:  # Ctrl-C
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            leave()
        except BaseException:  # Ctrl-C before it was done
            _mine.depth = self.depth + 1
            leave()
            raise
        finally:
            self.around.__exit__(kind, error, trace)


def enter() -> None:
    """Begins a public call."""
    mine = _mine
    mine.depth = depth = mine.depth + 1
    if depth == 1 and blas.can_be_told():
        _blas.hold()
        mine.threads = 0


def leave() -> None:
    """Ends a public call, also one that raised."""
    mine = _mine
    mine.depth = depth = max(mine.depth - 1, 0)
    if not depth and blas.can_be_told():
        mine.threads = 1
        _blas.release(get_ident())


def threads() -> int:
    """The number of threads for the loops that this Python thread runs now."""
    found = _mine.threads
    if not found:
        found = _mine.threads = most()
    return found


def alone() -> bool:
    """Whether this Python thread is within a public call with BLAS on one thread: the cores are for our loops."""
    return _mine.depth > 0 and blas.can_be_told()


def most() -> int:
    """How many threads a public call may use now: NUMBA_NUM_THREADS, or one for each core this process may use.

    OMP_NUM_THREADS may make it fewer.
    """
    if _forked or _started is False:  # GNU's OpenMP ends a forked process that starts its threads again
        return 1
    limits = [int(numba.config.NUMBA_NUM_THREADS)]  # by default the cores there were when Numba was imported
    if "NUMBA_NUM_THREADS" not in os.environ:
        limits.append(_cores())
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        limits.append(int(first))
    return min(limits)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def divided(loop: Any, arguments: tuple[Any, ...]) -> Any:
    """Runs a loop (``jit.Loop``) on the threads; on this one alone where they are in use, or do not start."""
    if _user.setdefault("thread", mine := get_ident()) != mine:
        return loop.serial(*arguments)
    try:
        if not (_started or _start()):
            _mine.threads = 1
            troubles.say()
            return loop.serial(*arguments)
        allowed = numba.get_num_threads()  # the user's own limit for this thread
        if allowed <= _mine.threads:
            return loop.on_threads(*arguments) if allowed > 1 else loop.serial(*arguments)
        try:
            numba.set_num_threads(_mine.threads)
            return loop.on_threads(*arguments)
        finally:
            numba.set_num_threads(allowed)
    finally:
        _user.pop("thread", None)


def _start() -> bool:
    """Starts Numba's threads; returns whether there are any. If not, the reason is noted, for a warning."""
    global _started
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layers that it tries and does not take
        try:
            numba.get_num_threads()
            _started = True
        except Exception as error:  # a layer was asked for that is not installed
            _started = False
            words = f"compiled loops run on one thread: Numba cannot start its threads ({troubles.words(error)})"
            troubles.note(troubles.THREADS, words)
    return _started


def describe() -> str:
    """How many threads the loops use, and Numba's layer of threads, or why there is only one; without warnings."""
    if not blas.can_be_told():
        return "1: NumPy's BLAS cannot be told to use one thread beside them"
    if _forked:
        return "1: this process was forked"
    if not (_started or (_started is None and _start())):
        return f"1: {troubles.found(troubles.THREADS)[-1]}"
    n = min(most(), numba.get_num_threads())
    return "; ".join((f"{n}, of Numba's layer {numba.threading_layer()}", *troubles.found(troubles.THREADS)))


def _after_fork() -> None:
    """Only the thread that forked goes on, within its public call if it was in one; its loops run on one thread."""
    global _forked
    _forked = True
    _user.clear()
    _blas.lock, _mine.threads = threading.RLock(), 1
    _blas.release(*(_blas.holders - {get_ident()}))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
