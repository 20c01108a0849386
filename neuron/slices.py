"""Slices. How many steps to run before the host looks in: about a tenth of a second's worth."""

import time
from collections.abc import Callable, Iterator

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
        self._started = 0.0

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


class Pace:
    """Cuts an evaluation in pieces that are as long as slices, and has somebody look in between.

    It never changes a result: what a batch gives depends on no other.
    """

    def __init__(self, work: int, look: Callable[[], None]):
        """**Arguments:**

        - `work`: that of a batch, as far as anybody knows: the first piece goes by it.
        - `look`: called before each piece.
        """
        self._slices, self.look = Slices(work), look
        self._under_way = 0

    def __call__(self, number: int, wait: Callable[[], bool]) -> Iterator[tuple[int, int]]:
        """The first batch of each piece of that many, and the one behind its last. `wait` waits
        for the piece before, if this evaluation has had one, and says so."""
        first = 0
        while first < number:
            self._slices.took(self._under_way if wait() else 0)
            self.look()
            last = min(number, first + self._slices.steps())
            self._under_way = last - first
            yield first, last
            first = last


def _within(steps: int | float) -> int:
    return int(max(1, min(CAPACITY, steps)))
