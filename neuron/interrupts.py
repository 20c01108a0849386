"""Interrupts. While a fit runs, Ctrl-C and SIGTERM wait for a point at which the run is whole."""

import inspect
import signal
import threading
import time
from types import FrameType
from typing import Any

from neuron.errors import Terminated


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a launcher sends to a process and to its group arrives twice; nobody presses as fast.
_SAME = 0.05


class Interrupts:
    """Keeps the first signal until `check`, and has it handled there as it would have been.

    A function of the user's own is called, and the fit goes on if it returns. Otherwise Ctrl-C
    raises `KeyboardInterrupt`, and SIGTERM `Terminated`. A second signal is handled at once. What
    is ignored, or handled by something that is not Python's, is left alone; so is everything off
    the main thread, where Python handles no signals.
    """

    def __enter__(self) -> "Interrupts":
        self._before: dict[int, Any] = {}
        self._kept: int | None = None
        self._since = 0.0
        self._handled = self._over = False
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler is not None and handler != signal.SIG_IGN:
                    self._before[number] = handler
                    signal.signal(number, self)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # Unless somebody has set another one meanwhile.
            if signal.getsignal(number) is self:
                signal.signal(number, handler)
        self._over = True
        self.check()

    def check(self) -> None:
        """Handles a signal that has come, where the run is whole."""
        if self._kept is not None and not self._handled:
            self._handled = True
            self._handle(self._kept, inspect.currentframe())
            # The handler returned, so the run goes on, and what comes next is a first one again.
            self._kept, self._handled = None, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Python calls this where the signal reaches it."""
        now = time.monotonic()
        if self._over or (self._kept is not None and now - self._since > _SAME):
            self._handle(number, frame)
        elif self._kept is None:
            self._kept, self._since = number, now
        elif number == signal.SIGTERM:
            # Both at once: it asks for more.
            self._kept = number

    def _handle(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        if isinstance(handler, Interrupts):
            # A fit in a hook of another one's: its interrupt ends both.
            handler._handle(number, frame)
        elif callable(handler):
            handler(number, frame)
        else:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
