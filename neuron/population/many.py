"""Many runs at once: what a fit, a score and a checkpoint need of them."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from neuron.callbacks import Callback, Hooks
from neuron.checkpoint import Saved, described
from neuron.data import DataLoader
from neuron.evaluation import Predicting, Scored, computed
from neuron.members import picked
from neuron.metrics import Metric
from neuron.optimizers import Optimizer
from neuron.population.histories import Histories, Stop, stop_at
from neuron.population.numbers import like_saved
from neuron.population.seen import Seen
from neuron.population.stacks import Stack
from neuron.population.threads import Threads
from neuron.rows import Data
from neuron.run import Members, UnderWay, ready
from neuron.samplers import Sampler
from neuron.state import TrainState
from neuron.step import Task
from neuron.trainer import Driven, Trainer
from neuron.trees import kept, on_entry
from neuron.types import Model


_FAULT = "its loss or its gradients were not finite"


Kind = TypeVar("Kind", bound="Many")


class Many(Driven):
    """Members that share counters, data and mostly batches; see `Population`."""

    history: Histories

    def __init__(
        self,
        first: Trainer,
        members: int,
        state: TrainState,
        stack: Stack,
        hooks: Hooks,
        block_size: int | None,
    ):
        """**Arguments:**

        - `first`: where one of them stands; it is not changed.
        - `members`: how many they are.
        - `state`: where all begin, members first.
        - `stack`: what they have of their own.
        - `hooks`: the callbacks.
        - `block_size`: how many are computed together; as suits the machine if `None`.
        """
        # What is the same for all, and what a trainer alone needs.
        self._representative, self._stack = first.copy(), stack
        self.members, self._seen = members, Seen()
        # How many are to be computed together, and how many were in the last fit.
        self._block_wanted = self.block_size = block_size
        super().__init__(first._parts, hooks, state, stack.frozen, stack.optimizer)
        self._place = dataclasses.replace(first._place)
        self._columns, self._taken, self._fits = first._columns, first._taken.copy(), first._fits

    @property
    def stacked(self) -> Model:
        """All models as one tree, whose arrays have the members first: for `jax.vmap`. What is not
        trained and the same for all has no such axis."""
        return eqx.combine(self.state.averaged_params, self._frozen)

    @property
    def stops(self) -> dict[int, Stop]:
        """Which members have stopped in this fit, or in the last one; at which step, and why."""
        return self.history.stops

    @property
    def stopped_members(self) -> np.ndarray:
        """The same as a boolean for each member."""
        which = np.zeros(len(self), bool)
        which[list(self.stops)] = True
        return which

    @property
    def faulty(self) -> list[int]:
        """The members whose loss or gradients were not finite."""
        return [member for member, stop in self.stops.items() if stop.reason == _FAULT]

    def copy(self: Kind) -> Kind:
        other = super().copy()
        other.stops.update(self.stops)
        return other

    def __len__(self) -> int:
        """How many members there are."""
        assert self.members is not None
        return self.members

    @property
    def _first(self) -> Trainer:
        return self._representative

    def _stack_now(self) -> Stack:
        return dataclasses.replace(self._stack, frozen=self._frozen, optimizer=self._optimizer)

    def _new_history(self) -> Histories:
        parts = self._first._parts
        return Histories(len(self), parts.scoring.objective, self._stack.objective, parts.scoring)

    def _told(self) -> dict[str, str]:
        seen, stack = self._seen, self._stack
        parts = {
            "number of members": self.members,
            "members' numbers": (stack.objective, stack.average, stack.seed),
            "members' samplers": seen.samplers,
            "members' weights": seen.weight,
            "members' targets": seen.targets,
        }
        return {name: described(part) for name, part in parts.items()}

    def _begins(self, *, anew: bool) -> None:
        if anew:
            self.stops.clear()

    def _measured(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        if not metrics:
            return {}
        first, values = self._first._parts.scoring.metrics, []
        state = self.state
        held = {name: state.metrics[name] for name in metrics}
        for member in range(len(self)):
            own = picked(first, self._stack.metrics, member)
            totals = jax.tree.map(lambda leaf: leaf[member], held)  # noqa: B023
            values.append(computed({name: own[name] for name in metrics}, totals))
        stopped = self.stopped_members
        return {name: _known(np.stack([v[name] for v in values]), stopped) for name in metrics}

    def _optimizer_like(self, saved: Saved) -> Optimizer:
        first = on_entry(self._first.optimizer, self._parts.device)
        return like_saved(first, saved, len(self))

    def _task(self, steps_of: DataLoader, sampler: Sampler) -> Task:
        self._one_task = self._first._task(steps_of, sampler)
        stack, samplers = self._stack_now(), self._seen.samplers
        task = dataclasses.replace(
            self._one_task,
            frozen=stack.frozen,
            scoring=stack.scoring(self._one_task.scoring),
            optimizer=stack.optimizer,
            average=stack.average,
            sampler=self._one_task.sampler if samplers is None else samplers,
            seed=stack.seed,
        )
        return on_entry(task, self._parts.device)

    def _begin(self, task: Task, data: Data, saved: Saved | None) -> UnderWay:
        device, stopped = self._parts.device, self.stopped_members
        one_data, many_data = self._seen.put_into(data, device)
        # Where that one stands does not matter: it says what has no member axis.
        one = ready(self._first._state, self._one_task, one_data)
        wide = lambda leaf: np.broadcast_to(leaf, (len(self), *np.shape(leaf)))
        metrics = kept(self._state.metrics, jax.tree.map(wide, one.metrics))
        state = self._place.put_into(self._state)
        state = on_entry(dataclasses.replace(state, metrics=metrics, stopped=stopped), device)
        if saved is not None:
            found = on_entry(saved.metrics(state.metrics), device)
            state = dataclasses.replace(state, metrics=found)
        parts = (on_entry(one, device), self._one_task, one_data), (state, task, many_data)
        members = Members(*parts, self._block_wanted, Threads(), self._note)
        self.block_size = members.block_size
        return members

    def _note(self, member: int, step: int) -> None:
        # The place is still that of before the steps of which this was one.
        place = dataclasses.replace(self._place)
        place.advance(step - place.step)
        self.stops.setdefault(member, stop_at(place, _FAULT))

    def _tell_of_faults(self) -> None:
        faults = {member: self.stops[member].step for member in self.faulty}
        if faults:
            some = ", ".join(f"{m} at step {step}" for m, step in list(faults.items())[:5])
            warnings.warn(
                f"{len(faults)} of {self.members} members stopped where {_FAULT}: member {some}"
                f"{', ...' if len(faults) > 5 else ''}. `population.stops` has them all.",
                stacklevel=3,
            )

    def _scored(self, loader: DataLoader) -> tuple[Scored, Scored]:
        one, _ = self._first._scored(loader)
        scoring = self._stack.scoring(one.scoring)
        return Scored(self.stacked, self.model_state, scoring, self._stack.seed), one

    def _predicting(self, loader: DataLoader) -> tuple[Predicting, Predicting]:
        one, _ = self._first._predicting(loader)
        own = {"model": self.stacked, "model_state": self.model_state, "seed": self._stack.seed}
        return one._replace(**own), one

    def _halted(self, run: UnderWay, losses: np.ndarray) -> None:
        del run, losses
        super().stop("all members have stopped")


def hooks_of(callbacks: Sequence[Callback]) -> Hooks:
    """The callbacks of a population.

    **Raises:**

    - `TypeError` for one that can look at a single run only.
    """
    hooks = Hooks(callbacks)
    for callback in hooks.callbacks:
        if not callback.for_members:
            raise TypeError(
                f"`Population(callbacks=...)` can not have {type(callback).__name__}, which looks "
                "at one run: it needs numbers where a population has arrays."
            )
    return hooks


def _known(values: np.ndarray, stopped: np.ndarray) -> np.ndarray:
    """NaN where there is nothing."""
    if np.issubdtype(values.dtype, np.floating):
        values[stopped] = np.nan
    return values
