"""Ctrl-C between two steps, never within one."""

import signal
import threading
from typing import Any


class Interrupts:
    """While open, Ctrl-C is only noted; ``act`` answers it, between two steps, so no update is ever half made."""

    def __enter__(self) -> "Interrupts":
        self.noted = False
        self.previous = None
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self.previous = previous
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.noted = True

    def act(self) -> None:
        self.noted = False
        if self.previous is not None:
            self.previous(signal.SIGINT, None)  # Python's own handler raises KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            if self.noted and error[0] is None:
                self.act()
