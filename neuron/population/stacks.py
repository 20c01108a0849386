"""What the members of a population have of their own, members first, and what they share."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from neuron.average import no_average
from neuron.hyperparameters import with_numbers
from neuron.members import picked, repeated, stacked, together
from neuron.selection import dotted
from neuron.state import TrainState
from neuron.step import Scoring
from neuron.trees import Static, arrays_of, on_entry
from neuron.types import Model


if TYPE_CHECKING:
    from neuron.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Stack:
    """Parts of trainers, each as one tree: what differs has a member axis."""

    frozen: PyTree
    objective: Any
    metrics: dict[str, Any]
    optimizer: Any
    average: Any
    seed: Any

    @classmethod
    def of(cls, trainers: Sequence["Trainer"]) -> "Stack":
        """Those of trainers of one structure."""
        return cls(*(together(parts) for parts in zip(*map(_parts, trainers), strict=True)))

    def member(self, member: int, one: "Stack") -> "Stack":
        """Those of one member; `one` is the stack of a single trainer."""
        names = [field.name for field in dataclasses.fields(self)]
        pairs = ((getattr(one, name), getattr(self, name)) for name in names)
        return Stack(*(picked(single, many, member) for single, many in pairs))

    def scoring(self, one: Scoring) -> Scoring:
        """How all are scored, where one of them is scored so."""
        return dataclasses.replace(one, objective=self.objective, metrics=self.metrics)

    def with_numbers(self, numbers: Mapping[str, Any]) -> "Stack":
        """The same with other numbers, by the names that `neuron.sweep` has for them."""
        found = with_numbers(self.optimizer, self.objective, self.average, dict(numbers))
        names = ("optimizer", "objective", "average")
        return dataclasses.replace(self, **dict(zip(names, found, strict=True)))


def states_of(trainers: Sequence["Trainer"]) -> TrainState:
    """Their states as one; the counters are those of the first."""
    states = [dataclasses.replace(trainer.state, metrics={}) for trainer in trainers]
    first, columns = states[0], zip(*map(arrays_of, states), strict=True)
    many = Static(first).combine([jnp.stack(leaves) for leaves in columns])
    return with_counters_of(first, many)


def with_counters_of(one: TrainState, many: TrainState) -> TrainState:
    """A state of many that shares the counters of one."""
    counters = {"step": one.step, "epoch": one.epoch, "position": one.position}
    return dataclasses.replace(many, **counters)


def begun_with(trainer: "Trainer", state: TrainState, models: Model) -> tuple[TrainState, PyTree]:
    """The state of many with weights of their own, and what is not trained of their models."""
    one = trainer.state.params
    trained = jax.tree.map(lambda leaf: leaf is not None, one, is_leaf=lambda leaf: leaf is None)
    params, frozen = eqx.partition(models, trained)
    if not all(stacked(arrays_of(one), arrays_of(params))):
        raise ValueError("`Population.repeated(models=...)` must have the members first.")
    # Nothing is remembered of other weights.
    average = None if state.average is None else no_average(one)
    fresh = on_entry((trainer.optimizer.init(one), average), trainer._parts.device)
    opt_state, average = repeated(fresh, len(state.stopped))
    if average is not None:
        average = eqx.tree_at(lambda average: average.params, average, params)
    return state.changed(params, state.model_state, opt_state, average), frozen


def refuse_others(trainers: Sequence["Trainer"]) -> None:
    """Refuses trainers that can not be one program.

    **Raises:**

    - `ValueError` that names the first leaf that differs.
    """
    first = trainers[0]
    for place, other in enumerate(trainers[1:], 1):
        for name in ("accumulate", "nonfinite", "device"):
            _refuse(place, name, getattr(first._parts, name), getattr(other._parts, name))
        _refuse(place, "step", first.step, other.step)
        one, two = dataclasses.asdict(first._place), dataclasses.asdict(other._place)
        _refuse(place, "place in the epoch", one, two)
        _refuse(place, "model's structure", *map(_shown, (first, other)))
        for part in ("params", "model_state", "opt_state", "average"):
            _refuse_leaves(place, part, getattr(first.state, part), getattr(other.state, part))
        names = ("model", "loss", "metrics", "optimizer", "average", "seed")
        for name, one, two in zip(names, _parts(first), _parts(other), strict=True):
            _refuse_leaves(place, name, one, two)
        scoring = first._parts.scoring.precision, other._parts.scoring.precision
        _refuse(place, "precision", *scoring)


def _shown(trainer: "Trainer") -> str:
    return str(jtu.tree_structure(trainer.model))


def _parts(trainer: "Trainer") -> tuple[Any, ...]:
    parts = trainer._parts
    objective, metrics = parts.scoring.objective, parts.scoring.metrics
    own = (trainer._frozen, objective, metrics, trainer.optimizer, parts.average, parts.seed)
    return on_entry(own, parts.device)


def _refuse_leaves(place: int, part: str, one: PyTree, two: PyTree) -> None:
    ones, twos = (dict(_leaves(tree)) for tree in (one, two))
    for path in dict.fromkeys((*ones, *twos)):
        name = f"{part}.{path}" if path else part
        _refuse(place, name, ones.get(path, "nothing"), twos.get(path, "nothing"))
    if Static(one) != Static(two):
        _refuse(place, part, jtu.tree_structure(one), jtu.tree_structure(two), always=True)


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    def kind(leaf: Any) -> Any:
        array = isinstance(leaf, Array | np.ndarray)
        return f"{leaf.dtype}{list(leaf.shape)}" if array else leaf

    return [(dotted(path), kind(leaf)) for path, leaf in jtu.tree_leaves_with_path(tree)]


def _refuse(place: int, name: str, one: Any, other: Any, *, always: bool = False) -> None:
    if always or one != other:
        raise ValueError(
            "`Population(trainers)` must be of one structure, so that one program trains all; "
            f"trainer {place} has another {name} than trainer 0: {other} for {one}. Numbers may "
            "differ, such as weights, learning rates and seeds."
        )
