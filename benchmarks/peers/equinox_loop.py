"""Equinox and optax: the documented idiom, an `eqx.filter_jit` step in a Python loop."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from tasks import Fit, Layer, Task


def network(task: Task) -> tuple[Any, eqx.nn.State | None]:
    """The task's model with its starting weights, and its state if it has one; `neuron_fit` trains
    the same one."""
    model, state = eqx.nn.make_with_state(_sequential)(task)
    arrays, functions = eqx.partition(model, eqx.is_array)
    leaves = [jnp.asarray(array) for layer in task.layers for array in layer]
    leaves = [
        leaf.reshape(a.shape) for leaf, a in zip(leaves, jax.tree.leaves(arrays), strict=True)
    ]
    model = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), functions)
    return model, state if "norm" in task.network else None


def _sequential(task: Task) -> Any:
    layers = [WORDS[word](task, layer) for word, layer in task.parts()]
    return layers[0] if len(layers) == 1 else eqx.nn.Sequential(layers)


def _dense(task: Task, layer: Layer) -> eqx.nn.Linear:
    out, size = layer[0].shape
    return eqx.nn.Linear(
        size, out if task.classifies else "scalar", use_bias=len(layer) == 2, key=KEY
    )


def _conv(task: Task, layer: Layer) -> eqx.nn.Conv2d:
    out, channels, *_ = layer[0].shape
    return eqx.nn.Conv2d(channels, out, 3, padding=1, key=KEY)


def _norm(task: Task, layer: Layer) -> eqx.nn.BatchNorm:
    return eqx.nn.BatchNorm(len(layer[0]), "batch", mode="batch", momentum=0.9)


KEY = jax.random.key(0)
WORDS: dict[str, Callable[[Task, Layer], Any]] = {
    "dense": _dense,
    "conv": _conv,
    "norm": _norm,
    "relu": lambda task, layer: eqx.nn.Lambda(jax.nn.relu),
    "dropout": lambda task, layer: eqx.nn.Dropout(task.dropout),
    "pool": lambda task, layer: eqx.nn.MaxPool2d(2, 2),
    "flat": lambda task, layer: eqx.nn.Lambda(jnp.ravel),
}


def _loss(model, state, inputs, targets, keys):
    def call(x, key):
        return (model(x, key=key), None) if state is None else model(x, state, key=key)

    outputs, state = jax.vmap(call, axis_name="batch", out_axes=(0, None))(inputs, keys)
    if outputs.ndim == 1:
        return jnp.sqrt(jnp.mean((outputs - targets) ** 2)), state
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean(), state


def parts(task: Task):
    """What a step changes, made anew at each call, and the step."""
    optimizer = (optax.adam if task.classifies else optax.sgd)(task.learning_rate)

    def start():
        model, state = network(task)
        key = jax.random.key(0) if task.dropout else None
        return model, state, optimizer.init(eqx.filter(model, eqx.is_array)), key

    def step(carry, inputs, targets):
        model, state, opt_state, key = carry
        keys = None
        if key is not None:
            key, now = jax.random.split(key)
            keys = jax.random.split(now, len(inputs))
        value_and_grad = eqx.filter_value_and_grad(_loss, has_aux=True)
        (loss, state), grads = value_and_grad(model, state, inputs, targets, keys)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return (eqx.apply_updates(model, updates), state, opt_state, key), loss

    return start, step


def _weights(carry) -> list[Any]:
    return jax.tree.leaves(eqx.filter(carry[0], eqx.is_array))


def fit(task: Task) -> Fit:
    start, step = parts(task)
    make_step = eqx.filter_jit(step)

    def run(carry):
        for rows in task.indices:
            carry, _ = make_step(carry, task.inputs[rows], task.targets[rows])
        return jax.block_until_ready(_weights(carry))

    note = "the documented idiom, batches from the host; losses not read"
    return Fit(start, run, list, task.steps, note)


def on_device(task: Task) -> Fit:
    start, step = parts(task)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)

    @eqx.filter_jit
    def make_step(carry, inputs, targets, rows):
        return step(carry, inputs[rows], targets[rows])

    def run(carry):
        for rows in task.indices:
            carry, _ = make_step(carry, *data, rows)
        return jax.block_until_ready(_weights(carry))

    return Fit(start, run, list, task.steps, "data on the device; losses not read")


def whole_run(task: Task) -> Fit:
    start, step = parts(task)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    _, functions = eqx.partition(start(), eqx.is_array)

    @jax.jit
    def train(arrays, indices, inputs, targets):
        def body(arrays, rows):
            carry, loss = step(eqx.combine(arrays, functions), inputs[rows], targets[rows])
            return eqx.filter(carry, eqx.is_array), loss

        return jax.lax.scan(body, arrays, indices)

    indices = jnp.asarray(task.indices)
    return Fit(
        start=lambda: eqx.filter(start(), eqx.is_array),
        run=lambda arrays: jax.block_until_ready(train(arrays, indices, *data)),
        weights=lambda result: _weights(result[0]),
        steps=task.steps,
        note="the step of the Equinox loop under `lax.scan`; pre-drawn indices",
    )
