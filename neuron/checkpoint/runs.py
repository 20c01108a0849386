"""Runs in files: everything that the rest of a run depends on, and how it is put back."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import PyTree

from neuron.checkpoint.configuration import digest
from neuron.checkpoint.format import encode, of_kind, taken_apart
from neuron.checkpoint.leaves import Leaves, filled
from neuron.checkpoint.models import leaves_of
from neuron.checkpoint.plain import packed, unpacked
from neuron.checkpoint.versions import versions
from neuron.errors import CheckpointError
from neuron.state import TrainState


# What is packed with its arrays beside it.
_HELD = ("position", "history", "callbacks")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A run at rest.

    - `state`, `frozen`, `optimizer`: trees, of which the arrays and the numbers are kept.
    - `seed`: of its keys.
    - `step`: how many steps it has taken; `steps_per_epoch`: how the data is cut, 0 if unknown.
    - `fits`: how many fits came to their end before.
    - `ending`: whether the end of the last epoch is still to come, its validation interrupted.
    - `taken`: how many steps it has taken of the data that it is trained on; `position`: what that
        data needs to go on, beside.
    - `stopped`: why it was ended, if it was.
    - `history`, `callbacks`: what these remember: numbers, strings, arrays, lists and dicts.
    - `configuration`: its parts as text.
    """

    state: TrainState
    frozen: PyTree
    optimizer: PyTree
    seed: int
    step: int
    steps_per_epoch: int
    fits: int
    ending: bool
    taken: int
    position: Any
    stopped: str | None
    history: dict[str, Any]
    callbacks: dict[str, Any]
    configuration: dict[str, str]

    def encoded(self) -> bytes:
        """As the bytes of a file.

        **Raises:**

        - `CheckpointError` for what a file can not hold.
        """
        arrays: dict[str, np.ndarray] = {}
        leaves = Leaves({}, {}, {})
        for name in ("state", "frozen", "optimizer"):
            leaves |= Leaves.of(getattr(self, name), name)
        facts = {
            "kind": "run",
            "seed": self.seed,
            "step": self.step,
            "versions": versions(),
            "digest": digest(self.configuration),
            "configuration": self.configuration,
            "steps_per_epoch": self.steps_per_epoch,
            "fits": self.fits,
            "ending": self.ending,
            "taken": self.taken,
            "stopped": self.stopped,
            "numbers": packed(leaves.numbers, "", {}),
            "keys": leaves.keys,
        }
        for name in _HELD:
            facts[name] = packed(getattr(self, name), name, arrays)
        return encode(leaves.arrays | arrays, facts)


class Saved:
    """A run as a file holds it."""

    def __init__(self, shown: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]):
        self.shown = shown
        self._arrays, self._facts = arrays, facts
        self._leaves = leaves_of(arrays, facts, shown)
        with taken_apart(shown):
            self.step, self.steps_per_epoch, self.fits, self.taken = (
                _count(facts, name) for name in ("step", "steps_per_epoch", "fits", "taken")
            )
            self.ending: bool = of_kind(facts, "ending", bool)
            self.stopped: str | None = of_kind(facts, "stopped", str | None)
            self.configuration: dict[str, str] = of_kind(facts, "configuration", dict)
            for part in self.configuration:
                of_kind(self.configuration, part, str)
            held = {name: unpacked(facts[name], arrays) for name in _HELD}
            self.position = held["position"]
            self.history: dict[str, Any] = of_kind(held, "history", dict)
            self.callbacks: dict[str, Any] = of_kind(held, "callbacks", dict)

    def tree(self, name: str, like: PyTree) -> PyTree:
        """One of the trees.

        **Raises:**

        - `CheckpointError` that names each leaf that does not fit.
        """
        return filled(like, self._leaves, self.shown, name)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays of one of the trees, by path."""
        return {path: array.shape for path, array in self._leaves.under(name).arrays.items()}

    def state(self, like: TrainState) -> TrainState:
        """The state, but for what its metrics hold."""
        apart = dataclasses.replace(like, metrics={})
        return filled(apart, self._leaves.without("state.metrics"), self.shown, "state")

    def metrics(self, like: dict[str, PyTree]) -> dict[str, PyTree]:
        """What the metrics hold of the epoch under way."""
        return self.tree("state.metrics", like)

    def refuse_other(self, configuration: dict[str, str]) -> None:
        """Refuses to go on with other parts than the run had.

        **Raises:**

        - `CheckpointError` that says which part differs.
        """
        for name, text in configuration.items():
            before = self.configuration.get(name, text)
            if before != text:
                raise CheckpointError(
                    f"{self.shown} is of a run with another {name}: it had {_short(before, text)} "
                    f"and this one has {_short(text, before)}. To go on with other parts all the "
                    "same, use `trainer.restore(path)`."
                )


def _count(facts: dict[str, Any], name: str) -> int:
    # The counters of a state have 64 bits.
    if not 0 <= of_kind(facts, name, int) < 1 << 64 or isinstance(facts[name], bool):
        raise ValueError(f"`{name}` may not be {facts[name]!r:.99}")
    return facts[name]


def _short(text: str, other: str) -> str:
    """A text from where it differs, or a little before it."""
    first = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
    start = max(0, text.rfind("(", 0, first), text.rfind(", ", 0, first))
    shown = text[start : start + 160].lstrip("(, ")
    return f"`{'...' if start else ''}{shown}{'...' if len(text) > start + 160 else ''}`"
