"""Large arrays are worked on in parts, by as many threads as the BLAS library uses.

NumPy's loops let go of the interpreter's lock, so two threads run two loops at once. Products have their own threads;
everything else is shared out here. The number is OpenBLAS's own, asked each time: OPENBLAS_NUM_THREADS, OMP_NUM_THREADS
and threadpoolctl hold for both. The parts are never summed up with each other, so results do not depend on the number.
"""

import os
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

from portnn_numpy import blas

LEAST = 1 << 17  # numbers: below, a thread costs more than it saves

_tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
_workers: list[threading.Thread] = []
_lock = threading.Lock()


def share_out(work: Callable[[int, int], Any], n: int, size: int) -> None:
    """Calls ``work(start, stop)`` for parts of ``range(n)``, at once in several threads if ``size`` numbers are many.

    The first exception of any part is raised here, when all parts have ended.
    """
    parts = min(count(), n, size // LEAST + 1) if size >= LEAST else 1
    if parts <= 1:
        work(0, n)
        return
    _at_least(parts - 1)
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def task(start: int, stop: int) -> Callable[[], None]:
        def run() -> None:
            try:
                work(start, stop)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

        return run

    edges = [n * k // parts for k in range(parts + 1)]
    for start, stop in pairwise(edges[1:]):
        _tasks.put(task(start, stop))
    task(0, edges[1])()
    errors = [error for error in (done.get() for _ in range(parts)) if error is not None]
    if errors:
        raise errors[0]


def count() -> int:
    """How many threads to use."""
    number = blas.threads()
    if number is None:
        number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return number or 1


def _at_least(workers: int) -> None:
    if len(_workers) >= workers:
        return
    with _lock:
        while len(_workers) < workers:
            thread = threading.Thread(target=_work, name=f"portnn-{len(_workers)}", daemon=True)
            thread.start()
            _workers.append(thread)


def _work() -> None:
    while True:
        _tasks.get()()


def _after_fork() -> None:
    """A forked process has none of its parent's threads."""
    global _tasks, _lock
    _workers.clear()
    _tasks, _lock = SimpleQueue(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
