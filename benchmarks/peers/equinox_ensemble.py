"""Equinox: the documented ensemble, a model made by `eqx.filter_vmap` and a step mapped by it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from many import Many, sized
from peers.equinox_loop import network
from tasks import Fit


def _loss(model, inputs, targets, often):
    outputs = jax.vmap(model)(inputs)
    if outputs.ndim == 1:
        return jnp.sqrt(jnp.average((outputs - targets) ** 2, weights=often))
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return jnp.average(losses, weights=often)


def _parts(many: Many):
    """What the steps change, made anew at each call; a step of all members; and its data."""
    task = many.task
    optimizer = (optax.adam if task.classifies else optax.sgd)(task.learning_rate)
    member = eqx.if_array(0)
    shared = not many.own_batches

    def start():
        one, _ = network(task)
        arrays, functions = eqx.partition(one, eqx.is_array)
        leaves = [jnp.asarray(array) for layer in many.layers for array in layer]
        shapes = [(many.members, *leaf.shape) for leaf in jax.tree.leaves(arrays)]
        leaves = [leaf.reshape(shape) for leaf, shape in zip(leaves, shapes, strict=True)]
        arrays = jax.tree.unflatten(jax.tree.structure(arrays), leaves)
        models = eqx.combine(arrays, functions)
        return models, eqx.filter_vmap(optimizer.init)(eqx.filter(models, eqx.is_array))

    each = None if shared else 0
    # Counts are rows first, as a batch takes them.
    axes = (member, member, each, each, None if many.counts is None else 1)

    @eqx.filter_vmap(in_axes=axes)
    def one_step(model, state, inputs, targets, often):
        loss, grads = eqx.filter_value_and_grad(_loss)(model, inputs, targets, often)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state, loss

    def step(carry, rows, data):
        inputs, targets, counts = data
        often = None if counts is None else counts[rows]
        *carry, losses = one_step(*carry, inputs[rows], targets[rows], often)
        return tuple(carry), losses

    counts = None if many.counts is None else jnp.asarray(many.counts.T, jnp.float32)
    return start, step, (jnp.asarray(task.inputs), jnp.asarray(task.targets), counts)


def _weights(carry):
    return jax.tree.leaves(eqx.filter(carry[0], eqx.is_array))


def loop(many: Many) -> Fit:
    return sized(_loop, many)


def _loop(many: Many) -> Fit:
    start, step, data = _parts(many)
    make_step = eqx.filter_jit(step)
    batches = list(many.indices)

    def run(carry):
        for rows in batches:
            carry, _ = make_step(carry, rows, data)
        return jax.block_until_ready(_weights(carry))

    note = "an `eqx.filter_jit` step in a Python loop, data on the device; losses not read"
    return Fit(start, run, list, many.steps, note, members=many.members)


def whole_run(many: Many) -> Fit:
    return sized(_whole_run, many)


def _whole_run(many: Many) -> Fit:
    start, step, data = _parts(many)
    _, functions = eqx.partition(start(), eqx.is_array)

    @jax.jit
    def train(arrays, indices, data):
        def body(arrays, rows):
            carry, losses = step(eqx.combine(arrays, functions), rows, data)
            return eqx.filter(carry, eqx.is_array), losses

        return jax.lax.scan(body, arrays, indices)

    indices = jnp.asarray(many.indices)
    return Fit(
        start=lambda: eqx.filter(start(), eqx.is_array),
        run=lambda arrays: jax.block_until_ready(train(arrays, indices, data)),
        weights=lambda result: _weights(result[0]),
        steps=many.steps,
        note="the same step under `lax.scan`",
        members=many.members,
    )
