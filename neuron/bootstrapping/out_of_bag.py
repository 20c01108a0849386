"""Out of the bag: each row scored by the replicas that were not trained on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuron.bootstrapping.replicas import Fitting
from neuron.evaluation import finished, weighed
from neuron.population import Population


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
    sums = []
    for start in range(0, number, size):
        places = np.arange(start, start + size)
        there = places < number
        places = np.minimum(places, number - 1)
        part = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[places]), rows)  # noqa: B023
        weight = (out[:, places] * (own[places] * there)).astype(np.float32)
        sums.append(weighed(scored, one, part, weight))
    # Members are batches to what sums them up.
    every = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(sums))
    return finished(one.model, one.scoring, every, population.step)


def predictions(fitting: Fitting, population: Population, out: np.ndarray) -> Any:
    """Each row's mean prediction by the members that have not seen it; NaN where there is none."""
    every = population.predict(fitting.shown())

    def mean(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf, np.float64)
        mask = out.reshape(*out.shape, *([1] * (leaf.ndim - 2)))
        with np.errstate(invalid="ignore"):
            return np.where(mask, leaf, 0).sum(axis=0) / mask.sum(axis=0)

    return jax.tree.map(mean, every)
