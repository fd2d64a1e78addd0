"""Ctrl-C takes effect between two steps, never within one."""

import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any


class Interrupts:
    """A context in which Ctrl-C is only noted; ``act`` raises it between two steps, so no update is left half done.

    Pressed again before that, it aborts a step that hangs; ``state`` then describes the state of the network.
    """

    def __init__(self, state: Callable[[], str] = lambda: ""):
        self.state = state
        self.noted = False
        self.previous: Any = None
        self.handler: Any = None
        self.frame: Any = None

    def __enter__(self) -> "Interrupts":
        self.frame = sys._getframe(1)
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self.previous, self.handler = previous, _handler(weakref.ref(self), previous)
                signal.signal(signal.SIGINT, self.handler)
        return self

    def note(self, frame: Any) -> None:
        if not self.noted:
            self.noted = True
        elif self.previous is signal.default_int_handler or getattr(self.previous, "only_notes", False):
            self.noted = False  # no step has ended since
            raise KeyboardInterrupt(f"Ctrl-C was pressed twice within one step, which was aborted. {self.state()}")
        else:  # a user's own handler decides what to do
            self.previous(signal.SIGINT, frame)

    def runs(self, frame: Any) -> bool:
        """Whether the fit interrupted at ``frame`` is this one: it may have been left without ``__exit__``."""
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None

    def act(self) -> None:
        """Raises the Ctrl-C that was noted: Python's own handler raises KeyboardInterrupt."""
        self.noted = False
        if getattr(self.previous, "only_notes", False):  # a fit within the fit of another network
            raise KeyboardInterrupt
        if self.previous is not None:
            self.previous(signal.SIGINT, None)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.previous is not None:
            if signal.getsignal(signal.SIGINT) is self.handler:  # else another handler was set meanwhile: it stays
                signal.signal(signal.SIGINT, self.previous)
            self.frame = None
            if self.noted:  # also where the step itself failed
                self.act()


def _handler(interrupts: "weakref.ref[Interrupts]", previous: Any) -> Any:
    def note(number: int, frame: Any) -> None:
        running = interrupts()
        if running is not None and running.runs(frame):
            running.note(frame)
        else:  # another signal's exception came in just as the fit ended, and this handler was left behind
            signal.signal(number, previous)
            previous(number, frame)

    note.only_notes = True  # type: ignore[attr-defined]
    return note
