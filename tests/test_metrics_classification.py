"""Metrics of what was decided, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import measured
from sklearn import metrics

import neuron


CUTS = [7, 8]
FOUND = [
    (neuron.Precision, metrics.precision_score),
    (neuron.Recall, metrics.recall_score),
    (neuron.F1, metrics.f1_score),
]
DECIDING = [neuron.Accuracy, neuron.Precision, neuron.Recall, neuron.F1, neuron.ConfusionMatrix]
each_way = pytest.mark.parametrize(
    ("cuts", "double"), [((), False), (CUTS, False), (CUTS, True)], ids=["whole", "jax", "host"]
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def binary(rng, rows=60, shape=()):
    """Logits, targets that they tell something of, and weights of which some are zero."""
    logits = rng.normal(0, 2, (rows, *shape)).astype(np.float32)
    targets = (logits + rng.normal(0, 2, logits.shape) > 0).astype(np.int32)
    return logits, targets, rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows)


def categorical(rng, rows=60, classes=4, shape=()):
    logits = rng.normal(0, 2, (rows, *shape, classes)).astype(np.float32)
    targets = np.argmax(logits + rng.normal(0, 3, logits.shape), -1).astype(np.int32)
    return logits, targets, rng.integers(0, 4, rows) * rng.uniform(0.1, 2, rows)


def close(value, expected, **tolerance):
    assert np.shape(value) == np.shape(expected)
    np.testing.assert_allclose(value, expected, **{"rtol": 1e-6, "atol": 1e-7, **tolerance})


@each_way
def test_accuracy(rng, cuts, double):
    logits, targets, weight = binary(rng)
    expected = metrics.accuracy_score(targets, logits > 0, sample_weight=weight)
    close(measured(neuron.Accuracy(), logits, targets, weight, cuts, double=double), expected)
    expected = metrics.accuracy_score(targets, logits > 1.5, sample_weight=weight)
    metric = neuron.Accuracy(threshold=1.5)
    close(measured(metric, logits, targets, weight, cuts, double=double), expected)
    logits, targets, weight = categorical(rng)
    for k in (1, 2, 3, 4):
        # It warns that all of four classes is no task.
        expected = 1.0
        if k < 4:
            expected = metrics.top_k_accuracy_score(targets, logits, k=k, sample_weight=weight)
        close(measured(neuron.Accuracy(k), logits, targets, weight, cuts, double=double), expected)


def test_accuracy_in_double_precision(x64, rng):
    logits, targets, weight = categorical(rng)
    expected = metrics.top_k_accuracy_score(targets, logits, k=2, sample_weight=weight)
    close(measured(neuron.Accuracy(2), logits, targets, weight, CUTS), expected, rtol=1e-14)


def test_accuracy_of_several_targets_in_an_example(rng):
    logits, targets, weight = binary(rng, shape=(3,))
    expected = 1 - metrics.hamming_loss(targets, logits > 0, sample_weight=weight)
    close(measured(neuron.Accuracy(), logits, targets, weight, CUTS), expected)
    logits, targets, weight = categorical(rng, shape=(5,))
    expected = metrics.top_k_accuracy_score(
        targets.ravel(), logits.reshape(-1, 4), k=2, sample_weight=np.repeat(weight, 5)
    )
    close(measured(neuron.Accuracy(2), logits, targets, weight, CUTS), expected)


def test_equal_logits_rank_in_the_order_of_their_classes():
    logits = jnp.array([1.0, 3.0, 3.0, 3.0, 2.0])
    for target, first in {0: 5, 1: 1, 2: 2, 3: 3, 4: 4}.items():
        hits = [neuron.Accuracy(k).observe(logits, jnp.array(target))[0] for k in range(1, 6)]
        assert hits == [k >= first for k in range(1, 6)]
    # And so the confusion matrix, which follows argmax, agrees.
    matrix = measured(neuron.ConfusionMatrix(), logits[None], np.array([1]))
    assert matrix[1, 1] == 1
    # A logit at the threshold is not above it.
    hit = neuron.Accuracy(threshold=1).observe(jnp.array(1.0), jnp.array(0))[0]
    assert hit == 1


def test_what_is_nan_is_wrong():
    for target in (0, 1):
        assert neuron.Accuracy().observe(jnp.array(np.nan), jnp.array(target))[0] == 0
        logits = jnp.full(2, np.nan)
        for k in (1, 2):
            assert neuron.Accuracy(k).observe(logits, jnp.array(target))[0] == 0


@each_way
@pytest.mark.parametrize(("metric", "peer"), FOUND)
def test_what_is_found_of_one_side(rng, metric, peer, cuts, double):
    logits, targets, weight = binary(rng)
    for average in ("macro", "micro", "none"):
        value = measured(metric(average), logits, targets, weight, cuts, double=double)
        close(value, peer(targets, logits > 0, sample_weight=weight))
    value = measured(metric(threshold=-1), logits, targets, weight, cuts, double=double)
    close(value, peer(targets, logits > -1, sample_weight=weight))


@each_way
@pytest.mark.parametrize("average", ["macro", "micro", "none"])
@pytest.mark.parametrize(("metric", "peer"), FOUND)
def test_what_is_found_of_many(rng, metric, peer, average, cuts, double):
    words = {"average": None if average == "none" else average, "zero_division": 0}
    logits, targets, weight = categorical(rng)
    value = measured(metric(average), logits, targets, weight, cuts, double=double)
    close(value, peer(targets, logits.argmax(-1), sample_weight=weight, **words))
    logits, targets, weight = binary(rng, shape=(3,))
    value = measured(metric(average), logits, targets, weight, cuts, double=double)
    close(value, peer(targets, logits > 0, sample_weight=weight, **words))
    # Positions count one by one.
    logits, targets, weight = categorical(rng, shape=(5,))
    value = measured(metric(average), logits, targets, weight, cuts, double=double)
    flat = targets.ravel(), logits.reshape(-1, 4).argmax(-1)
    close(value, peer(*flat, sample_weight=np.repeat(weight, 5), **words))


@pytest.mark.parametrize(("metric", "peer"), FOUND)
def test_what_is_found_in_double_precision(x64, rng, metric, peer):
    logits, targets, weight = categorical(rng)
    expected = peer(targets, logits.argmax(-1), sample_weight=weight, average="macro")
    close(measured(metric(), logits, targets, weight, CUTS), expected, rtol=1e-14)


@pytest.mark.parametrize(("metric", "peer"), FOUND)
def test_zero_over_zero_is_zero(metric, peer):
    words = {"average": "macro", "zero_division": 0}
    # Class 1 is never predicted, class 2 never true, and class 3 neither.
    logits = np.eye(4, dtype=np.float32)[[0, 0, 2]]
    targets = np.array([0, 1, 1])
    close(measured(metric(), logits, targets), peer(targets, [0, 0, 2], **words))
    expected = peer(targets, [0, 0, 2], labels=range(4), average=None, zero_division=0)
    close(measured(metric("none"), logits, targets), expected)
    # Of several outputs none is left out.
    logits, targets = np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1, 0], [0, 0]])
    close(measured(metric(), logits, targets), peer(targets, logits > 0, **words))
    assert measured(metric(), np.array([-1.0]), np.array([0])) == 0


@each_way
@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_matrix(rng, normalize, cuts, double):
    metric = neuron.ConfusionMatrix(normalize)
    logits, targets, weight = categorical(rng)
    value = measured(metric, logits, targets, weight, cuts, double=double)
    words = {"sample_weight": weight, "normalize": normalize}
    close(value, metrics.confusion_matrix(targets, logits.argmax(-1), **words))
    logits, targets, weight = binary(rng)
    words = {"sample_weight": weight, "normalize": normalize}
    value = measured(metric, logits, targets, weight, cuts, double=double)
    close(value, metrics.confusion_matrix(targets, logits > 0, **words))


def test_confusion_matrix_keeps_its_place_for_a_class_that_never_occurs():
    logits, targets = np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 0])
    value = measured(neuron.ConfusionMatrix("true"), logits, targets)
    assert value.tolist() == [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]]


def test_confusion_matrix_counts_on_the_host_without_loss():
    # One more than single precision holds.
    total = np.array([[2.0**24 + 1, 0], [0, 1]])
    assert neuron.ConfusionMatrix().compute(total)[0, 0] == 2**24 + 1


@pytest.mark.parametrize("kind", DECIDING)
def test_targets_are_numbers_of_any_kind_or_one_hot(rng, kind):
    logits, targets, weight = binary(rng)
    expected = measured(kind(), logits, targets, weight)
    for dtype in (bool, np.uint8, np.float32):
        close(measured(kind(), logits, targets.astype(dtype), weight), expected)
    close(measured(kind(kind="binary"), logits, targets, weight), expected)
    logits, targets, weight = categorical(rng)
    expected = measured(kind(), logits, targets, weight)
    for one_hot in (np.eye(4), np.eye(4, dtype=bool)):
        close(measured(kind(kind="categorical"), logits, one_hot[targets], weight), expected)
    close(measured(kind(kind="categorical"), logits, targets.astype(np.uint8), weight), expected)


@pytest.mark.parametrize("kind", DECIDING)
def test_rows_without_weight_are_not_there(rng, kind):
    logits, targets, _ = categorical(rng, rows=20)
    weight = np.repeat([1, 0], 10)
    value = measured(kind(), logits, targets, weight)
    logits[10:] = np.nan
    close(measured(kind(), logits, targets, weight), value)
    close(measured(kind(), logits[:10], targets[:10]), value)


@pytest.mark.parametrize("kind", DECIDING)
def test_the_value_of_nothing(kind):
    for double in (False, True):
        value = measured(kind(), np.ones((3, 2)), np.zeros(3, int), np.zeros(3), double=double)
        expected = {neuron.Accuracy: np.nan, neuron.ConfusionMatrix: np.zeros((2, 2))}.get(kind, 0)
        np.testing.assert_array_equal(value, expected)


def test_the_threshold_changes_without_a_trace():
    traces = []

    @jax.jit
    def hit(metric):
        traces.append(metric)
        return metric.observe(jnp.array(0.4), jnp.array(1))[0]

    assert [hit(neuron.Accuracy(threshold=t)) for t in (0, 0.3, 0.5)] == [1, 1, 0]
    assert len(traces) == 1


@pytest.mark.parametrize("kind", DECIDING)
@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        ((4, 1), (4,), {}),
        ((4,), (4, 1), {}),
        ((1,), (), {}),
        ((), (1,), {}),
        ((3,), (), {"kind": "binary"}),
        ((), (), {"kind": "categorical"}),
        ((3,), (2,), {"kind": "categorical"}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(unchecked, kind, prediction, target, words):
    metric = kind(**words)
    logits, targets = jnp.ones(prediction), jnp.zeros(target, jnp.int32)
    with pytest.raises(ValueError, match="shape") as caught:
        metric.observe(logits, targets)
    for part in (repr(metric), str(prediction), str(target)):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="shape"):
        metric.check(logits, np.zeros((2, *target), np.int32))
    with pytest.raises(ValueError, match="shape"):
        jax.jit(lambda metric: metric.observe(logits, targets))(metric)


@pytest.mark.parametrize("kind", DECIDING)
@pytest.mark.parametrize(
    ("shape", "targets", "message"),
    [
        ((), [0, 1, 2], r"0 or 1; got 2 in row 2\."),
        ((), [0.0, 0.5], r"0 or 1; got 0\.5 in row 1\."),
        ((), [1, -1], r"0 or 1; got -1 in row 1\."),
        ((), [1.0, np.nan], r"0 or 1; got nan in row 1\."),
        ((2,), [0, 2], r"a class from 0 to 1; got 2 in row 1\."),
        ((3,), [0, 2, -1], r"a class from 0 to 2; got -1 in row 2\."),
        ((2, 3), [[0, 2], [0, 3]], r"a class from 0 to 2; got \[0 3\] in row 1\."),
    ],
)
def test_check_refuses_impossible_targets(kind, shape, targets, message):
    prediction, targets = jax.ShapeDtypeStruct(shape, np.float32), np.array(targets)
    kind().check(prediction, targets[:1])
    with pytest.raises(ValueError, match=rf"`{kind.__name__}\(.*takes targets that are {message}"):
        kind().check(prediction, targets)


def test_check_takes_one_hot_where_it_is_said():
    prediction, targets = jax.ShapeDtypeStruct((3,), np.float32), np.array([[0, 1.0, 0], [0, 0, 2]])
    neuron.Accuracy(kind="categorical").check(prediction, targets[:1])
    with pytest.raises(ValueError, match=r"one-hot, from 0 to 1; got \[0\. 0\. 2\.\] in row 1"):
        neuron.Accuracy(kind="categorical").check(prediction, targets)


def test_float_class_numbers_are_refused():
    with pytest.raises(
        ValueError, match=r"integer class numbers.*its float32 target of shape \(\)"
    ):
        neuron.Accuracy().observe(jnp.ones(3), jnp.array(1.0))


def test_several_outputs_have_no_confusion_matrix():
    with pytest.raises(ValueError, match=r'of shape \(3,\). One-hot targets need `kind="categ'):
        neuron.ConfusionMatrix().observe(jnp.ones(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: neuron.Accuracy(0), ValueError, r"`Accuracy\(top_k=...\)` must be at least 1; got 0\."),
        (lambda: neuron.Accuracy(1.5), TypeError, r"`Accuracy\(top_k=...\)` must be a whole number"),
        (lambda: neuron.Accuracy(threshold=np.nan), ValueError, r"`Accuracy\(threshold=...\)` must be finite; got nan"),
        (lambda: neuron.F1(threshold="0"), TypeError, r"`F1\(threshold=...\)` must be one real number"),
        (lambda: neuron.F1("weighted"), ValueError, r"`F1\(average=...\)` must be one of 'macro', 'micro', 'none'; got 'weighted'"),
        (lambda: neuron.Recall(None), ValueError, r"`Recall\(average=...\)` must be one of"),
        (lambda: neuron.Precision(kind="multi"), ValueError, r"`Precision\(kind=...\)` must be one of 'auto', 'binary', 'categorical'; got 'multi'"),
        (lambda: neuron.ConfusionMatrix("row"), ValueError, r"\(normalize=...\)` must be one of None, 'true', 'pred', 'all'; got 'row'"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(unchecked, make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_more_places_than_classes_are_refused():
    with pytest.raises(ValueError, match=r"logits for one target, 3 here; got 4\."):
        neuron.Accuracy(4).observe(jnp.ones(3), jnp.array(1))
    with pytest.raises(ValueError, match=r"logits for one target, 1 here; got 2\."):
        neuron.Accuracy(2).observe(jnp.ones(3), jnp.ones(3))


def test_metrics_print_their_arguments():
    assert repr(neuron.Accuracy(5)) == "Accuracy(top_k=5, threshold=0, kind='auto')"
    assert repr(neuron.ConfusionMatrix()) == "ConfusionMatrix(threshold=0, kind='auto')"
