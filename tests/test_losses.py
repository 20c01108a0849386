"""Losses. Their numbers are compared with optax, SciPy, and the formulas in NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads
from scipy import special

import neuron


REGRESSION = [
    (neuron.MeanSquaredError(), lambda p, t: (p - t) ** 2),
    (neuron.MeanSquaredError(), optax.losses.squared_error),
    (neuron.RootMeanSquaredError(), optax.losses.squared_error),
    (neuron.MeanAbsoluteError(), lambda p, t: np.abs(p - t)),
    (neuron.Huber(), lambda p, t: special.huber(1, p - t)),
    (neuron.Huber(0.3), lambda p, t: special.huber(0.3, p - t)),
    (neuron.Huber(2), lambda p, t: optax.losses.huber_loss(p, t, delta=2)),
]
LOSSES = [
    neuron.MeanSquaredError(),
    neuron.RootMeanSquaredError(),
    neuron.MeanAbsoluteError(),
    neuron.Huber(0.7),
    neuron.BinaryCrossEntropy(),
    neuron.CrossEntropy(),
    neuron.CrossEntropy(label_smoothing=0.2),
]
by_name = pytest.mark.parametrize("loss", LOSSES, ids=repr)
numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


def close(value, expected):
    assert value.shape == ()
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("loss", "formula"), REGRESSION)
@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_regression(x64, getkey, loss, formula, shape):
    prediction, target = 2 * jr.normal(getkey(), (2, *shape))
    close(loss(prediction, target), np.mean(formula(prediction, target)))


@pytest.mark.parametrize(("loss", "formula"), REGRESSION)
def test_regression_for_any_numbers(x64, loss, formula):
    @given(arrays(np.float64, (2, 3), elements=numbers))
    @settings(max_examples=30, deadline=None)
    def holds(pair):
        prediction, target = jnp.asarray(pair)
        close(loss(prediction, target), np.mean(formula(*pair)))

    holds()


def test_huber_is_smooth_where_its_parabola_ends(x64):
    # Value and slope of both branches agree at |r| = delta.
    loss = neuron.Huber(0.5)
    for size in (0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)):
        for sign in (-1, 1):
            close(loss(jnp.asarray(sign * size), jnp.zeros(())), 0.125)
            close(jax.grad(loss)(jnp.asarray(sign * size), jnp.zeros(())), sign * 0.5)


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_binary_cross_entropy(x64, getkey, shape):
    loss = neuron.BinaryCrossEntropy()
    logits = 3 * jr.normal(getkey(), shape)
    for target in (jr.uniform(getkey(), shape), jr.bernoulli(getkey(), shape=shape).astype(float)):
        close(
            loss(logits, target), np.mean(optax.losses.sigmoid_binary_cross_entropy(logits, target))
        )
        p = special.expit(np.asarray(logits))
        close(loss(logits, target), np.mean(-target * np.log(p) - (1 - target) * np.log(1 - p)))


def test_binary_cross_entropy_takes_any_kind_of_target(x64):
    loss = neuron.BinaryCrossEntropy()
    logits = jnp.array([0.3, -2.0])
    for kind in (bool, jnp.int32, jnp.uint8, jnp.float32):
        close(loss(logits, jnp.array([1, 0], kind)), loss(logits, jnp.array([1.0, 0.0])))


@given(logit=numbers, target=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_binary_cross_entropy_is_finite_for_any_logit(logit, target):
    expected = np.logaddexp(0, logit) - logit * target
    loss, slope = jax.value_and_grad(neuron.BinaryCrossEntropy())(
        jnp.float32(logit), jnp.float32(target)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(slope, special.expit(logit) - target, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 0.0, 0.1, 1.0])
def test_cross_entropy(x64, getkey, smoothing):
    loss = neuron.CrossEntropy(label_smoothing=smoothing)
    logits = 3 * jr.normal(getkey(), (6,))
    soft = jax.nn.softmax(jr.normal(getkey(), (6,)))

    smooth = optax.smooth_labels(soft, smoothing)
    close(loss(logits, soft), optax.losses.softmax_cross_entropy(logits, smooth))
    q = (1 - smoothing) * np.asarray(soft) + smoothing / 6
    close(loss(logits, soft), -np.sum(q * special.log_softmax(np.asarray(logits))))

    for target in range(6):
        smooth = optax.smooth_labels(jax.nn.one_hot(target, 6), smoothing)
        expected = optax.losses.softmax_cross_entropy(logits, smooth)
        for kind in (jnp.int32, jnp.uint8, jnp.int64):
            close(loss(logits, jnp.asarray(target, kind)), expected)
        close(loss(logits, jax.nn.one_hot(target, 6)), expected)


def test_cross_entropy_of_a_class_is_optax_to_the_integer_label(x64, getkey):
    logits = 3 * jr.normal(getkey(), (6,))
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.array(2))
    close(neuron.CrossEntropy()(logits, jnp.array(2)), expected)


def test_cross_entropy_leaves_out_a_class_that_is_masked(x64):
    # Minus infinity is how a class is ruled out.
    logits = jnp.array([1.0, -jnp.inf, 2.0])
    loss, slope = jax.value_and_grad(neuron.CrossEntropy())(logits, jnp.array(0))
    close(loss, np.log(1 + np.e))
    np.testing.assert_allclose(slope, [-special.expit(1), 0, special.expit(1)], rtol=1e-12)


def test_cross_entropy_is_finite_for_any_logits():
    @given(arrays(np.float32, 4, elements=st.floats(-1e3, 1e3, width=32)), st.integers(0, 3))
    @settings(max_examples=30, deadline=None)
    def holds(logits, target):
        expected = -special.log_softmax(logits.astype(np.float64))[target]
        loss, slope = jax.value_and_grad(neuron.CrossEntropy())(
            jnp.asarray(logits), jnp.array(target)
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-4)
        expected = special.softmax(logits.astype(np.float64)) - np.eye(4)[target]
        np.testing.assert_allclose(slope, expected, atol=1e-4)

    holds()


@by_name
def test_gradients_are_finite_differences(x64, getkey, loss):
    prediction = jr.normal(getkey(), (5,))
    target = jax.nn.softmax(jr.normal(getkey(), (5,)))
    # No residual within reach of a kink: of |r| at 0, of Huber's slope at 0.7.
    prediction = jnp.where(abs(prediction - target) < 0.01, target + 0.1, prediction)

    def value(prediction):
        return loss.finish(loss(jnp.asarray(prediction), target))

    check_grads(value, (prediction,), order=1, modes=("fwd", "rev"), eps=1e-5, atol=1e-5, rtol=1e-5)


@by_name
def test_finish_is_the_mean_or_its_root(x64, loss):
    means = jnp.array([0.0, 1e-300, 0.25, 2.0, 1e300])
    root = isinstance(loss, neuron.RootMeanSquaredError)
    expected = np.sqrt(means) if root else means
    np.testing.assert_allclose(jax.vmap(loss.finish)(means), expected, rtol=1e-15)


def test_root_mean_square_is_taken_of_the_whole_batch(x64, getkey):
    loss = neuron.RootMeanSquaredError()
    predictions, targets = jr.normal(getkey(), (2, 8, 3))

    def value(predictions):
        return loss.finish(jnp.mean(jax.vmap(loss)(predictions, targets)))

    residuals = np.asarray(predictions - targets)
    rmse = np.sqrt(np.mean(residuals**2))
    close(value(predictions), rmse)
    np.testing.assert_allclose(
        jax.grad(value)(predictions), residuals / (rmse * residuals.size), rtol=1e-12
    )


def test_root_mean_square_has_no_slope_at_an_exact_fit():
    loss = neuron.RootMeanSquaredError()
    target = jnp.array([1.0, -2.0])

    def value(prediction):
        return loss.finish(loss(jnp.asarray(prediction), target))

    for differentiate in (jax.grad, jax.jacfwd):
        assert value(target) == 0
        assert differentiate(value)(target).tolist() == [0, 0]
        assert differentiate(loss.finish)(jnp.zeros(())) == 0


@by_name
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
@pytest.mark.parametrize("double", [False, True])
def test_keeps_the_type_of_the_prediction(request, loss, dtype, double):
    if double:
        request.getfixturevalue("x64")
    value = jax.eval_shape(loss, jnp.ones(3, dtype), jnp.ones(3, dtype))
    assert value.dtype == jax.eval_shape(loss.finish, value).dtype == dtype


@by_name
@pytest.mark.parametrize(
    ("prediction", "target"),
    [((8, 1), (8,)), ((8,), (8, 1)), ((1,), ()), ((), (1,)), ((3,), (4,)), ((2, 3), (3, 2))],
)
def test_shapes_that_differ_are_refused(unchecked, loss, prediction, target):
    with pytest.raises(ValueError, match="shape") as caught:
        loss(jnp.ones(prediction), jnp.ones(target))
    assert repr(loss) in str(caught.value)
    assert str(prediction) in str(caught.value)


@by_name
def test_shapes_are_refused_inside_a_compiled_program(unchecked, loss):
    # Where the numbers of a loss are traced, and so can not be printed.
    with pytest.raises(ValueError, match="shape"):
        jax.jit(lambda loss: loss(jnp.ones(2), jnp.ones(3)))(loss)


def test_cross_entropy_refuses_class_numbers_that_are_no_scalar():
    loss = neuron.CrossEntropy()
    for shape in [(1,), (3,), (3, 1)]:
        with pytest.raises(ValueError, match=r"takes a class number, of shape \(\)"):
            loss(jnp.ones(3), jnp.zeros(shape, jnp.int32))


@pytest.mark.parametrize("shape", [(), (4, 5)])
@pytest.mark.parametrize("target", [jnp.array(1), jnp.ones((4, 5))])
def test_cross_entropy_refuses_predictions_that_are_no_vector(unchecked, shape, target):
    with pytest.raises(ValueError, match="shape"):
        neuron.CrossEntropy()(jnp.ones(shape), target)


def test_check_refuses_classes_that_do_not_exist():
    loss, prediction = neuron.CrossEntropy(), jax.ShapeDtypeStruct((3,), np.float32)
    loss.check(prediction, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"a class from 0 to 2; got 3 in row 1\."):
        loss.check(prediction, np.array([0, 3, -1]))
    with pytest.raises(ValueError, match=r"a class from 0 to 2; got -1 in row 2\."):
        loss.check(prediction, np.array([0, 2, -1]))


def test_check_refuses_what_is_no_probability():
    prediction = jax.ShapeDtypeStruct((2,), np.float32)
    good = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    for loss in (neuron.CrossEntropy(), neuron.BinaryCrossEntropy()):
        loss.check(prediction, good)
        for bad in (-0.01, 1.01):
            targets = good.copy()
            targets[1, 0] = bad
            with pytest.raises(ValueError, match=r"from 0 to 1; got \[.*\] in row 1\."):
                loss.check(prediction, targets)


def test_check_lets_regression_targets_be():
    for loss, _ in REGRESSION:
        loss.check(jax.ShapeDtypeStruct((), np.float32), np.array([-1e30, 0, 1e30]))


@pytest.mark.parametrize("delta", [0, -1.0, float("nan"), float("inf")])
def test_huber_refuses_a_delta_that_is_not_above_zero(delta):
    with pytest.raises(ValueError, match=r"`Huber\(delta=...\)` must be above 0; got"):
        neuron.Huber(delta)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_cross_entropy_refuses_a_share_outside_of_one(share):
    with pytest.raises(
        ValueError, match=r"`CrossEntropy\(label_smoothing=...\)` must be in \[0, 1\]"
    ):
        neuron.CrossEntropy(label_smoothing=share)


def test_numbers_of_a_loss_change_without_a_trace(getkey):
    traces = []

    @jax.jit
    def value(loss):
        traces.append(loss)
        return loss(jnp.array([3.0]), jnp.array([0.0]))

    assert [value(neuron.Huber(d)) for d in (0.5, 1.0, 2)] == [1.375, 2.5, 4]
    assert len(traces) == 1


def test_losses_print_their_numbers():
    assert repr(neuron.Huber(0.5)) == "Huber(delta=0.5)"
    assert repr(neuron.CrossEntropy(label_smoothing=0.1)) == "CrossEntropy(label_smoothing=0.1)"


def test_a_loss_of_your_own_is_one_method():
    class Cubic(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.mean(jnp.abs(prediction - target) ** 3)

    loss = Cubic()
    assert loss(jnp.array([2.0]), jnp.array([0.0])) == 8
    assert loss.finish(jnp.array(8.0)) == 8
    assert loss.check(jax.ShapeDtypeStruct((1,), np.float32), np.ones((2, 1))) is None
    with pytest.raises(TypeError, match="abstract"):
        neuron.Loss()
