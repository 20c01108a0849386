"""Models: state, keys, inference, and the axis that statistics are taken over."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuron
from neuron.models import batch_axis, for_inference, prediction_like


rng = np.random.default_rng(7)
X = rng.normal(size=(45, 3)).astype(np.float32)
Y = np.sin(X).sum(1).astype(np.float32)


class Normed(eqx.Module):
    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    out: neuron.Dense

    def __init__(self, key, axis="rows"):
        first, second = jax.random.split(key)
        self.hidden = eqx.nn.Linear(3, 8, key=first)
        self.norm = eqx.nn.BatchNorm(8, axis, mode="batch")
        self.out = neuron.Dense(8, key=second)

    def __call__(self, x, state):
        x, state = self.norm(self.hidden(x), state)
        return self.out(jax.nn.relu(x)), state


class Dropped(eqx.Module):
    hidden: neuron.Dense
    drop: eqx.nn.Dropout
    out: neuron.Dense

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.hidden = neuron.Dense(3, 16, activation=jax.nn.relu, key=first)
        self.drop = eqx.nn.Dropout(0.5)
        self.out = neuron.Dense(16, key=second)

    def __call__(self, x, *, key):
        return self.out(self.drop(self.hidden(x), key=key))


class Counter(eqx.Module):
    """A layer of one's own: counts the batches that it has seen."""

    inner: neuron.Dense
    index: eqx.nn.StateIndex

    def __init__(self, key):
        self.inner = neuron.Dense(3, key=key)
        self.index = eqx.nn.StateIndex(jnp.array(0))

    def __call__(self, x, state):
        return self.inner(x), state.set(self.index, state.get(self.index) + 1)


class Leaky(Counter):
    """A state that is not reduced over the batch."""

    def __call__(self, x, state):
        return self.inner(x), state.set(self.index, state.get(self.index) + jnp.int32(x[0]))


class Spectral(eqx.Module):
    layer: eqx.nn.SpectralNorm

    def __init__(self, key):
        self.layer = eqx.nn.SpectralNorm(eqx.nn.Linear(3, "scalar", key=key), "weight", key=key)

    def __call__(self, x, state):
        return self.layer(x, state)


class Pmean(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return self.weight @ x + jax.lax.pmean(x[0], "somewhere")


def make(kind, *options):
    return eqx.nn.make_with_state(kind)(jax.random.key(1), *options)


def trainer(model, state=None, **options):
    options = {"optimizer": neuron.SGD(0.05)} | options
    return neuron.Trainer(model, model_state=state, progress=False, **options)


def by_hand(model, state, epochs, batch_size=20, rate=0.05):
    """The loop that a user would write, every batch at its true size."""
    optimizer = optax.sgd(rate)
    carry = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, carry, x, y):
        @eqx.filter_value_and_grad(has_aux=True)
        def loss(model):
            call = jax.vmap(model, axis_name="rows", in_axes=(0, None), out_axes=(0, None))
            prediction, after = call(x, state)
            return jnp.mean((prediction - y) ** 2), after

        (value, state), grads = loss(model)
        updates, carry = optimizer.update(grads, carry)
        return eqx.apply_updates(model, updates), state, carry, value

    losses = []
    for _ in range(epochs):
        for start in range(0, 45, batch_size):
            rows = slice(start, start + batch_size)
            model, state, carry, value = step(model, state, carry, X[rows], Y[rows])
            losses.append(value)
    return model, state, np.array(losses)


@pytest.mark.parametrize("batch_size", [15, 20])
def test_batch_norm_trains_as_by_hand_ragged_batch_included(batch_size):
    one = trainer(*make(Normed))
    loader = neuron.DataLoader((X, Y), batch_size, sampler=neuron.Sequential())
    history = one.fit(loader, epochs=4)
    model, state, losses = by_hand(*make(Normed), 4, batch_size)
    np.testing.assert_allclose(history["loss"], losses, rtol=2e-4)
    for ours, theirs in zip(jax.tree.leaves(one.model_state), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    call = jax.vmap(
        eqx.nn.inference_mode(model), in_axes=(0, None), out_axes=(0, None), axis_name="rows"
    )
    expected = call(jnp.asarray(X), state)[0]
    np.testing.assert_allclose(one.predict(X), expected, rtol=1e-3, atol=1e-4)
    exact = np.mean((np.asarray(one.predict(X), np.float64) - Y) ** 2)
    np.testing.assert_allclose(one.evaluate((X, Y))["loss"], exact, rtol=1e-6)


def test_evaluating_changes_no_state():
    one = trainer(*make(Normed))
    one.fit((X, Y), epochs=2)
    before = jax.tree.leaves(one.model_state)
    one.evaluate((X, Y)), one.predict(X)
    for a, b in zip(before, jax.tree.leaves(one.model_state), strict=True):
        np.testing.assert_array_equal(a, b)
    state = one.model_state
    state.set(one.model.norm.batch_counter, jnp.array(5, jnp.int32))  # spends the user's, not ours
    one.fit((X, Y), epochs=1)


@pytest.mark.parametrize("kind", [Normed, Counter, Spectral])
def test_looking_changes_no_bit_of_a_stateful_run(kind):
    class Look(neuron.Callback):
        every = 3

        def on_step_end(self, trainer, logs):
            pass

    runs = []
    for callbacks in ([], [Look()]):
        one = trainer(*make(kind), callbacks=callbacks)
        one.fit(neuron.DataLoader((X, Y), 20), epochs=5)
        runs.append(one)
    assert eqx.tree_equal(runs[0].state, runs[1].state)
    np.testing.assert_array_equal(runs[0].history["loss"], runs[1].history["loss"])


def test_a_users_own_state_is_carried_step_by_step():
    one = trainer(*make(Counter))
    one.fit(neuron.DataLoader((X, Y), 20), epochs=5)
    (count,) = jax.tree.leaves(one.model_state)
    assert int(count) == 15


def test_a_step_that_is_skipped_leaves_the_state_alone():
    y = Y.copy()
    y[:20] = 3e38
    one = trainer(*make(Counter), nonfinite="skip")
    one.fit(neuron.DataLoader((X, y), 20, sampler=neuron.Sequential()), epochs=1)
    assert int(jax.tree.leaves(one.model_state)[0]) == 2


def test_early_stopping_restores_the_state_with_the_weights():
    stopping = neuron.EarlyStopping("loss", patience=2, mode="max")
    one = trainer(*make(Counter), callbacks=[stopping])
    one.fit(neuron.DataLoader((X, Y), 45), epochs=10)
    assert int(jax.tree.leaves(one.model_state)[0]) == stopping.best_epoch


def test_dropout_is_on_in_training_and_off_in_evaluation():
    model = Dropped(jax.random.key(2))
    one = trainer(model, optimizer=neuron.SGD(0.0))
    losses = one.fit(neuron.DataLoader((X, Y), 45), steps=20)["loss"]
    assert np.std(losses) > 0.01
    again = trainer(model, optimizer=neuron.SGD(0.0)).fit(neuron.DataLoader((X, Y), 45), steps=20)
    np.testing.assert_array_equal(losses, again["loss"])
    expected = jax.vmap(lambda x: eqx.nn.inference_mode(model)(x, key=None))(jnp.asarray(X))
    np.testing.assert_allclose(one.predict(X), expected, rtol=1e-5, atol=1e-6)


def test_samples_are_draws_with_dropout_on():
    one = trainer(Dropped(jax.random.key(2)))
    draws = one.predict(X, samples=400)
    assert draws.shape == (400, 45)
    centre = one.predict(X)
    spread = draws.std(0)
    assert (spread > 0).all()
    # The output is linear in the dropped activations, so dropout leaves its mean alone.
    assert (np.abs(draws.mean(0) - centre) < 5 * spread / 20).all()
    np.testing.assert_array_equal(draws[:3], one.predict(X, samples=3))
    np.testing.assert_allclose(
        draws[:2], one.predict(X, samples=2, batch_size=7), rtol=1e-5, atol=1e-6
    )
    # Unlike means of independent rows, draws of one row in two places differ.
    twice = one.predict(X[[0, 0]], samples=1)
    assert twice[0, 0] != twice[0, 1]


def test_samples_leave_batch_norm_in_inference():
    one = trainer(*make(Normed))
    one.fit((X, Y), epochs=2)
    np.testing.assert_array_equal(one.predict(X, samples=2), np.stack([one.predict(X)] * 2))


def test_inference_mode_keeps_dropout_where_asked():
    model = Dropped(jax.random.key(2))
    assert for_inference(model).drop.inference is True
    assert for_inference(model, dropout=True).drop.inference is False


def test_the_batch_axis_has_the_layers_name():
    assert batch_axis(make(Normed, "anything")[0]) == "anything"
    assert batch_axis(Dropped(jax.random.key(0))) == "batch"
    two = (make(Normed, "a")[0], make(Normed, "b")[0])
    with pytest.raises(ValueError, match="alike in all layers"):
        batch_axis(two)


def test_the_shape_of_a_prediction_needs_no_batch():
    model, state = make(Normed)
    assert prediction_like(model, state, X).shape == ()


ERRORS = {
    "a stateful model without its state": (
        lambda: trainer(make(Normed)[0]),
        ValueError,
        "model_state=",
    ),
    "a state without a stateful model": (
        lambda: trainer(neuron.Dense(3, key=jax.random.key(0)), make(Normed)[1]),
        ValueError,
        "Dense, which has none",
    ),
    "a state of a wrong kind": (
        lambda: trainer(make(Normed)[0], {"a": 1}),
        TypeError,
        "make_with_state",
    ),
    "an axis that nobody has": (
        lambda: trainer(Pmean(jnp.ones(3))).fit((X, Y), steps=1),
        ValueError,
        "under one name only.*somewhere",
    ),
    "a state that is not reduced": (
        lambda: trainer(*make(Leaky)).fit((X, Y), steps=1),
        ValueError,
        "same state for every example.*pmean",
    ),
    "a last batch of one row": (
        lambda: trainer(*make(Normed)).fit(neuron.DataLoader((X, Y), 11), steps=1),
        ValueError,
        "at least 2 rows.*drop_last=True",
    ),
    "batches of one row": (
        lambda: trainer(*make(Normed)).fit(neuron.DataLoader((X, Y), 1), steps=1),
        ValueError,
        "at least 2 rows",
    ),
    "no samples": (
        lambda: trainer(Dropped(jax.random.key(2))).predict(X, samples=0),
        ValueError,
        "samples=.*at least 1",
    ),
}


@pytest.mark.parametrize(("call", "kind", "point"), ERRORS.values(), ids=ERRORS)
def test_refused(call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind


def test_bootstrap_has_no_short_batch():
    one = trainer(*make(Normed))
    one.fit(neuron.DataLoader((X, Y), 11, sampler=neuron.Bootstrap()), epochs=1)
    one.fit(neuron.DataLoader((X, Y), 11, drop_last=True), epochs=1)
    assert one.step == 9
