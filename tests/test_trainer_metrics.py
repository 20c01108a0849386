"""Metrics in a run: over training and held-out rows alike, exact however rows are cut."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(21)
ROWS = 53
X = rng.normal(size=(ROWS, 3)).astype(np.float32)
Y = (X @ np.float32([1, -1, 2]) > 0.3).astype(np.float32)
W = rng.integers(0, 4, ROWS).astype(np.float32)


class Right(neuron.Metric):
    """The share of rows on the right side."""

    def observe(self, prediction, target):
        return (prediction > 0) == (target > 0.5), 1.0

    def compute(self, total):
        right, weight = total
        return right / weight


class Sides(Right):
    """How many rows are on each side."""

    def observe(self, prediction, target):
        return jnp.stack([prediction <= 0, prediction > 0])

    def compute(self, total):
        return total


def farthest(targets, predictions):
    """A function of all rows."""
    return np.abs(targets - predictions).max()


def weighted(targets, predictions, sample_weight=None):
    return np.average(targets * predictions, weights=sample_weight)


METRICS = {
    "right": Right(),
    "sides": Sides(),
    "farthest": farthest,
    "mae": neuron.MeanAbsoluteError(),
}


def trainer_of(metrics=METRICS, model=None, **options):
    model = neuron.Dense(3, key=jax.random.key(0)) if model is None else model
    options = {"loss": neuron.BinaryCrossEntropy(), "optimizer": neuron.SGD(0.1)} | options
    return neuron.Trainer(model, metrics=metrics, progress=False, **options)


def expected(model, x=X, y=Y, w=None):
    p = np.asarray(jax.vmap(model)(x))
    right = (p > 0) == (y > 0.5)
    return {
        "right": np.average(right, weights=w),
        "sides": np.bincount((p > 0).astype(int), weights=w, minlength=2),
        "farthest": np.abs(y - p).max(),
        "mae": np.average(np.abs(y - p), weights=w),
    }


def assert_values(found, values, prefix=""):
    for name, value in values.items():
        np.testing.assert_allclose(found[prefix + name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 53])
def test_evaluation_is_of_all_rows(batch_size):
    trainer = trainer_of()
    logs = trainer.evaluate(neuron.DataLoader((X, Y), batch_size))
    assert set(logs) == {"loss", *METRICS}
    assert_values(logs, expected(trainer.model))
    assert isinstance(logs["right"], float)
    assert logs["sides"].shape == (2,)


def test_weights_count():
    metrics = {"right": Right(), "sides": Sides(), "mae": METRICS["mae"]}
    trainer = trainer_of(metrics | {"weighted": weighted})
    logs = trainer.evaluate(neuron.DataLoader((X, Y, W), 8))
    values = expected(trainer.model, w=W)
    assert_values(logs, {name: values[name] for name in metrics})
    p = np.asarray(jax.vmap(trainer.model)(X))
    assert logs["weighted"] == pytest.approx(np.average(Y * p, weights=W), rel=1e-5)


def test_a_function_without_weights_is_refused_before_the_first_step():
    trainer = trainer_of({"farthest": farthest})
    with pytest.raises(ValueError, match="take `sample_weight=`; farthest does not"):
        trainer.fit(neuron.DataLoader((X, Y, W), 8), steps=1)
    with pytest.raises(ValueError, match="take `sample_weight="):
        trainer.fit((X, Y), steps=1, validation=(X, Y, W))
    assert trainer.step == 0
    # A row that counts or does not is no weight.
    trainer.fit((X, Y, np.minimum(W, 1)), epochs=1, validation=(X, Y, np.minimum(W, 1)))


@pytest.mark.parametrize("batch_size", [1, 8, 53])
def test_training_rows_are_measured_as_the_model_saw_them(batch_size):
    """The weights stand still here, so an epoch's metrics are those of its rows."""
    trainer = trainer_of(optimizer=neuron.SGD(0.0))
    history = trainer.fit(neuron.DataLoader((X, Y), batch_size), epochs=3, validation=(X, Y))
    values = expected(trainer.model)
    for row in history.epochs:
        assert_values(row, values)
        assert_values(row, values, "val_")
    # At each step, a number is that of the epoch so far.
    steps = -(-ROWS // batch_size)
    assert history["right"][steps - 1] == pytest.approx(values["right"], rel=1e-6)
    assert "sides" not in history.names


def test_a_fit_in_pieces_measures_the_same():
    loader = neuron.DataLoader((X, Y, W), 8, sampler=neuron.Shuffle(1))
    metrics = METRICS | {"farthest": weighted}
    whole, pieces = trainer_of(metrics), trainer_of(metrics)
    whole.fit(loader, epochs=4)
    for steps in (1, 5, 3, 19):
        pieces.fit(loader, steps=steps)
    for a, b in zip(whole.history.epochs, pieces.history.epochs, strict=True):
        for name in metrics:
            np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(whole.history["right"], pieces.history["right"])


def test_a_dropped_step_is_not_measured():
    x = X.copy()

    class Broken(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.where(target > 1, jnp.nan, (prediction - target) ** 2)

    y = Y.copy()
    y[10] = 2.0
    trainer = trainer_of(loss=Broken(), optimizer=neuron.SGD(0.0), nonfinite="skip")
    loader = neuron.DataLoader((x, y), 8, sampler=neuron.Sequential())
    row = trainer.fit(loader, epochs=1).epochs[0]
    rest = np.r_[0:8, 16:ROWS]
    assert_values(row, expected(trainer.model, x[rest], y[rest]))


def test_a_model_with_state_measures_its_short_batch():
    class Normed(eqx.Module):
        norm: eqx.nn.BatchNorm
        out: neuron.Dense

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.out(x), state

    def made(key):
        return Normed(eqx.nn.BatchNorm(3, "batch", mode="batch"), neuron.Dense(3, key=key))

    model, state = eqx.nn.make_with_state(made)(jax.random.key(0))
    trainer = trainer_of(model=model, model_state=state, optimizer=neuron.SGD(0.0))
    row = trainer.fit(neuron.DataLoader((X, Y), 8), epochs=1).epochs[0]
    assert row["sides"].sum() == ROWS
    assert 0 < row["right"] < 1
    assert row["farthest"] > 0


class Two(eqx.Module):
    one: neuron.Dense
    other: neuron.Dense

    def __call__(self, x):
        return {"a": self.one(x), "b": self.other(x)}


def test_metrics_of_a_part_are_named_after_it():
    first, second = jax.random.split(jax.random.key(0))
    model = Two(neuron.Dense(3, key=first), neuron.Dense(3, key=second))
    loss = {"a": neuron.BinaryCrossEntropy(), "b": neuron.MeanSquaredError()}
    metrics = {"a": {"right": Right(), "far": farthest}, "b": {"mae": neuron.MeanAbsoluteError()}}
    trainer = trainer_of(metrics, model, loss=loss)
    logs = trainer.evaluate((X, {"a": Y, "b": 2 * Y}))
    assert set(logs) == {"loss", "a", "b", "a_right", "a_far", "b_mae"}
    assert logs["a_right"] == pytest.approx(expected(model.one)["right"])
    assert logs["b_mae"] == pytest.approx(expected(model.other, y=2 * Y)["mae"], rel=1e-5)
    trainer.fit((X, {"a": Y, "b": 2 * Y}), epochs=1)


def test_metrics_change_nothing_of_the_run():
    plain, measured = trainer_of(None), trainer_of()
    for trainer in (plain, measured):
        trainer.fit(neuron.DataLoader((X, Y), 8), epochs=5)
    np.testing.assert_allclose(plain.model.weight, measured.model.weight, rtol=1e-6)


def test_callbacks_see_them():
    class Watch(neuron.Callback):
        def on_step_end(self, trainer, logs):
            self.steps = logs

        def on_epoch_end(self, trainer, logs):
            self.epoch = logs

        def on_validation_end(self, trainer, logs):
            self.validation = logs

    watch = Watch()
    stopping = neuron.EarlyStopping("val_right", mode="max", patience=3)
    trainer = trainer_of(callbacks=[watch, stopping])
    trainer.fit(neuron.DataLoader((X, Y), 8), epochs=10, validation=(X, Y))
    assert {"loss", "right", "mae"} <= set(watch.steps)
    assert {"right", "sides", "farthest", "val_right", "val_sides"} <= set(watch.epoch)
    assert {"val_loss", "val_farthest"} <= set(watch.validation)
    assert trainer.evaluate((X, Y))["right"] == pytest.approx(stopping.best)


def test_a_history_with_arrays_is_written_and_read():
    trainer = trainer_of()
    history = trainer.fit(neuron.DataLoader((X, Y), 8), epochs=2)
    again = neuron.History.from_json(history.to_json())
    for row, read in zip(history.epochs, again.epochs, strict=True):
        assert set(row) == set(read)
        for name in row:
            np.testing.assert_array_equal(row[name], read[name])
    assert history.to_csv().splitlines()[0].startswith("epoch,step,loss")


def test_an_objective_says_what_it_predicts():
    class Own(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            p = model(example.inputs)
            return neuron.Terms((p - example.targets) ** 2, prediction=p), model_state

    trainer = trainer_of({"right": Right()}, loss=Own())
    assert trainer.evaluate((X, Y))["right"] == pytest.approx(expected(trainer.model)["right"])


def test_one_compile_with_metrics():
    traced = []

    class Noting(Right):
        def observe(self, prediction, target):
            traced.append(1)
            return super().observe(prediction, target)

    loader = neuron.DataLoader((X, Y), 8)
    trainer_of({"right": Noting()}).fit(loader, epochs=1)
    before = len(traced)
    trainer = trainer_of({"right": Noting()})
    trainer.fit(loader, epochs=1)
    trainer.set(learning_rate=0.3)
    trainer.fit(loader, epochs=2)
    assert len(traced) == before
