"""The trainer. It holds the parts and the state of a run, and drives."""

import copy
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.average import Average, decay, no_average
from neuron.callbacks import Callback, Hooks, Logs, ProgressBar, terminal_attached
from neuron.counters import seed_words
from neuron.data import DataLoader, as_loader, blocks, checked
from neuron.driving import drive
from neuron.evaluation import evaluate, finisher, predict
from neuron.history import History
from neuron.losses import Loss, MeanSquaredError
from neuron.metrics import by_name
from neuron.models import batch_axis, check_state, needs_two_rows, prediction_like, renewed
from neuron.objectives import Objective, as_objective
from neuron.optimizers import Adam, Optimizer, as_optimizer
from neuron.place import Place
from neuron.run import Run, copied, ready
from neuron.selection import Selection, parameters, partitioned
from neuron.state import TrainState, initial_state
from neuron.step import Scoring, Task, checked_precision
from neuron.trees import as_device, kept, on_entry, refuse_ties, refuse_unhashable
from neuron.types import (
    Batch,
    Device,
    Model,
    ModelState,
    Number,
    whole_number,
)


# How many rows are evaluated or predicted together where nobody says.
_BATCH_SIZE = 256


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
        - `loss`: a loss, a dict of them for predictions and targets that are dicts (see
            `Supervised`), or an objective.
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
            before that step, `"skip"` leaves the step's update out and counts it.
        - `progress`: whether to show a progress bar; if a terminal is attached, if `None`.

        **Raises:**

        - `TypeError` or `ValueError` for parts that can not be meant.
        """
        if not callable(model):
            raise TypeError(f"`Trainer(model)` must be callable on one example; got {model!r}.")
        if nonfinite not in ("raise", "skip"):
            raise ValueError(
                f"`Trainer(nonfinite=...)` must be 'raise' or 'skip'; got {nonfinite!r}."
            )
        # What is never trained can not drift apart: one scaling may serve inputs and targets.
        refuse_ties("Trainer(model)", parameters(model, eqx.is_array_like))
        refuse_unhashable("Trainer(model)", model)
        check_state(model, model_state)
        batch_axis(model)
        self._device = as_device("Trainer(device=...)", device)
        objective = on_entry(as_objective(loss), self._device)
        measured = on_entry(by_name(metrics), self._device)
        precision = checked_precision("Trainer(precision=...)", precision)
        self._scoring = Scoring(objective, measured, precision)
        self._accumulate = whole_number("Trainer(accumulate=...)", accumulate, least=1)
        if objective.coupled and self._accumulate > 1:
            raise ValueError(
                "`Trainer(accumulate=...)` must be 1 for an objective that couples the examples of "
                f"a batch, as {type(objective).__name__} does; got {accumulate}."
            )
        self._average = None if average is None else decay("Trainer(average=...)", average)
        self._optimizer = as_optimizer(optimizer)
        self._seed = on_entry(seed_words("Trainer(seed=...)", seed), self._device)
        self._nonfinite = nonfinite
        show = terminal_attached() if progress is None else progress
        self._hooks = Hooks([*callbacks, *([ProgressBar()] if show else [])])
        if not jax.tree.leaves(parameters(model)):
            raise ValueError(
                "`Trainer(model)` must have floating-point arrays to train; got none in "
                f"{type(model).__name__}."
            )
        model = on_entry(model, self._device)
        params, self._frozen = partitioned("Trainer(trainable=...)", model, trainable)
        mean = None if average is None else no_average(params)
        state = initial_state(params, renewed(model_state), self.optimizer.init(params), mean)
        self._state = on_entry(state, self._device)
        self._place = Place()
        self._place.move_to(state)
        self.history = self._new_history()
        self.final_step = 0
        self.stopped: str | None = None
        self._run: Run | None = None
        self._checked: weakref.WeakSet[DataLoader] = weakref.WeakSet()

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
        state = copied(on_entry(state, self._device))
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
        other._hooks = Hooks([])
        other.history = self._new_history()
        return other

    def fit(
        self,
        loader: DataLoader | tuple[PyTree, ...],
        *,
        epochs: int | None = None,
        steps: int | None = None,
        validation: DataLoader | tuple[PyTree, ...] | None = None,
    ) -> History:
        """Trains that many more epochs or steps; 10 epochs if neither is given.

        **Arguments:**

        - `loader`: a `DataLoader`, or a tuple of arrays that makes one.
        - `epochs`, `steps`: how much more to train; one of them.
        - `validation`: data that is evaluated at the end of each epoch.

        **Returns:**

        The history of the whole run, `trainer.history`.

        **Raises:**

        - `NonFiniteLossError` at a step whose loss or gradients are not finite.
        - `ValueError` or `TypeError` before the first step, for what can not be meant.
        - `KeyboardInterrupt` at a step boundary after Ctrl-C.
        """
        if self._run is not None:
            raise RuntimeError(
                "`Trainer.fit()` was called while it runs, by a callback; it can not be nested."
            )
        loader = as_loader("Trainer.fit(loader)", loader)
        self._check(loader)
        loader = loader.in_groups(self._accumulate)
        more = _steps_to_take(epochs, steps, len(loader))
        self._check_batches(loader)
        validate = None
        if validation is not None:
            validate = self._validation(*self._held_out("Trainer.fit(validation=...)", validation))
        self._run = self._begin(loader, more)
        scoring, recorded = self._scoring, self._run.program.record
        error: BaseException | None = None
        try:
            drive(
                self,
                self._run,
                self._place,
                self._hooks,
                metrics={n: m for n, m in scoring.metrics.items() if n not in recorded},
                task=lambda: self._task(loader),
                validate=validate,
            )
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._state, self._run = self._run.state, None
            self._hooks.close(self, error)
        return self.history

    def evaluate(self, loader: DataLoader | tuple[PyTree, ...]) -> Logs:
        """The loss and the metrics over every row of the data, once each and in their order, in
        inference mode.

        **Arguments:**

        - `loader`: a `DataLoader`, whose sampler plays no part, or a tuple of arrays.

        **Returns:**

        `{"loss": ...}`, what else the objective logs, and each metric: of exact weighted sums.
        """
        return self._evaluate(*self._held_out("Trainer.evaluate(loader)", loader))

    def predict(
        self, inputs: PyTree, *, batch_size: int = _BATCH_SIZE, samples: int | None = None
    ) -> PyTree:
        """The model's outputs for rows of inputs, in inference mode.

        **Arguments:**

        - `inputs`: an array, or a tree of arrays, whose first axis is the rows.
        - `batch_size`: how many rows are computed together. The same row gives the same bits in
            whatever place; another batch size may round differently.
        - `samples`: how many draws to make with dropout left on (Gal & Ghahramani, 2016): functions
            of the trainer's seed, the draw and the row.

        **Returns:**

        The outputs, rows first: `(rows,)` for a single neuron; `(samples, rows)` with `samples`.
        """
        batch_size = whole_number("Trainer.predict(batch_size=...)", batch_size, least=1)
        rows = checked("Trainer.predict(inputs)", Batch(inputs)).inputs
        prediction_like(self.model, self.model_state, rows)
        parts = (self.model, self.model_state, self._scoring.precision, self._seed)
        if samples is None:
            outputs = predict(parts, batch_size, blocks(rows, batch_size))
        else:
            number = whole_number("Trainer.predict(samples=...)", samples, least=1)
            draws = [predict(parts, batch_size, blocks(rows, batch_size), s) for s in range(number)]
            outputs = jax.tree.map(lambda *draw: np.stack(draw), *draws)
        return jax.tree.map(jnp.asarray, outputs)

    def set(self, **hyperparameters: Any) -> None:
        """Changes numbers of the optimizer, between fits or in a hook, without a recompile.

        ```python
        trainer.set(learning_rate=1e-4)
        trainer.set(learning_rate={"encoder.*": 1e-5})  # where the learning rate has such a group
        ```

        `trainer.optimizer.numbers()` tells what there is.

        **Raises:**

        - `ValueError` for a name that the optimizer does not have, or a value out of its range.
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
        params, self._frozen = partitioned("Trainer(trainable=...)", model, trainable)
        opt_state = kept(self._state.opt_state, self.optimizer.init(params))
        average = self._state.average
        if average is not None:
            average = kept(average, Average(params, average.weight))
        state = self._state.changed(params, self.model_state, opt_state, average)
        self._state = on_entry(state, self._device)

    def stop(self, reason: str) -> None:
        """Ends the running fit where it stands, once the hooks of this look have been called."""
        self.stopped = reason

    def _new_history(self) -> History:
        return History(finisher(self._scoring.objective), self._scoring.metrics)

    def _begin(self, loader: DataLoader, more: int) -> Run:
        self._place.cut(len(loader))
        task, data = self._task(loader), loader.on(self._device)
        state = on_entry(self._place.put_into(self._state), self._device)
        state = ready(state, task, data)
        # Buffers are donated from here on; the copy leaves alone what the user may still hold.
        state = copied(on_entry(state, self._device))
        self.final_step = self.step + more
        self.stopped = None
        return Run(state, task, data)

    def _held_out(self, call: str, data: Any) -> tuple[int, Iterable[tuple[Batch, int]]]:
        """Data to evaluate: how many rows are computed together, and blocks of them."""
        loader = as_loader(call, data)
        self._check(loader)
        batch_size = loader.batch_size if loader is data else _BATCH_SIZE
        if self._scoring.objective.coupled and loader.rows % batch_size:
            raise ValueError(_whole_batches(call, self._scoring, f"{loader.rows} rows"))
        return batch_size, blocks(loader.data, batch_size)

    def _validation(self, batch_size: int, rows: Iterable[tuple[Batch, int]]) -> Callable[[], Logs]:
        """Evaluates the same rows again and again; they stay on the device."""
        placed = [(jax.device_put(block, self._device), count) for block, count in rows]
        return lambda: self._evaluate(batch_size, placed)

    def _evaluate(self, batch_size: int, rows: Iterable[tuple[Batch, int]]) -> Logs:
        parts = (self.model, self.model_state, self._scoring, self._seed)
        return evaluate(parts, batch_size, rows, self.step)

    def _task(self, loader: DataLoader) -> Task:
        return on_entry(
            Task(
                frozen=self._frozen,
                scoring=self._scoring,
                optimizer=self.optimizer,
                average=self._average,
                sampler=loader.sampler,
                seed=self._seed,
                batch_size=loader.batch_size,
                microbatch=loader.batch_size // self._accumulate,
                steps_per_epoch=len(loader),
                skip_nonfinite=self._nonfinite == "skip",
            ),
            self._device,
        )

    def _check(self, loader: DataLoader) -> None:
        if loader not in self._checked:
            self._scoring.check(self.model, self.model_state, loader.data)
            self._checked.add(loader)

    def _check_batches(self, loader: DataLoader) -> None:
        """One row has no statistics: refuses it where a layer takes them over the batch. And a
        short batch, where the objective couples the examples."""
        microbatch = loader.batch_size // self._accumulate
        if needs_two_rows(self.model) and 1 in (microbatch, loader.smallest_batch() % microbatch):
            raise ValueError(
                "`Trainer.fit(loader)` must have batches of at least 2 rows where a layer takes "
                f"statistics over them; got one of 1 row from {loader!r}. Use "
                "`DataLoader(drop_last=True)` or another batch size."
            )
        if self._scoring.objective.coupled and loader.smallest_batch() < loader.batch_size:
            raise ValueError(_whole_batches("Trainer.fit(loader)", self._scoring, repr(loader)))


def _whole_batches(call: str, scoring: Scoring, got: str) -> str:
    return (
        f"`{call}` must have whole batches only for an objective that couples the examples of one, "
        f"as {type(scoring.objective).__name__} does; got {got}. Use "
        "`DataLoader(drop_last=True)` or a batch size that divides the rows."
    )


def _steps_to_take(epochs: int | None, steps: int | None, steps_per_epoch: int) -> int:
    if epochs is not None and steps is not None:
        raise ValueError(
            f"`Trainer.fit()` takes epochs or steps, not both; got epochs={epochs}, steps={steps}."
        )
    if steps is not None:
        return whole_number("Trainer.fit(steps=...)", steps, least=0)
    epochs = 10 if epochs is None else whole_number("Trainer.fit(epochs=...)", epochs, least=0)
    return epochs * steps_per_epoch
