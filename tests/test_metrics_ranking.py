"""Metrics of order, against scikit-learn: with weights, with ties, of one side and of many."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import measured
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics

import neuron


CUTS = [7, 8, 40]
BOTH = [
    (neuron.ROCAUC, metrics.roc_auc_score),
    (neuron.AveragePrecision, metrics.average_precision_score),
]
by_name = pytest.mark.parametrize(("metric", "peer"), BOTH)
either_cut = pytest.mark.parametrize("cuts", [(), CUTS], ids=["whole", "cut"])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def binary(rng, rows=60, shape=(), digits=6):
    """Logits, the fewer digits the more of them equal; targets; and weights, some of them zero."""
    logits = rng.normal(0, 2, (rows, *shape)).round(digits).astype(np.float32)
    targets = (logits + rng.normal(0, 3, logits.shape) > 0).astype(np.int32)
    return logits, targets, single(rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows))


def categorical(rng, rows=60, classes=4, shape=(), digits=6):
    logits = rng.normal(0, 2, (rows, *shape, classes)).round(digits).astype(np.float32)
    targets = np.argmax(logits + rng.normal(0, 3, logits.shape), -1).astype(np.int32)
    return logits, targets, single(rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows))


def single(weight):
    return weight.astype(np.float32).astype(np.float64)


def close(value, expected):
    assert np.shape(value) == ()
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@either_cut
@by_name
@pytest.mark.parametrize("digits", [6, 0])
def test_one_side(rng, metric, peer, digits, cuts):
    logits, targets, weight = binary(rng, digits=digits)
    value = measured(metric(), logits, targets, weight, cuts)
    close(value, peer(targets, logits, sample_weight=weight))
    close(measured(metric(), logits, targets, None, cuts), peer(targets, logits))


@either_cut
@by_name
@pytest.mark.parametrize("digits", [6, 0])
def test_several_outputs(rng, metric, peer, digits, cuts):
    logits, targets, weight = binary(rng, shape=(3,), digits=digits)
    value = measured(metric(), logits, targets, weight, cuts)
    close(value, peer(targets, logits, average="macro", sample_weight=weight))


@either_cut
@by_name
@pytest.mark.parametrize("digits", [6, 0])
def test_each_class_against_the_rest(rng, metric, peer, digits, cuts):
    words = {"multi_class": "ovr"} if metric is neuron.ROCAUC else {}
    logits, targets, weight = categorical(rng, digits=digits)
    p = special.softmax(logits.astype(np.float64), axis=-1)
    # Of probabilities that are equal on paper NumPy and SciPy may round different ones apart.
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(p, powers / powers.sum(-1, keepdims=True), rtol=1e-14)
    p = powers / powers.sum(-1, keepdims=True)
    value = measured(metric(), logits, targets, weight, cuts)
    close(value, peer(targets, p, sample_weight=weight, **words))
    close(measured(metric(kind="categorical"), logits, np.eye(4)[targets], weight, cuts), value)


@by_name
def test_positions_count_one_by_one(rng, metric, peer):
    words = {"multi_class": "ovr"} if metric is neuron.ROCAUC else {}
    logits, targets, weight = categorical(rng, shape=(5,))
    p = special.softmax(logits.astype(np.float64), axis=-1).reshape(-1, 4)
    expected = peer(targets.ravel(), p, sample_weight=np.repeat(weight, 5), **words)
    close(measured(metric(), logits, targets, weight, CUTS), expected)


@by_name
def test_any_ties_and_weights(metric, peer):
    rows = st.tuples(st.integers(-2, 2), st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))

    @given(st.lists(rows, min_size=1, max_size=12))
    @settings(max_examples=200, deadline=None)
    def holds(drawn):
        logits, targets, weight = map(np.array, zip(*drawn, strict=True))
        value = metric().compute(((logits.astype(np.float32), targets), weight))
        sides = {side for side, w in zip(targets.tolist(), weight, strict=True) if w > 0}
        if sides >= ({False, True} if metric is neuron.ROCAUC else {True}):
            np.testing.assert_allclose(
                value, peer(targets, logits, sample_weight=weight), rtol=1e-12, atol=1e-15
            )
        else:
            assert np.isnan(value)

    holds()


@by_name
def test_any_rising_map_of_the_logits_ranks_alike(rng, metric, peer):
    logits, targets, weight = binary(rng)
    value = measured(metric(), logits, targets, weight)
    close(measured(metric(), np.cbrt(logits), targets, weight), value)
    # As close together as single precision has them.
    order = np.argsort(np.argsort(logits)).astype(np.float32)
    close(measured(metric(), 1e4 + order / 1024, targets, weight), value)


@by_name
def test_a_perfect_order(metric, peer):
    logits, targets = np.array([-3.0, -2.0, 1.0, 5.0]), np.array([0, 0, 1, 1])
    assert measured(metric(), logits, targets) == 1
    assert measured(metric(), np.zeros(4), targets) == 0.5
    if metric is neuron.ROCAUC:
        assert measured(metric(), -logits, targets) == 0


@by_name
def test_a_class_that_is_absent_leaves_no_value(metric, peer):
    logits = np.eye(3)[[0, 1, 0, 1]]
    assert np.isnan(measured(metric(), logits, np.array([0, 1, 1, 0])))
    assert np.isnan(measured(metric(), np.ones(3), np.zeros(3, int)))
    # Nor does scikit-learn give one, of a curve.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(metrics.roc_auc_score(np.zeros(3), np.ones(3)))
    value = measured(metric(), np.ones(3), np.ones(3, int))
    assert np.isnan(value) if metric is neuron.ROCAUC else value == 1


@by_name
def test_nothing_and_nan_are_nan(metric, peer):
    for make in (binary, categorical):
        logits, targets, _ = make(np.random.default_rng(0))
        assert np.isnan(measured(metric(), logits, targets, np.zeros(60)))
        empty = jax.tree.map(lambda rows: rows[:0], ((logits, targets), np.ones(60)))
        assert np.isnan(metric().compute(empty))
        logits[3] = np.nan
        assert np.isnan(measured(metric(), logits, targets))


@by_name
def test_rows_without_weight_are_not_there(metric, peer):
    for make in (binary, categorical):
        logits, targets, _ = make(np.random.default_rng(0))
        logits[30:] = np.nan
        value = measured(metric(), logits, targets, np.repeat([1, 0], 30))
        close(value, measured(metric(), logits[:30], targets[:30]))


@by_name
def test_half_precision_is_ranked(rng, metric, peer):
    logits, targets, weight = binary(rng, digits=1)
    half = jnp.asarray(logits, jnp.bfloat16)
    expected = peer(targets, np.asarray(half, np.float64), sample_weight=weight)
    close(measured(metric(), half, targets, weight), expected)


@by_name
def test_check_and_observe_refuse_what_can_not_be_meant(unchecked, metric, peer):
    prediction = jax.ShapeDtypeStruct((), np.float32)
    metric().check(prediction, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"takes targets that are 0 or 1; got 2 in row 1\."):
        metric().check(prediction, np.array([0, 2]))
    with pytest.raises(ValueError, match=r"a class from 0 to 2; got 3 in row 0\."):
        metric().check(jax.ShapeDtypeStruct((3,), np.float32), np.array([3]))
    for prediction, target in [((4, 1), (4,)), ((1,), ()), ((), (1,)), ((3,), (4,))]:
        with pytest.raises(ValueError, match="shape"):
            metric().observe(jnp.ones(prediction), jnp.zeros(target, jnp.int32))
    with pytest.raises(ValueError, match=r"\(kind=...\)` must be one of 'auto', 'binary', 'categ"):
        metric(kind="ovr")
