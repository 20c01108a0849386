"""The trainer, beyond the promises."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuron


rng = np.random.default_rng(1)
X = rng.normal(size=(64, 2)).astype(np.float32)
Y = (X @ np.array([3.0, 4.0]) + 5).astype(np.float32)


@pytest.fixture
def model(getkey):
    return neuron.Dense(2, key=getkey())


def quiet(model, *parts, **options):
    return neuron.Trainer(model, *parts, progress=False, **options)


def test_works_with_nothing_else(model):
    one = quiet(model)
    history = one.fit(neuron.DataLoader((X, Y)))
    assert len(history) == 20
    assert [row["epoch"] for row in history.epochs] == list(range(1, 11))
    assert history is one.history


def test_a_tuple_of_arrays_is_a_loader(model):
    assert len(quiet(model).fit((X, Y), epochs=3)) == 6
    assert len(quiet(model).fit((X[:5], Y[:5]), epochs=3)) == 3


def test_finds_the_least_squares_answer(model):
    one = quiet(model, neuron.MeanSquaredError(), neuron.SGD(0.1))
    one.fit(neuron.DataLoader((X, Y), 64, sampler=neuron.Sequential()), steps=500)
    np.testing.assert_allclose(one.model.weight, [[3, 4]], atol=1e-5)
    np.testing.assert_allclose(one.model.bias, [5], atol=1e-5)


@pytest.mark.parametrize("loss", [neuron.MeanSquaredError(), neuron.RootMeanSquaredError()])
def test_takes_the_steps_of_a_hand_written_loop(loss, x64):
    x, y, weight = X.astype(np.float64), Y.astype(np.float64), rng.random(64)
    model = neuron.Dense(2, key=jax.random.key(3))
    one = quiet(model, loss, neuron.Adam(0.05))
    history = one.fit(neuron.DataLoader((x, y, weight), 24, sampler=neuron.Sequential()), epochs=5)

    optimizer = optax.adam(0.05)
    state, losses = optimizer.init(eqx.filter(model, eqx.is_inexact_array)), []
    for _ in range(5):
        for start in range(0, 64, 24):
            rows = slice(start, start + 24)

            def value(model, rows=rows):
                squares = (jax.vmap(model)(x[rows]) - y[rows]) ** 2
                mean = (weight[rows] * squares).sum() / weight[rows].sum()
                return jnp.sqrt(mean) if isinstance(loss, neuron.RootMeanSquaredError) else mean

            step_loss, grads = eqx.filter_value_and_grad(value)(model)
            updates, state = optimizer.update(grads, state)
            model = eqx.apply_updates(model, updates)
            losses.append(step_loss)
    np.testing.assert_allclose(one.model.weight, model.weight, rtol=1e-11)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-11)
    assert history["loss"].dtype == np.float64


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, momentum=0.9)])
def test_optax_serves(model, optimizer):
    one = quiet(model, optimizer=optimizer)
    before = one.evaluate((X, Y))["loss"]
    one.fit((X, Y), epochs=100)
    assert one.evaluate((X, Y))["loss"] < 1e-2 * before


def test_predict_gives_a_row_the_same_bits_in_any_place(getkey):
    one = quiet(eqx.nn.MLP(2, 3, 32, 2, key=getkey()))
    alone = one.predict(X[:1], batch_size=32)
    for place in (0, 1, 17, 31, 32, 50):
        rows = np.repeat(X[1:2], 60, axis=0)
        rows[place] = X[0]
        np.testing.assert_array_equal(one.predict(rows, batch_size=32)[place], alone[0])
    np.testing.assert_allclose(
        one.predict(X, batch_size=7), jax.vmap(one.model)(jnp.asarray(X)), rtol=1e-5, atol=1e-6
    )


def test_predict_and_evaluate_take_many_blocks(getkey):
    wide = rng.normal(size=(1200, 4096)).astype(np.float32)
    targets = wide.mean(1)
    one = quiet(neuron.Dense(4096, key=getkey()))
    expected = jax.vmap(one.model)(jnp.asarray(wide))
    np.testing.assert_allclose(one.predict(wide, batch_size=100), expected, rtol=1e-4, atol=1e-5)
    data = neuron.DataLoader((wide, targets), 100)
    exact = np.mean((np.asarray(expected, np.float64) - targets) ** 2)
    np.testing.assert_allclose(one.evaluate(data)["loss"], exact, rtol=1e-5)


def test_evaluation_is_in_inference_mode(getkey):
    model = eqx.nn.Sequential(
        [neuron.Dense(2, 8, key=getkey()), eqx.nn.Dropout(0.5), neuron.Dense(8, key=getkey())]
    )
    one = quiet(model)
    expected = jax.vmap(eqx.nn.inference_mode(model))(jnp.asarray(X))
    np.testing.assert_allclose(one.predict(X), expected, rtol=1e-5, atol=1e-6)
    one.fit((X, Y), epochs=2)
    assert one.evaluate((X, Y)) == one.evaluate((X, Y))


def test_nonfinite_raises_at_the_very_step(model):
    y = Y.copy()
    y[40] = 3e38  # its square is infinite
    one = quiet(model, neuron.MeanSquaredError(), neuron.SGD(1e-3))
    with pytest.raises(neuron.NonFiniteLossError, match="Step 5 ") as caught:
        one.fit(neuron.DataLoader((X, y), 8, sampler=neuron.Sequential()), epochs=2)
    assert (caught.value.step, one.step, len(one.history)) == (5, 5, 5)
    clean = quiet(model, neuron.MeanSquaredError(), neuron.SGD(1e-3))
    clean.fit(neuron.DataLoader((X, Y), 8, sampler=neuron.Sequential()), steps=5)
    np.testing.assert_array_equal(one.model.weight, clean.model.weight)
    one.fit(neuron.DataLoader((X, Y), 8, sampler=neuron.Sequential()), steps=3)
    assert one.step == 8


def test_nonfinite_gradients_count_as_well(model):
    class Cusp(neuron.Loss):
        """Finite everywhere, with an infinite slope at 0."""

        def __call__(self, prediction, target):
            return jnp.sqrt(jnp.abs(prediction * 0)) + prediction * 0

    with pytest.raises(neuron.NonFiniteLossError) as caught:
        quiet(model, Cusp()).fit((X, Y), steps=3)
    assert caught.value.step == 0
    assert caught.value.loss == 0


def test_skip_goes_on_and_counts(model):
    y = Y.copy()
    y[40] = 3e38
    one = quiet(model, neuron.MeanSquaredError(), neuron.SGD(1e-3), nonfinite="skip")
    history = one.fit(neuron.DataLoader((X, y), 8, sampler=neuron.Sequential()), epochs=2)
    assert one.step == 16
    assert int(one.state.skipped[1]) == 2
    assert np.flatnonzero(~np.isfinite(history["loss"])).tolist() == [5, 13]
    assert np.flatnonzero(history["skipped"]).tolist() == [5, 13]
    assert [row["skipped"] for row in history.epochs] == [1, 1]
    assert type(history.epochs[0]["skipped"]) is int
    assert np.isfinite([row["loss"] for row in history.epochs]).all()


def test_skipped_gradients_count_in_the_epoch_they_are_of(model):
    """The loss is finite, so that nothing else tells of them; fits may cut the epoch anywhere."""

    class Cusp(neuron.Loss):
        def __call__(self, prediction, target):
            bad = target > 1e9
            root = jnp.sqrt(jnp.where(bad, 0 * prediction, 1.0))
            return jnp.where(bad, 0.0, (prediction - target) ** 2) + root

    y = Y.copy()
    y[[3, 40, 41, 63]] = 1e10
    loader = neuron.DataLoader((X, y), 8, sampler=neuron.Sequential())
    one = quiet(model, Cusp(), neuron.SGD(1e-3), nonfinite="skip")
    for steps in (3, 4, 9, 4):
        history = one.fit(loader, steps=steps)
    assert np.flatnonzero(history["skipped"]).tolist() == [0, 5, 7, 8, 13, 15, 16]
    assert [row["skipped"] for row in history.epochs] == [3, 3]
    assert int(one.state.skipped[1]) == 7
    assert np.isfinite(history["loss"]).all()
    assert neuron.History.from_json(history.to_json()).epochs == history.epochs


def test_only_a_trainer_that_skips_counts(model):
    history = quiet(model).fit((X, Y), epochs=1)
    assert "skipped" not in history.names
    assert "skipped" not in history.epochs[0]


def test_a_batch_without_weight_makes_no_update_and_does_not_stop(model):
    weight = np.ones(64, np.float32)
    weight[8:16] = 0
    states = []

    class Note(neuron.Callback):
        def on_step_end(self, trainer, logs):
            states.append(
                (np.asarray(trainer.model.weight), np.asarray(trainer.state.opt_state.count))
            )

    one = quiet(
        model, neuron.RootMeanSquaredError(), neuron.SGD(0.1, momentum=0.9), callbacks=[Note()]
    )
    history = one.fit(neuron.DataLoader((X, Y, weight), 8, sampler=neuron.Sequential()), epochs=1)
    assert np.flatnonzero(np.isnan(history["loss"])).tolist() == [1]
    np.testing.assert_array_equal(states[0][0], states[1][0])
    assert [int(count) for _, count in states] == [1, 1, 2, 3, 4, 5, 6, 7]
    assert np.isfinite(history.epochs[0]["loss"])


def test_an_exact_fit_stays_put():
    model = eqx.tree_at(
        lambda m: (m.weight, m.bias),
        neuron.Dense(2, key=jax.random.key(0)),
        (jnp.array([[3.0, 4.0]]), jnp.array([5.0])),
    )
    x = np.round(X * 8) / 8
    one = quiet(model, neuron.RootMeanSquaredError(), neuron.SGD(0.1))
    history = one.fit((x, x @ np.array([3, 4], np.float32) + 5), epochs=3)
    assert (history["loss"] == 0).all()
    np.testing.assert_array_equal(one.model.weight, model.weight)


def test_counters_survive_two_words(model):
    loader = neuron.DataLoader((X, Y), 8, sampler=neuron.Shuffle(2))
    for start in (2**31 - 2, 2**32 - 2):
        one = quiet(model)
        words = neuron.counters.words
        state = one.state
        one.state = neuron.TrainState(
            state.params,
            None,
            state.opt_state,
            None,
            {},
            words(start),
            words(start),
            np.array(0, np.uint32),
            words(0),
            state.stopped,
        )
        history = one.fit(loader, epochs=4)
        assert one.step == start + 32
        assert one.epoch == start + 4
        assert neuron.counters.number(one.state.step) == start + 32
        assert neuron.counters.number(one.state.epoch) == start + 4
        assert np.isfinite(history["loss"]).all()
        assert [row["epoch"] for row in history.epochs] == [
            start + 1,
            start + 2,
            start + 3,
            start + 4,
        ]
        assert [row["step"] for row in history.epochs] == [
            start + 8,
            start + 16,
            start + 24,
            start + 32,
        ]


def test_set_changes_numbers_in_a_hook(model):
    class Halve(neuron.Callback):
        every = 10

        def on_step_end(self, trainer, logs):
            trainer.set(learning_rate=logs["learning_rate"] / 2)

    one = quiet(model, optimizer=neuron.SGD(0.08), callbacks=[Halve()])
    history = one.fit((X, Y), steps=30)
    expected = np.repeat(np.float32([0.08, 0.04, 0.02]), 10)
    np.testing.assert_array_equal(history["learning_rate"], expected)


def test_a_schedule_is_followed_and_logged(model):
    schedule = optax.linear_schedule(0.1, 0.0, 20)
    history = quiet(model, optimizer=neuron.SGD(schedule)).fit((X, Y), steps=25)
    np.testing.assert_allclose(
        history["learning_rate"], [schedule(t) for t in range(25)], atol=1e-7
    )
    assert history.epochs[4]["learning_rate"] == pytest.approx(schedule(9))


def test_other_batches_start_an_epoch_of_their_own(model):
    one = quiet(model)
    one.fit(neuron.DataLoader((X, Y), 16), steps=3)
    assert one.epoch == 0
    one.fit(neuron.DataLoader((X, Y), 16), steps=1)
    assert one.epoch == 1
    one.fit(neuron.DataLoader((X, Y), 16), steps=1)
    one.fit(neuron.DataLoader((X, Y), 32), epochs=1)
    assert (one.step, one.epoch) == (7, 3)


def test_drop_last_leaves_the_short_batch_out(model):
    seen = quiet(model, optimizer=neuron.SGD(0.0))
    history = seen.fit(
        neuron.DataLoader((X, Y), 24, sampler=neuron.Sequential(), drop_last=True), epochs=2
    )
    assert len(history) == 4
    np.testing.assert_array_equal(history["loss"][:2], history["loss"][2:])


def test_integers_and_numpy_leaves_in_a_model_are_kept():
    class Shifted(eqx.Module):
        weight: np.ndarray
        shift: jax.Array
        name: str

        def __call__(self, x):
            return self.weight @ x + self.shift

    one = quiet(Shifted(np.ones(2, np.float32), jnp.array(5), "a"), optimizer=neuron.Adam(0.1))
    one.fit((X, Y), epochs=100)
    np.testing.assert_allclose(one.model.weight, [3, 4], atol=1e-2)
    assert int(one.model.shift) == 5
    assert one.model.name == "a"


def test_weak_types_do_not_trace_twice():
    traced = []

    class Weak(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            traced.append(1)
            return self.weight * x[0]

    weak = jnp.asarray(1.0)
    assert weak.weak_type
    one = quiet(Weak(weak))
    one.fit((X, Y), steps=2)
    traced.clear()
    one.fit((X, Y), steps=2)
    quiet(Weak(jnp.ones((), jnp.float32))).fit((X, Y), steps=1)
    assert traced == []


def test_inputs_may_be_trees(getkey):
    class Two(eqx.Module):
        left: neuron.Dense
        right: neuron.Dense

        def __call__(self, x):
            return self.left(x["a"]) + self.right(x["b"])

    model = Two(neuron.Dense(1, key=getkey()), neuron.Dense(1, use_bias=False, key=getkey()))
    inputs = {"a": X[:, :1], "b": X[:, 1:]}
    one = quiet(model, optimizer=neuron.Adam(0.1))
    one.fit((inputs, Y), epochs=100)
    np.testing.assert_allclose(one.predict(inputs), Y, atol=0.1)


def test_an_objective_of_five_lines(getkey):
    class Reconstruction(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
            error = jnp.mean((output - example.inputs) ** 2)
            return neuron.Terms(error, logs={"worst": jnp.max(jnp.abs(output))}), model_state

    one = quiet(eqx.nn.MLP(2, 2, 8, 1, key=getkey()), Reconstruction(), neuron.Adam(0.02))
    history = one.fit((X,), epochs=60)
    assert history.epochs[-1]["loss"] < 0.05 * history.epochs[0]["loss"]
    assert set(one.evaluate((X,))) == {"loss", "worst"}
    assert set(history.names) == {"loss", "learning_rate", "worst"}


def test_fit_can_not_be_nested(model):
    class Again(neuron.Callback):
        def on_step_end(self, trainer, logs):
            trainer.fit((X, Y))

    with pytest.raises(RuntimeError, match="nested"):
        quiet(model, callbacks=[Again()]).fit((X, Y))


def test_hooks_may_evaluate_and_predict(model):
    class Check(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            self.loss = trainer.evaluate((X, Y))["loss"]
            self.first = float(trainer.predict(X)[0])

    check = Check()
    one = quiet(model, callbacks=[check])
    one.fit((X, Y), epochs=2)
    assert check.loss == one.evaluate((X, Y))["loss"]
    assert check.first == float(one.predict(X)[0])


def test_device_is_kept(model):
    device = jax.devices("cpu")[0]
    for given in (device, "cpu", None):
        one = quiet(model, device=given)
        one.fit((X, Y), epochs=1)
        assert one.model.weight.devices() == {device}


def test_trains_off_the_main_thread(model):
    done = []
    one = quiet(model)
    thread = threading.Thread(target=lambda: done.append(one.fit((X, Y), epochs=2)))
    thread.start()
    thread.join()
    assert len(done[0]) == 4


def test_a_long_fit_is_cut_into_calls_of_bounded_size(model):
    one = quiet(model, neuron.RootMeanSquaredError(), neuron.SGD(1e-4))
    one.fit(neuron.DataLoader((X, Y), 1), steps=70_000)
    assert len(one.history["loss"]) == one.step == 70_000


def test_the_optimizer_is_changed_through_set_alone(model):
    one = quiet(model)
    with pytest.raises(AttributeError):
        one.optimizer = neuron.SGD(0.1)
    one.set(learning_rate=0.5)
    assert repr(one.optimizer).startswith("Adam(learning_rate=0.5")
    assert repr(neuron.Bootstrap(2**40 + 3)) == f"Bootstrap(seed={2**40 + 3})"


def test_a_state_that_is_put_in_goes_on_in_the_middle_of_its_epoch(model):
    loader = neuron.DataLoader((X, Y), 16, sampler=neuron.Shuffle(5))
    whole = quiet(model)
    whole.fit(loader, steps=11)
    first = quiet(model)
    first.fit(loader, steps=6)
    second = quiet(model)
    second.state = first.snapshot()
    assert (second.step, second.epoch) == (6, 1)
    second.fit(loader, steps=5)
    assert eqx.tree_equal(second.state, whole.state)
