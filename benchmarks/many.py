"""The tasks of many models at once: `MANY["seed, shared, 100"]()` is one of 100 members."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tasks import Fit, Layer, Task, seed
from trajectory import trajectory


# Numbers of rows that batches of their own may hold together, 100 MB of them.
MOST_INDICES = 25_000_000


@dataclasses.dataclass(frozen=True)
class Many:
    """Models that differ in where they start, and in what they see of the rows.

    All take the batches of `task` and differ in their weights alone; or a row counts for each as
    often as its own `counts` say; or each has batches of its own.
    """

    name: str
    task: Task
    # As those of the task, with a first axis for the members.
    layers: list[Layer]
    # (members, rows)
    counts: np.ndarray | None = None
    own_batches: bool = False
    # How many of the members a peer trains that takes one after the other: the rest take as long.
    alone: int = 1

    @property
    def members(self) -> int:
        return len(self.layers[0][0])

    @property
    def steps(self) -> int:
        return self.task.steps

    @property
    def checked(self) -> int:
        return self.task.checked

    @property
    def dropout(self) -> float:
        return self.task.dropout

    def to_check(self) -> "Many":
        """The task as its weights are compared."""
        return self.first(self.checked)

    @property
    def most_steps(self) -> int:
        """How many steps of all members a peer may be given."""
        whole = self.members * self.task.batch_size if self.own_batches else 1
        return min(self.steps, MOST_INDICES // whole)

    def first(self, steps: int) -> "Many":
        """The same task, ended early."""
        return dataclasses.replace(self, task=self.task.first(steps))

    def some(self, members: int) -> "Many":
        """The first members of it."""
        layers = [tuple(array[:members] for array in layer) for layer in self.layers]
        counts = None if self.counts is None else self.counts[:members]
        return dataclasses.replace(self, layers=layers, counts=counts)

    def member(self, place: int) -> Task:
        """The task of one of them."""
        layers = [tuple(array[place] for array in layer) for layer in self.layers]
        indices = self._own(place) if self.own_batches else self.task.indices
        return dataclasses.replace(self.task, layers=layers, indices=indices)

    @functools.cached_property
    def indices(self) -> np.ndarray:
        """The rows of each step: (steps, batch_size), or (steps, members, batch_size)."""
        if not self.own_batches:
            return self.task.indices
        return np.stack([self._own(place) for place in range(self.members)], axis=1)

    def right(self, indices: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The weights of some members after these batches, a row each."""
        task = dataclasses.replace(
            self.task, layers=[tuple(array[chosen] for array in layer) for layer in self.layers]
        )
        counts = None if self.counts is None else self.counts[chosen]
        indices = indices[:, chosen] if indices.ndim == 3 else indices
        return flat(trajectory(task, indices, counts))

    def _own(self, place: int) -> np.ndarray:
        random = np.random.default_rng([1, place])
        shape = self.steps, self.task.batch_size
        return random.integers(0, len(self.task.inputs), shape, dtype=np.int32)


def flat(weights: Sequence[Any]) -> np.ndarray:
    """Arrays of members as one, a row each."""
    arrays = [np.asarray(w) for w in weights]
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def sized(build: Callable[["Many"], Fit], many: "Many") -> Fit:
    """A fit of as many steps as take half a second, or of all of them."""
    steps, most = min(64, many.most_steps), many.most_steps
    while True:
        fit = build(many.first(steps))
        fit.run(fit.start())
        state, began = fit.start(), time.perf_counter()
        fit.run(state)
        seconds = time.perf_counter() - began
        if steps == most or seconds > 0.25:
            return fit
        steps = min(most, int(steps * 0.5 / seconds))


def neurons(name: str, members: int, sees: str) -> Many:
    """The seed's neuron, from normal weights."""
    task, random = seed(), np.random.default_rng([2, members])
    layer = (random.normal(size=(members, 1, 2)), random.normal(size=(members, 1)))
    counts = None
    if sees == "counts":
        drawn = random.integers(0, len(task.inputs), (members, len(task.inputs)))
        counts = np.stack([np.bincount(d, minlength=len(d)) for d in drawn]).astype(np.uint8)
    layers: list[Layer] = [tuple(array.astype("f4") for array in layer)]
    return Many(name, task, layers, counts, own_batches=sees == "own batches", alone=50)


def mlps(name: str, members: int) -> Many:
    """16-64-64-4 with relu: 1,024 steps (32 epochs) of Adam on cross entropy, 32 of 1,024 rows
    each. The weights are compared after 16 steps: relus that flip blow rounding up."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1024, 16)).astype("f4")
    targets = (inputs @ random.normal(size=(16, 4))).argmax(axis=1).astype(np.int32)
    epochs = [random.permutation(1024).reshape(-1, 32) for _ in range(32)]
    shapes = [(members, m, n) for n, m in itertools.pairwise([16, 64, 64, 4])]
    layers: list[Layer] = [
        (random.normal(scale=s[2] ** -0.5, size=s).astype("f4"), np.zeros(s[:2], "f4"))
        for s in shapes
    ]
    one: list[Layer] = [tuple(array[0] for array in layer) for layer in layers]
    network = ("dense", "relu", "dense", "relu", "dense")
    indices = np.concatenate(epochs).astype(np.int32)
    task = Task("mlp", network, inputs, targets, indices, one, 1e-3, checked=16)
    return Many(name, task, layers, alone=8)


# What the members are and what they see, and how many there are of them.
PROBLEMS: dict[str, list[int]] = {
    "seed, shared": [1, 10, 100, 1000],
    "seed, counts": [1, 10, 100, 1000],
    "seed, own batches": [1, 10, 100, 1000],
    "mlp, shared": [1, 8, 64],
}


def _maker(problem: str, members: int) -> Callable[[], Many]:
    name, (model, sees) = f"{problem}, {members}", problem.split(", ")
    if model == "mlp":
        return functools.partial(mlps, name, members)
    return functools.partial(neurons, name, members, sees)


MANY = {f"{p}, {n}": _maker(p, n) for p, numbers in PROBLEMS.items() for n in numbers}
