"""A sweep of 32 rates of the populations' MLP, beside as many fits one after the other."""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from many import mlps
from peers.equinox_loop import network
from tasks import table

import neuron


RATES, STEPS = 32, 1024
traces: list[str] = []
compiles: list[str] = []


class Counted(neuron.CrossEntropy):
    """A loss that notes whenever it is traced."""

    def __call__(self, prediction, target):
        traces.append("loss")
        return super().__call__(prediction, target)


def measured(repeats: int) -> str:
    """The table: the first time of each, and the median of the others, at rates of their own."""
    jax.monitoring.register_event_duration_secs_listener(_note)
    task = mlps("sweep", 1).task
    rows = task.inputs, task.targets
    loader = neuron.DataLoader(rows, task.batch_size, sampler=neuron.Shuffle(seed=1))
    make = lambda rate: neuron.Trainer(
        network(task)[0], Counted(), neuron.Adam(rate), progress=False
    )
    at = lambda turn: np.logspace(-4, -1 - 0.01 * turn, RATES)

    def fits(turn: int) -> None:
        for rate in at(turn):
            make(float(rate)).fit(loader, steps=STEPS)

    def sweep(turn: int) -> None:
        rates = {"optimizer.learning_rate": at(turn)}
        neuron.sweep(make(0.1), loader, rates, steps=STEPS)

    seen: dict[str, list[tuple[float, int, int]]] = {}
    for turn in range(repeats + 1):
        for name, function in (("32 fits", fits), ("sweep", sweep)):
            seen.setdefault(name, []).append(_seen(function, turn))
    lines = []
    for name, (first, *others) in seen.items():
        lines.append([f"{name}, the first time", f"{first[0]:.2f}", *map(str, first[1:])])
        seconds, *counts = zip(*others, strict=True)
        most = [str(max(count)) for count in counts]
        lines.append([f"{name}, again", f"{statistics.median(seconds):.2f}", *most])
    return table(["", "s", "traces of the loss", "compiled programs"], lines)


def _seen(function: Callable[[int], None], turn: int) -> tuple[float, int, int]:
    traces.clear()
    compiles.clear()
    began = time.perf_counter()
    function(turn)
    return time.perf_counter() - began, len(traces), len(compiles)


def _note(event: str, seconds: float, **rest: object) -> None:
    del seconds, rest
    if event.endswith("backend_compile_duration"):
        compiles.append(event)
