"""The error of the optimisation: what is left between a trained replica and its minimum.

Replicas see the same batches, so what the noise of batches does to one it does to all: their spread
does not show it. It shows where the same resamples are trained again on other batches.
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
    """What other batches changed, over the same resamples.

    `center` is by how much the replicas' mean is off, in standard errors, for the number for which
    it is most: the difference of the two trainings over the root of two. `spread` is how much of
    the replicas' variance is noise of batches that each has for itself.
    """

    center: float
    spread: float

    def __repr__(self) -> str:
        return (
            f"OptimizationError(center off by {self.center:.2g} standard errors, "
            f"{100 * self.spread:.2g} % of the variance)"
        )


def optimization_error(
    fitting: Fitting, population: Population, weight: np.ndarray, targets: np.ndarray | None
) -> OptimizationError:
    """Trains some of the replicas again on other batches, and compares."""
    number = min(len(weight), _AGAIN + 1)
    again = fitting.trained(
        weight[:number], targets=None if targets is None else targets[:number], elsewhere=True
    )
    there = np.setdiff1d(np.arange(number), [*population.faulty, *again.faulty])
    one, other = (_numbers(fitting, p, there) for p in (population, again))
    # The estimate itself comes first, and is no replica.
    error = np.std(one[1:], axis=0, ddof=1)
    known = error > 1e-12 * np.maximum(1e-30, np.abs(one).max(axis=0))
    if len(there) < 3 or not known.any():
        return OptimizationError(float("nan"), float("nan"))
    change = (other - one)[:, known]
    center = np.abs(change.mean(axis=0)) / np.sqrt(2) / error[known]
    noise = np.var(change, axis=0, ddof=1) / 2 / error[known] ** 2
    return OptimizationError(float(center.max()), float(noise.max()))


def tell(error: OptimizationError) -> None:
    """Warns where the batches' noise is much beside the data's."""
    if error.center > _MUCH or error.spread > _MUCH:
        warnings.warn(
            f"`bootstrap` trained its replicas again on other batches, and they ended elsewhere: "
            f"their mean is off by about {error.center:.2g} standard errors, and "
            f"{100 * error.spread:.2g} % of their variance is noise of the batches. The intervals "
            "are of the data alone. Take a smaller or decaying learning rate and more steps, or "
            "average the weights: `Trainer(average=0.999)`.",
            stacklevel=3,
        )


def _numbers(fitting: Fitting, population: Population, members: np.ndarray) -> np.ndarray:
    """What is compared: all weights of a small model, and of a large one predictions."""
    params = jax.tree.leaves(population.state.averaged_params)
    flat: list[Any] = [np.asarray(leaf).reshape(len(population), -1) for leaf in params]
    if sum(leaf.shape[1] for leaf in flat) > _LOOKED_AT:
        leaves = jax.tree.leaves(population.predict(fitting.shown(_LOOKED_AT)))
        flat = [np.asarray(leaf).reshape(len(population), -1) for leaf in leaves]
    return np.concatenate(flat, axis=1)[members].astype(np.float64)
