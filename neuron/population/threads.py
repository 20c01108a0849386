"""Calls at the same time, one a core: a program that is small uses one core alone."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from neuron.run import Together


class Threads(Together):
    """Shares the calls among as many threads as there are cores, this one included, and waits for
    all."""

    def __init__(self) -> None:
        affinity = getattr(os, "sched_getaffinity", None)
        self.most = len(affinity(0)) if affinity else os.cpu_count() or 1

    def map(self, function: Callable[[int], Any], places: Iterable[int]) -> list[Any]:
        """The results of a function of each place, in their order; `most` at the same time. The
        first error is raised when all are over."""
        waiting = list(places)
        results: dict[int, Any] = {}
        errors: dict[int, BaseException] = {}

        def work(own: list[int]) -> None:
            for place in own:
                try:
                    results[place] = function(place)
                except BaseException as error:
                    errors[place] = error
                    return

        shares = [waiting[start :: self.most] for start in range(min(self.most, len(waiting)))]
        others = [threading.Thread(target=work, args=(share,)) for share in shares[1:]]
        for thread in others:
            thread.start()
        for share in shares[:1]:
            work(share)
        for thread in others:
            # A signal must not leave one behind that still holds its arrays.
            while thread.is_alive():
                try:
                    thread.join()
                except BaseException as error:
                    errors[-1] = error
        if errors:
            raise errors[min(errors)]
        return [results[place] for place in waiting]
