"""`Trainer.fit` as its users write it, and with one thing changed at a time."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from peers.equinox_loop import KEY, network
from tasks import Fit, Task

import neuron


class Given(neuron.Sampler):
    """Batches that were drawn beforehand, one row of a matrix a step."""

    matrix: jax.Array

    def indices(self, epoch, position, batch_size, size):
        return self.matrix[epoch[1] * (size // batch_size) + position]


class Watch(neuron.Callback):
    """A look at the loss every hundred steps."""

    every = 100

    def on_step_end(self, trainer, logs):
        self.loss = logs["loss"]


def fit(
    task: Task,
    *,
    sampler: neuron.Sampler | None = None,
    steps: int | None = None,
    callbacks=lambda: (),
    progress: bool = False,
    validation: bool = False,
    metrics: dict[str, neuron.Metric] | None = None,
    note: str = "",
) -> Fit:
    steps = steps or task.steps
    if task.classifies:
        loss, optimizer = neuron.CrossEntropy(), neuron.Adam(task.learning_rate)
        sampler = sampler or neuron.Shuffle(seed=123)
        model, state = network(task)
    else:
        loss, optimizer = neuron.RootMeanSquaredError(), neuron.SGD(task.learning_rate)
        sampler = sampler or neuron.Bootstrap(seed=123)
        model, state = neuron.Dense(2, weight_init=jax.nn.initializers.zeros, key=KEY), None
    loader = neuron.DataLoader((task.inputs, task.targets), task.batch_size, sampler=sampler)
    tenth = len(task.inputs) // 10
    evaluated = (task.inputs[:tenth], task.targets[:tenth]) if validation else None
    nowhere = open(os.devnull, "w")  # noqa: SIM115

    def start() -> neuron.Trainer:
        options = {"callbacks": callbacks(), "progress": progress, "metrics": metrics}
        return neuron.Trainer(model, loss, optimizer, model_state=state, **options)

    def run(trainer: neuron.Trainer) -> neuron.Trainer:
        # The bar is drawn, and nobody has to see it.
        with contextlib.redirect_stderr(nowhere):
            trainer.fit(loader, steps=steps, validation=evaluated)
        return trainer

    weights = lambda trainer: jax.tree.leaves(trainer.state.params)
    return Fit(
        start,
        run,
        weights,
        steps,
        note or f"{type(sampler).__name__}, history on",
        drawn(sampler, task, steps),
    )


def drawn(sampler: neuron.Sampler, task: Task, steps: int) -> np.ndarray:
    """The sampler's batches, for the check against NumPy."""
    return np.asarray(_drawn(sampler, len(task.inputs), task.batch_size, steps))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _drawn(sampler: neuron.Sampler, rows: int, batch_size: int, steps: int) -> jax.Array:
    def batch(step):
        epoch, position = step // (rows // batch_size), step % (rows // batch_size)
        return sampler.indices(jnp.stack([0 * epoch, epoch]), position, batch_size, rows)

    return jax.vmap(batch)(jnp.arange(steps, dtype=jnp.uint32))


def given(task: Task) -> Fit:
    sampler = Given(jnp.asarray(task.indices))
    return fit(task, sampler=sampler, note="a user's own sampler, of pre-drawn indices")


def shuffle(task: Task) -> Fit:
    return fit(task, sampler=neuron.Shuffle(seed=123))


def many_kernels(task: Task) -> Fit:
    neuron.run.program.fits_one_kernel = lambda step, device: False
    return fit(task, note="without XLA's small-loop kernel")


def given_many_kernels(task: Task) -> Fit:
    neuron.run.program.fits_one_kernel = lambda step, device: False
    return given(task)


def with_metrics(task: Task) -> Fit:
    metrics = {"accuracy": neuron.Accuracy(), "f1": neuron.F1()}
    return fit(task, metrics=metrics, note="Accuracy and F1 over the training rows, at each step")


def looks_100(task: Task) -> Fit:
    note = f"a step callback at every=100: {task.steps // 100} looks"
    return fit(task, callbacks=lambda: [Watch()], note=note)


def progress_bar(task: Task) -> Fit:
    return fit(task, progress=True, note="drawn when the host looks anyway")


def watched(task: Task) -> Fit:
    epochs = task.steps * task.batch_size // len(task.inputs)

    def callbacks() -> list[neuron.Callback]:
        # A value that becomes better at each epoch: every model is kept, and none is put back.
        return [Watch(), neuron.EarlyStopping("step", mode="max", patience=10**6)]

    return fit(
        task,
        progress=True,
        validation=True,
        callbacks=callbacks,
        note=f"bar, every=100; {epochs} epochs with EarlyStopping and validation on a tenth",
    )


def long(task: Task) -> Fit:
    return fit(task, steps=20 * task.steps, note=f"{20 * task.steps:,} steps in one fit")
