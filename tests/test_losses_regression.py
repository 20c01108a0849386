"""Losses for numbers, against scikit-learn, SciPy and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import differences, score, scores_and_slopes
from scipy.spatial import distance
from sklearn import metrics

import neuron


def flat(metric, **options):
    """A metric of scikit-learn, which takes targets first, of one example."""
    return lambda p, t: metric(np.ravel(t), np.ravel(p), **options)


def cosine(p, t):
    rows = zip(p.reshape(-1, p.shape[-1]), t.reshape(-1, t.shape[-1]), strict=True)
    return np.mean([distance.cosine(*row) for row in rows])


FORMULAS = [
    (neuron.MeanSquaredLogError(), flat(metrics.mean_squared_log_error)),
    (neuron.MeanSquaredLogError(), lambda p, t: np.mean(np.log((1 + p) / (1 + t)) ** 2)),
    (neuron.MeanAbsolutePercentageError(), flat(metrics.mean_absolute_percentage_error)),
    (neuron.MeanAbsolutePercentageError(eps=1), lambda p, t: np.mean(abs(p - t) / np.maximum(abs(t), 1))),
    (neuron.LogCosh(), lambda p, t: np.mean(np.log(np.cosh(p - t)))),
    (neuron.LogCosh(), lambda p, t: np.mean(optax.losses.log_cosh(p, t))),
    (neuron.Quantile(0.5), flat(metrics.mean_pinball_loss)),
    (neuron.Quantile(0.9), flat(metrics.mean_pinball_loss, alpha=0.9)),
    (neuron.Quantile(0.2), lambda p, t: np.mean(np.where(t > p, 0.2 * (t - p), 0.8 * (p - t)))),
    (neuron.CosineSimilarity(), cosine),
    (neuron.CosineSimilarity(), lambda p, t: np.mean(optax.losses.cosine_distance(p, t))),
]  # fmt: skip
LOSSES = list({repr(loss): loss for loss, _ in FORMULAS}.values())
by_name = pytest.mark.parametrize("loss", LOSSES, ids=repr)
VECTORS = neuron.CosineSimilarity


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def close(value, expected, atol=1e-12):
    assert value.shape == ()
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=atol)


@pytest.mark.parametrize(("loss", "formula"), FORMULAS)
@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_is_the_formula(x64, rng, loss, formula, shape):
    if shape == () and isinstance(loss, VECTORS):
        shape = (1,)
    # Above -1, for the logarithms.
    prediction, target = jnp.asarray(rng.uniform(-0.9, 3, (2, *shape)))
    close(score(loss, prediction, target), formula(np.asarray(prediction), np.asarray(target)))


@by_name
def test_gradient_is_the_finite_difference(x64, rng, loss):
    prediction, target = jnp.asarray(rng.uniform(-0.5, 3, (2, 3, 4)))
    # No residual within reach of the kink at 0.
    prediction = jnp.where(abs(prediction - target) < 0.01, target + 0.1, prediction)
    slope, expected = differences(loss, prediction, target)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)


@by_name
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_value_and_gradient_are_finite(loss, dtype):
    # Zero, an exact fit, far off; the last number of each example is another.
    pairs = [(p, t) for p in (0.0, -0.9, 1.0, 100.0) for t in (0.5, 1.0, 100.0)]
    predictions, targets = jnp.repeat(jnp.array(pairs, dtype)[:, :, None], 3, axis=2).swapaxes(0, 1)
    for p, t in ((predictions, targets), (predictions.at[:, 2].set(0.5), targets)):
        values, slopes = scores_and_slopes(loss, p, t)
        assert values.dtype == slopes.dtype == dtype
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()


@by_name
def test_an_exact_fit_is_zero(x64, loss):
    target = jnp.array([0.5, 1.0, 3.0])
    values, slopes = scores_and_slopes(loss, target[None], target[None])
    close(values[0], 0.0)
    # The slope of a line with two sides lies between the two.
    bound = 0.4 + 1e-12 if isinstance(loss, neuron.Quantile) else 1e-12
    assert (abs(slopes) <= bound).all()


@by_name
@pytest.mark.parametrize("kind", [jnp.int8, jnp.uint8, jnp.int32])
def test_takes_whole_numbers_as_targets(x64, loss, kind):
    prediction = jnp.array([0.5, 1.0, 3.0])
    close(
        score(loss, prediction, jnp.array([2, 1, 100], kind)),
        score(loss, prediction, jnp.array([2.0, 1.0, 100.0])),
    )


@by_name
@pytest.mark.parametrize(("prediction", "target"), [((8, 1), (8,)), ((1,), ()), ((3,), (4,))])
def test_shapes_that_differ_are_refused(unchecked, loss, prediction, target):
    with pytest.raises(ValueError, match="same shape") as caught:
        loss(jnp.ones(prediction), jnp.ones(target))
    assert f"`{loss!r}`" in str(caught.value)
    with pytest.raises(ValueError, match="same shape"):
        jax.jit(lambda loss: loss(jnp.ones(prediction), jnp.ones(target)))(loss)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (neuron.MeanSquaredLogError(), [[0.0], [-1.0]], r"above -1; got \[-1\.\] in row 1\."),
        (neuron.MeanSquaredLogError(), [0.0, 1.0, np.nan], r"above -1; got nan in row 2\."),
        (neuron.CosineSimilarity(), [[0.0, 1.0], [0.0, 0.0]], r"not all zero; got \[0\. 0\.\] in row 1\."),
    ],
)  # fmt: skip
def test_check_refuses_impossible_targets(loss, targets, message):
    targets = np.array(targets)
    prediction = jax.ShapeDtypeStruct(targets.shape[1:], np.float32)
    loss.check(prediction, targets[:1])
    with pytest.raises(ValueError, match=message):
        loss.check(prediction, targets)


@by_name
def test_check_lets_other_targets_be(loss):
    loss.check(jax.ShapeDtypeStruct((2,), np.float32), np.array([[0.0, 1e30], [-0.9, 1.0]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neuron.Quantile(0), r"`Quantile\(level=...\)` must be in \(0, 1\); got 0\."),
        (lambda: neuron.Quantile(1.0), r"`Quantile\(level=...\)` must be in \(0, 1\); got 1\."),
        (lambda: neuron.Quantile(float("nan")), r"must be in \(0, 1\); got nan\."),
        (lambda: neuron.MeanAbsolutePercentageError(eps=0), r"\(eps=...\)` must be above 0; got 0\."),
        (lambda: neuron.CosineSimilarity(eps=-1), r"`CosineSimilarity\(eps=...\)` must be above 0"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_square_of_logarithms_is_of_what_is_above_minus_one():
    loss = neuron.MeanSquaredLogError()
    assert np.isnan(loss(jnp.array([-1.5]), jnp.array([1.0])))


def test_percentage_error_is_a_share_of_the_target():
    loss = neuron.MeanAbsolutePercentageError()
    np.testing.assert_allclose(
        score(loss, jnp.array([125.0, -50.0]), jnp.array([100.0, -100.0])), 0.375
    )
    np.testing.assert_allclose(score(loss, jnp.array(1.0), jnp.array(0.0)), 2.0**52)


def test_log_cosh_is_exact_near_a_fit_and_far_from_it(x64):
    loss, target = neuron.LogCosh(), jnp.zeros(())
    for size in (1e-8, 1e-4, 1e-2):
        # The series of log(cosh(r)).
        expected = size**2 / 2 - size**4 / 12 + size**6 / 45
        np.testing.assert_allclose(
            score(loss, jnp.asarray(size), target), expected, rtol=4e-16 / size
        )
        np.testing.assert_allclose(
            jax.grad(loss)(jnp.asarray(-size), target), -np.tanh(size), atol=1e-15
        )
    for size in (1e3, 1e300):
        close(score(loss, jnp.asarray(-size), target), size - np.log(2))
        close(jax.grad(loss)(jnp.asarray(-size), target), -1)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.75])
def test_quantile_is_least_at_the_quantile(x64, rng, level):
    targets = jnp.asarray(rng.normal(0, 1, (101,)))
    loss = neuron.Quantile(level)
    means = jax.vmap(lambda q: jnp.mean(jax.vmap(lambda t: loss(q, t))(targets)))(targets)
    assert targets[np.argmin(means)] == np.quantile(targets, level, method="inverted_cdf")


def test_cosine_of_a_vector_without_length_is_zero():
    loss = neuron.CosineSimilarity(eps=0.1)
    values, slopes = scores_and_slopes(loss, jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]))
    np.testing.assert_allclose(values, [1])
    np.testing.assert_allclose(slopes, [[-6, -8]], rtol=1e-6)
    assert score(neuron.CosineSimilarity(), jnp.array([1.0, 0]), jnp.array([-2.0, 0])) == 2


def test_cosine_takes_no_scalars():
    with pytest.raises(
        ValueError, match=r"takes vectors, of shape \(\.\.\., features\).* got shape \(\)"
    ):
        neuron.CosineSimilarity()(jnp.ones(()), jnp.ones(()))


@pytest.mark.parametrize("loss", [LOSSES[0], LOSSES[3], LOSSES[-1]], ids=repr)
def test_trains(loss):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (40, 2)).astype(np.float32)
    y = (x @ [[1.0, 2.0], [0.5, 0.2]]).astype(np.float32)
    model = neuron.Dense(2, 2, activation=jax.nn.softplus, key=jax.random.key(0))
    history = neuron.Trainer(model, loss, neuron.Adam(0.1)).fit(
        neuron.DataLoader((x, y), batch_size=16), epochs=10
    )
    assert np.mean(history["loss"][-3:]) < 0.8 * history["loss"][0]
