"""The error of the optimization: what is left between a trained replica and its minimum.

Replicas see the same batches and have trained for as long, so what the noise of batches does to one
it does to all, and so does an end before the minimum: their spread does not show it. It shows where
the same replicas are trained on, on other batches.
"""

import dataclasses
import warnings
from typing import Any

import jax
import numpy as np

from neuron.bootstrapping.replicas import Fitting
from neuron.population import Population


# Above that many standard errors it is told.
_MUCH = 0.2
# How many replicas are trained again, and how many numbers are looked at.
_AGAIN, _LOOKED_AT = 100, 256


@dataclasses.dataclass(frozen=True)
class OptimizationError:
    """What training for as long again on other batches changed, over the same resamples.

    `center` is by how much the replicas' mean moved, in standard errors, for the number for which
    it is most. `spread` is how much of the replicas' variance is noise of batches that each has for
    itself.
    """

    center: float
    spread: float

    def __repr__(self) -> str:
        return (
            f"OptimizationError(center moves by {self.center:.2g} standard errors, "
            f"{self.spread:.2g} of the variance noise)"
        )


def optimization_error(
    fitting: Fitting, population: Population, weight: np.ndarray, targets: np.ndarray | None
) -> OptimizationError:
    """Trains some of the replicas on, on other batches, and compares."""
    number = min(len(weight), _AGAIN + 1)
    again = fitting.trained(
        weight[:number], targets=None if targets is None else targets[:number], after=population
    )
    there = np.setdiff1d(np.arange(number), [*population.faulty, *again.faulty])
    one, other = (_numbers(fitting, p, there) for p in (population, again))
    # The estimate itself comes first, and is no replica.
    error = np.std(one[1:], axis=0, ddof=1)
    known = error > 1e-12 * np.maximum(1e-30, np.abs(one).max(axis=0))
    if len(there) < 3 or not known.any():
        return OptimizationError(float("nan"), float("nan"))
    change = (other - one)[:, known]
    center = np.abs(change.mean(axis=0)) / error[known]
    # What moves a member beside all others: of each of two ends, half.
    noise = np.var(change, axis=0, ddof=1) / 2 / error[known] ** 2
    return OptimizationError(float(center.max()), float(noise.max()))


def tell(error: OptimizationError) -> None:
    """Warns where the optimization's error is much beside the data's."""
    if error.center > _MUCH or error.spread > _MUCH:
        warnings.warn(
            "`bootstrap` trained its replicas for as long again, on other batches, and they moved: "
            f"their mean by {error.center:.2g} standard errors, and {error.spread:.2g} of "
            "their variance is noise of the batches. The intervals are of the data alone. If they "
            "had not arrived, take more steps; if it is noise, a smaller or decaying learning "
            "rate, larger batches, or averaged weights: `Trainer(average=0.999)`.",
            stacklevel=3,
        )


def _numbers(fitting: Fitting, population: Population, members: np.ndarray) -> np.ndarray:
    """What is compared: all weights of a small layer. Otherwise predictions: of several layers one
    can undo what another does, so that weights move where the model does not."""
    params = jax.tree.leaves(population.state.averaged_params)
    flat: list[Any] = [np.asarray(leaf).reshape(len(population), -1) for leaf in params]
    layers = sum(leaf.ndim > 2 for leaf in params)  # The first axis is the members'.
    if layers > 1 or sum(leaf.shape[1] for leaf in flat) > _LOOKED_AT:
        leaves = jax.tree.leaves(population.predict(fitting.shown(_LOOKED_AT)))
        flat = [np.asarray(leaf).reshape(len(population), -1) for leaf in leaves]
    return np.concatenate(flat, axis=1)[members].astype(np.float64)
