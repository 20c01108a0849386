"""Slices. How many steps to run before the host looks in: about a tenth of a second's worth."""

import time

from neuron.run import CAPACITY


_SECONDS = 0.1
# For the first guess: what a step costs before it computes, and one scalar operation.
_STEP, _OPERATION = 5e-6, 1e-9
_GROWTH = 64


class Slices:
    """Guesses from a step's work, then from the measured speed. It never changes a result: how a
    run is cut changes no bit of it."""

    def __init__(self, work: int):
        self._steps = _within(_SECONDS / (_STEP + _OPERATION * work))

    def steps(self) -> int:
        """How many steps the next slice may have; starts its clock."""
        self._started = time.perf_counter()
        return self._steps

    def took(self, steps: int) -> float:
        """Learns from a slice that is over; returns its seconds."""
        seconds = time.perf_counter() - self._started
        if steps:
            self._steps = _within(min(_SECONDS * steps / seconds, steps * _GROWTH))
        return seconds


def _within(steps: int | float) -> int:
    return int(max(1, min(CAPACITY, steps)))
