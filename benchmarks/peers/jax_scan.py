"""JAX by hand: the whole run is one `lax.scan` in one jitted function."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tasks import Fit, Task


def _convolved(images, kernel):
    return jax.lax.conv(images, kernel, (1, 1), "SAME")


def _shifted(images, kernel):
    """The same as a product: each pixel's neighborhood, nine shifted images, with the kernel."""
    height, width = images.shape[2:]
    padded = jnp.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    shifts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.einsum("nckhw,ock->nohw", jnp.stack(shifts, 2), kernel.reshape(*kernel.shape[:2], 9))


def parts(task: Task, conv=_convolved):
    """What a step changes, and the step; `jax_optax_loop` takes the same ones."""
    optimizer = (optax.adam if task.classifies else optax.sgd)(task.learning_rate)
    # One neuron is best a vector and a number.
    own = jnp.asarray if task.classifies else lambda array: jnp.asarray(array[0])
    params = [tuple(map(own, layer)) for layer in task.layers]
    norms = [layer for word, layer in task.parts() if word == "norm"]
    running = [(jnp.zeros(len(gain)), jnp.ones(len(gain))) for gain, _ in norms]
    key = jax.random.key(0) if task.dropout else None

    def loss(params, running, keys, inputs, targets):
        outputs, running = _forward(task, conv, params, running, keys, inputs)
        if not task.classifies:
            return jnp.sqrt(jnp.mean((outputs - targets) ** 2)), running
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return losses.mean(), running

    def step(carry, inputs, targets):
        params, running, state, key = carry
        keys = None
        if key is not None:
            # A key for each example, as an Equinox model under `vmap` has it.
            key, now = jax.random.split(key)
            keys = jax.random.split(now, len(inputs))
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, running), grads = value_and_grad(params, running, keys, inputs, targets)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), running, state, key), value

    return (params, running, optimizer.init(params), key), step


def _forward(task: Task, conv, params, running, keys, x):
    """The outputs of a batch, and the running statistics of each BatchNorm."""
    arrays, statistics, renewed = iter(params), iter(running), []
    drops = 0
    for word, layer in task.parts():
        own = next(arrays) if layer else ()
        match word:
            case "dense":
                x = sum(own[1:], x @ own[0].T)
            case "conv":
                x = conv(x, own[0]) + own[1][:, None, None]
            case "norm":
                mean, variance = x.mean(axis=0), x.var(axis=0)
                x = (x - mean) / jnp.sqrt(variance + 1e-5) * own[0] + own[1]
                old_mean, old_variance = next(statistics)
                renewed.append((0.9 * old_mean + 0.1 * mean, 0.9 * old_variance + 0.1 * variance))
            case "relu":
                x = jax.nn.relu(x)
            case "dropout" if task.dropout:
                drops += 1
                x = _dropout(task.dropout, keys, drops, x)
            case "pool":
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
                )
            case "flat":
                x = x.reshape(len(x), -1)
    return x, renewed


def _dropout(rate: float, keys, number: int, x):
    keep = 1 - rate
    own = lambda key: jax.random.bernoulli(jax.random.fold_in(key, number), keep, x.shape[1:])
    return jnp.where(jax.vmap(own)(keys), x / keep, 0)


def fit(
    task: Task, *, draw=None, wrap=jax.jit, conv=_convolved, note: str = "pre-drawn indices"
) -> Fit:
    start, step = parts(task, conv)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)

    def train(carry, given, inputs, targets):
        indices = given if draw is None else draw(given)
        return jax.lax.scan(lambda c, rows: step(c, inputs[rows], targets[rows]), carry, indices)

    given = jnp.asarray(task.indices) if draw is None else jax.random.key(0)
    drawn = None if draw is None else np.asarray(jax.jit(draw)(given))
    program = wrap(train)
    return Fit(
        start=lambda: start,
        run=lambda carry: jax.block_until_ready(program(carry, given, *data)),
        weights=lambda result: jax.tree.leaves(result[0][0]),
        steps=task.steps,
        note=note,
        indices=drawn,
    )


def short(task: Task) -> Fit:
    task = task.first(32)
    return fit(task, note=f"{task.steps} steps; XLA's convolutions, slow in a loop on the CPU")


def shifted(task: Task) -> Fit:
    return fit(task, conv=_shifted, note="convolutions by hand, as products of shifted images")


def own_draw(task: Task) -> Fit:
    def draw(key):
        return jax.random.randint(key, task.indices.shape, 0, len(task.inputs))

    return fit(task, draw=draw, note="`jax.random.randint` for the whole run ahead, Threefry")


def small_loop_kernel(train):
    """Jitted, with loops compiled as one native function each."""
    from jax.experimental.xla_metadata import set_xla_metadata

    def tagged(*arguments):
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jax.jit(train)(*arguments)

    return jax.jit(tagged)


def one_kernel(task: Task) -> Fit:
    note = "pre-drawn indices; XLA's experimental small-loop kernel"
    return fit(task, wrap=small_loop_kernel, note=note)
