"""What a captured step leaves for its end: the optimizer, and the counters, written straight into the graph's buffers.

Run eagerly, a step writes its results into new arrays. Where they would be copied into fixed buffers at its end, the
copies of parameters and slots are spared: each of their numbers is read and written by one thread, in the last kernel
of the step. All else of the step has read the old numbers by then, and nothing after it can fail.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Array = Any
Launch = Callable[[Any], bool]  # takes the counters, or None; whether it has counted

_thread = threading.local()


class Ending:
    """The last kernels of a step that is being captured; ``buffers`` are the graph's."""

    def __init__(self, buffers: Sequence[Array]):
        self.own = {id(buffer) for buffer in buffers}
        self.updates: list[Launch] = []
        self.counters: Any = None
        self.count: Launch | None = None  # for counters alone

    def has(self, arrays: Sequence[Array]) -> bool:
        """Whether these are buffers of the graph, each another one."""
        ids = {id(array) for array in arrays}
        return len(ids) == len(arrays) and ids <= self.own

    def apart(self, array: Array) -> Array:
        """The array; a copy of one that lies in a buffer, which would change while it is read."""
        return array.copy() if {id(array), id(array.base)} & self.own else array

    def launch(self) -> None:
        """Launches what was left for the end; the last update counts as well, if it can."""
        counted = self.count is None
        for k, update in enumerate(self.updates, 1):
            last = k == len(self.updates) and not counted
            counted = update(self.counters if last else None) or counted
        if not counted and self.count is not None:
            self.count(self.counters)


@contextmanager
def capturing(buffers: Sequence[Array]) -> Iterator[Ending]:
    """A context for a step that is being captured; its end is launched by the caller."""
    _thread.ending = ending = Ending(buffers)
    try:
        yield ending
    finally:
        _thread.ending = None


def ending_of(arrays: Sequence[Array]) -> Ending | None:
    """The end of the step that is being captured by this thread, if these arrays may be written there."""
    ending: Ending | None = getattr(_thread, "ending", None)
    return ending if ending is not None and ending.has(arrays) else None
