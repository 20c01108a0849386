"""`Population`: many trainers of one structure, trained by one program."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from neuron.average import Average
from neuron.callbacks import Callback, Hooks, ProgressBar, terminal_attached
from neuron.checkpoint import Path, Saved, described
from neuron.counters import words
from neuron.data import DataLoader, as_inputs
from neuron.evaluation import BATCH_SIZE, Scored, computed, finisher, predict
from neuron.hyperparameters import with_numbers
from neuron.members import members_of, repeated, stacked
from neuron.metrics import Metric
from neuron.models import prediction_like
from neuron.optimizers import Optimizer
from neuron.place import Place
from neuron.population.histories import Histories, Stop
from neuron.population.loaders import samplers_of
from neuron.population.stacks import (
    Stack,
    refuse_other_targets,
    refuse_others,
    rows_weight,
    states_of,
    with_counters_of,
)
from neuron.population.threads import Threads
from neuron.rows import Data
from neuron.run import Members, UnderWay, ready
from neuron.samplers import Sampler
from neuron.selection import Selection
from neuron.state import TrainState
from neuron.step import Task
from neuron.trainer import Trainer
from neuron.trees import Static, arrays_of, kept, on_entry
from neuron.types import Batch, Model, whole_number


_FAULT = "its loss or its gradients were not finite"


class Population(Trainer):
    """Many trainers of one structure, trained at once by one program.

    ```python
    trainers = [
        neuron.Trainer(model(seed), optimizer=neuron.Adam(rate), seed=seed)
        for seed in range(8)
        for rate in (1e-3, 1e-2)
    ]
    population = neuron.Population(trainers)
    population.fit(loader, epochs=20, validation=held_out)
    population.history["loss"]  # (members, steps)
    population.predict(x)  # (members, rows)
    best = population.best("val_loss")  # an ordinary trainer
    ```

    The members may differ in initial weights, in seeds, in every number of loss, optimizer and
    average, and in which data they see: by a loader each, or by how much each row counts. Each ends
    where it would have ended alone: to the bit where members are run one by one, and within
    rounding where they are run side by side, which is so for small models from 32 members on. The
    number of members, or of those in a block, changes no bit of any.

    It is used as a trainer is. What a trainer has as a number or an array, hooks and history
    included, has a first axis for the members here. A member whose loss or gradients are not finite
    stops alone; `stops` tells of it, and the fit warns at its end.
    """

    def __init__(
        self,
        trainers: Sequence[Trainer],
        *,
        callbacks: Sequence[Callback] = (),
        block_size: int | None = None,
        progress: bool | None = None,
    ):
        """**Arguments:**

        - `trainers`: of one structure, at one step; they are not changed.
        - `callbacks`: what looks at the population. The trainers' own have no part in it.
        - `block_size`: how many members are computed together, for a program that needs less
            memory; as suits the machine if `None`. It changes no bit.
        - `progress`: whether to show a progress bar; if a terminal is attached, if `None`.

        **Raises:**

        - `ValueError` or `TypeError` for trainers that can not be one program, naming the first
            leaf that differs; for none, and for callbacks that can look at one run only.
        """
        trainers = list(trainers)
        for trainer in trainers:
            if type(trainer) is not Trainer:
                raise TypeError(
                    f"`Population(trainers)` must hold neuron.Trainer objects; got {trainer!r}."
                )
        if not trainers:
            raise ValueError("`Population(trainers)` must hold at least one trainer; got none.")
        refuse_others(trainers)
        self._set(trainers[0], len(trainers), states_of(trainers), Stack.of(trainers))
        show = terminal_attached() if progress is None else progress
        self._hooks = hooks_of([*callbacks, *([ProgressBar()] if show else [])])
        if block_size is not None:
            block_size = whole_number("Population(block_size=...)", block_size, least=1)
        self._block_size = block_size

    @classmethod
    def repeated(
        cls,
        trainer: Trainer,
        members: int,
        numbers: Mapping[str, Any] | None = None,
        *,
        callbacks: Sequence[Callback] = (),
    ) -> "Population":
        """Many equal members, each where the trainer stands.

        **Arguments:**

        - `trainer`: is not changed.
        - `members`: how many.
        - `numbers`: numbers of the run by name, see `neuron.sweep`, each (members,).
        - `callbacks`: as for `Population`.
        """
        state = dataclasses.replace(trainer.state, metrics={})
        many = with_counters_of(state, repeated(state, members))
        stack = Stack.of([trainer])
        if numbers:
            parts = with_numbers(stack.optimizer, stack.objective, stack.average, dict(numbers))
            optimizer, objective, average = parts
            stack = dataclasses.replace(
                stack, optimizer=optimizer, objective=objective, average=average
            )
        population = cls.__new__(cls)
        population._set(trainer, members, many, stack)
        population._hooks, population._block_size = hooks_of(callbacks), None
        return population

    def _set(self, first: Trainer, members: int, state: TrainState, stack: Stack) -> None:
        # What is the same for all, and what a trainer alone needs.
        self.__dict__.update(first.copy().__dict__)
        self._representative, self.members = first.copy(), members
        self._stack, self._state = stack, on_entry(state, first._parts.device)
        self._frozen, self._optimizer = stack.frozen, stack.optimizer
        self._optimizer_given = stack.optimizer
        self._weight: np.ndarray | None = None
        self._targets: PyTree = None
        self._samplers: Sampler | None = None
        self.history: Histories = self._new_history()

    @property
    def _first(self) -> Trainer:
        return self._representative

    @property
    def model(self) -> NoReturn:
        """There are many: see `models`."""
        raise AttributeError("A population has `models`, and `population[i].model`.")

    @property
    def models(self) -> list[Model]:
        """The models as trained so far, one a member."""
        static, many = Static(self._first.model), self._flags(self._first.model, self.stacked)
        return [static.combine(arrays) for arrays in members_of(arrays_of(self.stacked), many)]

    @property
    def stacked(self) -> Model:
        """All models as one tree, whose arrays have the members first: for `jax.vmap`. What is not
        trained and the same for all has no such axis."""
        return eqx.combine(self.state.averaged_params, self._frozen)

    @property
    def stops(self) -> dict[int, Stop]:
        """Which members have stopped in this fit, or in the last one; at which step, and why."""
        return self.history.stops

    def __len__(self) -> int:
        """How many members there are."""
        assert self.members is not None
        return self.members

    def __getitem__(self, member: int) -> Trainer:
        """One member as an ordinary trainer, which then goes its own way: with the history of its
        own steps, and without callbacks."""
        if not -len(self) <= member < len(self):
            raise IndexError(f"`population[{member}]`: there are {len(self)} members.")
        member = range(len(self))[member]
        trainer, own = self._first.copy(), Stack(*self._of_member(member))
        scoring = dataclasses.replace(
            trainer._parts.scoring, objective=own.objective, metrics=own.metrics
        )
        trainer._parts = dataclasses.replace(
            trainer._parts, scoring=scoring, average=own.average, seed=own.seed
        )
        trainer._frozen, trainer._optimizer = own.frozen, own.optimizer
        trainer._optimizer_given = own.optimizer
        one, many = (dataclasses.replace(s, metrics={}) for s in (trainer._state, self.state))
        arrays, flags = arrays_of(many), self._flags(one, many)
        picked = [jnp.copy(a[member] if flag else a) for a, flag in zip(arrays, flags, strict=True)]
        trainer._place = self._place_of(member)
        state = trainer._place.put_into(Static(one).combine(picked))
        trainer._state = on_entry(
            dataclasses.replace(
                state,
                step=words(trainer.step),
                # What was observed of the epoch under way.
                metrics=jax.tree.map(lambda leaf: jnp.copy(leaf[member]), self.state.metrics),
            ),
            trainer._parts.device,
        )
        made: Any = trainer._new_history()
        trainer.history = self.history.of(member, made._finish, self.step)
        trainer._columns, trainer._taken = self._columns, self._taken.copy()
        fitted = None if self._fitted is None else self._fitted.loader()
        if fitted is not None and fitted in self._taken:
            trainer._taken[fitted] -= self.step - trainer.step
        return trainer

    def _place_of(self, member: int) -> Place:
        """Where a member stands: where the population does, or where it has stopped."""
        stop = self.stops.get(member)
        if stop is None or stop.step == self.step:
            return dataclasses.replace(self._place)
        where = {"step": stop.step, "epoch": stop.epoch, "position": stop.position}
        return dataclasses.replace(self._place, **where, ending=False)

    def best(self, monitor: str | None = None, *, mode: str = "min") -> Trainer:
        """The member with the best value in the last epoch's row.

        **Arguments:**

        - `monitor`: a name in it; `val_loss` where there is a validation, `loss` where there is
            none, if `None`.
        - `mode`: `"min"` or `"max"`: which way is better.

        **Raises:**

        - `ValueError` before the first epoch has ended, for a name that is not in the row, and
            where no member has a finite value.
        """
        return self[self.best_member(monitor, mode=mode)]

    def best_member(self, monitor: str | None = None, *, mode: str = "min") -> int:
        """The place of that member."""
        if mode not in ("min", "max"):
            raise ValueError(f"`Population.best(mode=...)` must be 'min' or 'max'; got {mode!r}.")
        rows = self.history.epochs
        row = rows[-1] if rows else {}
        name = monitor or ("val_loss" if "val_loss" in row else "loss")
        names = sorted(n for n, value in row.items() if np.shape(value) == (self.members,))
        if name not in names:
            raise ValueError(
                f"`Population.best(monitor)` must name a value of the last epoch; got {name!r}, "
                f"there are {names}."
            )
        values = np.asarray(row[name], float) * (1 if mode == "min" else -1)
        values[self.faulty] = np.nan
        if not np.isfinite(values).any():
            raise ValueError(f"`Population.best({name!r})`: no member has a finite value.")
        return int(np.nanargmin(np.where(np.isfinite(values), values, np.inf)))

    def fit(
        self,
        loader: DataLoader | tuple[PyTree, ...] | Sequence[DataLoader],
        *,
        epochs: int | None = None,
        steps: int | None = None,
        validation: Any = None,
        resume_from: Path | None = None,
        weight: Any = None,
        targets: Any = None,
    ) -> Histories:
        """Trains that many more epochs or steps; 10 epochs if neither is given.

        **Arguments:**

        - `loader`: what all members see, or a list with one for each, on the same rows and in
            batches of one size: then each has the order of its own sampler.
        - `epochs`, `steps`, `validation`, `resume_from`: as for `Trainer.fit`.
        - `weight`: how much each row counts for each member, (members, rows): 0 and 1 for folds,
            whole numbers for resamples. It multiplies the loader's own. The rows are not copied,
            and small integers stay as small as they are.
        - `targets`: what each member is to predict, (members, rows, ...), in the place of the
            loader's own.

        **Returns:**

        The history of the whole run, `population.history`.

        **Raises:**

        - As `Trainer.fit`, but for `NonFiniteLossError`: see `stops`.
        """
        data, self._samplers = samplers_of(loader, len(self))
        self._weight = self._targets = None
        if weight is not None or targets is not None:
            data = data if isinstance(data, DataLoader) else DataLoader(data)
            if not data.on_device:
                raise ValueError(
                    "`Population.fit(weight=..., targets=...)` needs rows that live on the "
                    "device: give `DataLoader(..., placement='device')`."
                )
            rows = data.cut.rows
            self._weight = None if weight is None else rows_weight(weight, len(self), rows)
            self._targets = targets
            if targets is not None:
                refuse_other_targets(targets, data.sample().targets, len(self))
        try:
            super().fit(
                data, epochs=epochs, steps=steps, validation=validation, resume_from=resume_from
            )
        finally:
            self._tell_of_faults()
        return self.history

    def predict(
        self, inputs: PyTree, *, batch_size: int = BATCH_SIZE, samples: int | None = None
    ) -> PyTree:
        """The models' outputs for rows of inputs, in inference mode.

        **Arguments:**

        - `inputs`, `batch_size`, `samples`: as for `Trainer.predict`.

        **Returns:**

        The outputs, members first: `(members, rows)` for single neurons; `(members, samples, rows)`
        with `samples`.
        """
        batch_size = whole_number("Population.predict(batch_size=...)", batch_size, least=1)
        loader = as_inputs("Population.predict(inputs)", inputs, self._columns)
        loader.refuse_spent("Population.predict(inputs)")
        first, transform = self._first, loader.transform
        if transform is None:
            prediction_like(first.model, first.model_state, loader.sample().inputs)
        rest = (self._parts.scoring.precision, transform)
        parts = (self.stacked, self.model_state, *rest, self._stack.seed)
        like = (first.model, first.model_state, *rest, first._parts.seed)

        def drawn(sample: int | None) -> PyTree:
            with loader.read(batch_size) as blocks:
                needed = ((Batch(b.inputs, b.targets if transform else None), n) for b, n in blocks)
                rows = predict(parts, batch_size, needed, sample, like)
                return jax.tree.map(lambda leaf: np.moveaxis(leaf, 1, 0), rows)

        if samples is None:
            return jax.tree.map(jnp.asarray, drawn(None))
        number = whole_number("Population.predict(samples=...)", samples, least=1)
        draws = [drawn(sample) for sample in range(number)]
        return jax.tree.map(lambda *draw: jnp.asarray(np.stack(draw, axis=1)), *draws)

    def start_from(self, models: Model) -> None:
        """Lets each member start from weights of its own, and the optimizer anew.

        **Arguments:**

        - `models`: all models as one tree, as `stacked` has them.
        """
        params, frozen = eqx.partition(models, _like(self._state.params))
        one = self._first.state.params
        flags = self._flags(one, params)
        if not all(flags):
            raise ValueError("`Population.start_from(models)` must have the members first.")
        opt_state = repeated(self._first.optimizer.init(one), len(self))
        state = dataclasses.replace(self._state, params=params, opt_state=opt_state)
        if state.average is not None:
            state = dataclasses.replace(
                state, average=Average(params, jnp.zeros_like(state.average.weight))
            )
        self._state = on_entry(state, self._parts.device)
        self._frozen = on_entry(frozen, self._parts.device)

    def go_elsewhere(self, epochs: int) -> None:
        """Goes on as if that many epochs had passed: on other batches."""
        self._place.epoch += epochs

    def parts_of_models(self) -> tuple[list[Any], list[Any]]:
        """The arrays of one member's model, and of all."""
        return arrays_of(self._first.model), arrays_of(self.stacked)

    def model_of(self, arrays: Sequence[Any]) -> Model:
        """A member's model around its arrays."""
        return Static(self._first.model).combine(arrays)

    def set(self, **hyperparameters: Any) -> None:
        """Changes numbers of the optimizer, between fits or in a hook, without a recompile.

        **Arguments:**

        - `hyperparameters`: as for `Trainer.set`; one number for all, or `(members,)`.

        **Raises:**

        - As `Trainer.set`, and `ValueError` for another number of members.
        """
        first = self._first.optimizer
        values: dict[str, Any] = {}
        for name, given in hyperparameters.items():
            groups = given if isinstance(given, dict) else {None: given}
            for group, value in groups.items():
                value = np.asarray(value)
                if value.shape not in ((), (self.members,)):
                    raise ValueError(
                        f"`Population.set({name}=...)` must be one number, or one for each of the "
                        f"{self.members} members; got shape {value.shape}."
                    )
                for extreme in (value.min(), value.max()):
                    one: Any = float(extreme)
                    first.with_numbers(**{name: one if group is None else {group: one}})
                path = f"optimizer.{name}" + ("" if group is None else f"[{group}]")
                values[path] = value.astype(float)
        new, *_ = with_numbers(first, self._stack.objective, None, _wide(values))

        def placed(before: Any, changed: Any, now: Any) -> Any:
            if changed is before:
                return now
            return changed if changed.ndim >= now.ndim else jnp.broadcast_to(changed, now.shape)

        self._optimizer = jax.tree.map(placed, first, new, self._optimizer)

    def train_only(self, trainable: Selection | None) -> NoReturn:
        """What is trained is part of the structure: choose it for the trainers before."""
        raise TypeError(
            "`Population.train_only()` would change the members' structure; call "
            "`Trainer.train_only` of each trainer, and make a population of them."
        )

    def stop(self, reason: str, members: Any = None) -> None:
        """Ends the running fit where it stands, once the hooks of this look have been called; or
        stops some members: their weights stand still from here on, and the fit ends with the last.

        **Arguments:**

        - `reason`: why, for `stops` and for whoever reads it.
        - `members`: a boolean for each, or their places.
        """
        if members is None:
            super().stop(reason)
            return
        which = np.zeros(len(self), bool)
        which[np.asarray(members, None if np.size(members) else int)] = True
        which &= ~self.stopped_members
        if isinstance(self._run, Members) and which.any():
            self._run.halt(which)
        for member in np.flatnonzero(which):
            self.history.stops[int(member)] = _stop(self._place, reason)
        if self.stopped_members.all():
            super().stop("all members have stopped")

    @property
    def stopped_members(self) -> np.ndarray:
        """Which members have stopped, a boolean for each."""
        which = np.zeros(len(self), bool)
        which[list(self.history.stops)] = True
        return which

    def copy(self) -> "Population":
        """Another population at the same point of the same runs, which then goes its own way:
        without callbacks, and with a history that begins here."""
        other = copy.copy(super().copy())
        assert isinstance(other, Population)
        return other

    def _flags(self, one: PyTree, many: PyTree) -> tuple[bool, ...]:
        return stacked(arrays_of(one), arrays_of(many))

    def _of_member(self, member: int) -> list[Any]:
        """The parts of one member, in the order of a `Stack`, and its optimizer as it is now."""
        first = Stack.of([self._first])
        now = dataclasses.replace(self._stack, frozen=self._frozen, optimizer=self._optimizer)
        found = []
        for field in dataclasses.fields(Stack):
            one, many = getattr(first, field.name), getattr(now, field.name)
            arrays, flags = arrays_of(many), self._flags(one, many)
            picked = [a[member] if flag else a for a, flag in zip(arrays, flags, strict=True)]
            found.append(Static(one).combine(picked))
        return found

    def _new_history(self) -> Histories:
        made: Any = self._parts.history()
        assert self.members is not None
        return Histories(self.members, self._finished, made._metrics)

    def _finished(self, means: Any, steps: np.ndarray) -> dict[str, np.ndarray]:
        """The values of losses, of means that are (epochs, members)."""
        objective = self._stack.objective
        flags = self._flags(self._first._parts.scoring.objective, objective)
        if not any(flags):
            many = np.repeat(steps, len(self))
            flat = jax.tree.map(np.ravel, means)
            values = self._first._new_history()._finish(flat, many)
            return {name: value.reshape(len(steps), -1) for name, value in values.items()}
        static = Static(self._first._parts.scoring.objective)
        columns = []
        for member, arrays in enumerate(members_of(arrays_of(objective), flags)):
            own = jax.tree.map(lambda leaf: leaf[:, member], means)  # noqa: B023
            columns.append(finisher(static.combine(arrays))(own, steps))
        return {name: np.stack([c[name] for c in columns], axis=1) for name in columns[0]}

    def _told(self) -> dict[str, str]:
        parts = {
            "number of members": self.members,
            "members' numbers": (self._stack.objective, self._stack.average, self._stack.seed),
            "members' samplers": self._samplers,
            "members' weights": self._weight,
            "members' targets": self._targets,
        }
        return {name: described(part) for name, part in parts.items()}

    def _begins(self, *, anew: bool) -> None:
        if anew:
            self.history.stops.clear()

    def _task(self, steps_of: DataLoader, sampler: Sampler) -> Task:
        self._one_task = self._first._task(steps_of, sampler)
        scoring = dataclasses.replace(
            self._one_task.scoring, objective=self._stack.objective, metrics=self._stack.metrics
        )
        task = dataclasses.replace(
            self._one_task,
            frozen=self._frozen,
            scoring=scoring,
            optimizer=self._optimizer,
            average=self._stack.average,
            sampler=sampler if self._samplers is None else self._samplers,
            seed=self._stack.seed,
        )
        return on_entry(task, self._parts.device)

    def _measured(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        if not metrics:
            return {}
        first, stack = self._first._parts.scoring.metrics, self._stack.metrics
        flags, held = self._flags(first, stack), self.state.metrics
        arrays, values = arrays_of(stack), []
        for member in range(len(self)):
            mine = [a[member] if flag else a for a, flag in zip(arrays, flags, strict=True)]
            own, totals = Static(first).combine(mine), {name: held[name] for name in metrics}
            totals = jax.tree.map(lambda leaf: leaf[member], totals)  # noqa: B023
            values.append(computed({name: own[name] for name in metrics}, totals))
        stopped = self.stopped_members
        return {name: _known(np.stack([v[name] for v in values]), stopped) for name in metrics}

    def _optimizer_like(self, saved: Saved) -> Optimizer:
        # Which numbers have a member axis is as it was there: `set` may have given them one.
        there, members = saved.shapes("optimizer"), len(self)

        def one(path: Any, leaf: Any) -> Any:
            wide = (members, *np.shape(leaf))
            fits = there.get(jtu.keystr(path).removeprefix(".")) == wide
            return jnp.broadcast_to(leaf, wide) if fits else leaf

        first = on_entry(self._first.optimizer, self._parts.device)
        return jtu.tree_map_with_path(one, first)

    def _begin(self, task: Task, data: Data, saved: Saved | None) -> UnderWay:
        device, stopped = self._parts.device, self.stopped_members
        one = self._place.put_into(dataclasses.replace(self._first._state, metrics={}))
        one_data, many_data = self._rows_of(data)
        one = ready(on_entry(one, device), self._one_task, one_data)
        wide = lambda leaf: np.broadcast_to(leaf, (len(self), *np.shape(leaf)))
        metrics = kept(self._state.metrics, jax.tree.map(wide, one.metrics))
        state = self._place.put_into(self._state)
        state = on_entry(dataclasses.replace(state, metrics=metrics, stopped=stopped), device)
        if saved is not None:
            found = on_entry(saved.metrics(state.metrics), device)
            state = dataclasses.replace(state, metrics=found)
        parts = (on_entry(one, device), self._one_task, one_data), (state, task, many_data)
        return Members(*parts, self._block_size, Threads(), self._note)

    def _rows_of(self, data: Data) -> tuple[Data, Data]:
        """The rows of one member, and of all."""
        device, one, many = self._parts.device, data, data
        if self._weight is not None:
            assert isinstance(data, Batch)
            weight = jax.device_put(self._weight, device)
            weight = weight if data.weight is None else weight * data.weight[None]
            one, many = (dataclasses.replace(data, weight=w) for w in (weight[0], weight))
        if self._targets is not None:
            targets = on_entry(jax.tree.map(np.asarray, self._targets), device)
            first = jax.tree.map(lambda leaf: leaf[0], targets)
            one, many = (
                dataclasses.replace(side, targets=t)  # pyright: ignore[reportArgumentType]
                for side, t in ((one, first), (many, targets))
            )
        return one, many

    def _note(self, member: int, step: int) -> None:
        # The place is still that of before the steps of which this was one.
        place = dataclasses.replace(self._place)
        place.advance(step - place.step)
        self.history.stops.setdefault(member, _stop(place, _FAULT))

    @property
    def faulty(self) -> list[int]:
        """The members whose loss or gradients were not finite."""
        return [member for member, stop in self.stops.items() if stop.reason == _FAULT]

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
        first = self._first
        one = first._scored(loader)[0]
        scoring = dataclasses.replace(
            one.scoring, objective=self._stack.objective, metrics=self._stack.metrics
        )
        return Scored(self.stacked, self.model_state, scoring, self._stack.seed), one

    def _halted(self, run: UnderWay, losses: np.ndarray) -> None:
        del run, losses
        super().stop("all members have stopped")


def _stop(place: Place, reason: str) -> Stop:
    return Stop(place.step, reason, place.epoch, place.position)


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


def _like(params: PyTree) -> PyTree:
    """Which leaves are trained."""
    return jax.tree.map(lambda leaf: leaf is not None, params, is_leaf=lambda x: x is None)


def _known(values: np.ndarray, stopped: np.ndarray) -> np.ndarray:
    """NaN where there is nothing."""
    if np.issubdtype(values.dtype, np.floating):
        values[stopped] = np.nan
    return values


def _wide(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: value if value.ndim else float(value) for name, value in values.items()}
