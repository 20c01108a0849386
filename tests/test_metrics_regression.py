"""Metrics of numbers, against scikit-learn and SciPy in double precision, also far from zero."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import measured, tree_allclose
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics

import neuron


CUTS = [7, 8, 100]
METRICS = [neuron.R2(), neuron.PearsonCorrelation()]
each_way = pytest.mark.parametrize(
    ("cuts", "double"), [((), False), (CUTS, False), (CUTS, True)], ids=["whole", "jax", "host"]
)
by_name = pytest.mark.parametrize("metric", METRICS, ids=repr)
numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pairs(rng, rows=300, shape=(), offset=0.0):
    """Predictions, targets that they tell something of, and weights of which some are zero."""
    targets = offset + rng.normal(size=(rows, *shape))
    predictions = targets + 0.5 * rng.normal(size=targets.shape)
    weight = rng.integers(0, 3, rows) * rng.uniform(0.1, 2, rows)
    return predictions.astype(np.float32), targets.astype(np.float32), weight.astype(np.float32)


def expected_of(metric, predictions, targets, weight):
    x, y, w = (np.asarray(each, np.float64) for each in (predictions, targets, weight))
    if isinstance(metric, neuron.R2):
        return metrics.r2_score(y, x, sample_weight=w)
    x, y = x.reshape(len(x), -1).T, y.reshape(len(y), -1).T
    both = [np.cov(a, b, aweights=w) for a, b in zip(x, y, strict=True)]
    return np.mean([c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in both])


def close(value, expected, **tolerance):
    assert np.shape(value) == ()
    np.testing.assert_allclose(value, expected, **{"rtol": 1e-6, "atol": 1e-6, **tolerance})


@each_way
@by_name
@pytest.mark.parametrize("shape", [(), (3,)])
def test_agrees_with_double_precision(rng, metric, shape, cuts, double):
    data = pairs(rng, shape=shape)
    close(measured(metric, *data, cuts, double=double), expected_of(metric, *data))


@each_way
@by_name
@pytest.mark.parametrize("rows", [300, 20_000])
def test_agrees_far_from_zero(rng, metric, rows, cuts, double):
    # Sums of squares about zero would have lost all in single precision.
    data = pairs(rng, rows, offset=1e4)
    expected = expected_of(metric, *data)
    close(measured(metric, *data, cuts, double=double), expected, rtol=0, atol=2e-5)
    even = np.arange(100, 300, 32)
    close(measured(metric, *data, even, double=double), expected, rtol=0, atol=2e-5)


@by_name
def test_agrees_in_double_precision(x64, rng, metric):
    predictions, targets, weight = (each.astype(np.float64) for each in pairs(rng))
    for offset in (0, 1e4):
        data = predictions + offset, targets + offset, weight
        value = measured(metric, *data, CUTS)
        assert value.dtype == jnp.float64
        close(value, expected_of(metric, *data), rtol=1e-10, atol=0)


def test_pearson_is_that_of_scipy(rng):
    predictions, targets, _ = pairs(rng)
    expected = stats.pearsonr(predictions.astype(np.float64), targets.astype(np.float64)).statistic
    close(measured(neuron.PearsonCorrelation(), predictions, targets), expected)
    close(measured(neuron.PearsonCorrelation(), -predictions, targets), -expected)


def test_pearson_does_not_run_out_of_range():
    targets = np.array([1.0, 2.0, 3.0, 5.0])
    for scale in (1e-15, 1e15):
        value = measured(neuron.PearsonCorrelation(), scale * targets, scale * targets, cuts=[2])
        close(value, 1)
        assert value <= 1


def test_r2_of_targets_that_do_not_vary():
    # In 0.1, whose mean in single precision is another number at first.
    targets, weight = np.full(50, 0.1, np.float32), np.linspace(0.1, 3, 50)
    for cuts in ((), [7, 20]):
        for double in (False, True):
            of = functools.partial(measured, neuron.R2(), cuts=cuts, double=double)
            assert of(targets, targets, weight) == metrics.r2_score(targets, targets) == 1
            assert of(targets + 1, targets, weight) == metrics.r2_score(targets, targets + 1) == 0
    # One output of two.
    targets = np.stack([np.arange(5.0), np.ones(5)], axis=1)
    close(measured(neuron.R2(), 2 * targets, targets), metrics.r2_score(targets, 2 * targets))


def test_pearson_of_what_does_not_vary_is_nan():
    targets = np.arange(5.0)
    for pair in [(targets, np.full(5, 0.1)), (np.full(5, 0.1), targets)]:
        for double in (False, True):
            assert np.isnan(measured(neuron.PearsonCorrelation(), *pair, cuts=[2], double=double))


@by_name
def test_the_value_of_nothing_is_nan(metric):
    for shape in ((3,), (3, 2)):
        for double in (False, True):
            ones = np.ones(shape)
            assert np.isnan(measured(metric, ones, ones, np.zeros(3), [1], double=double))


@by_name
def test_rows_without_weight_are_not_there(rng, metric):
    predictions, targets, _ = pairs(rng, 20)
    value = measured(metric, predictions[:10], targets[:10])
    predictions[10:] = np.inf
    targets[15:] = np.nan
    weight = np.repeat([1, 0], 10)
    for cuts in ((), [10], [12]):
        close(measured(metric, predictions, targets, weight, cuts), value)


@by_name
def test_whole_numbers_and_half_precision_are_measured_in_single(rng, metric):
    targets = np.arange(40)
    predictions = jnp.asarray(targets + rng.normal(size=40), jnp.bfloat16)
    data = np.asarray(predictions, np.float32), targets, np.ones(40)
    close(measured(metric, predictions, targets), expected_of(metric, *data))


def totals(metric, rows, weight):
    """What batches show, in double precision as on the host."""
    seen = jax.vmap(metric.observe)(*jnp.asarray(rows))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), metric.total(seen, weight))


@by_name
def test_merging_is_associative_and_symmetric(x64, metric):
    pieces = st.tuples(
        arrays(np.float64, (2, 4), elements=numbers), st.sampled_from([0.0, 0.5, 3.0])
    )

    @given(st.lists(pieces, min_size=3, max_size=3))
    @settings(max_examples=30, deadline=None)
    def holds(drawn):
        a, b, c = (totals(metric, rows, jnp.full(4, weight)) for rows, weight in drawn)
        left = metric.merge(metric.merge(a, b), c)
        assert tree_allclose(left, metric.merge(a, metric.merge(b, c)), rtol=1e-9, atol=1e-6)
        assert tree_allclose(left, metric.merge(c, metric.merge(b, a)), rtol=1e-9, atol=1e-6)

    holds()


@by_name
@pytest.mark.parametrize("where", ["jax", "host"])
def test_zeros_change_no_bit(metric, where):
    @given(arrays(np.float32, (2, 4), elements=st.floats(-1e6, 1e6, width=32)))
    @settings(max_examples=30, deadline=None)
    def holds(rows):
        total = totals(metric, rows, jnp.ones(4))
        if where == "jax":
            total = jax.tree.map(jnp.float32, total)
        zeros = jax.tree.map(np.zeros_like, total)
        for merged in (metric.merge(total, zeros), metric.merge(zeros, total)):
            assert tree_allclose(merged, total, rtol=0, atol=0)
        nothing = metric.merge(zeros, zeros)
        assert tree_allclose(nothing, zeros, rtol=0, atol=0)

    holds()


@by_name
@pytest.mark.parametrize(
    ("prediction", "target"), [((8, 1), (8,)), ((1,), ()), ((), (1,)), ((3,), (4,))]
)
def test_shapes_that_differ_are_refused(unchecked, metric, prediction, target):
    with pytest.raises(ValueError, match="of the same shape; got") as caught:
        metric.observe(jnp.ones(prediction), jnp.ones(target))
    for part in (repr(metric), str(prediction), str(target)):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="of the same shape; got"):
        metric.check(jnp.ones(prediction), np.ones((2, *target)))
