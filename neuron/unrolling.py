"""Unrolling. A run as a function of its numbers, with derivatives."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from neuron.data import DataLoader
from neuron.hyperparameters import numbers, refuse_unknown, with_numbers
from neuron.models import renewed
from neuron.rows import Data
from neuron.run import program_for, unroll
from neuron.state import TrainState
from neuron.step import Task
from neuron.trainer import beginning
from neuron.trees import arrays_of
from neuron.types import Batch, Model, Params, whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer

_WEIGHT = "data.weight"


def unrolled(
    trainer: "Trainer", loader: DataLoader | tuple[Any, ...], *, steps: int
) -> Callable[..., Any]:
    """A run of a trainer as a function of its numbers, which JAX can take derivatives of.

    ```python
    run = neuron.unrolled(trainer, loader, steps=200)


    def held_out(rate):
        model = run({"optimizer.learning_rate": rate})
        return jnp.mean((jax.vmap(model)(x_val) - y_val) ** 2)


    jax.jit(jax.value_and_grad(held_out))(0.1)
    ```

    The function takes `steps` steps from where the trainer stands now, those that `fit` would take,
    and leaves the trainer as it is. It is for use inside `jax.grad`, `jax.jvp`, `jax.vmap` and
    `jax.jit`: the gradient of what is made of the model is the hypergradient (Maclaurin, Duvenaud &
    Adams, 2015; Franceschi et al., 2017). Gradients compute each step three times, and need memory
    for as many states as about twice the root of `steps`.

    **Arguments:**

    - `trainer`: what is trained, and how. Metrics and callbacks play no part.
    - `loader`: what to train on: rows on the device, or a function of the step.
    - `steps`: how many steps to take.

    **Returns:**

    `run(hyperparameters, model=None)`, the model after the steps, of averaged weights where there
    is an average; for a model with state, the pair of it and its state. A run in which a loss or a
    gradient is not finite gives NaN in all weights, and in the derivatives.

    - `hyperparameters`: numbers by name, scalars: `"optimizer.learning_rate"`, `"loss.delta"`,
        `"loss.penalties.l2.strength"`, `"average"`; an error lists those that there are. What it
        does not name is as the trainer has it. `"data.weight"` is one weight a row of the data.
    - `model`: what to start from instead of the trainer's own, of the same structure.

    **Raises:**

    - `ValueError` or `TypeError` for data that is not on the device, or that the trainer can not
        take, and for a trainer that skips steps; the function, for names and numbers.
    """
    steps = whole_number("unrolled(steps=...)", steps, least=0)
    if trainer._parts.nonfinite == "skip":
        raise ValueError(
            "`unrolled(trainer)` must have a trainer all of whose steps count: a step that is left "
            "out has no derivative; got Trainer(nonfinite='skip')."
        )
    state, task, data = beginning(trainer, "unrolled(loader)", loader, steps)
    state, task = dataclasses.replace(state, metrics={}), _without_metrics(task)
    known = [*numbers(trainer), *([_WEIGHT] if isinstance(data, Batch) else [])]

    def run(hyperparameters: Mapping[str, Any], model: Model = None) -> Any:
        refuse_unknown("run(hyperparameters)", hyperparameters, known)
        at, rows = _task_at(task, hyperparameters), _weighted(data, hyperparameters)
        first, frozen = (state, task.frozen) if model is None else _from(state, task, model)
        at = dataclasses.replace(at, frozen=frozen)
        # The trainer's own state says where, and has the same shapes.
        program = program_for(state, at, rows)
        start, fixed, read = map(arrays_of, (first, at, rows))
        leaves, refused = unroll(program, start, fixed, read, steps)
        last: TrainState = program.statics[0].combine(leaves)
        params = _or_nan(last.averaged_params, refused, hyperparameters)
        trained = eqx.combine(params, frozen)
        return trained if last.model_state is None else (trained, renewed(last.model_state))

    return run


def _without_metrics(task: Task) -> Task:
    return dataclasses.replace(task, scoring=dataclasses.replace(task.scoring, metrics={}))


def _task_at(task: Task, hyperparameters: Mapping[str, Any]) -> Task:
    """The task with such numbers."""
    values = {name: value for name, value in hyperparameters.items() if name != _WEIGHT}
    for name, value in values.items():
        if jnp.shape(value) != ():
            raise ValueError(
                f"`run({{{name!r}: ...}})` must be one number; got shape {jnp.shape(value)}. Use "
                "`jax.vmap` for several runs."
            )
    parts = (task.optimizer, task.scoring.objective, task.average)
    optimizer, objective, average = with_numbers(*parts, values)
    scoring = dataclasses.replace(task.scoring, objective=objective)
    return dataclasses.replace(task, optimizer=optimizer, scoring=scoring, average=average)


def _weighted(data: Data, hyperparameters: Mapping[str, Any]) -> Data:
    """The rows with such weights."""
    if _WEIGHT not in hyperparameters:
        return data
    assert isinstance(data, Batch)
    weight, rows = hyperparameters[_WEIGHT], len(jax.tree.leaves(data.inputs)[0])
    if jnp.shape(weight) != (rows,):
        raise ValueError(
            f"`run({{{_WEIGHT!r}: ...}})` must be one weight a row, of shape ({rows},); got shape "
            f"{jnp.shape(weight)}."
        )
    return dataclasses.replace(data, weight=jnp.asarray(weight))


def _from(state: TrainState, task: Task, model: Model) -> tuple[TrainState, Model]:
    """The state with another model's parameters, and the rest of that model."""
    own = eqx.combine(state.params, task.frozen)
    if jax.tree.structure(model) != jax.tree.structure(own):
        raise ValueError(
            f"`run(model=...)` must have the structure of the trainer's own model; got {model!r}."
        )
    trained = jax.tree.map(lambda leaf: leaf is not None, state.params, is_leaf=_is_none)
    params, frozen = eqx.partition(model, trained)
    return dataclasses.replace(state, params=params), frozen


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _or_nan(params: Params, refused: Bool[Array, ""], hyperparameters: Mapping[str, Any]) -> Params:
    """The parameters, or NaN where a step refused its update: in the derivatives as well, whether
    or not a step before it has seen the numbers."""
    factor = jnp.where(refused, jnp.nan, 1.0)
    unseen = sum((jnp.sum(value) for value in hyperparameters.values()), jnp.zeros(()))
    nothing = jnp.where(refused, jnp.nan, 0.0) * unseen
    return jax.tree.map(lambda p: p * factor.astype(p.dtype) + nothing.astype(p.dtype), params)
