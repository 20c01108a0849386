"""Callbacks for the learning rate."""

import logging

import jax
import numpy as np
import optax
import pytest

import neuron


X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)


class Scripted(neuron.Callback):
    """Puts values in the epochs' rows, before the others look."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, trainer, logs):
        logs["scripted"] = self.values[trainer.epoch - 1]


def rates_of(values, optimizer=None, **options):
    """The learning rate of each epoch."""
    callback = neuron.ReduceLROnPlateau("scripted", **options)
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)),
        optimizer=optimizer or neuron.SGD(0.8),
        callbacks=[Scripted(values), callback],
        progress=False,
    )
    trainer.fit(neuron.DataLoader((X, Y), 10), epochs=len(values))
    return trainer.history.epochs


def learning_rates(*arguments, **options):
    return [row["learning_rate"] for row in rates_of(*arguments, **options)]


def test_the_rate_falls_after_epochs_without_improvement():
    # The second and third epoch are no better than the first: the fourth has half the rate.
    rates = learning_rates([1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5], factor=0.5, patience=2)
    np.testing.assert_allclose(rates, [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4])


def test_it_goes_on_falling_to_the_least():
    rates = learning_rates([1.0] * 6, factor=0.5, patience=1, min_learning_rate=0.15)
    np.testing.assert_allclose(rates, [0.8, 0.8, 0.4, 0.2, 0.15, 0.15], rtol=1e-6)


def test_a_rate_below_the_least_is_not_raised():
    rates = learning_rates([1.0] * 4, neuron.SGD(0.01), patience=1, min_learning_rate=0.1)
    np.testing.assert_allclose(rates, 0.01, rtol=1e-6)


def test_cooldown_counts_nothing():
    """After the fall at the end of epoch 2, epoch 3 cools; epoch 4 waits, and falls."""
    rates = learning_rates([1.0] * 6, factor=0.5, patience=1, cooldown=1)
    np.testing.assert_allclose(rates, [0.8, 0.8, 0.4, 0.4, 0.2, 0.2], rtol=1e-6)


def test_more_may_be_better():
    values = [0.1, 0.2, 0.3, 0.3, 0.3]
    rates = learning_rates(values, factor=0.5, patience=2, mode="max")
    np.testing.assert_allclose(rates, 0.8, rtol=1e-6)
    rates = learning_rates([*values, 0.3], factor=0.5, patience=2, mode="max")
    np.testing.assert_allclose(rates, [0.8] * 5 + [0.4], rtol=1e-6)


def test_small_gains_do_not_count():
    rates = learning_rates([1.0, 0.99, 0.98, 0.97], factor=0.5, patience=2, min_delta=0.05)
    np.testing.assert_allclose(rates, [0.8, 0.8, 0.8, 0.4], rtol=1e-6)


def test_rates_by_path_fall_together():
    optimizer = neuron.SGD({"weight": 0.8, "*": 0.08})
    rows = rates_of([1.0] * 3, optimizer, factor=0.5, patience=1)
    np.testing.assert_allclose(
        [(row["learning_rate[weight]"], row["learning_rate[*]"]) for row in rows],
        [(0.8, 0.08), (0.8, 0.08), (0.4, 0.04)],
        rtol=1e-6,
    )


def test_rates_by_path_keep_their_ratio_down_to_the_least():
    rows = rates_of(
        [1.0] * 6,
        neuron.SGD({"weight": 0.8, "*": 0.1}),
        factor=0.5,
        patience=1,
        min_learning_rate=0.05,
    )
    rates = np.array([(row["learning_rate[weight]"], row["learning_rate[*]"]) for row in rows])
    np.testing.assert_allclose(rates[:3, 0], 8 * rates[:3, 1], rtol=1e-6)
    np.testing.assert_allclose(rates[-2:], [[0.1, 0.05], [0.05, 0.05]], rtol=1e-6)


def test_around_another_optimizer():
    optimizer = neuron.Clipped(neuron.Adam(0.8), norm=1.0)
    rates = learning_rates([1.0] * 3, optimizer, factor=0.5, patience=1)
    np.testing.assert_allclose(rates, [0.8, 0.8, 0.4], rtol=1e-6)


def test_the_loss_of_the_validation_is_monitored_where_there_is_one():
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)),
        optimizer=neuron.SGD(1e-7),
        callbacks=[neuron.ReduceLROnPlateau(patience=2, factor=0.5)],
        progress=False,
    )
    trainer.fit((X, Y), epochs=4, validation=(X, Y))
    assert float(trainer.optimizer.learning_rate) < 1e-7


@pytest.mark.parametrize("optimizer", [neuron.SGD(lambda count: 0.1), optax.sgd(0.1)])
def test_a_rate_that_is_no_number_is_refused(optimizer):
    with pytest.raises(ValueError, match="whose learning rate is a number"):
        learning_rates([1.0], optimizer)


@pytest.mark.parametrize(
    ("options", "point"),
    [
        ({"factor": 1.0}, r"factor=\.\.\.\)` must be in \(0, 1\); got 1"),
        ({"factor": 0.0}, "factor"),
        ({"patience": -1}, "patience"),
        ({"cooldown": -1}, "cooldown"),
        ({"mode": "up"}, "'min' or 'max'; got 'up'"),
        ({"min_delta": -1.0}, "min_delta"),
        ({"min_learning_rate": -1.0}, "min_learning_rate"),
    ],
)
def test_arguments_out_of_range_are_refused(options, point):
    with pytest.raises(ValueError, match=point):
        neuron.ReduceLROnPlateau(**options)


def test_an_unknown_value_is_refused_with_those_there_are():
    callback = neuron.ReduceLROnPlateau("accuracy")
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)), callbacks=[callback], progress=False
    )
    with pytest.raises(ValueError, match=r"got 'accuracy', there are .*'loss'"):
        trainer.fit((X, Y), epochs=1)


def told(caplog, callbacks, optimizer, **fit):
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)),
        optimizer=optimizer,
        callbacks=callbacks,
        progress=False,
    )
    with caplog.at_level(logging.INFO, "neuron"):
        trainer.fit(neuron.DataLoader((X, Y), 10), **fit)
    return caplog.messages


def halved(count):
    return 0.1 * 0.5 ** (count // 8)


def test_a_line_wherever_the_rate_has_changed(caplog):
    lines = told(caplog, [neuron.LearningRateLogger()], neuron.SGD(halved), epochs=6)
    # An epoch has 4 steps, and the last one's rate is told.
    expected = ["step 4  learning_rate 0.1", "step 12  learning_rate 0.05"]
    assert lines == [*expected, "step 20  learning_rate 0.025"]


def test_or_every_so_many_steps(caplog):
    lines = told(caplog, [neuron.LearningRateLogger(every=3)], neuron.SGD(halved), steps=10)
    assert lines == ["step 3  learning_rate 0.1", "step 9  learning_rate 0.05"]


def test_what_optax_injects_is_told(caplog):
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.25)
    lines = told(caplog, [neuron.LearningRateLogger()], optimizer, epochs=2)
    assert lines == ["step 4  learning_rate 0.25"]


def test_what_records_no_rate_is_refused(caplog):
    with pytest.raises(ValueError, match=r"inject_hyperparams"):
        told(caplog, [neuron.LearningRateLogger()], optax.sgd(0.1), epochs=1)
