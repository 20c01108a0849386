"""Losses for classes, against scikit-learn, optax, and the formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import differences, score, scores_and_slopes
from scipy import special
from sklearn import metrics

import neuron
from neuron.types import Batch


WEIGHTS = [0.5, 2.0, 1.0, 4.0]
BINARY = [
    neuron.BinaryCrossEntropy(),
    neuron.BinaryCrossEntropy(positive_weight=3),
    neuron.BinaryCrossEntropy(positive_weight=[0.5, 2.0, 0.0]),
    neuron.BinaryFocal(),
    neuron.BinaryFocal(0, None),
    neuron.BinaryFocal(0.5, 0.9),
    neuron.Hinge(),
    neuron.SquaredHinge(),
]
MANY = [
    neuron.CrossEntropy(class_weight=WEIGHTS),
    neuron.CrossEntropy(label_smoothing=0.1, class_weight=np.array(WEIGHTS)),
    neuron.CategoricalFocal(),
    neuron.CategoricalFocal(0),
    neuron.CategoricalFocal(0.5),
]
LOSSES = BINARY + MANY
by_name = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def example(rng, loss):
    """A prediction and a target that fit the loss."""
    if loss in MANY:
        return jnp.asarray(rng.normal(0, 3, 4)), jnp.asarray(rng.integers(4))
    return jnp.asarray(rng.normal(0, 3, 3)), jnp.asarray(rng.integers(0, 2, 3))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def close(value, expected):
    assert value.shape == ()
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@jax.jit
def over_batch(loss, predictions, targets):
    """The value over a batch, as the step takes it."""

    class Same:
        def __call__(self, x):
            return x

    def terms(prediction, target):
        row = Batch(prediction, target)
        found, _ = neuron.Supervised(loss)(Same(), None, row, key=jax.random.key(0))
        return found.value, jnp.asarray(found.weight, found.value.dtype)

    values, weights = jax.vmap(terms)(predictions, targets)
    return loss.finish(jnp.sum(weights * values) / jnp.sum(weights))


@pytest.mark.parametrize("weight", [1, 0.0, 2.5, [0.5, 2.0, 3.0]])
def test_binary_cross_entropy_weighs_the_positives(x64, rng, weight):
    logits, target = jnp.asarray(rng.normal(0, 1, (3,))), jnp.asarray(rng.uniform(0, 1, (3,)))
    p, t = special.expit(np.asarray(logits)), np.asarray(target)
    expected = np.mean(-np.array(weight) * t * np.log(p) - (1 - t) * np.log(1 - p))
    close(score(neuron.BinaryCrossEntropy(positive_weight=weight), logits, target), expected)


def test_binary_cross_entropy_keeps_the_number_of_examples(x64, rng):
    # As `pos_weight` of PyTorch: the weights of the positives are not divided by.
    logits, targets = jnp.asarray(rng.normal(0, 1, (5,))), jnp.array([1, 0, 1, 1, 0])
    weight = np.where(targets, 3, 1)
    p = special.expit(np.where(targets, logits, -logits))
    expected = metrics.log_loss(
        np.ones(5), np.stack([1 - p, p], 1), labels=[0, 1], sample_weight=weight
    )
    loss = neuron.BinaryCrossEntropy(positive_weight=3)
    close(over_batch(loss, logits, targets), expected * weight.sum() / 5)


@pytest.mark.parametrize("gamma", [0, 0.5, 2.0, 5])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.25, 1])
def test_binary_focal(x64, rng, gamma, alpha):
    loss = neuron.BinaryFocal(gamma, alpha)
    logits, target = jnp.asarray(rng.normal(0, 3, (3, 4))), jnp.asarray(rng.random((3, 4)) < 0.5)
    p = special.expit(np.where(target, logits, -logits))
    weight = 1 if alpha is None else np.where(target, alpha, 1 - alpha)
    close(score(loss, logits, target), np.mean(-weight * (1 - p) ** gamma * np.log(p)))
    peer = optax.losses.sigmoid_focal_loss(logits, target.astype(float), alpha=alpha, gamma=gamma)
    close(score(loss, logits, target), np.mean(peer))
    if gamma == 0 and alpha is None:
        close(score(loss, logits, target), score(neuron.BinaryCrossEntropy(), logits, target))


@pytest.mark.parametrize("gamma", [0, 0.5, 2.0, 5])
def test_categorical_focal(x64, rng, gamma):
    loss, logits = neuron.CategoricalFocal(gamma), jnp.asarray(rng.normal(0, 3, (6,)))
    for target in range(6):
        p = special.softmax(np.asarray(logits))[target]
        close(score(loss, logits, jnp.array(target)), -((1 - p) ** gamma) * np.log(p))
    if gamma == 0:
        close(score(loss, logits, jnp.array(2)), score(neuron.CrossEntropy(), logits, jnp.array(2)))


def test_two_classes_are_one_logit(x64, rng):
    logits = jnp.asarray(rng.normal(0, 1, (2,)))
    one = score(neuron.BinaryFocal(1.5, None), logits[1] - logits[0], jnp.array(1))
    close(score(neuron.CategoricalFocal(1.5), logits, jnp.array(1)), one)


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_hinge(x64, rng, shape):
    margin, truth = jnp.asarray(rng.normal(0, 2, shape)), jnp.asarray(rng.random(shape) < 0.5)
    sign = np.where(truth, 1.0, -1.0)
    squared = np.mean(np.maximum(0, 1 - sign * margin) ** 2)
    # Coded -1 or 1, 0 or 1, or as truth values.
    for target in (jnp.asarray(sign), truth.astype(float), truth.astype(jnp.uint8), truth):
        loss = score(neuron.Hinge(), margin, target)
        close(loss, np.mean(optax.losses.hinge_loss(margin, sign)))
        if shape:
            close(loss, metrics.hinge_loss(np.ravel(truth), np.ravel(margin), labels=[False, True]))
        close(score(neuron.SquaredHinge(), margin, target), squared)


def test_hinge_is_flat_from_the_margin_on():
    for loss in (neuron.Hinge(), neuron.SquaredHinge()):
        for prediction in (1.0, 2.0):
            value, slope = jax.value_and_grad(loss)(jnp.array(-prediction), jnp.array(-1))
            assert (value, slope) == (0, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_class_weights_enter_the_mean_over_the_batch(x64, rng, smoothing):
    loss = neuron.CrossEntropy(label_smoothing=smoothing, class_weight=WEIGHTS)
    logits, targets = jnp.asarray(rng.normal(0, 3, (7, 4))), jnp.asarray(rng.integers(0, 4, 7))
    log_p, w = special.log_softmax(np.asarray(logits), axis=-1), np.array(WEIGHTS)
    own = w[targets]
    scores = -(1 - smoothing) * own * log_p[np.arange(7), targets] - smoothing / 4 * log_p @ w
    close(over_batch(loss, logits, targets), scores.sum() / own.sum())
    if smoothing == 0:
        expected = metrics.log_loss(targets, np.exp(log_p), labels=range(4), sample_weight=own)
        close(over_batch(loss, logits, targets), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_class_weights_of_probabilities_do_not(x64, rng, smoothing):
    loss = neuron.CrossEntropy(label_smoothing=smoothing, class_weight=WEIGHTS)
    logits, targets = (
        jnp.asarray(rng.normal(0, 3, (7, 4))),
        jnp.asarray(rng.dirichlet(np.ones(4), 7)),
    )
    q = (1 - smoothing) * np.asarray(targets) + smoothing / 4
    expected = -np.sum(q * WEIGHTS * special.log_softmax(np.asarray(logits), axis=-1)) / 7
    close(over_batch(loss, logits, targets), expected)


def test_equal_class_weights_change_nothing(x64, rng):
    logits, targets = jnp.asarray(rng.normal(0, 3, (7, 4))), jnp.asarray(rng.integers(0, 4, 7))
    for smoothing in (0.0, 0.2):
        plain = neuron.CrossEntropy(label_smoothing=smoothing)
        equal = neuron.CrossEntropy(label_smoothing=smoothing, class_weight=[3, 3, 3, 3])
        close(over_batch(equal, logits, targets), over_batch(plain, logits, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_without_weight_is_left_out(x64, rng, smoothing):
    loss = neuron.CrossEntropy(label_smoothing=smoothing, class_weight=[1.0, 0.0, 2.0])
    logits, targets = jnp.asarray(rng.normal(0, 1, (6, 3))), jnp.array([0, 1, 2, 1, 0, 2])
    kept = targets != 1
    close(over_batch(loss, logits, targets), over_batch(loss, logits[kept], targets[kept]))
    slope = jax.grad(over_batch, argnums=1)(loss, logits, targets)
    assert np.isfinite(slope).all()
    assert (slope[~kept] == 0).all()


def test_a_trainer_takes_the_weighted_mean(rng):
    x, y = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 4, 50)
    rows = np.arange(1, 51, dtype=np.float32)
    model = neuron.Dense(3, 4, key=jax.random.key(0))
    trainer = neuron.Trainer(model, neuron.CrossEntropy(class_weight=WEIGHTS))
    log_p = special.log_softmax(x @ np.asarray(model.weight).T + np.asarray(model.bias), axis=-1)
    weight = rows * np.array(WEIGHTS)[y]
    expected = np.sum(-log_p[np.arange(50), y] * weight) / weight.sum()
    # With a short last batch, and beside the weights of the rows.
    value = trainer.evaluate(neuron.DataLoader((x, y, rows), 16))["loss"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    history = trainer.fit(neuron.DataLoader((x, y, rows), 50), epochs=1)
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


def test_an_example_counts_once_unless_its_class_has_a_weight(x64):
    for target in (jnp.array(1), jnp.array([0.0, 1.0, 0.0, 0.0])):
        assert neuron.CrossEntropy().weight(target) == 1
    loss = neuron.CrossEntropy(class_weight=WEIGHTS)
    assert loss.weight(jnp.array(1)) == 2
    assert loss.weight(jnp.array([0.0, 1.0, 0.0, 0.0])) == 1
    assert neuron.Hinge().weight(jnp.array(1)) == 1


@by_name
def test_gradient_is_the_finite_difference(x64, rng, loss):
    prediction, target = example(rng, loss)
    # No margin within reach of the kink at 1.
    prediction = jnp.where(abs(abs(prediction) - 1) < 0.01, 1.1, prediction)

    slope, expected = differences(loss, prediction, target)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)


@by_name
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_value_and_gradient_are_finite(loss, dtype):
    shape = (4,) if loss in MANY else (3,)
    sizes = jnp.array([0.0, 1.0, 100.0, -100.0], dtype)
    predictions = jnp.stack([jnp.full(shape, -size).at[0].set(size) for size in sizes])
    for target in (0, 1):
        targets = jnp.full(4 if loss in MANY else (4, 3), target)
        values, slopes = scores_and_slopes(loss, predictions, targets)
        assert values.dtype == slopes.dtype == dtype
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_losses_keep_a_small_slope(x64, gamma):
    # p is 1 to double precision, and 1 - p is not 0.
    rest = np.exp(-100)
    one, many = neuron.BinaryFocal(gamma, None), neuron.CategoricalFocal(gamma)
    values, slopes = scores_and_slopes(one, jnp.array([100.0]), jnp.array([1]))
    np.testing.assert_allclose(values, [rest ** (gamma + 1)], rtol=1e-10)
    np.testing.assert_allclose(slopes, [-(gamma + 1) * rest ** (gamma + 1)], rtol=1e-10)
    # And p is 0.
    values, slopes = scores_and_slopes(many, jnp.array([[-100.0, 0.0]]), jnp.array([0]))
    np.testing.assert_allclose(values, [100], rtol=1e-12)
    np.testing.assert_allclose(slopes, [[-1, 1]], rtol=1e-12)


@by_name
def test_shapes_that_differ_are_refused(unchecked, loss):
    for prediction, target in [((4, 1), (4,)), ((4,), (4, 1)), ((), (4,)), ((4,), (3,))]:
        with pytest.raises(ValueError, match="shape") as caught:
            loss(jnp.ones(prediction), jnp.ones(target))
        assert type(loss).__name__ in str(caught.value)
        with pytest.raises(ValueError, match="shape"):
            jax.jit(lambda loss, p=prediction, t=target: loss(jnp.ones(p), jnp.ones(t)))(loss)


@pytest.mark.parametrize("target", [jnp.array(1.0), jnp.array([0.0, 1.0, 0.0]), jnp.array([1])])
def test_categorical_focal_refuses_what_is_no_class_number(target):
    with pytest.raises(ValueError, match=r"takes a class number, of shape \(\).*`targets\.argmax"):
        neuron.CategoricalFocal()(jnp.ones(3), target)


def test_weights_that_do_not_fit_the_outputs_are_refused(unchecked):
    with pytest.raises(
        ValueError, match=r"one number for each class, of shape \(3,\) here; got shape \(4,\)\."
    ):
        neuron.CrossEntropy(class_weight=WEIGHTS)(jnp.ones(3), jnp.array(1))
    with pytest.raises(
        ValueError, match=r"one for each output, of shape \(3,\) here; got shape \(2,\)\."
    ):
        neuron.BinaryCrossEntropy(positive_weight=[1.0, 2.0])(jnp.ones(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (neuron.BinaryFocal(), [0, 1, 2], r"0 or 1; got 2 in row 2\."),
        (neuron.BinaryFocal(), [[1.0], [0.5]], r"0 or 1; got \[0\.5\] in row 1\."),
        (neuron.Hinge(), [1.0, 0.0, 2.0], r"-1 or 1, or else 0 or 1; got 2\.0 in row 2\."),
        (neuron.Hinge(), [1, 0, -1], r"-1 or 1, as the others are; got 0 in row 1\."),
        (neuron.SquaredHinge(), [[1.0], [np.nan]], r"or else 0 or 1; got \[nan\] in row 1\."),
        (neuron.CrossEntropy(class_weight=[1, 2]), [0, 1, 2], r"a class from 0 to 1; got 2 in row 2\."),
        (neuron.CategoricalFocal(), [0, -1, 2], r"a class from 0 to 1; got -1 in row 1\."),
        (neuron.BinaryCrossEntropy(positive_weight=2), [0.0, 1.1], r"from 0 to 1; got 1\.1 in row 1\."),
    ],
)  # fmt: skip
def test_check_refuses_impossible_targets(loss, targets, message):
    targets = np.array(targets)
    shape = (
        (2,)
        if targets.ndim == 1 and isinstance(loss, tuple(map(type, MANY)))
        else targets.shape[1:]
    )
    prediction = jax.ShapeDtypeStruct(shape, np.float32)
    loss.check(prediction, targets[:1])
    with pytest.raises(ValueError, match=message):
        loss.check(prediction, targets)


@pytest.mark.parametrize("loss", [neuron.Hinge(), neuron.SquaredHinge()], ids=repr)
@pytest.mark.parametrize("targets", [[-1, 1], [0, 1], [1, 1], [True, False], [-1.0, -1.0]])
def test_check_takes_either_code_of_two_sides(loss, targets):
    loss.check(jax.ShapeDtypeStruct((), np.float32), np.array(targets))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: neuron.BinaryFocal(-1), ValueError, r"`BinaryFocal\(gamma=...\)` must be at least 0; got -1\."),
        (lambda: neuron.BinaryFocal(alpha=1.1), ValueError, r"`BinaryFocal\(alpha=...\)` must be in \[0, 1\]; got 1\.1\."),
        (lambda: neuron.CategoricalFocal(np.nan), ValueError, r"`CategoricalFocal\(gamma=...\)` must be at least 0"),
        (lambda: neuron.CrossEntropy(class_weight=[1, -1]), ValueError, r"\(class_weight=...\)` must be finite and at least 0; got \[1, -1\]"),
        (lambda: neuron.CrossEntropy(class_weight=[1, np.inf]), ValueError, r"must be finite and at least 0"),
        (lambda: neuron.CrossEntropy(class_weight={0: 1.0, 1: 2.0}), TypeError, r"must be real numbers; got \{0: 1"),
        (lambda: neuron.CrossEntropy(class_weight="balanced"), TypeError, r"must be real numbers; got 'balanced'"),
        (lambda: neuron.BinaryCrossEntropy(positive_weight=-2.0), ValueError, r"\(positive_weight=...\)` must be finite and at least 0; got -2"),
        (lambda: neuron.BinaryCrossEntropy(positive_weight=True), TypeError, r"must be real numbers; got True"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_weights_change_without_a_trace():
    traces = []

    @jax.jit
    def value(loss):
        traces.append(loss)
        return score(loss, jnp.zeros(2), jnp.array(0)) * loss.weight(jnp.array(0))

    values = [value(neuron.CrossEntropy(class_weight=[w, 1])) for w in (1, 2.0, 4.0)]
    np.testing.assert_allclose(values, np.log(2) * np.array([1, 2, 4]), rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("loss", [BINARY[3], MANY[1]], ids=repr)
def test_trains(loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    if loss in MANY:
        outputs, y = 4, (2 * (x[:, 0] > 0) + (x[:, 1] > 0)).astype(np.int32)
    else:
        outputs, y = 3, (x @ rng.normal(size=(2, 3)) > 0).astype(np.int32)
    model = neuron.Dense(2, outputs, key=jax.random.key(0))
    trainer = neuron.Trainer(model, loss, neuron.Adam(0.1))
    history = trainer.fit(neuron.DataLoader((x, y), batch_size=16), epochs=10)
    assert np.mean(history["loss"][-4:]) < 0.7 * np.mean(history["loss"][:4])
