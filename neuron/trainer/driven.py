"""What is driven: a run, or many at once, with what a fit, a score and a checkpoint need of it."""

import abc
import copy
import dataclasses
import pathlib
import weakref
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.callbacks import Hooks, Logs
from neuron.checkpoint import Path, Saved, found, write
from neuron.clock import Clock
from neuron.data import Columns, DataLoader, as_inputs
from neuron.evaluation import Predicting, Scored, predict
from neuron.history import History
from neuron.metrics import Metric
from neuron.models import prediction_like, renewed
from neuron.optimizers import Optimizer
from neuron.place import Goal, Place
from neuron.rows import Data
from neuron.run import UnderWay, copied
from neuron.samplers import Sampler
from neuron.state import TrainState
from neuron.step import Task
from neuron.trainer.fitting import fit
from neuron.trainer.held_out import held_out, scores
from neuron.trainer.parts import Parts
from neuron.trainer.resuming import Fitted, captured, put_back
from neuron.trees import on_entry
from neuron.types import Batch, ModelState, whole_number


Kind = TypeVar("Kind", bound="Driven")


class Driven(abc.ABC):
    """One run, which is a `Trainer`, or many at once, which are a `Population`."""

    # How many are trained at once; `None` where there is one, and no such axis.
    members: int | None = None

    def __init__(
        self, parts: Parts, hooks: Hooks, state: TrainState, frozen: PyTree, optimizer: Optimizer
    ):
        """**Arguments:**

        - `parts`: what it is told beside model and optimizer.
        - `hooks`: its callbacks.
        - `state`: where it begins.
        - `frozen`: what is not trained of the model.
        - `optimizer`: the optimizer.
        """
        self._parts, self._hooks = parts, hooks
        self._state, self._frozen = on_entry(state, parts.device), frozen
        # As it was handed over, and with the numbers that it has now.
        self._optimizer_given = self._optimizer = optimizer
        self._place = Place()
        self._place.move_to(state)
        self.history = self._new_history()
        # Of the fit that runs, or of the last one.
        self.clock = Clock()
        self.final_step: int | None = 0
        self.stopped: str | None = None
        # Whether all hooks of the last look have been called: what is saved then goes on exactly.
        self.at_rest = True
        self._run: UnderWay | None = None
        # Those of the table that was trained on last: a prediction takes another one's by name.
        self._columns: Columns | None = None
        self._checked: weakref.WeakSet[DataLoader] = weakref.WeakSet()
        # How many steps of each were taken: a stream that runs on goes on behind them.
        self._taken: weakref.WeakKeyDictionary[DataLoader, int] = weakref.WeakKeyDictionary()
        # What is trained on, or was last.
        self._fitted: Fitted | None = None
        # What a checkpoint holds of the metrics, until a fit makes room for it.
        self._metrics_of: Saved | None = None
        # How many fits have come to their end.
        self._fits = 0

    @property
    def step(self) -> int:
        """How many steps the run has taken."""
        return self._place.step

    @property
    def epoch(self) -> int:
        """How many epochs the run has ended."""
        return self._place.epoch

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, with the numbers that it has now; `set` changes them."""
        return self._optimizer

    @property
    def model_state(self) -> ModelState:
        """The model's `equinox.nn.State` after the last step, or `None`; valid as `model` is."""
        return renewed(self.state.model_state)

    @property
    def state(self) -> TrainState:
        """The state of the run. In a hook, valid until the hook returns. Assigned, it is copied."""
        return self._state if self._run is None else self._run.state

    @state.setter
    def state(self, state: TrainState) -> None:
        state = copied(on_entry(state, self._parts.device))
        if self._run is None:
            self._state = state
        else:
            self._run.state = state
        self._place.move_to(state)

    def snapshot(self) -> TrainState:
        """A copy of the state, to keep."""
        return copied(self.state)

    def copy(self: Kind) -> Kind:
        """Another one at the same point of the same run, which then goes its own way: without
        callbacks, and with a history that begins here."""
        other = copy.copy(self)
        other._state, other._run = self.snapshot(), None
        other._place = dataclasses.replace(self._place)
        other._taken = weakref.WeakKeyDictionary(self._taken)
        other._hooks = Hooks([])
        other.history = self._new_history()
        return other

    def save(self, path: Path) -> None:
        """Writes the run into a file, from which `restore` goes on: weights, the states of
        optimizer, model and averages, numbers that were set, history, and what callbacks remember.

        The file is written whole or not at all; when this returns it is on the disk.

        **Raises:**

        - `CheckpointError` for a file that can not be written, and for what it can not hold.
        """
        write(pathlib.Path(path), captured(self).encoded())

    def restore(self, path: Path) -> None:
        """Goes back, or on, to where a checkpoint stands. The next fit is a new one, in which the
        callbacks begin anew.

        **Arguments:**

        - `path`: a file, or a directory of `Checkpoint`, of which the newest one is taken.

        **Raises:**

        - `CheckpointError` for what is no checkpoint of a run, is damaged, or does not fit this
            trainer: each leaf that does not is named.
        """
        if self._run is not None:
            raise RuntimeError("`restore()` changes the run; call it between fits.")
        put_back(self, found("Trainer.restore(path)", path))

    def stop(self, reason: str) -> None:
        """Ends the running fit where it stands, once the hooks of this look have been called.

        **Arguments:**

        - `reason`: why, for `stopped`.
        """
        self.stopped = reason

    def _fit(
        self,
        loader: DataLoader | tuple[PyTree, ...],
        epochs: int | None,
        steps: int | None,
        validation: Any,
        resume_from: Path | None,
    ) -> None:
        """See `Trainer.fit`."""
        self._refuse_nested()
        goal = Goal(epochs, steps, total=resume_from is not None)
        fit(self, loader, goal, validation, resume_from)

    def _refuse_nested(self) -> None:
        if self._run is not None:
            raise RuntimeError(
                f"`{type(self).__name__}.fit()` was called while it runs, by a callback; it can "
                "not be nested."
            )

    def _evaluate(self, loader: Any) -> Logs:
        """See `Trainer.evaluate`."""
        call = f"{type(self).__name__}.evaluate(loader)"
        return scores(self, held_out(self, call, loader))

    def _predict(self, inputs: PyTree, batch_size: int, samples: int | None) -> PyTree:
        """See `Trainer.predict`; of many, members first."""
        call = f"{type(self).__name__}.predict"
        batch_size = whole_number(f"{call}(batch_size=...)", batch_size, least=1)
        loader = as_inputs(f"{call}(inputs)", inputs, self._columns)
        loader.refuse_spent(f"{call}(inputs)")
        first, transform = self._first, loader.transform
        if transform is None:
            prediction_like(first.model, first.model_state, loader.sample().inputs)
        parts, like = self._predicting(loader)

        def drawn(sample: int | None) -> PyTree:
            with loader.read(batch_size) as blocks:
                # A transform may look at the targets, where there are any.
                needed = ((Batch(b.inputs, b.targets if transform else None), n) for b, n in blocks)
                return predict(parts, batch_size, needed, sample, like)

        if samples is None:
            return jax.tree.map(jnp.asarray, drawn(None))
        number = whole_number(f"{call}(samples=...)", samples, least=1)
        draws = [drawn(sample) for sample in range(number)]
        axis = 0 if like is None else 1
        return jax.tree.map(lambda *draw: jnp.asarray(np.stack(draw, axis=axis)), *draws)

    def _told(self) -> dict[str, str]:
        """What else makes the run another one, as text."""
        return {}

    def _begins(self, *, anew: bool) -> None:
        """A fit begins, anew or from a checkpoint."""
        del anew

    @property
    @abc.abstractmethod
    def _first(self) -> Any:
        """A trainer whose model stands for all that are trained."""

    @abc.abstractmethod
    def _new_history(self) -> History:
        """A history of such losses and metrics, with nothing in it."""

    @abc.abstractmethod
    def _measured(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        """The values of metrics over the epoch that has ended."""

    @abc.abstractmethod
    def _optimizer_like(self, saved: Saved) -> Optimizer:
        """An optimizer with room for the numbers of a checkpoint."""

    @abc.abstractmethod
    def _task(self, steps_of: DataLoader, sampler: Sampler) -> Task:
        """What a step reads, with the numbers that there are now."""

    @abc.abstractmethod
    def _begin(self, task: Task, data: Data, saved: Saved | None) -> UnderWay:
        """A run from where it stands, or many."""

    @abc.abstractmethod
    def _scored(self, loader: DataLoader) -> tuple[Scored, Scored | None]:
        """What an evaluation scores; of many, and the same of one of them."""

    @abc.abstractmethod
    def _predicting(self, loader: DataLoader) -> tuple[Predicting, Predicting | None]:
        """What a prediction needs; of many, and the same of one of them."""

    @abc.abstractmethod
    def _halted(self, run: UnderWay, losses: np.ndarray) -> None:
        """No step was taken: all that are trained have refused theirs."""
