"""The trainer: what a user calls."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from neuron.average import Average, no_average
from neuron.callbacks import Callback, Hooks, ProgressBar, terminal_attached
from neuron.checkpoint import Path, Saved
from neuron.data import DataLoader
from neuron.errors import NonFiniteLossError
from neuron.evaluation import BATCH_SIZE, Predicting, Scored, computed
from neuron.history import History
from neuron.losses import Loss, MeanSquaredError
from neuron.metrics import Metric
from neuron.models import renewed
from neuron.objectives import Objective
from neuron.optimizers import Adam, Optimizer, as_optimizer
from neuron.origin import located
from neuron.rows import Data
from neuron.run import Run, UnderWay, copied, ready
from neuron.samplers import Sampler
from neuron.scores import Plan, scored
from neuron.selection import Selection, partitioned
from neuron.state import initial_state
from neuron.step import Task
from neuron.trainer.driven import Driven
from neuron.trainer.held_out import observed
from neuron.trainer.parts import Parts, check_model
from neuron.trees import kept, on_entry
from neuron.types import Device, Model, ModelState, Number


class Trainer(Driven):
    """Trains a model.

    ```python
    trainer = neuron.Trainer(model, loss=neuron.RootMeanSquaredError(), optimizer=neuron.SGD(1e-2))
    history = trainer.fit(loader, steps=5_000)
    trainer.model.weight
    ```

    A trainer is one run: each `fit` goes on where the last one ended, and two fits of 100
    steps are one of 200, to the bit.
    """

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
        parts = Parts.of(
            loss,
            metrics=metrics,
            accumulate=accumulate,
            average=average,
            precision=precision,
            seed=seed,
            device=device,
            nonfinite=nonfinite,
        )
        optimizer = as_optimizer(optimizer)
        show = terminal_attached() if progress is None else progress
        hooks = Hooks([*callbacks, *([ProgressBar()] if show else [])])
        model = on_entry(model, parts.device)
        params, frozen = partitioned("Trainer(trainable=...)", model, trainable)
        mean = None if average is None else no_average(params)
        state = initial_state(params, renewed(model_state), optimizer.init(params), mean)
        super().__init__(parts, hooks, state, frozen, optimizer)

    @property
    def model(self) -> Model:
        """The model as trained so far, of averaged weights where there is an average. In a hook,
        valid until the hook returns."""
        return eqx.combine(self.state.averaged_params, self._frozen)

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
        self._fit(loader, epochs, steps, validation, resume_from)
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
        return self._evaluate(loader)

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
        return self._predict(inputs, batch_size, samples)

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

    @property
    def _first(self) -> "Trainer":
        return self

    def _new_history(self) -> History:
        return self._parts.history()

    def _measured(self, metrics: dict[str, Metric]) -> dict[str, Any]:
        return computed(metrics, {name: self.state.metrics[name] for name in metrics})

    def _optimizer_like(self, saved: Saved) -> Optimizer:
        del saved
        return self.optimizer

    def _task(self, steps_of: DataLoader, sampler: Sampler) -> Task:
        cut = steps_of.cut
        task = Task(
            frozen=self._frozen,
            scoring=self._parts.scored(steps_of),
            optimizer=self.optimizer,
            average=self._parts.average,
            sampler=sampler,
            seed=self._parts.seed,
            cut=cut,
            microbatch=cut.batch_size // self._parts.accumulate,
            skip_nonfinite=self._parts.nonfinite == "skip",
        )
        return on_entry(task, self._parts.device)

    def _begin(self, task: Task, data: Data, saved: Saved | None) -> UnderWay:
        state = on_entry(self._place.put_into(self._state), self._parts.device)
        state = ready(state, task, data)
        if saved is not None:
            state = dataclasses.replace(state, metrics=saved.metrics(state.metrics))
        # Buffers are donated from here on; the copy leaves alone what the user may still hold.
        return Run(copied(on_entry(state, self._parts.device)), task, data)

    def _scored(self, loader: DataLoader) -> tuple[Scored, None]:
        parts = self._parts
        return Scored(self.model, self.model_state, parts.scored(loader), parts.seed), None

    def _predicting(self, loader: DataLoader) -> tuple[Predicting, None]:
        parts = self._parts
        rest = (parts.scoring.precision, loader.transform, parts.seed)
        return Predicting(self.model, self.model_state, *rest), None

    def _halted(self, run: UnderWay, losses: np.ndarray) -> None:
        assert isinstance(run, Run)
        raise NonFiniteLossError(self.step, float(losses[0]), lambda: located(*run.next_step()))
