"""One step, by itself: gradients, padding, weights, commits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.objectives import as_objective
from neuron.optimizers import as_optimizer
from neuron.rows import Cut
from neuron.state import initial_state
from neuron.step import Scoring, Task, evaluation_step, training_step
from neuron.trees import on_entry
from neuron.types import Batch


rng = np.random.default_rng(5)
X = rng.normal(size=(12, 3)).astype(np.float32)
Y = rng.normal(size=12).astype(np.float32)
W = rng.random(12).astype(np.float32)


def setting(loss=None, optimizer=None, model=None, skip=False, data=(X, Y), batch_size=4):
    device = jax.devices()[0]
    model = neuron.Dense(3, key=jax.random.key(0)) if model is None else model
    optimizer = on_entry(as_optimizer(optimizer or neuron.SGD(1.0)), device)
    params, frozen = eqx.partition(model, eqx.is_inexact_array)
    state = on_entry(initial_state(params, None, optimizer.init(params)), device)
    objective = as_objective(loss or neuron.MeanSquaredError())
    seed = np.zeros(2, np.uint32)
    scoring = Scoring(objective, {}, None)
    task = Task(
        frozen,
        scoring,
        optimizer,
        None,
        neuron.Sequential(),
        seed,
        Cut(len(X), batch_size, 3),
        batch_size,
        skip,
    )
    return state, on_entry(task, device), on_entry(Batch(*data), device)


def indices(*rows):
    return jnp.array(rows, jnp.int32)


@pytest.mark.parametrize(
    "loss", [neuron.MeanSquaredError(), neuron.RootMeanSquaredError(), neuron.Huber(0.3)]
)
@pytest.mark.parametrize("weight", [None, W])
def test_the_gradient_is_that_of_the_finished_weighted_mean(loss, weight, x64):
    x, y = X.astype(np.float64), Y.astype(np.float64)
    data = (x, y) if weight is None else (x, y, weight.astype(np.float64))
    state, task, data = setting(loss, data=data)
    new, record = training_step(state, task, data, indices(7, 2, 2, -1))

    rows = np.array([7, 2, 2])
    w = np.ones(3) if weight is None else weight[rows].astype(np.float64)

    def value(flat):
        prediction = x[rows] @ flat[:3] + flat[3]
        scores = np.array(
            [
                float(loss(jnp.asarray(p), jnp.asarray(t)))
                for p, t in zip(prediction, y[rows], strict=True)
            ]
        )
        return float(loss.finish(jnp.asarray((w * scores).sum() / w.sum())))

    before = np.append(state.params.weight, state.params.bias)
    slope = [(value(before + h) - value(before - h)) / 2e-6 for h in 1e-6 * np.eye(4)]
    after = np.append(new.params.weight, new.params.bias)
    np.testing.assert_allclose(before - after, slope, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(record["loss"], value(before), rtol=1e-12)
    np.testing.assert_allclose(record["loss_weight"], w.sum(), rtol=1e-12)


def test_padding_is_removed_whatever_it_would_score():
    """The padded row's own score is infinite here, and 0 x inf is NaN."""

    class Pole(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.where(target > 0, (prediction - target) ** 2, jnp.inf)

    y = np.array([-1.0, *[1.0] * 11], np.float32)
    state, task, data = setting(Pole(), data=(X, y))
    whole = training_step(state, task, data, indices(3, 4, 5, 6))[0]
    assert np.isfinite(whole.params.weight).all()
    padded = training_step(state, task, data, indices(3, 4, -1, -1))[0]
    alone = training_step(state, task, data, indices(3, 4))[0]
    np.testing.assert_allclose(padded.params.weight, alone.params.weight, rtol=1e-6)


def test_a_batch_of_one_real_row_is_that_row():
    state, task, data = setting()
    padded = training_step(state, task, data, indices(5, -1, -1, -1))[0]
    alone = training_step(state, task, data, indices(5))[0]
    np.testing.assert_allclose(padded.params.weight, alone.params.weight, rtol=1e-6)


def test_counters_advance_and_epochs_end():
    state, task, data = setting()
    seen = []
    for _ in range(4):
        state, _ = training_step(state, task, data, indices(0, 1, 2, 3))
        seen.append((int(state.step[1]), int(state.epoch[1]), int(state.position)))
    assert seen == [(1, 0, 1), (2, 0, 2), (3, 1, 0), (4, 1, 1)]


@pytest.mark.parametrize("skip", [False, True])
def test_a_step_that_is_not_finite_changes_nothing_but_its_counters(skip):
    y = Y.copy()
    y[2] = np.inf
    state, task, data = setting(optimizer=neuron.Adam(0.1), skip=skip, data=(X, y))
    new, record = training_step(state, task, data, indices(0, 1, 2, 3))
    assert bool(new.stopped) is not skip
    assert int(new.step[1]) == int(new.skipped[1]) == int(skip)
    kept, before = ((s.params, s.opt_state) for s in (new, state))
    assert eqx.tree_equal(kept, before)
    assert not np.isfinite(record["loss"])
    assert (record["loss_sum"], record["loss_weight"]) == (0, 0)


class Roots(neuron.Objective):
    """A finite value whose slope at a weight of 0 is infinite."""

    def __call__(self, model, model_state, example, *, key):
        return neuron.Terms(sum(jnp.sum(jnp.sqrt(leaf)) for leaf in model)), None


@pytest.mark.parametrize("place", range(5))
def test_one_number_of_a_gradient_is_enough_to_refuse_it(place):
    shapes = [(), (3,), (4, 5), (2, 3, 3, 3), (1, 7)]
    weights = [np.ones(shape, np.float32) for shape in shapes]
    state, task, data = setting(Roots(), neuron.SGD(0.1), weights)
    assert not training_step(state, task, data, indices(0))[0].stopped
    weights[place].reshape(-1)[-1] = 0
    state, task, data = setting(Roots(), neuron.SGD(0.1), weights)
    new, record = training_step(state, task, data, indices(0))
    assert new.stopped
    assert np.isfinite(record["loss"])
    assert eqx.tree_equal(new.params, state.params)


def test_the_largest_numbers_are_finite():
    class Steep(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            return neuron.Terms(jnp.finfo(jnp.float32).max * jnp.sum(model)), None

    state, task, data = setting(Steep(), neuron.SGD(0.0), np.zeros((3, 4), np.float32))
    assert not training_step(state, task, data, indices(0))[0].stopped


def test_an_empty_parameter_is_finite():
    model = [np.ones(2, np.float32), np.ones((0, 3), np.float32), np.ones((3, 0), np.float32)]
    state, task, data = setting(Roots(), neuron.SGD(0.1), model)
    assert not training_step(state, task, data, indices(0))[0].stopped


def test_without_weight_there_is_no_update():
    state, task, data = setting(data=(X, Y, 0 * W), optimizer=neuron.SGD(0.1, momentum=0.5))
    new, record = training_step(state, task, data, indices(0, 1, 2, 3))
    assert eqx.tree_equal((new.params, new.opt_state), (state.params, state.opt_state))
    assert not bool(new.stopped)
    assert int(new.step[1]) == 1
    assert np.isnan(record["loss"])


def test_the_carry_keeps_its_types():
    """A loss in half precision, and an optimizer that returns wider numbers, change no leaf's type."""
    half = neuron.Dense(3, dtype=jnp.float16, key=jax.random.key(0))
    state, task, data = setting(model=half, optimizer=neuron.Adam(0.1))
    new = training_step(state, task, data, indices(0, 1, 2, 3))[0]
    assert jax.tree.map(lambda a: (a.dtype, a.weak_type), new) == jax.tree.map(
        lambda a: (a.dtype, a.weak_type), state
    )


def test_examples_get_keys_of_their_own():
    class Draws(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            draw = jax.random.uniform(key)
            return neuron.Terms(
                0 * model(example.inputs), logs={"draw": draw, "square": draw**2}
            ), None

    state, task, data = setting(Draws(), batch_size=12)
    rows = indices(*range(12))
    new, record = training_step(state, task, data, rows)
    spread = record["square"] - record["draw"] ** 2
    assert spread > 1e-3  # twelve different draws
    again = training_step(state, task, data, rows[::-1])[1]
    np.testing.assert_array_equal(record["draw"], again["draw"])  # of places, not of rows
    assert training_step(new, task, data, rows)[1]["draw"] != record["draw"]


def test_logs_are_means_over_the_rows_that_count():
    class Logged(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            return neuron.Terms(
                model(example.inputs), weight=2.0, logs={"x": example.inputs[0]}
            ), None

    state, task, data = setting(Logged(), data=(X, Y, W))
    record = training_step(state, task, data, indices(1, 4, 9, -1))[1]
    rows = [1, 4, 9]
    np.testing.assert_allclose(record["x"], np.average(X[rows, 0], weights=W[rows]), rtol=1e-6)
    np.testing.assert_allclose(record["loss_weight"], 2 * W[rows].sum(), rtol=1e-6)


def test_evaluation_sums_by_weight():
    state, task, data = setting(data=(X, Y, W))
    model = eqx.combine(state.params, task.frozen)
    present = jnp.arange(12) < 7
    zero = jnp.zeros(2, jnp.uint32)
    sums = evaluation_step(model, None, task.scoring, data, present, zero, zero)
    squares = (jax.vmap(model)(X) - Y) ** 2
    np.testing.assert_allclose(sums.value, (W * squares)[:7].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums.weight, W[:7].sum(), rtol=1e-6)
    np.testing.assert_allclose(sums.mean(), np.average(squares[:7], weights=W[:7]), rtol=1e-5)
