"""Metrics of how numbers vary together, from moments about the mean.

Sums of squares about zero would lose the spread of numbers that lie far from zero. So a batch is
totaled about its own mean, and two totals are merged pairwise (Chan, Golub & LeVeque, 1983), in
operators that JAX and NumPy share. A total of zeros changes no bit of another.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from neuron.metrics.kinds import Like, single, without_rows
from neuron.metrics.metric import Metric, ratio, weighted_sum


class R2(Metric):
    """`1 - sum((target - prediction)^2) / sum((target - mean(target))^2)`: the share of the
    targets' variance that is explained.

    Of several outputs it is the mean over them. Where targets do not vary it is 1 for an exact
    fit and else 0, as scikit-learn has it; NaN where no example has weight.
    """

    def observe(self, prediction: Array, target: Array) -> PyTree:
        prediction, target = _pair(self, prediction, target)
        return target, (prediction - target) ** 2

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        targets, squares = observations
        mean, apart = _centered(targets, weight)
        return (
            jnp.sum(weight),
            mean,
            weighted_sum(apart**2, weight),
            weighted_sum(squares, weight),
        )

    def merge(self, one: PyTree, other: PyTree) -> PyTree:
        weight, mean, spread, rest = one
        more, other_mean, other_spread, other_rest = other
        share, step = _share(weight, more), other_mean - mean
        return (
            weight + more,
            mean + step * share,
            spread + other_spread + step**2 * (weight * share),
            rest + other_rest,
        )

    def compute(self, total: PyTree) -> Array:
        weight, _, spread, rest = total
        flat = jnp.where(rest == 0, 1.0, 0.0)
        explained = jnp.where(spread == 0, flat, 1 - ratio(rest, spread))
        return jnp.where(weight == 0, jnp.nan, jnp.mean(explained))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        _same_shape(self, prediction, without_rows(targets))


class PearsonCorrelation(Metric):
    """`cov(prediction, target) / (std(prediction) std(target))` (Pearson, 1895), from -1 to 1.

    Of several outputs it is the mean over them. NaN where one of the two does not vary, or no
    example has weight.
    """

    def observe(self, prediction: Array, target: Array) -> PyTree:
        return _pair(self, prediction, target)

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        (mean_x, x), (mean_y, y) = (_centered(rows, weight) for rows in observations)
        products = (weighted_sum(product, weight) for product in (x * x, y * y, x * y))
        return jnp.sum(weight), mean_x, mean_y, *products

    def merge(self, one: PyTree, other: PyTree) -> PyTree:
        weight, mean_x, mean_y, *products = one
        more, other_x, other_y, *others = other
        share = _share(weight, more)
        x, y = other_x - mean_x, other_y - mean_y
        between = (x * x, y * y, x * y)
        sums = (
            product + another + step * (weight * share)
            for product, another, step in zip(products, others, between, strict=True)
        )
        return weight + more, mean_x + x * share, mean_y + y * share, *sums

    def compute(self, total: PyTree) -> Array:
        _, _, _, xx, yy, xy = total
        # The root of each: the product of the two can be out of range.
        correlation = ratio(ratio(xy, xx**0.5), yy**0.5)
        return jnp.mean(jnp.clip(correlation, -1, 1))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        _same_shape(self, prediction, without_rows(targets))


def _pair(metric: Metric, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Both in single precision at least, of one shape."""
    _same_shape(metric, prediction, target)
    return single(prediction), single(target)


def _same_shape(metric: Metric, prediction: Like, target: Like) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"`{metric!r}` compares one example's prediction with a target of the same shape; got "
            f"a prediction of shape {prediction.shape} and a target of shape {target.shape}."
        )


def _centered(rows: Array, weight: Float[Array, " batch"]) -> tuple[Array, Array]:
    """The weighted mean, and how far each row is from it."""
    whole = jnp.sum(weight)
    rough = ratio(weighted_sum(rows, weight), whole, empty=0.0)
    # The mean of what the first one left: far from zero, a sum is off by much of the spread.
    mean = rough + ratio(weighted_sum(rows - rough[None], weight), whole, empty=0.0)
    return mean, rows - mean[None]


def _share(weight: Any, more: Any) -> Any:
    """`more / (weight + more)`, and 0 of nothing."""
    whole = weight + more
    return more / (whole + (whole == 0))
