"""Intervals. What replicates of an estimate say about it.

Arrays have the replicates along their first axis. What comes behind it are estimates, each one
treated by itself: an interval of one of many is that of it alone. Replicates that are not finite
are left out, estimate by estimate; to count them is the caller's.
"""

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int


KINDS = ("percentile", "basic", "bca")


class Interval(NamedTuple):
    """The two ends, each in the shape of the estimate."""

    lower: np.ndarray
    upper: np.ndarray


def interval(
    kind: str, replicates: Any, estimate: Any, level: float, jackknife: Any = None
) -> Interval:
    """An interval that is meant to hold the truth with a probability of `level`.

    Let `q` be the quantiles of the replicates, `a = (1 - level) / 2`, and `e` the estimate.

    - `"percentile"`: from `q(a)` to `q(1 - a)`.
    - `"basic"`: from `2 e - q(1 - a)` to `2 e - q(a)`: what replicates are above the estimate, the
        estimate is taken to be above the truth (Davison & Hinkley, 1997, section 5.2).
    - `"bca"`: the percentiles at other levels, corrected for the bias and for a spread that changes
        with the truth, the acceleration (Efron, 1987; Efron & Tibshirani, 1993, section 14.3;
        DiCiccio & Efron, 1996).

    Quantiles are linear between two replicates, the least of which is `q(0)` and the greatest
    `q(1)`, as NumPy's and SciPy's are.

    **Arguments:**

    - `kind`: `"percentile"`, `"basic"` or `"bca"`.
    - `replicates`: the estimate from each resample.
    - `estimate`: the one from the data.
    - `level`: between 0 and 1.
    - `jackknife`: the estimate from the data without each of their parts; `"bca"` alone reads it.

    **Returns:**

    The lower and the upper end. They are the replicates' value where all of them are equal, for
    `"basic"` mirrored at the estimate. They are NaN where no replicate or not the estimate is
    finite; and for `"bca"`, where the replicates differ but all lie on one side of the estimate, or
    less than two parts of the jackknife are finite: no correction can be told from that.

    **Raises:**

    - `ValueError` for an unknown kind, a level that is none, shapes that do not match, and `"bca"`
        without a jackknife.
    """
    if kind not in KINDS:
        raise ValueError(f"`interval(kind)` must be one of {', '.join(KINDS)}; got {kind!r}.")
    if not 0 < level < 1:
        raise ValueError(f"`interval(level)` must be between 0 and 1; got {level}.")
    estimate = np.asarray(estimate, np.float64)
    ordered, counts = _ordered(_rows("interval(replicates)", replicates, estimate.shape))
    tails = (1 - level) / 2, (1 + level) / 2
    if kind == "bca":
        if jackknife is None:
            raise ValueError('`interval("bca", ...)` must have `jackknife=`; got None.')
        parts = _rows("interval(jackknife)", jackknife, estimate.shape)
        bias = _bias(ordered, counts, estimate)
        tails = _corrected(tails, bias, _acceleration(parts))
    lower, upper = (_quantile(ordered, counts, tail) for tail in tails)
    if kind == "basic":
        lower, upper = 2 * estimate - upper, 2 * estimate - lower
    known = np.isfinite(estimate)
    return Interval(np.where(known, lower, np.nan), np.where(known, upper, np.nan))


def standard_error(replicates: Any) -> np.ndarray:
    """The standard deviation of the replicates, with one less than their number below the sum.

    **Returns:**

    NaN where less than two replicates are finite.
    """
    replicates = _rows("standard_error(replicates)", replicates, None)
    found = np.isfinite(replicates)
    counts = found.sum(axis=0)
    few = counts < 2
    # Around one of them, so that equal ones have no spread by rounding.
    middle = np.where(found, replicates, np.inf).min(axis=0)
    apart = np.where(found, replicates - np.where(few, 0.0, middle), 0.0)
    mean = apart.sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(found, (apart - mean) ** 2, 0.0).sum(axis=0)
    return np.where(few, np.nan, np.sqrt(squares / np.maximum(counts - 1, 1)))


def p_value(replicates: Any, null: float = 0.0) -> np.ndarray:
    """The two-sided bootstrap p-value of a difference being `null`, from replicates of it.

    `2 (1 + min(at most null, at least null)) / (1 + R)`, of the numbers of replicates on either
    side, and at most 1. The 1 that is added counts the data among their replicates, so that no
    p-value is 0 (Davison & Hinkley, 1997, section 4.2).

    That section draws under the null hypothesis and asks how many replicates are as far out as the
    estimate. These are drawn around the estimate, and one asks how many are beyond `null`: the
    percentile interval, turned around, which leaves `null` out where the p-value is below
    `1 - level`, but for the 1. Both are the same where the replicates' distribution is symmetric
    and only shifts with the truth.

    **Arguments:**

    - `replicates`: the difference from each resample.
    - `null`: what it is compared with.

    **Returns:**

    From `2 / (1 + R)` to 1, and NaN where no replicate is finite.
    """
    replicates = _rows("p_value(replicates)", replicates, None)
    found = np.isfinite(replicates)
    counts = found.sum(axis=0)
    below = (found & (replicates <= null)).sum(axis=0)
    above = (found & (replicates >= null)).sum(axis=0)
    p = 2 * (1 + np.minimum(below, above)) / (1 + counts)
    return np.where(counts == 0, np.nan, np.minimum(p, 1.0))


def _rows(call: str, values: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Values along a first axis, in double precision."""
    array = np.asarray(values, np.float64)
    if array.ndim == 0 or not len(array):
        raise ValueError(f"`{call}` must have a first axis, not empty; got shape {array.shape}.")
    if shape is not None and array.shape[1:] != shape:
        raise ValueError(
            f"`{call}` must have the shape of the estimate behind its first axis; got "
            f"{array.shape} for an estimate of shape {shape}."
        )
    return array


def _ordered(
    replicates: Float[np.ndarray, "replicas *shape"],
) -> tuple[Float[np.ndarray, "replicas *shape"], Int[np.ndarray, "*shape"]]:
    """The finite ones in their order, NaN behind them, and how many they are."""
    finite = np.where(np.isfinite(replicates), replicates, np.nan)
    return np.sort(finite, axis=0), np.asarray((~np.isnan(finite)).sum(axis=0))


def _quantile(ordered: np.ndarray, counts: np.ndarray, level: Any) -> np.ndarray:
    """Linear between the two replicates around it; NaN for a level of NaN, and of none."""
    known = (counts > 0) & ~np.isnan(level)
    place = np.where(known, level, 0.0) * np.maximum(counts - 1, 0)
    at = lambda whole: np.take_along_axis(ordered, whole.astype(np.intp)[None], axis=0)[0]
    below, above = at(np.floor(place)), at(np.ceil(place))
    share = place - np.floor(place)
    # Not a weighted sum of both, which of equal ones may give another number.
    between = np.minimum(below + share * (above - below), above)
    return np.where(known, between, np.nan)


def _bias(ordered: np.ndarray, counts: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """How far from the median of the replicates the estimate is, in normal standard deviations
    (equation 14.14); a replicate that equals it is half on either side."""
    halves = (ordered < estimate).sum(axis=0) + (ordered <= estimate).sum(axis=0)
    bias = _normal_quantile(halves / (2 * np.maximum(counts, 1)))
    last = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[None], axis=0)[0]
    # Equal ones give their value at any level.
    return np.where(np.isfinite(bias), bias, np.where(ordered[0] == last, 0.0, np.nan))


def _acceleration(parts: np.ndarray) -> np.ndarray:
    """The skewness of the jackknife's influences, over 6 times the root of their number (Efron &
    Tibshirani, 1993, equation 14.15): 0 where all are equal."""
    found = np.isfinite(parts)
    counts = found.sum(axis=0)
    least = np.where(found, parts, np.inf).min(axis=0)
    apart = np.where(found, parts - np.where(counts > 0, least, 0.0), 0.0)
    influence = np.where(found, apart.sum(axis=0) / np.maximum(counts, 1) - apart, 0.0)
    # The skewness has no scale; cubes of small numbers would be 0.
    size = np.abs(influence).max(axis=0)
    influence = influence / np.where(size > 0, size, 1.0)
    squares, cubes = (influence**2).sum(axis=0), (influence**3).sum(axis=0)
    acceleration = cubes / (6 * np.where(squares > 0, squares, 1.0) ** 1.5)
    return np.where(counts < 2, np.nan, acceleration)


def _corrected(
    tails: tuple[float, float], bias: np.ndarray, acceleration: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The levels at which the replicates' quantiles are the ends (Efron & Tibshirani, 1993,
    equation 14.10)."""

    def level(tail: float) -> np.ndarray:
        shifted = bias + NormalDist().inv_cdf(tail)
        stretch = 1 - acceleration * shifted
        # Where this reaches 0 the level is 1 or 0; beyond, the formula would come back from there.
        beyond = np.where(shifted > 0, np.inf, -np.inf)
        inside = shifted / np.where(stretch <= 0, 1.0, stretch)
        return _normal(np.where(stretch <= 0, beyond, bias + inside))

    return level(tails[0]), level(tails[1])


def _normal_quantile(levels: Any) -> np.ndarray:
    edges = {0.0: -np.inf, 1.0: np.inf}
    one = lambda level: edges[level] if level in edges else NormalDist().inv_cdf(level)
    return np.asarray(np.vectorize(one, otypes=[np.float64])(levels))


def _normal(values: Any) -> np.ndarray:
    return np.asarray(np.vectorize(NormalDist().cdf, otypes=[np.float64])(values))
