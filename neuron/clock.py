"""The clock. Where the wall time of a fit goes: each moment belongs to one stretch."""

import functools
import threading
import time
from types import TracebackType
from typing import Any

from jax import monitoring


# What a fit does, in the order in which it is told.
STRETCHES = ("compile", "steps", "input", "validation", "callbacks", "rest")
# What JAX reports once it is done: tracing, lowering, and the compiler itself.
_COMPILING = "/jax/core/compile/"
_running: list["Clock"] = []


class Clock:
    """Charges the time since it was made to stretches, of which one is on at any moment.

    ```python
    with Clock() as clock:
        with clock("input"):
            ...
    clock.seconds["input"]
    ```

    `compile` is on by itself, whenever JAX traces or compiles in this thread while the clock runs:
    what that takes is not part of the stretch in which it happens. `rest` is what nobody named.
    """

    def __init__(self) -> None:
        self._stretch, self._since = "rest", time.perf_counter()
        self._charged: dict[str, float] = dict.fromkeys(STRETCHES, 0.0)
        self._stopped = False
        self._thread = threading.get_ident()
        # When compiling began and ended, of all that is not part of a longer one.
        self._compiled: list[tuple[float, float]] = []

    def __enter__(self) -> "Clock":
        _listen()
        _running.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _running.remove(self)
        self.turn("rest")
        self._stopped = True

    def __call__(self, stretch: str) -> "_Stretch":
        """A context in which that stretch is on."""
        return _Stretch(self, stretch)

    def turn(self, stretch: str) -> str:
        """Ends the stretch that is on, whose name it returns, and begins another."""
        before, now = self._stretch, time.perf_counter()
        self._charged[before] += now - self._since
        self._stretch, self._since = stretch, now
        return before

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stretch so far; all of them together are the clock's whole time."""
        if not self._stopped:
            self.turn(self._stretch)
        return dict(self._charged)

    def compiled(self, seconds: float) -> None:
        """Charges what JAX has just spent for compiling, and what is part of it once."""
        end = time.perf_counter()
        start = end - seconds
        while self._compiled and self._compiled[-1][0] >= start:
            inner, until = self._compiled.pop()
            seconds -= until - inner
        self._compiled.append((start, end))
        self._charged["compile"] += seconds
        self._charged[self._stretch] -= seconds

    def runs_here(self) -> bool:
        """Whether this is the thread that it was made in."""
        return self._thread == threading.get_ident()


class _Stretch:
    def __init__(self, clock: Clock, name: str):
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._before = self._clock.turn(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._clock.turn(self._before)


@functools.cache
def _listen() -> None:
    """Once a process: what listens to JAX is asked at each compile, and at nothing else of ours."""
    monitoring.register_event_duration_secs_listener(_note)


def _note(event: str, duration_secs: float, **kwargs: Any) -> None:
    del kwargs
    if event.startswith(_COMPILING):
        for clock in tuple(_running):
            if clock.runs_here():
                clock.compiled(duration_secs)
