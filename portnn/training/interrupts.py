"""Ctrl-C and SIGTERM take effect between two steps, never within one."""

import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context in which these signals are only noted; ``act`` raises them between two steps.

    So no update is left half done. A signal that comes again before that aborts a step that hangs; ``state`` then
    describes the state of the network. ``last`` is called before a SIGTERM takes effect, to save a checkpoint.
    """

    def __init__(self, state: Callable[[], str] = lambda: "", last: Callable[[], None] = lambda: None):
        self.state, self.last = state, last
        self.noted: int = 0  # the number of the signal
        self.previous: dict[int, Any] = {}
        self.handlers: dict[int, Any] = {}
        self.frame: Any = None
        self.process = os.getpid()

    def __enter__(self) -> "Interrupts":
        self.frame = sys._getframe(1)
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in SIGNALS:
                previous = signal.getsignal(number)
                if callable(previous) or (number == signal.SIGTERM and previous is signal.SIG_DFL):
                    self.previous[number] = previous
                    self.handlers[number] = _handler(weakref.ref(self), previous)
                    signal.signal(number, self.handlers[number])
        return self

    def note(self, number: int, frame: Any) -> None:
        if not self.noted:
            self.noted = number
        elif number == signal.SIGTERM:
            self.noted = 0  # no step has ended since
            self.pass_on(number)
        elif self.previous[number] is signal.default_int_handler or _only_notes(self.previous[number]):
            if self.noted != signal.SIGTERM:  # which takes effect when the fit has been left
                self.noted = 0
            raise KeyboardInterrupt(f"Ctrl-C was pressed twice within one step, which was aborted. {self.state()}")
        else:  # a user's own handler decides what to do
            self.previous[number](number, frame)

    def runs(self, frame: Any) -> bool:
        """Whether the fit interrupted at ``frame`` is this one: it may have been left without ``__exit__``.

        A process that a callback has forked is not this fit's: what would end it must end it.
        """
        if os.getpid() != self.process:
            return False
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None

    def act(self) -> None:
        """Lets the signal that was noted take effect: Python's own handler of Ctrl-C raises KeyboardInterrupt."""
        number, self.noted = self.noted, 0
        if number == signal.SIGTERM:
            try:
                self.last()
            finally:  # a full disk does not keep the process alive
                self.pass_on(number)
        elif _only_notes(self.previous.get(number)):  # a fit within the fit of another network
            raise KeyboardInterrupt
        elif number in self.previous:
            self.previous[number](number, None)

    def pass_on(self, number: int) -> None:
        """Sends the signal again, to the handler from before: by default it ends the process."""
        previous, handler = self.previous[number], self.handlers[number]
        signal.signal(number, previous)
        os.kill(os.getpid(), number)
        if _only_notes(previous):  # the fit around this one has noted it, and must go on to act on it
            raise SystemExit(128 + number)
        if self.frame is not None:  # a user's handler lets the training go on
            signal.signal(number, handler)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is handler:  # else another handler was set meanwhile: it stays
                signal.signal(number, self.previous[number])
        self.frame = None
        if self.noted and self.previous:  # also where the step itself failed
            self.act()


def _only_notes(handler: Any) -> bool:
    return getattr(handler, "only_notes", False)


def _handler(interrupts: "weakref.ref[Interrupts]", previous: Any) -> Any:
    def note(number: int, frame: Any) -> None:
        running = interrupts()
        if running is not None and running.runs(frame):
            running.note(number, frame)
        else:  # another signal's exception came in just as the fit ended, and this handler was left behind
            signal.signal(number, previous)
            if callable(previous):
                previous(number, frame)
            else:
                os.kill(os.getpid(), number)

    note.only_notes = True  # type: ignore[attr-defined]
    return note
