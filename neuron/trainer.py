"""The trainer. It holds the parts and the state of a run, and drives."""

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.callbacks import Callback, Hooks, Logs, ProgressBar, terminal_attached
from neuron.counters import number, seed_words, words
from neuron.data import DataLoader, as_loader, blocks, checked
from neuron.errors import NonFiniteLossError
from neuron.evaluation import evaluate, finisher, predict
from neuron.history import History
from neuron.interrupts import Interrupts
from neuron.losses import Loss, MeanSquaredError
from neuron.models import batch_axis, check_state, needs_two_rows, prediction_like, renewed
from neuron.objectives import Objective, as_objective
from neuron.optimizers import Adam, Optimizer, as_optimizer
from neuron.run import Run, copied
from neuron.selection import Selection, selected
from neuron.slices import Slices
from neuron.state import TrainState, initial_state
from neuron.step import Task
from neuron.trees import kept, on_entry, refuse_ties, refuse_unhashable
from neuron.types import Batch, Device, Model, ModelState, Params, whole_number


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
        loss: Loss | Objective = MeanSquaredError(),
        optimizer: Optimizer | Any = Adam(),
        *,
        model_state: ModelState = None,
        trainable: Selection | None = None,
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
        - `loss`: a loss or an objective.
        - `optimizer`: one of neuron's or of optax's.
        - `model_state`: the `equinox.nn.State` that `equinox.nn.make_with_state` made beside the
            model, where the model has layers with state.
        - `trainable`: which leaves are trained, all if `None`: patterns of paths (`"encoder.*"`),
            a function of the path, or an Equinox filter spec. The others get no gradient, no
            weight decay and no optimizer state; see `train_only`.
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
        refuse_ties("Trainer(model)", model)
        refuse_unhashable("Trainer(model)", model)
        check_state(model, model_state)
        batch_axis(model)
        self._device = _device(device)
        self._objective = on_entry(as_objective(loss), self._device)
        self._optimizer = as_optimizer(optimizer)
        self._seed = on_entry(seed_words("Trainer(seed=...)", seed), self._device)
        self._nonfinite = nonfinite
        show = terminal_attached() if progress is None else progress
        self._hooks = Hooks([*callbacks, *([ProgressBar()] if show else [])])
        everything = eqx.filter(model, eqx.is_inexact_array)
        if not jax.tree.leaves(everything):
            raise ValueError(
                "`Trainer(model)` must have floating-point arrays to train; got none in "
                f"{type(model).__name__}."
            )
        params, self._frozen = _partition(on_entry(model, self._device), trainable)
        state = initial_state(params, renewed(model_state), self.optimizer.init(params))
        self._state = on_entry(state, self._device)
        self._steps_per_epoch = 0  # 0: not known yet, as where a state was put in
        self._read_counters(state)
        self._finish = finisher(self._objective)
        self.history = History(self._finish)
        self.final_step = 0
        self.stopped: str | None = None
        self._run: Run | None = None
        self._checked: weakref.WeakSet[DataLoader] = weakref.WeakSet()

    @property
    def model(self) -> Model:
        """The model as trained so far. In a hook, valid until the hook returns."""
        return eqx.combine(self.state.params, self._frozen)

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
        self._read_counters(state)

    def snapshot(self) -> TrainState:
        """A copy of the state, to keep."""
        return copied(self.state)

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
        more = _steps_to_take(epochs, steps, len(loader))
        self._check(loader)
        self._check_batches(loader)
        validate = None
        if validation is not None:
            validate = self._validation(*self._held_out("Trainer.fit(validation=...)", validation))
        self._run = self._begin(loader, more)
        error: BaseException | None = None
        try:
            with Interrupts() as interrupts:
                for callback in self._hooks.on("on_fit_begin"):
                    callback.on_fit_begin(self)
                self._drive(self._run, loader, validate, interrupts)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._state, self._run = self._run.state, None
            self._hooks.close(self, error)
        return self.history

    def evaluate(self, loader: DataLoader | tuple[PyTree, ...]) -> Logs:
        """The loss over every row of the data, once each and in their order, in inference mode.

        **Arguments:**

        - `loader`: a `DataLoader`, whose sampler plays no part, or a tuple of arrays.

        **Returns:**

        `{"loss": ...}` and what else the objective logs: exact weighted means.
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
        parts = (self.model, self.model_state, self._seed)
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
        params, self._frozen = _partition(self.model, trainable)
        opt_state = kept(self._state.opt_state, self.optimizer.init(params))
        state = self._state.changed(params, self.model_state, opt_state)
        self._state = on_entry(state, self._device)

    def stop(self, reason: str) -> None:
        """Ends the running fit where it stands, once the hooks of this look have been called."""
        self.stopped = reason

    def _begin(self, loader: DataLoader, more: int) -> Run:
        recut = self._steps_per_epoch not in (0, len(loader)) or self._position >= len(loader)
        if self._position and recut:
            # Data that is cut in another way starts with an epoch of its own.
            self.epoch, self._position = self.epoch + 1, 0
        self._steps_per_epoch = len(loader)
        state = dataclasses.replace(
            self._state,
            epoch=words(self.epoch),
            position=np.array(self._position, np.uint32),
            stopped=np.zeros((), bool),
        )
        # Buffers are donated from here on; the copy leaves alone what the user may still hold.
        state = copied(on_entry(state, self._device))
        self.final_step = self.step + more
        self.stopped = None
        return Run(state, self._task(loader), loader.on(self._device))

    def _drive(
        self,
        run: Run,
        loader: DataLoader,
        validate: Callable[[], Logs] | None,
        interrupts: Interrupts,
    ) -> None:
        """Runs to the nearest step at which somebody must look, lets them look, and goes on."""
        hooks, slices, optimizer = self._hooks, Slices(run.program.work), self.optimizer
        epochs_matter = validate or hooks.on("on_epoch_begin") or hooks.on("on_epoch_end")
        while self.step < self.final_step and self.stopped is None:
            interrupts.check()
            if self._position == 0:
                for callback in hooks.on("on_epoch_begin"):
                    callback.on_epoch_begin(self)
            if self.optimizer is not optimizer:
                optimizer = self.optimizer
                run.use(self._task(loader))
            until = hooks.next_look(self.step, self.final_step)
            if epochs_matter:
                until = min(until, self.step - self._position + len(loader))
            self._advance(run, slices, until - self.step)
            for callback in hooks.due(self.step):
                callback.on_step_end(self, self.history.last())
            if self._position == 0 and epochs_matter:
                self._end_epoch(validate)
        interrupts.check()

    def _advance(self, run: Run, slices: Slices, most: int) -> None:
        """Some steps of the program, and what they recorded."""
        steps = min(most, slices.steps())
        taken, records = run.take(steps)
        self.history.record(
            {name: values[:taken] for name, values in records.items()},
            slices.took(taken),
            step=self.step,
            epoch=self.epoch,
            position=self._position,
            steps_per_epoch=self._steps_per_epoch,
        )
        self.step += taken
        epochs, self._position = divmod(self._position + taken, self._steps_per_epoch)
        self.epoch += epochs
        if taken < steps:
            raise NonFiniteLossError(self.step, float(records["loss"][taken]))

    def _held_out(self, call: str, data: Any) -> tuple[int, Iterable[tuple[Batch, int]]]:
        """Data to evaluate: how many rows are computed together, and blocks of them."""
        loader = as_loader(call, data)
        self._check(loader)
        batch_size = loader.batch_size if loader is data else _BATCH_SIZE
        return batch_size, blocks(loader.data, batch_size)

    def _validation(self, batch_size: int, rows: Iterable[tuple[Batch, int]]) -> Callable[[], Logs]:
        """Evaluates the same rows again and again; they stay on the device."""
        placed = [(jax.device_put(block, self._device), count) for block, count in rows]
        return lambda: self._evaluate(batch_size, placed)

    def _end_epoch(self, validate: Callable[[], Logs] | None) -> None:
        if validate is not None:
            logs = {f"val_{name}": value for name, value in validate().items()}
            self.history.record_validation(self.epoch, logs)
            for callback in self._hooks.on("on_validation_end"):
                callback.on_validation_end(self, logs)
        for callback in self._hooks.on("on_epoch_end"):
            callback.on_epoch_end(self, self.history.epochs[-1])

    def _evaluate(self, batch_size: int, rows: Iterable[tuple[Batch, int]]) -> Logs:
        parts = (self.model, self.model_state, self._objective, self._seed)
        value, weight, logs = evaluate(parts, batch_size, rows)
        loss = self._finish(np.array([value / weight]))
        return {"loss": float(loss[0])} | {name: total / weight for name, total in logs.items()}

    def _task(self, loader: DataLoader) -> Task:
        return on_entry(
            Task(
                frozen=self._frozen,
                objective=self._objective,
                optimizer=self.optimizer,
                sampler=loader.sampler,
                seed=self._seed,
                batch_size=loader.batch_size,
                steps_per_epoch=len(loader),
                skip_nonfinite=self._nonfinite == "skip",
            ),
            self._device,
        )

    def _check(self, loader: DataLoader) -> None:
        if loader not in self._checked:
            self._objective.check(self.model, self.model_state, loader.data)
            self._checked.add(loader)

    def _check_batches(self, loader: DataLoader) -> None:
        """One row has no statistics: refuses it where a layer takes them over the batch."""
        if needs_two_rows(self.model) and loader.smallest_batch() == 1:
            raise ValueError(
                "`Trainer.fit(loader)` must have batches of at least 2 rows where a layer takes "
                f"statistics over them; got one of 1 row from {loader!r}. Use "
                "`DataLoader(drop_last=True)` or another batch size."
            )

    def _read_counters(self, state: TrainState) -> None:
        """The host's copy of the counters, which it then advances itself."""
        self.step = number(state.step)
        self.epoch = number(state.epoch)
        self._position = int(state.position)


def _partition(model: Model, trainable: Selection | None) -> tuple[Params, Model]:
    """The parameters that are trained, and the rest of the model."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    if trainable is not None:
        params, frozen = eqx.partition(
            params, selected("Trainer(trainable=...)", params, trainable)
        )
        rest = eqx.combine(frozen, rest)
    if not jax.tree.leaves(params):
        raise ValueError(
            f"`Trainer(trainable=...)` must leave something to train; got {trainable!r}."
        )
    return params, rest


def _steps_to_take(epochs: int | None, steps: int | None, steps_per_epoch: int) -> int:
    if epochs is not None and steps is not None:
        raise ValueError(
            f"`Trainer.fit()` takes epochs or steps, not both; got epochs={epochs}, steps={steps}."
        )
    if steps is not None:
        return whole_number("Trainer.fit(steps=...)", steps, least=0)
    epochs = 10 if epochs is None else whole_number("Trainer.fit(epochs=...)", epochs, least=0)
    return epochs * steps_per_epoch


def _device(device: Device | str | None) -> Device:
    """A device as it is, the first one of a platform, or the one JAX would use."""
    if isinstance(device, str):
        try:
            return jax.devices(device)[0]
        except RuntimeError as error:
            raise ValueError(
                f"`Trainer(device=...)` must name a platform of this machine; got {device!r}, "
                f"there are {sorted({d.platform for d in jax.devices()})}."
            ) from error
    if device is None:
        (device,) = jax.device_put(np.zeros(())).devices()
    if not isinstance(device, Device):
        raise TypeError(
            f"`Trainer(device=...)` must be a jax.Device or the name of a platform; got {device!r}."
        )
    return device
