"""Metrics of probabilities, against scikit-learn, SciPy, and the formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import measured
from scipy import special
from sklearn import calibration, metrics

import neuron


CUTS = [7, 8]
each_way = pytest.mark.parametrize(
    ("cuts", "double"), [((), False), (CUTS, False), (CUTS, True)], ids=["whole", "jax", "host"]
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def binary(rng, rows=200, shape=()):
    logits = rng.normal(0, 2, (rows, *shape)).astype(np.float32)
    targets = (logits + rng.normal(0, 3, logits.shape) > 0).astype(np.int32)
    return logits, targets, rng.integers(0, 4, rows)


def categorical(rng, rows=200, classes=4, shape=()):
    logits = rng.normal(0, 2, (rows, *shape, classes)).astype(np.float32)
    targets = np.argmax(logits + rng.normal(0, 3, logits.shape), -1).astype(np.int32)
    return logits, targets, rng.integers(0, 4, rows)


def sides(logits, targets):
    """How sure one is of what is predicted, and whether it is so."""
    logits = np.asarray(logits, np.float64)
    if logits.shape == targets.shape:
        return special.expit(abs(logits)).ravel(), ((logits > 0) == targets).ravel()
    p = special.softmax(logits, axis=-1)
    return p.max(-1).ravel(), (p.argmax(-1) == targets).ravel()


def calibration_error(confidence, hit, norm, bins):
    """From scikit-learn's curve, which leaves out empty bins and weighs all rows alike."""
    true, said = calibration.calibration_curve(hit, confidence, n_bins=bins)
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(place)
    share = count[count > 0] / len(hit)
    gap = abs(true - said)
    return {"l1": share @ gap, "l2": np.sqrt(share @ gap**2), "max": gap.max()}[norm]


def close(value, expected, **tolerance):
    assert np.shape(value) == ()
    np.testing.assert_allclose(value, expected, **{"rtol": 2e-6, "atol": 1e-7, **tolerance})


@each_way
def test_perplexity(rng, cuts, double):
    logits, targets, weight = categorical(rng)
    p = special.softmax(logits.astype(np.float64), axis=-1)
    expected = np.exp(metrics.log_loss(targets, p, sample_weight=weight))
    close(measured(neuron.Perplexity(), logits, targets, weight, cuts, double=double), expected)
    logits, targets, weight = categorical(rng, shape=(5,))
    p = special.softmax(logits.astype(np.float64), axis=-1).reshape(-1, 4)
    expected = np.exp(metrics.log_loss(targets.ravel(), p, sample_weight=np.repeat(weight, 5)))
    close(measured(neuron.Perplexity(), logits, targets, weight, cuts, double=double), expected)


def test_perplexity_in_double_precision(x64, rng):
    logits, targets, weight = categorical(rng)
    logits = logits.astype(np.float64)
    p = special.softmax(logits, axis=-1)
    expected = np.exp(metrics.log_loss(targets, p, sample_weight=weight))
    close(measured(neuron.Perplexity(), logits, targets, weight, CUTS), expected, rtol=1e-13)


def test_perplexity_of_equal_logits_is_the_number_of_classes():
    close(measured(neuron.Perplexity(), np.zeros((3, 7)), np.array([0, 3, 6])), 7)


def test_perplexity_of_half_precision_is_not_computed_in_it(rng):
    logits, targets, weight = categorical(rng)
    half = jnp.asarray(logits, jnp.bfloat16)
    value = measured(neuron.Perplexity(), half, targets, weight)
    close(value, measured(neuron.Perplexity(), half.astype(jnp.float32), targets, weight))


@each_way
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("make", [binary, categorical])
def test_calibration_error(rng, make, norm, cuts, double):
    for shape, bins in [((), 15), ((), 4), ((3,), 10)]:
        logits, targets, weight = make(rng, shape=shape)
        metric = neuron.CalibrationError(bins, norm=norm)
        # A whole weight is a row as often.
        places = int(np.prod(shape))
        confidence, hit = (np.repeat(x, np.repeat(weight, places)) for x in sides(logits, targets))
        expected = calibration_error(confidence, hit, norm, bins)
        close(measured(metric, logits, targets, weight, cuts, double=double), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_calibration_error_with_fractional_weights(x64, rng, norm):
    logits, targets, weight = categorical(rng)
    logits, weight = logits.astype(np.float64), weight * rng.uniform(0.1, 2, len(weight))
    confidence, hit = sides(logits, targets)
    gaps, shares = [], []
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15, strict=True):
        inside = (low < confidence) & (confidence <= high) & (weight > 0)
        if inside.any():
            averages = (np.average(x[inside], weights=weight[inside]) for x in (confidence, hit))
            gaps.append(abs(np.subtract(*averages)))
            shares.append(weight[inside].sum() / weight.sum())
    gaps, shares = np.array(gaps), np.array(shares)
    expected = {"l1": shares @ gaps, "l2": np.sqrt(shares @ gaps**2), "max": gaps.max()}[norm]
    metric = neuron.CalibrationError(norm=norm)
    close(measured(metric, logits, targets, weight, CUTS), expected, rtol=1e-12)


def test_calibration_of_two_classes_is_that_of_one_logit(rng):
    logits, targets, weight = binary(rng)
    pair = np.stack([np.zeros_like(logits), logits], axis=1)
    expected = measured(neuron.CalibrationError(), logits, targets, weight)
    close(measured(neuron.CalibrationError(), pair, targets, weight), expected)


def test_calibration_error_takes_one_hot(rng):
    logits, targets, weight = categorical(rng)
    expected = measured(neuron.CalibrationError(), logits, targets, weight)
    metric = neuron.CalibrationError(kind="categorical")
    close(measured(metric, logits, np.eye(4)[targets], weight), expected)


def test_one_that_is_sure_and_right_is_calibrated():
    logits, targets = np.array([100.0, -100.0, np.inf]), np.array([1, 0, 1])
    assert measured(neuron.CalibrationError(), logits, targets) == 0
    # And one that is sure and wrong is not at all.
    assert measured(neuron.CalibrationError(), logits, 1 - targets) == 1


@pytest.mark.parametrize("norm", ["l1", "l2", "max", None])
def test_nothing_and_nan_are_nan(norm):
    metric = neuron.CalibrationError(norm=norm) if norm else neuron.Perplexity()
    logits, targets = np.ones((3, 2)), np.zeros(3, int)
    for double in (False, True):
        value = measured(metric, logits, targets, np.zeros(3), double=double)
        assert np.isnan(value)
        assert np.isnan(measured(metric, logits * np.nan, targets, double=double))


@pytest.mark.parametrize("metric", [neuron.Perplexity(), neuron.CalibrationError()], ids=repr)
def test_rows_without_weight_are_not_there(rng, metric):
    logits, targets, _ = categorical(rng, rows=20)
    logits[10:] = np.nan
    value = measured(metric, logits, targets, np.repeat([1, 0], 10))
    close(value, measured(metric, logits[:10], targets[:10]))


@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((), ()), ((3,), (1,)), ((1,), ()), ((2, 3), (3,))]
)
def test_perplexity_refuses_what_are_no_class_numbers(unchecked, shapes):
    prediction, target = shapes
    with pytest.raises(ValueError, match=r"`Perplexity\(\)` takes .*shape"):
        neuron.Perplexity().observe(jnp.ones(prediction), jnp.zeros(target, jnp.int32))
    with pytest.raises(ValueError, match=r"`Perplexity\(\)` takes .*shape"):
        neuron.Perplexity().check(jnp.ones(prediction), np.zeros((2, *target), np.int32))


def test_check_refuses_impossible_targets():
    prediction = jax.ShapeDtypeStruct((3,), np.float32)
    for metric in (neuron.Perplexity(), neuron.CalibrationError()):
        metric.check(prediction, np.array([0, 2]))
        with pytest.raises(ValueError, match=r"a class from 0 to 2; got 3 in row 1\."):
            metric.check(prediction, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"0 or 1; got 2 in row 0\."):
        neuron.CalibrationError().check(jax.ShapeDtypeStruct((), np.float32), np.array([2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neuron.CalibrationError(0), r"`CalibrationError\(bins=...\)` must be at least 1; got 0"),
        (lambda: neuron.CalibrationError(norm="l3"), r"\(norm=...\)` must be one of 'l1', 'l2', 'max'; got 'l3'"),
        (lambda: neuron.CalibrationError(kind=1), r"\(kind=...\)` must be one of 'auto', 'binary', 'categorical'; got 1"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(unchecked, make, message):
    with pytest.raises(ValueError, match=message):
        make()
