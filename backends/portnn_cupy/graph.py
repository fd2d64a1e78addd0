"""A train step that is captured into a CUDA graph and replayed.

A graph reads and writes the addresses it was captured with. So every leaf of the state is in a buffer that never moves,
the graph ends by writing the new leaves into these buffers (see ``in_place.py``), and all other memory of the step
comes from a pool of its own that lives as long as the graph. The first calls run eagerly: they are real steps of the
training, and they compile the kernels, which cannot be done within a capture.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from portnn_cupy import in_place

Array = Any
WARM_UPS = 2


class EagerStepWarning(UserWarning):
    """A train step could not be captured into a graph: it runs eagerly, which is slower."""


class Driver(Protocol):
    """What a captured step needs from the device; tests replace it."""

    def new_memory(self, owner: object) -> Any:
        """Returns a memory pool for ``owner`` alone."""

    def using(self, memory: Any) -> AbstractContextManager[Any]:
        """A context in which new arrays are allocated from ``memory``."""

    def release(self, memory: Any) -> None:
        """Frees the parts of ``memory`` that no array uses."""

    def capture(self, work: Callable[[], None]) -> Any:
        """Returns a graph of what ``work`` launches, without running it. An error in ``work`` ends the capture."""

    def launch(self, graph: Any) -> None:
        """Runs a graph."""

    def copy(self, pairs: list[tuple[Array, Array]]) -> None:
        """Copies the values of each second array into the first, a device array of the same shape and dtype."""


class CapturedStep:
    """Each call is one step: two run eagerly, the third captures the graph and launches it, later ones launch it."""

    def __init__(self, step: Callable[[], list[Array]], state: Any, driver: Driver):
        self.step: Any = step
        self.state, self.driver = state, driver
        self.memory = driver.new_memory(self)
        self.eager, self.reusable = False, True
        self.places: list[Any] = []
        self.forget()
        if state.eager_reason is not None:
            self._give_up(state.eager_reason)
        else:
            state.use_device_counters()

    def go_on_with(self, step: Callable[[], list[Array]], state: Any) -> None:
        """Goes on in another fit, with a state of the same kind: its arrays are adopted at the first call."""
        self.step, self.state = step, state
        state.use_device_counters()

    def rest(self) -> None:
        """Keeps nothing of a fit that is over, such as its samples."""
        self.step = self.state = None
        self.places = []

    def forget(self) -> None:
        """Drops the graph and its memory: warm-ups and capture start again. The state stays as it is."""
        self.graph: Any = None
        self.calls = 0
        self.places = []
        self.buffers: list[Array] = []  # for each place its array, fixed as long as the graph exists
        self.driver.release(self.memory)

    def __call__(self) -> None:
        if self.eager:
            self.state.commit(self.step())
            return
        if self.graph is not None and self._is_in_place():
            self.driver.launch(self.graph)
            return
        self._adopt()
        if self.graph is None and self.calls == WARM_UPS:
            self._capture()
        if self.graph is not None:
            self.driver.launch(self.graph)
        elif self.eager:
            self.state.commit(self.step())
        else:
            self._warm_up()

    def _is_in_place(self) -> bool:
        """Whether all arrays are the graph's buffers: the usual case, checked quickly."""
        places = self.places
        return len(self.state.inputs) + len(self.state.places) == len(places) and all(
            home[key] is buffer for (home, key), buffer in zip(places, self.buffers, strict=True)
        )

    def _adopt(self) -> None:
        """Copies arrays assigned from outside (new weights, an epoch's permutation) into their buffers."""
        places = [*self.state.places, *self.state.inputs]
        arrays = [home[key] for home, key in places]
        fits = [_alike] * len(self.state.places) + [_fits_in] * len(self.state.inputs)
        if len(arrays) == len(self.buffers) and all(
            f(a, b) for f, a, b in zip(fits, arrays, self.buffers, strict=True)
        ):
            self.places = places
            self._copy(arrays)
        else:  # the first call, or a graph that no longer fits
            self.forget()
            self.places, self.buffers = places, _apart(arrays)
        self._bind()

    def _warm_up(self) -> None:
        """One real step, run eagerly. It writes nothing before all is computed, so one that fails changes nothing."""
        with self.driver.using(self.memory):
            leaves, misfit = self._leaves()
            if not misfit:
                self._copy(leaves)
        self.calls += 1
        if misfit:
            self._give_up(misfit)
            self.state.commit(leaves)

    def _capture(self) -> None:
        reason = ""
        try:
            with self.driver.using(self.memory):
                self.graph = self.driver.capture(self._recorded)
            self.reusable = not getattr(self.state, "skipped", ())
        except Exception as error:  # whatever cannot be captured can still be run
            place = self.step.where() if hasattr(self.step, "where") else ""
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            reason = f"{place} cannot be captured: {words}" if place else words
        if reason:  # the error, which keeps memory of the step alive, is gone
            self._give_up(reason)

    def _recorded(self) -> None:
        with in_place.capturing(self.buffers) as ending:
            leaves, misfit = self._leaves()
            if misfit:
                raise TypeError(misfit)
            self._copy(leaves)
            ending.launch()

    def _leaves(self) -> tuple[list[Array], str]:
        """Runs the step; returns the new leaves, and a message on the first that does not fit its buffer."""
        try:
            leaves = self.step()
        finally:
            self._bind()  # a layer's own code may have bound something else
        for (_, key), leaf, buffer in zip(self.places, leaves, self.buffers, strict=False):
            if not _alike(leaf, buffer):
                return leaves, f"{key!r} was {_kind(buffer)}, and the step made it {_kind(leaf)}"
        return leaves, ""

    def _copy(self, leaves: list[Array]) -> None:
        """Copies each leaf into its buffer; one that is in another leaf's buffer is read before that is written."""
        moved = [(buffer, leaf) for buffer, leaf in zip(self.buffers, leaves, strict=False) if leaf is not buffer]
        written = {id(buffer) for buffer, _ in moved}
        safe = [leaf.copy() if {id(leaf), id(leaf.base)} & written else leaf for _, leaf in moved]
        targets = [buffer if _alike(leaf, buffer) else buffer[: leaf.shape[0]] for buffer, leaf in moved]
        self.driver.copy(list(zip(targets, safe, strict=True)))

    def _bind(self) -> None:
        for (home, key), buffer in zip(self.places, self.buffers, strict=True):
            home[key] = buffer

    def _give_up(self, reason: str) -> None:
        """Runs eagerly from here on. It warns before the step: if warnings are errors, no step is lost."""
        self.eager = True
        self.forget()
        warnings.warn(f"training runs eagerly, which is slower: {reason}", EagerStepWarning, stacklevel=3)


def _kind(x: Array) -> tuple[Any, Any]:
    return getattr(x, "dtype", None), getattr(x, "shape", None)


def _alike(a: Array, b: Array) -> bool:
    return _kind(a) == _kind(b)


def _fits_in(a: Array, b: Array) -> bool:
    """Whether an input has the kind of a buffer, and at most as many rows: of an epoch that is shorter."""
    if _alike(a, b):
        return True
    return bool(a.dtype == b.dtype and a.ndim == b.ndim > 0 and a.shape[1:] == b.shape[1:] and len(a) <= len(b))


def _apart(arrays: list[Array]) -> list[Array]:
    """The arrays; those that share memory (one array twice, or a view) are copied."""
    seen: set[int] = set()
    apart = []
    for array in arrays:
        own = array.copy() if array.base is not None or id(array) in seen else array
        seen.add(id(own))
        apart.append(own)
    return apart
