"""Interrupts. While a program runs, Ctrl-C waits for a step boundary."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Turns the first Ctrl-C into a flag, which is read where the run's state is whole.

    A second one goes to whoever handled it before. Off the main thread, and where no Python
    function handles the signal, nothing is touched.
    """

    def __enter__(self) -> "Interrupts":
        self._asked = False
        self._before: Any = None
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self._before = handler
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if Ctrl-C was pressed since the run began."""
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self._before(number, frame)
        self._asked = True
