"""The moving average of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.average import no_average


rng = np.random.default_rng(2)
X = rng.normal(size=(50, 3)).astype(np.float32)
Y = (X @ np.float32([1, -2, 3]) + 0.5).astype(np.float32)


class Weights(neuron.Callback):
    """Notes the weights of every step, and which model predicts."""

    def on_fit_begin(self, trainer):
        self.seen, self.models = [], []

    def on_step_end(self, trainer, logs):
        self.seen.append(np.asarray(trainer.state.params.weight))
        self.models.append(np.asarray(trainer.model.weight))


def trained(steps=60, **options):
    watch = Weights()
    trainer = neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)),
        optimizer=options.pop("optimizer", neuron.Adam(0.05)),
        callbacks=[watch, *options.pop("callbacks", [])],
        progress=False,
        **options,
    )
    trainer.fit(neuron.DataLoader((X, Y), 10), steps=steps)
    return trainer, watch


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_it_is_the_weighted_mean_of_the_weights_after_each_update(decay):
    trainer, watch = trained(average=decay)
    powers = decay ** np.arange(len(watch.seen))[::-1]
    expected = np.tensordot(powers / powers.sum(), np.stack(watch.seen), 1)
    np.testing.assert_allclose(trainer.model.weight, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(watch.models[0], watch.seen[0], rtol=1e-6)  # not where it began


def test_it_changes_nothing_of_the_run():
    with_average, plain = trained(average=0.9)[1], trained()[1]
    np.testing.assert_array_equal(with_average.seen, plain.seen)


def test_evaluation_prediction_and_the_model_use_it():
    trainer, watch = trained(average=0.99)
    assert not np.array_equal(trainer.model.weight, watch.seen[-1])
    predictions = jax.vmap(trainer.model)(X)
    np.testing.assert_allclose(trainer.predict(X), predictions, rtol=1e-6)
    loss = np.mean((predictions - Y) ** 2)
    assert trainer.evaluate((X, Y))["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_before_the_first_update_it_is_the_model():
    model = neuron.Dense(3, key=jax.random.key(0))
    trainer = neuron.Trainer(model, average=0.9, progress=False)
    np.testing.assert_array_equal(trainer.model.weight, model.weight)


def test_a_skipped_step_leaves_it_alone():
    class Broken(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.where(target == Y.max(), jnp.nan, (prediction - target) ** 2)

    _, watch = trained(average=0.9, loss=Broken(), nonfinite="skip")
    changed = [not np.array_equal(a, b) for a, b in zip(watch.seen, watch.seen[1:], strict=False)]
    moved = [not np.array_equal(a, b) for a, b in zip(watch.models, watch.models[1:], strict=False)]
    assert changed == moved
    assert 0 < sum(changed) < len(changed)


def test_the_best_epochs_weights_and_average_come_back():
    class Worse(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            self.states = [*getattr(self, "states", []), trainer.snapshot()]
            if trainer.epoch == 3:
                trainer.set(learning_rate=50.0)

    worse = Worse()
    stopping = neuron.EarlyStopping("val_loss", patience=2)
    trainer = neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)),
        average=0.9,
        callbacks=[worse, stopping],
        progress=False,
    )
    trainer.fit(neuron.DataLoader((X, Y), 10), epochs=20, validation=(X, Y))
    best = worse.states[stopping.best_epoch - 1]
    np.testing.assert_array_equal(trainer.model.weight, best.average.params.weight)
    np.testing.assert_array_equal(trainer.state.params.weight, best.params.weight)
    assert trainer.evaluate((X, Y))["loss"] == pytest.approx(stopping.best, rel=1e-5)


def test_fits_in_pieces_are_one():
    def run(*pieces):
        trainer = neuron.Trainer(
            neuron.Dense(3, key=jax.random.key(0)), average=0.95, progress=False
        )
        for steps in pieces:
            trainer.fit(neuron.DataLoader((X, Y), 10), steps=steps)
        return np.asarray(trainer.model.weight).tobytes()

    assert run(100) == run(1, 7, 92)


def test_training_other_leaves_goes_on_from_the_weights():
    """Frozen leaves stay where training left them, and the average of the rest is kept."""
    trainer, watch = trained(average=0.9)
    before = trainer.model.weight
    trainer.train_only("weight")
    np.testing.assert_array_equal(trainer.model.weight, before)
    np.testing.assert_array_equal(trainer.state.params.weight, watch.seen[-1])
    trainer.fit(neuron.DataLoader((X, Y), 10), steps=5)


def test_the_types_of_the_weights_are_kept(x64):
    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.float64)}
    moved = no_average(params).moved(0.9, params)
    assert {n: leaf.dtype for n, leaf in moved.params.items()} == {"a": "float32", "b": "float64"}


@pytest.mark.parametrize(
    ("wrong", "error"), [(1.0, ValueError), (-0.1, ValueError), ("0.9", TypeError)]
)
def test_another_decay_is_refused(wrong, error, unchecked):
    with pytest.raises(error, match=r"Trainer\(average=\.\.\.\)"):
        neuron.Trainer(neuron.Dense(3, key=jax.random.key(0)), average=wrong)
