"""Equinox and optax: the documented idiom, an `eqx.filter_jit` step in a Python loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from tasks import Fit, Task


def network(task: Task):
    """The task's model with its starting weights; `neuron_fit` trains the same one."""
    key = jax.random.key(0)
    if task.name == "seed":
        model = eqx.nn.Linear(2, "scalar", key=key)
    else:
        model = eqx.nn.MLP(784, 10, width_size=512, depth=2, key=key)
    arrays, functions = eqx.partition(model, eqx.is_array)
    leaves = [jnp.asarray(array) for layer in task.layers for array in layer]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), functions)


def _loss(model, inputs, targets):
    outputs = jax.vmap(model)(inputs)
    if outputs.ndim == 1:
        return jnp.sqrt(jnp.mean((outputs - targets) ** 2))
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def fit(task: Task, *, on_device: bool = False) -> Fit:
    adam = task.name == "mlp"
    optimizer = (optax.adam if adam else optax.sgd)(task.learning_rate)
    data = (task.inputs, task.targets)

    @eqx.filter_jit
    def make_step(model, opt_state, inputs, targets, rows=None):
        if rows is not None:
            inputs, targets = inputs[rows], targets[rows]
        loss, grads = eqx.filter_value_and_grad(_loss)(model, inputs, targets)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), opt_state, loss

    def batch(rows):
        return (*data, rows) if on_device else (data[0][rows], data[1][rows])

    def run(carry):
        model, opt_state = carry
        for rows in task.indices:
            model, opt_state, _ = make_step(model, opt_state, *batch(rows))
        return jax.block_until_ready(eqx.filter(model, eqx.is_array))

    def start():
        model = network(task)
        return model, optimizer.init(eqx.filter(model, eqx.is_array))

    if on_device:
        data = tuple(map(jnp.asarray, data))
    note = "data on the device" if on_device else "the documented idiom, batches from the host"
    return Fit(start, run, jax.tree.leaves, task.steps, f"{note}; losses not read")


def on_device(task: Task) -> Fit:
    return fit(task, on_device=True)
