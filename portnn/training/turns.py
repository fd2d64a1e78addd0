"""Turns: a network is trained, or changed, by one call at a time."""

import sys
import threading
import weakref
from typing import Any


class Turn:
    """A method's exclusive turn with a network, from ``Turns.take`` until ``end``, or until the method is left."""

    def __init__(self, what: str):
        self.what, self.thread, self.over = what, threading.get_ident(), False
        self.in_step = False  # a step's results are not committed yet
        self.at: list[Any] = [""]  # what of the step is running: a layer, or words for an error message
        self.captured = False  # the last step was a graph's: its gradients are in memory of its own
        self.kept: Any = None  # what the passes of a fit leave in users' objects
        self.frame: Any = sys._getframe(2)  # of the method that takes the turn

    def end(self) -> None:
        if self.kept is not None:
            self.kept.note()
        self.over, self.frame = True, None

    def lasts(self) -> bool:
        """Whether the method still runs: an exception may have left it before it could end its turn."""
        frame = None if self.over else sys._current_frames().get(self.thread)
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class Turns:
    """A network's turns, of which one lasts at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.arranging = threading.RLock()  # one thread at a time gives layers their paths
        self.copying: set[int] = set()  # threads that copy the network, as it is between two steps
        self.given: weakref.ref[Turn] | None = None

    def take(self, what: str) -> Turn:
        """Begins a turn for ``what``, a method's name; RuntimeError while another one lasts, in any thread."""
        turn = Turn(what)
        with self.lock:
            held = self.held()
            if held is None:
                self.given = weakref.ref(turn)
                return turn
        raise RuntimeError(_refusal(what, held))

    def held(self) -> Turn | None:
        """The turn that lasts now; None if there is none."""
        turn = None if self.given is None else self.given()
        return turn if turn is not None and turn.lasts() else None

    def held_elsewhere(self) -> Turn | None:
        """The turn that lasts now, if it is another thread's; else None."""
        if self.given is None:  # the usual case, fast
            return None
        turn = self.held()
        return None if turn is None or turn.thread == threading.get_ident() else turn

    def __deepcopy__(self, memo: dict[int, Any]) -> "Turns":
        return Turns()

    def __reduce__(self) -> tuple[Any, ...]:
        return Turns, ()


def _refusal(what: str, held: Turn) -> str:
    inside = held.thread == threading.get_ident()
    where = f"within {held.what} of the same network" if inside else f"while another thread is in {held.what} of it"
    advice = "call it when that has ended, or on a copy, copy.deepcopy(network)"
    return f"{what} was called {where}: a network is trained, and changed, by one call at a time; {advice}"
