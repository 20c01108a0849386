"""`Population`: many trainers of one structure, trained by one program."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from neuron.callbacks import Callback, Logs, ProgressBar, terminal_attached
from neuron.checkpoint import Path
from neuron.data import DataLoader
from neuron.evaluation import BATCH_SIZE, over_models
from neuron.members import members_of, repeated, stacked
from neuron.population.histories import Histories, stop_at
from neuron.population.many import Many, hooks_of
from neuron.population.member import member_of
from neuron.population.numbers import changed
from neuron.population.seen import seen_by
from neuron.population.stacks import Stack, begun_with, refuse_others, states_of, with_counters_of
from neuron.run import Members
from neuron.trainer import Trainer
from neuron.trees import Static, arrays_of
from neuron.types import Model, whole_number


class Population(Many):
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
    rounding where they are run side by side. A CPU has small models side by side from 10 members
    on; from 64 where they have matrix products, from 128 where each draws its own rows. Other
    devices have all so. On a CPU, and on one of these ways, the number of members, or of those in a
    block, changes no bit of any.

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
        - `block_size`: how many members are computed together, or a few more: a smaller number
            needs less memory; as suits the machine if `None`. It changes no bit. After a fit, the
            attribute says how many it was.
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
        show = terminal_attached() if progress is None else progress
        hooks = hooks_of([*callbacks, *([ProgressBar()] if show else [])])
        if block_size is not None:
            block_size = whole_number("Population(block_size=...)", block_size, least=1)
            block_size = min(block_size, len(trainers))
        state, stack = states_of(trainers), Stack.of(trainers)
        super().__init__(trainers[0], len(trainers), state, stack, hooks, block_size)

    @classmethod
    def repeated(
        cls,
        trainer: Trainer,
        members: int,
        numbers: Mapping[str, Any] | None = None,
        *,
        models: Model | None = None,
        callbacks: Sequence[Callback] = (),
        block_size: int | None = None,
    ) -> "Population":
        """Many equal members, each where the trainer stands.

        **Arguments:**

        - `trainer`: is not changed.
        - `members`: how many.
        - `numbers`: numbers of the run by name, see `neuron.sweep`, each (members,).
        - `models`: weights for each to begin with, and the optimizer anew: all models as one tree,
            as `stacked` has them.
        - `callbacks`, `block_size`: as for `Population`.
        """
        state, stack = dataclasses.replace(trainer.state, metrics={}), Stack.of([trainer])
        many = with_counters_of(state, repeated(state, members))
        if numbers:
            stack = stack.with_numbers(numbers)
        if models is not None:
            many, frozen = begun_with(trainer, many, models)
            stack = dataclasses.replace(stack, frozen=frozen)
        population = cls.__new__(cls)
        Many.__init__(population, trainer, members, many, stack, hooks_of(callbacks), block_size)
        return population

    @property
    def models(self) -> list[Model]:
        """The models as trained so far, one a member."""
        one, many = self._first.model, self.stacked
        flags = stacked(arrays_of(one), arrays_of(many))
        return [Static(one).combine(arrays) for arrays in members_of(arrays_of(many), flags)]

    def each(self, function: Callable[[Model], Any]) -> np.ndarray:
        """A function of each member's model, members first: in one program if it can be traced,
        else one after the other.

        **Arguments:**

        - `function`: from a model to a number or an array.
        """
        return over_models(function, self._first.model, self.stacked)

    def __getitem__(self, member: int) -> Trainer:
        """One member as an ordinary trainer, which then goes its own way: with the history of its
        own steps, and without callbacks."""
        if not -len(self) <= member < len(self):
            raise IndexError(f"`population[{member}]`: there are {len(self)} members.")
        return member_of(self, range(len(self))[member])

    def best(self, monitor: str | None = None, *, mode: str = "min") -> Trainer:
        """The member with the best value in its last epoch: of one that has stopped, in the last
        that it ended.

        **Arguments:**

        - `monitor`: a name in it; `val_loss` where there is a validation, `loss` where there is
            none, if `None`.
        - `mode`: `"min"` or `"max"`: which way is better.

        **Raises:**

        - `ValueError` before the first epoch has ended, for a name that is not in the row, and
            where no member has a finite value.
        """
        return self[self.history.best(monitor, mode, without=self.faulty)]

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
        self._refuse_nested()
        data, self._seen = seen_by(loader, len(self), weight, targets)
        try:
            self._fit(data, epochs, steps, validation, resume_from)
        finally:
            self._tell_of_faults()
        return self.history

    def evaluate(self, loader: Any) -> Logs:
        """The loss and the metrics of each member over every row of the data, in inference mode:
        (members, ...). For intervals, evaluate the members that they are wanted of.

        **Arguments:**

        - `loader`: as for `Trainer.evaluate`.
        """
        return self._evaluate(loader)

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
        return self._predict(inputs, batch_size, samples)

    def set(self, **hyperparameters: Any) -> None:
        """Changes numbers of the optimizer, between fits or in a hook. Nothing is traced again; a
        number that all had in common and each has for itself now is compiled in once.

        **Arguments:**

        - `hyperparameters`: as for `Trainer.set`; one number for all, or `(members,)`.

        **Raises:**

        - As `Trainer.set`, and `ValueError` for another number of members.
        """
        first, objective = self._first.optimizer, self._first._parts.scoring.objective
        self._optimizer = changed(first, self._optimizer, objective, len(self), hyperparameters)

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
            self.history.stops[int(member)] = stop_at(self._place, reason)
        if self.stopped_members.all():
            super().stop("all members have stopped")
