"""Intervals, standard errors and p-values from replicates."""

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

import neuron
from neuron.intervals import KINDS, Interval, interval, p_value, standard_error


each_kind = pytest.mark.parametrize("kind", KINDS)
SCIPY = {"percentile": "percentile", "basic": "basic", "bca": "BCa"}


def mean(x, axis=-1):
    return x.mean(axis=axis)


def correlation(x, y, axis=-1):
    x, y = x - x.mean(axis=axis, keepdims=True), y - y.mean(axis=axis, keepdims=True)
    return (x * y).sum(axis=axis) / np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))


def median(x, axis=-1):
    # Many replicates are equal to each other, and to the estimate.
    return np.median(x, axis=axis)


def problem(statistic, seed=0, rows=30, replicas=400):
    """Data, our own resamples of it, and the jackknife."""
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=rows)
    data = (x, x + rng.normal(size=rows)) if statistic is correlation else (x,)
    taken = lambda weights: np.array(
        [statistic(*(v[np.repeat(np.arange(rows), w)] for v in data)) for w in weights.T]
    )
    cases = neuron.Cases()
    replicates, parts = taken(cases.counts(rows, replicas, seed)), taken(cases.without_one(rows))
    return data, replicates, statistic(*data), parts


@pytest.mark.parametrize("statistic", [mean, correlation, median])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@each_kind
def test_it_is_scipys_on_the_same_replicates(statistic, level, kind):
    data, replicates, estimate, parts = problem(statistic)
    theirs = stats.bootstrap(
        data,
        statistic,
        n_resamples=0,
        paired=True,
        confidence_level=level,
        method=SCIPY[kind],
        bootstrap_result=types.SimpleNamespace(bootstrap_distribution=replicates),
    )
    ours = interval(kind, replicates, estimate, level, parts)
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-9)
    np.testing.assert_allclose(standard_error(replicates), theirs.standard_error, rtol=1e-12)


@each_kind
def test_scipys_own_resamples_give_scipys_interval(kind):
    x = np.random.default_rng(4).exponential(size=25)
    theirs = stats.bootstrap((x,), mean, n_resamples=999, method=SCIPY[kind], rng=1)
    parts = np.array([np.delete(x, row).mean() for row in range(25)])
    ours = interval(kind, theirs.bootstrap_distribution, x.mean(), 0.95, parts)
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-9)


def test_bca_is_its_formula_written_out():
    _, replicates, estimate, parts = problem(correlation, seed=1)
    z = stats.norm
    bias = z.ppf(np.mean(replicates < estimate))
    away = parts.mean() - parts
    acceleration = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5)
    assert abs(bias) > 0.02
    assert abs(acceleration) > 0.02
    shifted = bias + z.ppf([0.05, 0.95])
    ends = np.quantile(replicates, z.cdf(bias + shifted / (1 - acceleration * shifted)))
    np.testing.assert_allclose(interval("bca", replicates, estimate, 0.9, parts), ends)


def test_bca_without_bias_and_acceleration_is_the_percentile_interval():
    replicates = np.linspace(-1, 1, 201)
    plain = interval("percentile", replicates, 0.0, 0.8)
    np.testing.assert_allclose(plain, (-0.8, 0.8))
    np.testing.assert_allclose(interval("bca", replicates, 0.0, 0.8, [-1.0, 0.0, 1.0]), plain)


@each_kind
def test_each_of_many_estimates_is_treated_by_itself(kind):
    rng = np.random.default_rng(5)
    replicates, parts = rng.gamma(2, size=(300, 3, 4)), rng.gamma(2, size=(20, 3, 4))
    replicates[rng.random((300, 3, 4)) < 0.1] = np.nan
    replicates[:, 0, 0], parts[3, 1, 1] = 2.5, np.inf
    estimate = rng.gamma(2, size=(3, 4))
    whole = interval(kind, replicates, estimate, 0.9, parts)
    assert whole.lower.shape == whole.upper.shape == (3, 4)
    errors, p = standard_error(replicates), p_value(replicates, 1.5)
    for place in np.ndindex(3, 4):
        at = (slice(None), *place)
        alone = interval(kind, replicates[at], estimate[place], 0.9, parts[at])
        assert alone == (whole.lower[place], whole.upper[place])
        assert standard_error(replicates[at]) == pytest.approx(errors[place], rel=1e-14)
        assert p_value(replicates[at], 1.5) == p[place]
    none = interval(kind, np.zeros((5, 0)), np.zeros(0), 0.9, np.zeros((3, 0)))
    assert none.lower.shape == (0,)


@each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out(kind, bad):
    _, replicates, estimate, parts = problem(mean)
    spoiled = np.insert(replicates, [0, 7, 400], bad)
    assert interval(kind, spoiled, estimate, 0.9, np.insert(parts, 4, bad)) == interval(
        kind, replicates, estimate, 0.9, parts
    )
    assert standard_error(spoiled) == pytest.approx(standard_error(replicates), rel=1e-14)
    assert p_value(spoiled, 1.0) == p_value(replicates, 1.0)
    nothing = interval(kind, [bad, bad], 1.0, 0.9, [1.0, 2.0])
    assert np.isnan(nothing).all()
    assert np.isnan(interval(kind, replicates, bad, 0.9, parts)).all()
    assert np.isnan(standard_error([bad, bad]))
    assert np.isnan(p_value([bad, bad]))


@each_kind
@pytest.mark.parametrize("value", [0.1, -3.0, 0.0])
def test_equal_replicates_give_the_point(kind, value):
    assert interval(kind, [value] * 7, value, 0.9, [value] * 3) == (value, value)
    assert interval(kind, [value], value, 0.9, [value] * 3) == (value, value)
    # Above the estimate: the basic interval is as far below it.
    other = 2 * 0.7 - value if kind == "basic" else value
    assert interval(kind, [value] * 7, 0.7, 0.9, [1.0, 2.0, 4.0]) == (other, other)
    assert standard_error([value] * 7) == 0


def test_bca_has_no_ends_where_all_replicates_lie_on_one_side():
    ends = interval("bca", [1.0, 2.0, 3.0], 5.0, 0.9, [1.0, 2.0])
    assert np.isnan(ends).all()
    assert np.isnan(interval("bca", [1.0, 2.0, 3.0], 2.0, 0.9, [1.0, np.nan])).all()
    # An equal one is half on the other.
    assert interval("bca", [1.0, 2.0, 5.0], 5.0, 0.9, [1.0, 2.0]).upper > 4.9


def test_an_acceleration_beyond_the_pole_ends_at_the_last_replicate():
    # One part that is far out: the acceleration is nearly a sixth, and 8 standard deviations
    # are beyond its inverse.
    replicates = np.linspace(-1, 1, 1001)
    parts = [-1.0] + [0.0] * 60
    level = 1 - 1e-14
    assert interval("bca", replicates, 0.0, level, parts).upper == 1
    less = [interval("bca", replicates, 0.0, 1 - 10.0**-k, parts).upper for k in range(1, 15)]
    assert (np.diff(less) >= 0).all()


numbers = st.floats(-100, 100).map(lambda x: round(x, 3))


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(KINDS),
    arrays(float, st.integers(2, 30), elements=numbers),
    arrays(float, st.integers(2, 9), elements=numbers),
    numbers,
    st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted),
    st.floats(0.1, 10),
    numbers,
)
def test_ends_move_with_the_level_the_scale_and_the_place(
    kind, replicates, parts, estimate, levels, scale, shift
):
    inner, outer = (interval(kind, replicates, estimate, level, parts) for level in levels)
    if np.isnan(inner.lower):
        assert kind == "bca"
        assert not replicates.min() < estimate < replicates.max()
        return
    slack = 1e-9 * (1 + np.abs(replicates).max() + abs(estimate))
    assert outer.lower <= inner.lower + slack
    assert inner.lower <= inner.upper + slack
    assert inner.upper <= outer.upper + slack
    # Of a mirrored scale the ends change places.
    for factor, order in ((scale, 1), (-scale, -1)):
        moved = interval(kind, factor * replicates, factor * estimate, levels[0], factor * parts)
        np.testing.assert_allclose(
            moved[::order], factor * np.array(inner), rtol=1e-5, atol=1e-5 * scale
        )
    error = standard_error(replicates)
    np.testing.assert_allclose(error, replicates.std(ddof=1), atol=1e-9)
    np.testing.assert_allclose(standard_error(scale * replicates + shift), scale * error, atol=1e-8)


def test_percentile_and_bca_go_with_an_increasing_function_and_basic_does_not():
    replicates = np.random.default_rng(6).lognormal(size=20_000)
    parts = np.arange(8.0) ** 2
    for kind in KINDS:
        ends = interval(kind, replicates, 1.2, 0.9, parts)
        logs = interval(kind, np.log(replicates), np.log(1.2), 0.9, parts)
        same = np.allclose(np.exp(logs), ends, rtol=1e-5)
        assert same == (kind != "basic")


def test_a_p_value_counts_the_data_among_its_replicates():
    differences = np.arange(-4.0, 95.0)  # 99 of them, 4 below 0 and one at 0
    assert p_value(differences) == pytest.approx(2 * (1 + 5) / 100)
    assert p_value(-differences) == p_value(differences)
    assert p_value(differences, null=-50.0) == 2 / 100
    assert p_value(differences, null=45.0) == 1
    # Of equal models.
    assert p_value(np.zeros(99)) == 1
    assert p_value(np.stack([differences, -differences], axis=1)).shape == (2,)


def test_p_values_of_no_difference_are_uniform():
    rng = np.random.default_rng(8)
    data = rng.normal(size=(50, 2000))
    counts = neuron.Cases().counts(50, 499, 9).astype(float)
    p = p_value(counts.T @ data / 50)
    for size in (0.05, 0.2, 0.5):
        share = np.mean(p <= size)
        # The bootstrap's spread is that of 50 rows, without the correction for one of them.
        assert abs(share - size) < 0.02 + 3 * np.sqrt(size * (1 - size) / 2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bc", [1.0], 1.0, 0.9), r"`interval\(kind\)` .* percentile, basic, bca; got 'bc'"),
        (("basic", [1.0], 1.0, 95.0), r"`interval\(level\)` .* between 0 and 1; got 95"),
        (("basic", [1.0], 1.0, 1.0), r"`interval\(level\)` .* between 0 and 1; got 1.0"),
        (("bca", [1.0], 1.0, 0.9), r"`interval\(\"bca\", ...\)` must have `jackknife=`"),
        (("basic", np.eye(3), 1.0, 0.9), r"`interval\(replicates\)` .* \(3, 3\) .* shape \(\)"),
        (("basic", 3.0, 1.0, 0.9), r"`interval\(replicates\)` must have a first axis"),
        (("basic", [], 1.0, 0.9), r"`interval\(replicates\)` .* not empty; got shape \(0,\)"),
        (("bca", [1.0], 1.0, 0.9, np.eye(2)), r"`interval\(jackknife\)` must have the shape"),
    ],
)
def test_what_can_not_be_meant_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        interval(*arguments)


def test_an_interval_has_names():
    ends = interval("percentile", np.float32([1, 2, 3]), np.float32(2), 0.5)
    assert isinstance(ends, Interval)
    assert (float(ends.lower), float(ends.upper)) == (1.5, 2.5)
    assert ends.lower.dtype == np.float64
