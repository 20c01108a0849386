"""Keras 3 on JAX: `compile` and `fit`, output off."""

import os
from collections.abc import Callable


os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from tasks import Fit, Layer, Task


# Images have their channels last here. Turned back before they are flattened, they meet the weights
# of the next layer in the order that these have.
WORDS: dict[str, Callable[[Layer], list[keras.layers.Layer]]] = {
    "dense": lambda layer: [keras.layers.Dense(len(layer[0]))],
    "conv": lambda layer: [keras.layers.Conv2D(len(layer[0]), 3, padding="same")],
    "relu": lambda layer: [keras.layers.ReLU()],
    "pool": lambda layer: [keras.layers.MaxPooling2D(2)],
    "flat": lambda layer: [keras.layers.Permute((3, 1, 2)), keras.layers.Flatten()],
}


def _rmse(targets, outputs):
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(outputs - targets)))


def _channels_last(inputs: np.ndarray) -> np.ndarray:
    return np.moveaxis(inputs, 1, -1) if inputs.ndim == 4 else inputs


def _compiled(task: Task, steps_per_execution: int) -> keras.Model:
    layers = [part for word, layer in task.parts() for part in WORDS[word](layer)]
    shape = _channels_last(task.inputs).shape[1:]
    model = keras.Sequential([keras.Input(shape), *layers])
    if task.classifies:
        # Keras adds epsilon before the bias correction: so the first step has 1e-8 behind it.
        optimizer = keras.optimizers.Adam(task.learning_rate, epsilon=1e-8 * 0.001**0.5)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        optimizer, loss = keras.optimizers.SGD(task.learning_rate), _rmse
    model.compile(optimizer, loss, steps_per_execution=steps_per_execution)
    # Its kernels have the axes (height, width, in, out), or (in, out).
    kernel = lambda w: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
    model.set_weights([kernel(array) for layer in task.layers for array in layer])
    optimizer.build(model.trainable_variables)
    return model


def _in_order_of_task(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T for a in arrays]


def fit(task: Task, *, steps_per_execution: int = 1) -> Fit:
    model = _compiled(task, steps_per_execution)
    inputs, targets = task.in_order(task.steps)
    inputs, targets = np.ascontiguousarray(_channels_last(inputs)), targets[:, None]
    variables = [*model.variables, *model.optimizer.variables]
    initial = [np.array(variable) for variable in variables]

    def start() -> None:
        for variable, value in zip(variables, initial, strict=True):
            variable.assign(value)

    def run(_: None) -> list[np.ndarray]:
        model.fit(inputs, targets, batch_size=task.batch_size, shuffle=False, verbose=0)
        return model.get_weights()

    note = f"steps_per_execution={steps_per_execution}"
    return Fit(start, run, _in_order_of_task, task.steps, note)


def in_blocks(task: Task) -> Fit:
    return fit(task, steps_per_execution=32)
