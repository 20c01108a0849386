"""JAX by hand: the whole run is one `lax.scan` in one jitted function."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tasks import Fit, Task


def parts(task: Task):
    """Parameters, optimizer and loss; `jax_optax_loop` takes the same ones."""
    if task.name == "seed":
        params = [(jnp.zeros(2), jnp.zeros(()))]
        return params, optax.sgd(task.learning_rate), _root_mean_squared_error
    params = [(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in task.layers]
    return params, optax.adam(task.learning_rate), _cross_entropy


def _root_mean_squared_error(params, inputs, targets):
    [(weight, bias)] = params
    return jnp.sqrt(jnp.mean((inputs @ weight + bias - targets) ** 2))


def _cross_entropy(params, inputs, targets):
    *hidden, (weight, bias) = params
    for w, b in hidden:
        inputs = jax.nn.relu(inputs @ w.T + b)
    logits = inputs @ weight.T + bias
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def fit(task: Task, *, draw=None, wrap=jax.jit, note: str = "pre-drawn indices") -> Fit:
    params, optimizer, loss = parts(task)
    data = jnp.asarray(task.inputs), jnp.asarray(task.targets)

    def train(params, given, inputs, targets):
        def step(carry, rows):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, inputs[rows], targets[rows])
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        indices = given if draw is None else draw(given)
        return jax.lax.scan(step, (params, optimizer.init(params)), indices)

    given = jnp.asarray(task.indices) if draw is None else jax.random.key(0)
    drawn = None if draw is None else np.asarray(jax.jit(draw)(given))
    program = wrap(train)
    return Fit(
        start=lambda: params,
        run=lambda params: jax.block_until_ready(program(params, given, *data)),
        weights=lambda result: jax.tree.leaves(result[0][0]),
        steps=task.steps,
        note=note,
        indices=drawn,
    )


def own_draw(task: Task) -> Fit:
    def draw(key):
        return jax.random.randint(key, task.indices.shape, 0, len(task.inputs))

    return fit(task, draw=draw, note="`jax.random.randint` for the whole run ahead, Threefry")


def one_kernel(task: Task) -> Fit:
    from jax.experimental.xla_metadata import set_xla_metadata

    def wrap(train):
        def tagged(*arguments):
            with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
                return jax.jit(train)(*arguments)

        return jax.jit(tagged)

    return fit(task, wrap=wrap, note="pre-drawn indices; XLA's experimental small-loop kernel")
