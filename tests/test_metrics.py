"""The contract of a metric, a user's own, and what else serves as one."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import measured, tree_allclose
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

import neuron
from neuron.metrics import as_metric
from neuron.metrics.metric import ratio


CUTS = [7, 8]
SUMMED = [
    neuron.Accuracy(),
    neuron.Precision(),
    neuron.Recall("none"),
    neuron.F1("micro"),
    neuron.ConfusionMatrix(),
    neuron.Perplexity(),
    neuron.CalibrationError(),
    neuron.R2(),
    neuron.PearsonCorrelation(),
    as_metric("loss", neuron.CrossEntropy(class_weight=[1.0, 2.0, 0.0])),
]
each_way = pytest.mark.parametrize(
    ("cuts", "double"), [((), False), (CUTS, False), (CUTS, True)], ids=["whole", "jax", "host"]
)


class Within(neuron.Metric):
    """The example of the contract's docstring."""

    tolerance: jax.Array = eqx.field(converter=jnp.asarray)

    def observe(self, prediction, target):
        return jnp.abs(prediction - target) < self.tolerance, 1

    def compute(self, total):
        hits, weight = total
        return hits / weight


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def numbers(rng, rows=60, shape=()):
    targets = rng.normal(size=(rows, *shape)).astype(np.float32)
    predictions = targets + rng.normal(size=targets.shape).astype(np.float32)
    return predictions, targets, rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows)


def classes(rng, rows=60):
    logits = rng.normal(0, 2, (rows, 3)).astype(np.float32)
    return logits, rng.integers(0, 3, rows), rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows)


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=2e-6)


@each_way
def test_a_metric_of_your_own_is_two_methods(rng, cuts, double):
    predictions, targets, weight = numbers(rng)
    expected = np.average(abs(predictions - targets) < 0.7, weights=weight)
    close(measured(Within(0.7), predictions, targets, weight, cuts, double=double), expected)
    assert Within(0.7).check(jax.ShapeDtypeStruct((), np.float32), targets) is None
    with pytest.raises(TypeError, match="abstract"):
        neuron.Metric()


def test_a_metric_may_observe_any_tree(rng):
    class Range(neuron.Metric):
        def observe(self, prediction, target):
            return {"error": prediction - target, "ones": (1, jnp.ones(2))}

        def merge(self, one, other):
            return jax.tree.map(jnp.maximum, one, other)

        def total(self, observations, weight):
            return jax.tree.map(lambda rows: jnp.max(jnp.asarray(rows), axis=0), observations)

        def compute(self, total):
            return total["error"]

    predictions, targets, _ = numbers(rng)
    close(measured(Range(), predictions, targets, None, CUTS), np.max(predictions - targets))


@pytest.mark.parametrize("metric", SUMMED, ids=repr)
def test_zeros_are_the_total_of_nothing(metric):
    floats = st.floats(-100, 100, width=32)

    @given(
        arrays(np.float32, (4, 3), elements=floats),
        st.lists(st.integers(0, 2), min_size=4, max_size=4),
    )
    @settings(max_examples=10, deadline=None)
    def holds(logits, targets):
        numeric = isinstance(metric, neuron.R2 | neuron.PearsonCorrelation)
        rows = jnp.asarray(logits), jnp.asarray(logits[::-1] if numeric else targets)
        seen = jax.vmap(metric.observe)(*rows)
        total, nothing = (metric.total(seen, jnp.full(4, weight)) for weight in (0.5, 0.0))
        assert not any(map(np.any, jax.tree.leaves(nothing)))
        for zeros in (nothing, jax.tree.map(np.zeros_like, total)):
            for merged in (metric.merge(total, zeros), metric.merge(zeros, total)):
                assert tree_allclose(merged, total, rtol=0, atol=0)

    holds()


@pytest.mark.parametrize("metric", SUMMED, ids=repr)
def test_compute_is_the_same_in_a_program_and_on_the_host(rng, metric):
    logits, targets, weight = classes(rng)
    if isinstance(metric, neuron.R2 | neuron.PearsonCorrelation):
        logits, targets, weight = numbers(rng, shape=(3,))
    seen = jax.vmap(metric.observe)(jnp.asarray(logits), jnp.asarray(targets))
    total = metric.total(seen, jnp.asarray(weight))
    host = metric.compute(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), total))
    value = jax.jit(lambda metric, total: metric.compute(total))(metric, total)
    assert np.shape(host) == value.shape
    close(host, value)


def test_a_gathered_metric_has_all_rows(rng):
    class Median(neuron.Gathered):
        def observe(self, prediction, target):
            return jnp.abs(prediction - target)

        def compute(self, total):
            errors, weight = total
            return np.median(errors[weight > 0])

    predictions, targets, weight = numbers(rng)
    expected = np.median(abs(predictions - targets)[weight > 0])
    for cuts in ((), CUTS):
        close(measured(Median(), predictions, targets, weight, cuts), expected)


def test_a_ratio_of_nothing_is_what_is_said():
    with np.errstate(all="raise"):
        for of in (np.float64, jnp.float32):
            assert np.isnan(ratio(of(0), of(0)))
            assert ratio(of(0), of(0), empty=0.0) == 0
            assert ratio(of(3), of(2)) == 1.5
        assert ratio(np.array([1.0, 0]), np.array([2.0, 0]), empty=0.0).tolist() == [0.5, 0]


def test_a_metric_is_a_metric():
    metric = neuron.Accuracy()
    assert as_metric("accuracy", metric) is metric


@each_way
@pytest.mark.parametrize(
    ("loss", "peer"),
    [
        (neuron.MeanAbsoluteError(), metrics.mean_absolute_error),
        (neuron.MeanSquaredError(), metrics.mean_squared_error),
        (neuron.RootMeanSquaredError(), metrics.root_mean_squared_error),
    ],
)
def test_a_loss_is_a_metric(rng, loss, peer, cuts, double):
    metric = as_metric("loss", loss)
    predictions, targets, weight = numbers(rng)
    expected = peer(targets, predictions, sample_weight=weight)
    close(measured(metric, predictions, targets, weight, cuts, double=double), expected)
    assert np.isnan(measured(metric, predictions, targets, 0 * weight, cuts, double=double))


@each_way
def test_a_loss_with_weights_of_its_own_is_a_metric(rng, cuts, double):
    logits, targets, weight = classes(rng)
    p = np.exp(jax.nn.log_softmax(logits))
    own = np.array([0.5, 0.0, 2.0])
    metric = as_metric("log_loss", neuron.CrossEntropy(class_weight=own))
    # One of the class without weight, of a score that is infinite.
    targets[0], logits[0] = 1, [0, -np.inf, 0]
    p[0] = [0.5, 0, 0.5]
    expected = metrics.log_loss(targets, p, sample_weight=weight * own[targets])
    value = measured(metric, logits, targets, weight, cuts, double=double)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_loss_checks_targets_as_ever():
    metric = as_metric("log_loss", neuron.CrossEntropy())
    with pytest.raises(ValueError, match=r"`CrossEntropy\(.*a class from 0 to 2; got 3 in row 1"):
        metric.check(jax.ShapeDtypeStruct((3,), np.float32), np.array([0, 3]))


def test_a_loss_that_gives_no_scalar_is_no_metric():
    class Squares(neuron.Loss):
        def __call__(self, prediction, target):
            return (prediction - target) ** 2

    metric = as_metric("squares", Squares())
    with pytest.raises(
        ValueError, match=r"`Squares\(\)` must score one example by a scalar.*\(3,\)"
    ):
        metric.observe(jnp.ones(3), jnp.ones(3))


@pytest.mark.parametrize("cuts", [(), CUTS])
@pytest.mark.parametrize("peer", [metrics.median_absolute_error, metrics.d2_absolute_error_score])
def test_a_function_is_a_metric(rng, peer, cuts):
    metric = as_metric("peer", peer)
    predictions, targets, weight = numbers(rng)
    weight = weight.astype(np.float32)
    kept = weight > 0
    close(measured(metric, predictions, targets, None, cuts), peer(targets, predictions))
    # Rows of no weight are left out, others are handed over with it.
    expected = peer(targets[kept], predictions[kept], sample_weight=weight[kept])
    close(measured(metric, predictions, targets, weight, cuts), expected)


def test_a_function_gets_numpy_arrays_targets_first(rng):
    seen = []

    def look(targets, predictions):
        seen.append((targets, predictions))
        return len(targets)

    predictions, targets, _ = numbers(rng, shape=(2,))
    metric = as_metric("look", look)
    assert measured(metric, predictions, targets, None, CUTS) == 60
    ((first, second),) = seen
    assert type(first) is type(second) is np.ndarray
    assert (first == targets).all()
    assert (second == predictions).all()
    # A mask is no weight: what it leaves out is not handed over.
    assert measured(metric, predictions, targets, np.repeat([1, 0, 1], 20), CUTS) == 40
    assert np.isnan(measured(metric, predictions, targets, np.zeros(60)))
    assert len(seen) == 2


def test_a_function_may_be_partial_or_give_an_array(rng):
    predictions, targets, weight = numbers(rng, shape=(2,))
    function = functools.partial(metrics.r2_score, multioutput="raw_values")
    kept = np.float32(weight) > 0
    expected = function(targets[kept], predictions[kept], sample_weight=np.float32(weight)[kept])
    close(measured(as_metric("r2", function), predictions, targets, weight), expected)


def test_a_function_that_knows_no_weights_is_refused_for_weighted_data(rng):
    predictions, targets, weight = numbers(rng)
    for function in (lambda t, p: 1.0, metrics.max_error, np.maximum):
        with pytest.raises(
            ValueError, match=r"`metrics=\{'worst': ...\}` .* `sample_weight=`; .* does not"
        ):
            measured(as_metric("worst", function), predictions, targets, weight)


@pytest.mark.parametrize("value", ["good", None, {"a": 1}, 1j])
def test_a_function_must_give_numbers(value):
    metric = as_metric("odd", lambda targets, predictions: value)
    with pytest.raises(TypeError, match=r"`metrics=\{'odd': ...\}` must give a number"):
        measured(metric, np.ones(3), np.ones(3))


@pytest.mark.parametrize(
    "thing",
    ["accuracy", None, 3, neuron.Accuracy, neuron.MeanAbsoluteError, lambda one: 1, metrics.make_scorer(metrics.r2_score), neuron.SGD(0.1)],
    ids=["name", "None", "number", "metric class", "loss class", "one argument", "scorer", "SGD"],
)  # fmt: skip
def test_anything_else_is_refused(thing):
    with pytest.raises(TypeError, match=r"`metrics=\{'it': ...\}` must be a neuron.Metric, such"):
        as_metric("it", thing)
