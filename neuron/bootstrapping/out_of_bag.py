"""Out of the bag: each row scored by the replicas that were not trained on it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuron.bootstrapping.replicas import Fitting
from neuron.evaluation import finished
from neuron.members import over_members, stacked
from neuron.population import Population
from neuron.step import Sums, evaluation_step
from neuron.trees import Static, arrays_of
from neuron.types import Batch


# How many rows are scored together.
_ROWS = 1 << 12


def scores(fitting: Fitting, population: Population, out: np.ndarray) -> dict[str, Any]:
    """The loss and the metrics over all pairs of a member and a row that it has not seen.

    **Arguments:**

    - `out`: the pairs, (members, rows) of booleans.
    """
    scored, one = population._scored(fitting.loader)
    rows, number = fitting.rows, fitting.number
    own = np.ones(number) if rows.weight is None else np.asarray(rows.weight)
    size = min(_ROWS, number)
    many = stacked(arrays_of(one), arrays_of(scored))
    sums = []
    for start in range(0, number, size):
        places = np.arange(start, start + size)
        there = places < number
        places = np.minimum(places, number - 1)
        part = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[places]), rows)  # noqa: B023
        weight = (out[:, places] * (own[places] * there)).astype(np.float32)
        sums.append(_sums(Static(one), many, arrays_of(scored), part, jnp.asarray(weight)))
    # Members are batches to what sums them up.
    every = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(sums))
    return finished(one.model, one.scoring, every, population.step)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sums(
    static: Static, many: tuple[bool, ...], arrays: list[Array], rows: Batch, weight: Array
) -> Sums:
    def one(arrays: Any) -> Sums:
        *own, weight = arrays
        model, model_state, scoring, seed = static.combine(own)
        batch = Batch(rows.inputs, rows.targets, weight)
        # A row that it was trained on is none here, whatever its loss is.
        first = jnp.zeros(2, jnp.uint32)
        return evaluation_step(model, model_state, scoring, batch, weight > 0, seed, first)

    return over_members(one, [*arrays, weight], (*many, True))


def predictions(fitting: Fitting, population: Population, out: np.ndarray) -> Any:
    """Each row's mean prediction by the members that have not seen it; NaN where there is none."""
    every = population.predict(fitting.shown())

    def mean(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        mask = out.reshape(*out.shape, *([1] * (leaf.ndim - 2)))
        with np.errstate(invalid="ignore"):
            return np.where(mask, leaf, 0).sum(axis=0) / mask.sum(axis=0)

    return jax.tree.map(mean, every)
