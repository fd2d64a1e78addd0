"""One at a time: who trains a network, or changes it, has it for itself."""

import threading
import weakref
from typing import Any


class Turn:
    """Somebody's turn with a network, from ``Turns.take`` until ``end``; it ends by itself when nobody holds it."""

    def __init__(self, what: str):
        self.what, self.thread, self.over = what, threading.get_ident(), False

    def end(self) -> None:
        self.over = True

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class Turns:
    """Gives turns, one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.given: weakref.ref[Turn] | None = None

    def take(self, what: str) -> Turn:
        """Begins a turn for ``what``, a method's name; RuntimeError while another one lasts, in whatever thread."""
        turn = Turn(what)
        with self.lock:
            held = self.held()
            if held is None:
                self.given = weakref.ref(turn)
                return turn
        raise RuntimeError(_refusal(what, held))

    def held(self) -> Turn | None:
        """The turn that lasts now."""
        turn = None if self.given is None else self.given()
        return None if turn is None or turn.over else turn

    def held_elsewhere(self) -> Turn | None:
        """The turn that lasts now, if it is another thread's."""
        if self.given is None:  # the usual case, at once
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
