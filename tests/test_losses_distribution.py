"""Losses for distributions, against SciPy, scikit-learn and optax."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import differences, score, scores_and_slopes
from scipy import special, stats
from sklearn import metrics

import neuron


POISSON = neuron.PoissonNegativeLogLikelihood
GAUSSIAN = neuron.GaussianNegativeLogLikelihood
KL = neuron.KullbackLeibler
PREDICTIONS = {POISSON: (3,), GAUSSIAN: (2, 3), KL: (3,)}
LOSSES = [POISSON(), POISSON(full=True), GAUSSIAN(), GAUSSIAN(eps=0.01, full=True), KL()]
by_name = pytest.mark.parametrize("loss", LOSSES, ids=repr)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def close(value, expected):
    assert value.shape == ()
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_poisson(x64, rng, shape):
    log_rate = jnp.asarray(rng.normal(0, 2, shape))
    count = jnp.asarray(rng.poisson(4.0, shape)).astype(float)
    rate, t = np.exp(log_rate), np.asarray(count)
    close(
        score(POISSON(), log_rate, count),
        np.mean(-stats.poisson.logpmf(t, rate) - special.gammaln(t + 1)),
    )
    # A deviance is twice the distance to the best rate there is, the count itself.
    best = np.mean(t - special.xlogy(t, t))
    deviance = metrics.mean_poisson_deviance(t.ravel(), rate.ravel())
    close(score(POISSON(), log_rate, count), deviance / 2 + best)


def test_poisson_adds_stirlings_approximation_above_one(x64):
    loss, zero = POISSON(full=True), jnp.zeros(())
    for count in (0, 0.5, 1):
        close(score(loss, zero, jnp.asarray(float(count))), 1)
    for count in (2, 5, 100):
        missing = stats.poisson.logpmf(count, 1) + score(loss, zero, jnp.asarray(float(count)))
        # The first term that Stirling leaves out is 1 / (12 n).
        assert -1 / (12 * count) < missing < 0


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_gaussian(x64, rng, shape):
    mean, log_variance, target = jnp.asarray(rng.normal(0, 2, (3, *shape)))
    density = stats.norm.logpdf(target, mean, np.exp(np.asarray(log_variance) / 2))
    for pair in ((mean, log_variance), jnp.stack([mean, log_variance])):
        close(score(GAUSSIAN(full=True), pair, target), -np.mean(density))
        close(score(GAUSSIAN(), pair, target), -np.mean(density) - np.log(2 * np.pi) / 2)


def test_gaussian_counts_a_variance_as_eps_at_least(x64):
    loss, target = GAUSSIAN(eps=0.01), jnp.zeros(())

    def at(log_variance, mean=0.3):
        return jax.value_and_grad(loss)((jnp.asarray(mean), jnp.asarray(log_variance)), target)

    floor, (_, slope) = at(np.log(0.01))
    close(floor, (np.log(0.01) + 0.09 / 0.01) / 2)
    close(slope, (1 - 0.09 / 0.01) / 2)
    for log_variance in (-10.0, -100.0, -1e30):
        value, (of_mean, of_variance) = at(log_variance)
        close(value, floor)
        # It keeps pulling the variance up, and the mean to its place.
        close(of_variance, slope)
        close(of_mean, 30)


def test_gaussian_is_at_its_least_where_the_variance_is_the_square(x64):
    slopes = jax.grad(GAUSSIAN())((jnp.array(0.0), jnp.log(jnp.array(4.0))), jnp.array(2.0))
    close(slopes[0], -0.5)
    close(slopes[1], 0)


def test_kullback_leibler(x64, rng):
    logits = jnp.asarray(rng.normal(0, 3, (6,)))
    for target in (
        jnp.asarray(rng.dirichlet(np.ones(6))),
        jnp.array([0.5, 0, 0.5, 0, 0, 0]),
        jnp.eye(6)[2],
    ):
        p = special.softmax(np.asarray(logits))
        close(score(KL(), logits, target), np.sum(special.rel_entr(np.asarray(target), p)))
        close(score(KL(), logits, target), stats.entropy(target, p))
        close(
            score(KL(), logits, target),
            optax.losses.kl_divergence(jax.nn.log_softmax(logits), target),
        )
        crossed = neuron.CrossEntropy()
        close(score(KL(), logits, target), score(crossed, logits, target) - stats.entropy(target))
        np.testing.assert_allclose(
            jax.grad(KL())(logits, target), jax.grad(crossed)(logits, target), atol=1e-15
        )
        close(score(KL(), jnp.log(p), jnp.asarray(p)), 0)


def test_kullback_leibler_leaves_out_a_class_that_is_masked(x64):
    logits, target = jnp.array([1.0, -jnp.inf, 1.0]), jnp.array([0.5, 0.0, 0.5])
    value, slope = jax.value_and_grad(KL())(logits, target)
    close(value, 0)
    np.testing.assert_allclose(slope, np.zeros(3), atol=1e-15)


@by_name
def test_gradient_is_the_finite_difference(x64, rng, loss):
    prediction = jnp.asarray(rng.normal(0, 1, PREDICTIONS[type(loss)]))
    target = jnp.asarray(rng.dirichlet(np.ones(3)))

    slope, expected = differences(loss, prediction, target)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)


@by_name
@pytest.mark.parametrize(
    ("dtype", "most"), [(jnp.float16, 4), (jnp.float32, 80), (jnp.float64, 100)]
)
def test_value_and_gradient_are_finite(x64, loss, dtype, most):
    # exp(100) is beyond single precision, and so is the loss of such a rate.
    sizes = jnp.array([0.0, 1.0, -most, most], dtype)
    predictions = jnp.stack(
        [jnp.full(PREDICTIONS[type(loss)], s).at[..., 0].set(-s) for s in sizes]
    )
    for target in ([0, 0, 1], [1, 0, 0]):
        values, slopes = scores_and_slopes(loss, predictions, jnp.array(4 * [target], dtype))
        assert values.dtype == slopes.dtype == dtype
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()


def test_counts_may_be_whole_numbers(x64):
    log_rate = jnp.array([0.5, 1.0, 2.0])
    for loss in (POISSON(), POISSON(full=True)):
        close(
            score(loss, log_rate, jnp.array([0, 3, 200], jnp.uint8)),
            score(loss, log_rate, jnp.array([0.0, 3.0, 200.0])),
        )


@by_name
def test_shapes_that_differ_are_refused(unchecked, loss):
    prediction = jnp.ones(PREDICTIONS[type(loss)])
    for target in [(), (1,), (4,), (3, 1)]:
        with pytest.raises(ValueError, match="same shape") as caught:
            loss(prediction, jnp.ones(target))
        assert f"`{loss!r}`" in str(caught.value)
        with pytest.raises(ValueError, match="same shape"):
            jax.jit(lambda loss, t=target: loss(prediction, jnp.ones(t)))(loss)


@pytest.mark.parametrize("prediction", [(), (3,), (1, 2), (3, 2)])
def test_gaussian_refuses_what_is_no_pair(unchecked, prediction):
    with pytest.raises(ValueError, match="takes a pair, mean and log variance") as caught:
        GAUSSIAN()(jnp.ones(prediction), jnp.ones(2))
    assert str(prediction) in str(caught.value)


def test_gaussian_refuses_a_mean_without_its_variance(unchecked):
    with pytest.raises(ValueError, match=r"takes a pair.* got shape \(\(2,\),\)\."):
        GAUSSIAN()((jnp.ones(2),), jnp.ones(2))
    for pair in ((jnp.ones(2), jnp.ones(())), (jnp.ones(()), jnp.ones(2)), jnp.ones(2)):
        with pytest.raises(ValueError, match="same shape"):
            GAUSSIAN()(pair, jnp.ones(2))


@pytest.mark.parametrize("shape", [(), (4, 5)])
def test_kullback_leibler_refuses_predictions_that_are_no_vector(unchecked, shape):
    with pytest.raises(ValueError, match=r"one logit a class, of shape \(classes,\)"):
        KL()(jnp.ones(shape), jnp.ones(shape))


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (POISSON(), [0, 3, -1], r"at least 0; got -1 in row 2\."),
        (POISSON(), [[0.5], [np.nan]], r"at least 0; got \[nan\] in row 1\."),
        (KL(), [[0.5, 0.5], [1.5, -0.5]], r"probabilities, from 0 to 1; got \[ 1\.5 -0\.5\] in row 1\."),
        (KL(), [[0.5, 0.5], [0.5, 0.4]], r"probabilities, 1 in sum; got \[0\.5 0\.4\] in row 1\."),
    ],
)  # fmt: skip
def test_check_refuses_impossible_targets(loss, targets, message):
    targets = np.array(targets)
    prediction = jax.ShapeDtypeStruct(targets.shape[1:], np.float32)
    loss.check(prediction, targets[:1])
    with pytest.raises(ValueError, match=message):
        loss.check(prediction, targets)


def test_check_allows_for_half_precision():
    rows = np.random.default_rng(0).dirichlet(np.ones(1000), 50)
    KL().check(jax.ShapeDtypeStruct((1000,), np.float16), rows.astype(np.float16))


def test_check_lets_gaussian_targets_be():
    pair = (jax.ShapeDtypeStruct((), np.float32),) * 2
    GAUSSIAN().check(pair, np.array([-1e30, 0, 1e30]))


@pytest.mark.parametrize("eps", [0, -1.0, float("nan")])
def test_gaussian_refuses_an_eps_that_is_not_above_zero(eps):
    with pytest.raises(
        ValueError, match=r"`GaussianNegativeLogLikelihood\(eps=...\)` must be above 0"
    ):
        GAUSSIAN(eps=eps)


def test_trains_a_rate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    y = rng.poisson(np.exp(x @ [0.5, -0.3] + 1)).astype(np.int32)
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), POISSON(), neuron.Adam(0.05))
    trainer.fit(neuron.DataLoader((x, y), batch_size=64), epochs=50)
    np.testing.assert_allclose(trainer.model.weight, [[0.5, -0.3]], atol=0.15)


@pytest.mark.parametrize("pair", [False, True])
def test_trains_a_mean_and_its_variance(pair):
    class Pair(eqx.Module):
        both: neuron.Dense

        def __call__(self, x):
            mean, log_variance = self.both(x)
            return mean, log_variance

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1)).astype(np.float32)
    y = (2 * x[:, 0] + np.exp(x[:, 0] / 2) * rng.normal(size=400)).astype(np.float32)
    both = neuron.Dense(1, 2, key=jax.random.key(0))
    trainer = neuron.Trainer(Pair(both) if pair else both, GAUSSIAN(), neuron.Adam(0.05))
    trainer.fit(neuron.DataLoader((x, y), batch_size=100), epochs=60)
    weight = (trainer.model.both if pair else trainer.model).weight
    np.testing.assert_allclose(weight, [[2], [1]], atol=0.25)


def test_trains_a_distribution():
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    y = special.softmax(x @ [[1.0, 0.0, -1.0], [0.5, 1.0, 0.0]], axis=-1).astype(np.float32)
    trainer = neuron.Trainer(neuron.Dense(2, 3, key=jax.random.key(0)), KL(), neuron.Adam(0.1))
    loader = neuron.DataLoader((x, y), batch_size=32)
    trainer.fit(loader, epochs=30)
    assert trainer.evaluate(loader)["loss"] < 1e-3
