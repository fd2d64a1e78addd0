"""Ctrl-C between two steps, never within one."""

import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any


class Interrupts:
    """While open, Ctrl-C is only noted; ``act`` answers it, between two steps, so no update is ever half made.

    Pressed again before that, it ends a step that hangs; ``state`` then says, in words, what became of the network.
    """

    def __init__(self, state: Callable[[], str] = lambda: ""):
        self.state = state
        self.noted = False
        self.previous: Any = None
        self.handler: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self.previous, self.handler = previous, _handler(weakref.ref(self), previous)
                signal.signal(signal.SIGINT, self.handler)
        return self

    def note(self) -> None:
        if self.noted:  # and no step has come to an end since
            self.noted = False
            raise KeyboardInterrupt(f"Ctrl-C was pressed twice within one step, which was given up. {self.state()}")
        self.noted = True

    def act(self) -> None:
        """Answers the Ctrl-C that was noted: Python's own handler raises KeyboardInterrupt."""
        self.noted = False
        if getattr(self.previous, "only_notes", False):  # a fit within the fit of another network
            raise KeyboardInterrupt
        if self.previous is not None:
            self.previous(signal.SIGINT, None)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.previous is not None:
            if signal.getsignal(signal.SIGINT) is self.handler:  # else somebody has set another meanwhile: it stays
                signal.signal(signal.SIGINT, self.previous)
            if self.noted:  # also where the step itself has failed
                self.act()


def _handler(interrupts: "weakref.ref[Interrupts]", previous: Any) -> Any:
    def note(number: int, frame: Any) -> None:
        running = interrupts()
        if running is not None:
            running.note()
        else:  # another signal's exception came in just as the fit ended, and this handler was left behind
            signal.signal(number, previous)
            previous(number, frame)

    note.only_notes = True  # type: ignore[attr-defined]
    return note
