"""The trainer: what a user calls."""

import copy
import dataclasses
import pathlib
import weakref
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.average import Average, no_average
from neuron.callbacks import Callback, Hooks, ProgressBar, terminal_attached
from neuron.checkpoint import Path, Saved, found, write
from neuron.clock import Clock
from neuron.data import Columns, DataLoader, as_inputs
from neuron.errors import NonFiniteLossError
from neuron.evaluation import BATCH_SIZE, Scored, computed, predict
from neuron.history import History
from neuron.losses import Loss, MeanSquaredError
from neuron.metrics import Metric
from neuron.models import prediction_like, renewed
from neuron.objectives import Objective
from neuron.optimizers import Adam, Optimizer, as_optimizer
from neuron.origin import located
from neuron.place import Goal, Place
from neuron.rows import Data
from neuron.run import Run, UnderWay, copied, ready
from neuron.samplers import Sampler
from neuron.scores import Plan, scored
from neuron.selection import Selection, partitioned
from neuron.state import TrainState, initial_state
from neuron.step import Task
from neuron.trainer.fitting import fit
from neuron.trainer.held_out import held_out, observed, scores
from neuron.trainer.parts import Parts, check_model
from neuron.trainer.resuming import Fitted, captured, put_back
from neuron.trees import kept, on_entry
from neuron.types import Batch, Device, Model, ModelState, Number, whole_number


class Trainer:
    """Trains a model.

    ```python
    trainer = neuron.Trainer(model, loss=neuron.RootMeanSquaredError(), optimizer=neuron.SGD(1e-2))
    history = trainer.fit(loader, steps=5_000)
    trainer.model.weight
    ```

    A trainer is one run: each `fit` goes on where the last one ended, and two fits of 100
    steps are one of 200, to the bit.
    """

    # How many are trained at once; `None` where there is one, and no such axis.
    members: int | None = None

    def __init__(
        self,
        model: Model,
        loss: Loss | dict[str, Loss] | Objective = MeanSquaredError(),
        optimizer: Optimizer | Any = Adam(),
        *,
        metrics: dict[str, Any] | None = None,
        model_state: ModelState = None,
        trainable: Selection | None = None,
        accumulate: int = 1,
        average: Number | None = None,
        precision: str | None = None,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        device: Device | str | None = None,
        nonfinite: str = "raise",
        progress: bool | None = None,
    ):
        """**Arguments:**

        - `model`: any callable tree with floating-point arrays, for one example: an
            `equinox.Module` of your own, `equinox.nn.MLP`, `neuron.Dense`. It is not changed;
            the trained one is `trainer.model`.
        - `loss`: a loss, a dict of them for predictions and targets that are dicts, or an
            objective. `Supervised({...}, weights={...})` is a dict of losses with weights,
            `Penalized(...)` a loss with penalties.
        - `optimizer`: one of neuron's or of optax's.
        - `metrics`: what is measured beside the loss, by name, on training and validation rows: a
            `Metric`, a `Loss`, or a function of (targets, predictions) such as scikit-learn's
            scorers. A dict in the place of one is of metrics for that part of the predictions.
        - `model_state`: the `equinox.nn.State` that `equinox.nn.make_with_state` made beside the
            model, where the model has layers with state.
        - `trainable`: which leaves are trained, all if `None`: patterns of paths (`"encoder.*"`),
            a function of the path, or an Equinox filter spec. The others get no gradient, no
            weight decay and no optimizer state; see `train_only`. Those of `Fixed` parts never do.
        - `accumulate`: how many of the loader's batches make one step: they are computed one after
            the other and give the step that one batch of all their rows would. Layers that take
            statistics over the batch see them one at a time.
        - `average`: the decay of a moving average of the weights, in [0, 1), 0.999 say. Evaluation,
            prediction, `trainer.model` and what `EarlyStopping` restores are then the average;
            the model's state is not averaged.
        - `precision`: what the model computes in, `"bfloat16"` for speed on accelerators; weights,
            updates, losses and `Fixed` parts stay in theirs. As the weights are, if `None`.
        - `callbacks`: what looks at the run.
        - `seed`: of the keys that a model with randomness gets; the order of the data has the
            sampler's seed.
        - `device`: where to train, as a device or a platform's name; where JAX puts arrays by
            default if `None`.
        - `nonfinite`: what a loss or gradient that is not finite does: `"raise"` ends the fit
            before that step, `"locate"` also finds where the first such value arose, and `"skip"`
            leaves the step's update out and goes on, with the count in the history.
        - `progress`: whether to show a progress bar; if a terminal is attached, if `None`.

        **Raises:**

        - `TypeError` or `ValueError` for parts that can not be meant.
        """
        check_model(model, model_state)
        self._parts = Parts.of(
            loss,
            metrics=metrics,
            accumulate=accumulate,
            average=average,
            precision=precision,
            seed=seed,
            device=device,
            nonfinite=nonfinite,
        )
        # As it was handed over, and with the numbers that it has now.
        self._optimizer_given = self._optimizer = as_optimizer(optimizer)
        show = terminal_attached() if progress is None else progress
        self._hooks = Hooks([*callbacks, *([ProgressBar()] if show else [])])
        model = on_entry(model, self._parts.device)
        params, self._frozen = partitioned("Trainer(trainable=...)", model, trainable)
        mean = None if average is None else no_average(params)
        state = initial_state(params, renewed(model_state), self.optimizer.init(params), mean)
        self._state = on_entry(state, self._parts.device)
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
    def _first(self) -> "Trainer":
        """Whose model stands for all that are trained: there is one."""
        return self

    @property
    def step(self) -> int:
        """How many steps the run has taken."""
        return self._place.step

    @property
    def epoch(self) -> int:
        """How many epochs the run has ended."""
        return self._place.epoch

    @property
    def model(self) -> Model:
        """The model as trained so far, of averaged weights where there is an average. In a hook,
        valid until the hook returns."""
        return eqx.combine(self.state.averaged_params, self._frozen)

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

    def copy(self) -> "Trainer":
        """Another trainer at the same point of the same run, which then goes its own way: without
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
            raise RuntimeError("`Trainer.restore()` changes the run; call it between fits.")
        put_back(self, found("Trainer.restore(path)", path))

    def fit(
        self,
        loader: DataLoader | tuple[PyTree, ...],
        *,
        epochs: int | None = None,
        steps: int | None = None,
        validation: Any = None,
        resume_from: Path | None = None,
    ) -> History:
        """Trains that many more epochs or steps; 10 epochs if neither is given.

        **Arguments:**

        - `loader`: a `DataLoader`, or a tuple of arrays that makes one.
        - `epochs`, `steps`: how much more to train; one of them. With `resume_from`, how much in
            all.
        - `validation`: data that is evaluated at the end of each epoch, as `evaluate` takes it.
        - `resume_from`: a directory of `Checkpoint`. The fit goes on at the newest one that is
            whole, if there is any, as if it had never been stopped. Of several fits of one trainer,
            those before the one that wrote it train nothing.

        **Returns:**

        The history of the whole run, `trainer.history`.

        **Raises:**

        - `NonFiniteLossError` at a step whose loss or gradients are not finite; its `locate` finds
            out why.
        - `ValueError` or `TypeError` before the first step, for what can not be meant.
        - `CheckpointError` for a checkpoint of a run with other parts than this one's.
        - `KeyboardInterrupt` after Ctrl-C and `Terminated` after SIGTERM, within half a second and
            the step under way; a function of your own that handles the signal is called there
            instead. A second one is handled at once.
        """
        if self._run is not None:
            raise RuntimeError(
                "`Trainer.fit()` was called while it runs, by a callback; it can not be nested."
            )
        goal = Goal(epochs, steps, total=resume_from is not None)
        fit(self, loader, goal, validation, resume_from)
        return self.history

    def evaluate(
        self,
        loader: Any,
        *,
        interval: float | None = None,
        replicas: int = 1000,
        groups: Any = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The loss and the metrics over every row of the data, once each and in their order, in
        inference mode.

        **Arguments:**

        - `loader`: a `DataLoader`, whose sampler plays no part; a tuple of arrays; or, after a fit
            on a table, a table that has the same columns.
        - `interval`: the level of an interval for each value, 0.95 say: the percentiles of the
            values over resamples of the rows (Efron, 1979). The model sees each row once for it. It
            says what other held-out rows might have given, not what another training might have.
        - `replicas`: how many resamples.
        - `groups`: which one each row is of, where rows of one group depend on each other: whole
            groups are then resampled.
        - `seed`: of the resamples.

        **Returns:**

        `{"loss": ...}`, what else the objective logs, and each metric: of exact weighted sums. With
        `interval`, the same values, each as a `Score`.
        """
        call = "Trainer.evaluate"
        if interval is not None:
            plan = Plan.of(call, "interval", interval, replicas, groups, seed)
            (found,) = observed(plan, [self], loader)
            return scored(plan, found)
        if groups is not None:
            raise ValueError(
                f"`{call}(groups=...)` is for intervals; got no `interval=`, such as 0.95."
            )
        return scores(self, held_out(self, f"{call}(loader)", loader))

    def predict(
        self, inputs: PyTree, *, batch_size: int = BATCH_SIZE, samples: int | None = None
    ) -> PyTree:
        """The model's outputs for rows of inputs, in inference mode.

        **Arguments:**

        - `inputs`: an array, or a tree of arrays, whose first axis is the rows; a `DataLoader`, for
            the inputs of its rows in their order; or, after a fit on a table, a table that has the
            same columns of features.
        - `batch_size`: how many rows are computed together. The same row gives the same bits in
            whatever place; another batch size may round differently.
        - `samples`: how many draws to make with dropout left on (Gal & Ghahramani, 2016): functions
            of the trainer's seed, the draw and the row.

        **Returns:**

        The outputs, rows first: `(rows,)` for a single neuron; `(samples, rows)` with `samples`.
        """
        batch_size = whole_number("Trainer.predict(batch_size=...)", batch_size, least=1)
        loader = as_inputs("Trainer.predict(inputs)", inputs, self._columns)
        loader.refuse_spent("Trainer.predict(inputs)")
        if loader.transform is None:
            prediction_like(self.model, self.model_state, loader.sample().inputs)
        precision, transform = self._parts.scoring.precision, loader.transform
        parts = (self.model, self.model_state, precision, transform, self._parts.seed)

        def drawn(sample: int | None) -> PyTree:
            with loader.read(batch_size) as blocks:
                # A transform may look at the targets, where there are any.
                needed = ((Batch(b.inputs, b.targets if transform else None), n) for b, n in blocks)
                return predict(parts, batch_size, needed, sample)

        if samples is None:
            return jax.tree.map(jnp.asarray, drawn(None))
        number = whole_number("Trainer.predict(samples=...)", samples, least=1)
        draws = [drawn(sample) for sample in range(number)]
        return jax.tree.map(lambda *draw: jnp.asarray(np.stack(draw)), *draws)

    def set(self, **hyperparameters: Any) -> None:
        """Changes numbers of the optimizer, between fits or in a hook, without a recompile.

        ```python
        trainer.set(learning_rate=1e-4)
        trainer.set(learning_rate={"encoder.*": 1e-5})  # where the learning rate has such a group
        ```

        `trainer.optimizer.numbers()` tells what there is. Groups that a dict does not name stay as
        they are.

        **Raises:**

        - `ValueError` for a name that the optimizer does not have, or a value out of its range;
            `TypeError` for what is no number, and for one number in the place of groups.
        """
        self._optimizer = self._optimizer.with_numbers(**hyperparameters)

    def train_only(self, trainable: Selection | None) -> None:
        """Trains other leaves from the next fit on; all of them with `None`.

        The optimizer's state of leaves that stay trained is kept, that of new ones begins.

        ```python
        trainer = neuron.Trainer(model, trainable="head.*")
        trainer.fit(loader, epochs=5)
        trainer.train_only(None)
        trainer.fit(loader, epochs=5)
        ```

        **Arguments:**

        - `trainable`: as for `Trainer`.
        """
        if self._run is not None:
            raise RuntimeError("`Trainer.train_only()` changes the program; call it between fits.")
        model = eqx.combine(self._state.params, self._frozen)
        params, self._frozen = partitioned("Trainer.train_only(...)", model, trainable)
        opt_state = kept(self._state.opt_state, self.optimizer.init(params))
        average = self._state.average
        if average is not None:
            average = kept(average, Average(params, average.weight))
        state = self._state.changed(params, self.model_state, opt_state, average)
        self._state = on_entry(state, self._parts.device)

    def _new_history(self) -> History:
        """A history of such losses and metrics, with nothing in it."""
        return self._parts.history()

    def _told(self) -> dict[str, str]:
        """What else makes the run another one, as text."""
        return {}

    def _measured(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        """The values of metrics over the epoch that has ended."""
        return computed(metrics, {name: self.state.metrics[name] for name in metrics})

    def _optimizer_like(self, saved: Saved) -> Optimizer:
        """An optimizer with room for the numbers of a checkpoint."""
        del saved
        return self.optimizer

    def _begins(self, *, anew: bool) -> None:
        """A fit begins, anew or from a checkpoint."""

    def _task(self, steps_of: DataLoader, sampler: Sampler) -> Task:
        """What a step reads, with the numbers that there are now."""
        task = Task(
            frozen=self._frozen,
            scoring=self._parts.scored(steps_of),
            optimizer=self.optimizer,
            average=self._parts.average,
            sampler=sampler,
            seed=self._parts.seed,
            cut=steps_of.cut,
            microbatch=steps_of.cut.batch_size // self._parts.accumulate,
            skip_nonfinite=self._parts.nonfinite == "skip",
        )
        return on_entry(task, self._parts.device)

    def _begin(self, task: Task, data: Data, saved: Saved | None) -> UnderWay:
        """A run from where the trainer stands."""
        state = on_entry(self._place.put_into(self._state), self._parts.device)
        state = ready(state, task, data)
        if saved is not None:
            state = dataclasses.replace(state, metrics=saved.metrics(state.metrics))
        # Buffers are donated from here on; the copy leaves alone what the user may still hold.
        return Run(copied(on_entry(state, self._parts.device)), task, data)

    def _scored(self, loader: DataLoader) -> tuple[Scored, None]:
        """What an evaluation scores."""
        parts = self._parts
        return Scored(self.model, self.model_state, parts.scored(loader), parts.seed), None

    def _halted(self, run: UnderWay, losses: np.ndarray) -> None:
        """A step has refused its update."""
        assert isinstance(run, Run)
        raise NonFiniteLossError(self.step, float(losses[0]), lambda: located(*run.next_step()))

    def stop(self, reason: str) -> None:
        """Ends the running fit where it stands, once the hooks of this look have been called."""
        self.stopped = reason
