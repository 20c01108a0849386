"""Keras 3 on JAX: `compile` and `fit`, output off."""

import os


os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from tasks import Fit, Task


def _rmse(targets, outputs):
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(outputs - targets)))


def _compiled(task: Task, steps_per_execution: int) -> keras.Model:
    sizes = [len(bias) for _, bias in task.layers]
    hidden = [keras.layers.Dense(size, activation="relu") for size in sizes[:-1]]
    columns = keras.Input((task.inputs.shape[1],))
    model = keras.Sequential([columns, *hidden, keras.layers.Dense(sizes[-1])])
    if task.name == "seed":
        optimizer, loss = keras.optimizers.SGD(task.learning_rate), _rmse
    else:
        # Keras adds epsilon before the bias correction: so the first step has 1e-8 behind it.
        optimizer = keras.optimizers.Adam(task.learning_rate, epsilon=1e-8 * 0.001**0.5)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=steps_per_execution)
    model.set_weights([array for weight, bias in task.layers for array in (weight.T, bias)])
    optimizer.build(model.trainable_variables)
    return model


def fit(task: Task, *, steps_per_execution: int = 1) -> Fit:
    model = _compiled(task, steps_per_execution)
    inputs, targets = task.in_order(task.steps)
    targets = targets[:, None]
    variables = [*model.variables, *model.optimizer.variables]
    initial = [np.array(variable) for variable in variables]

    def start() -> None:
        for variable, value in zip(variables, initial, strict=True):
            variable.assign(value)

    def run(_: None) -> list[np.ndarray]:
        model.fit(inputs, targets, batch_size=task.batch_size, shuffle=False, verbose=0)
        return model.get_weights()

    weights = lambda arrays: [array.T for array in arrays]
    return Fit(start, run, weights, task.steps, f"steps_per_execution={steps_per_execution}")


def in_blocks(task: Task) -> Fit:
    return fit(task, steps_per_execution=32)
