"""A train step captured into a CUDA graph, and replayed.

A graph reads and writes the addresses it was captured with. So every leaf of the state gets a fixed buffer, the capture
ends with copies of the new leaves into these buffers, and all that the step allocates in between comes from a memory pool
of its own that lives as long as the graph. The first calls run the step eagerly: they are real steps of the training,
and they compile kernels, which a capture could not wait for.
"""

import warnings
from collections.abc import Callable
from typing import Any

WARM_UPS = 2


class EagerStepWarning(UserWarning):
    """A step runs eagerly, call by call, because it could not be captured."""


class CapturedStep:
    """``run()`` makes one step: eagerly at first, then captured, then by replays of the capture.

    ``driver`` does what needs CUDA: ``copy(to, source)``, ``duplicate(array)``, ``pool()`` (a context that allocates from a
    private pool), and ``capture(function)``, which returns a graph with ``launch()``.
    """

    def __init__(self, step: Callable[[], list[Any]], state: Any, driver: Any):
        self.step, self.state, self.driver = step, state, driver
        state.use_device_counters()
        self.leaves = list(state.places)
        self.places = [*state.places, *state.inputs]
        self.buffers = [home[key] for home, key in self.places]
        self.pool = driver.pool()
        self.graph: Any = None
        self.calls = 0
        self.captures = True

    def __call__(self) -> None:
        self._adopt()
        self.calls += 1
        if self.graph is None and self.captures and self.calls > WARM_UPS:
            self._capture()
        if self.graph is not None:
            self.graph.launch()
            return
        with self.pool:
            self._commit(self.step())

    def _adopt(self) -> None:
        """Copies what was put in a buffer's place from outside (new weights, the next epoch's permutation) into it."""
        for (home, key), buffer in zip(self.places, self.buffers, strict=True):
            if home[key] is not buffer:
                self.driver.copy(buffer, home[key])
                home[key] = buffer

    def _commit(self, leaves: list[Any]) -> None:
        """Copies new leaves into their buffers, all after the whole step has succeeded."""
        own = {id(buffer) for buffer in self.buffers}
        pairs = [(buffer, leaf) for buffer, leaf in zip(self.buffers, leaves, strict=False) if leaf is not buffer]
        # A leaf that is another leaf's buffer would be overwritten before it is read.
        pairs = [(buffer, self.driver.duplicate(leaf) if id(leaf) in own else leaf) for buffer, leaf in pairs]
        for (home, key), buffer in zip(self.leaves, self.buffers, strict=False):
            home[key] = buffer
        for buffer, leaf in pairs:
            self.driver.copy(buffer, leaf)

    def _capture(self) -> None:
        try:
            with self.pool:
                self.graph = self.driver.capture(lambda: self._commit(self.step()))
        except Exception as error:  # whatever cannot be captured can still be run
            self.captures = False
            self._adopt()
            warn_eager(f"the step could not be captured: {type(error).__name__}: {' '.join(str(error).split())}")


def warn_eager(reason: str) -> None:
    """Notes, once a step, that it runs call by call, and why."""
    warnings.warn(f"training runs eagerly, which is slower: {reason}", EagerStepWarning, stacklevel=2)
