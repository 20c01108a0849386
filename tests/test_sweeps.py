"""Sweeps: the same run with many values of its numbers, each as a trainer alone would end."""

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import counted
from sklearn.linear_model import Ridge

import neuron


matplotlib.use("Agg")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2])).astype(np.float32)
HELD_OUT = X[:9], Y[:9] + np.float32(0.1)


def trainer(rate=1e-2, **options):
    model = neuron.Dense(2, key=jax.random.key(0))
    options = {"optimizer": neuron.Adam(rate), "progress": False} | options
    return neuron.Trainer(model, **options)


def test_each_setting_ends_where_a_trainer_alone_does():
    rates = [1e-3, 1e-2, 1e-1]
    found = neuron.sweep(
        trainer(), (X, Y), {"optimizer.learning_rate": rates}, epochs=3, validation=HELD_OUT
    )
    for rate, value, row in zip(rates, found.values["val_loss"], found.rows, strict=True):
        one = trainer(rate)
        one.fit((X, Y), epochs=3)
        assert value == pytest.approx(one.evaluate(HELD_OUT)["loss"], rel=1e-12)
        assert row["optimizer.learning_rate"] == rate
    best = int(np.argmin(found.values["val_loss"]))
    assert found.best_setting() == {"optimizer.learning_rate": rates[best]}
    assert found.best().step == 6


def test_side_by_side_each_is_a_trainer_alone_but_for_rounding():
    rates = np.logspace(-4, 0, 40)
    found = neuron.sweep(
        trainer(), (X, Y), {"optimizer.learning_rate": rates}, steps=7, validation=HELD_OUT
    )
    for place in (0, 21, 39):
        one = trainer(rates[place])
        one.fit((X, Y), steps=7)
        mine = found.population[place].model
        np.testing.assert_allclose(mine.weight, one.model.weight, rtol=1e-5)
        expected = one.evaluate(HELD_OUT)["loss"]
        assert found.values["val_loss"][place] == pytest.approx(expected, rel=1e-5)


def test_every_combination_of_several():
    settings = {"optimizer.learning_rate": [1e-3, 1e-2], "optimizer.b1": [0.5, 0.9, 0.95]}
    found = neuron.sweep(trainer(), (X, Y), settings, steps=3)
    assert len(found.population) == 6
    assert sorted(set(found.settings["optimizer.b1"])) == [0.5, 0.9, 0.95]
    for row, one in zip(found.rows, found.population.models, strict=True):
        rate, b1 = row["optimizer.learning_rate"], row["optimizer.b1"]
        alone = trainer(optimizer=neuron.Adam(rate, b1=b1))
        alone.fit((X, Y), steps=3)
        np.testing.assert_array_equal(one.weight, alone.model.weight)


@pytest.mark.parametrize("validation", [None, HELD_OUT])
def test_no_trace_beyond_those_of_one_fit(validation):
    line, of_one = counted(jnp.ones(2))
    neuron.Trainer(line, progress=False).fit((X, Y), epochs=2, validation=validation)
    line, of_many = counted(jnp.ones(2))
    many = neuron.Trainer(line, progress=False)
    rates = {"optimizer.learning_rate": np.linspace(0.001, 0.1, 3)}
    neuron.sweep(many, (X, Y), rates, epochs=2, validation=validation)
    assert len(of_many) == len(of_one)
    neuron.sweep(many, (X, Y), {"optimizer.b1": [0.1, 0.2, 0.3]}, epochs=2, validation=validation)
    assert len(of_many) == len(of_one)
    # Training knows no number of members.
    neuron.sweep(many, (X, Y), {"optimizer.b1": np.linspace(0, 0.9, 5)}, epochs=2)
    assert len(of_many) == len(of_one)


@pytest.mark.parametrize("members", [3, 40])
def test_a_rate_that_blows_up_is_nan_and_never_best(members):
    rates = np.linspace(0.01, 0.2, members)
    rates[-1] = 1e30
    one = trainer(optimizer=neuron.SGD(0.1))
    with pytest.warns(UserWarning, match=f"1 of {members} members stopped"):
        found = neuron.sweep(
            one, (X, Y), {"optimizer.learning_rate": rates}, epochs=2, validation=HELD_OUT
        )
    for values in (found.values["loss"], found.values["val_loss"]):
        np.testing.assert_array_equal(np.isnan(values), np.arange(members) == members - 1)
    for mode in ("min", "max"):
        assert found.best_setting(mode=mode)["optimizer.learning_rate"] < 1


def test_where_all_blow_up_there_is_no_best():
    one = trainer(optimizer=neuron.SGD(0.1))
    with pytest.warns(UserWarning, match="2 of 2 members stopped"):
        found = neuron.sweep(one, (X, Y), {"optimizer.learning_rate": [1e30, 1e31]}, steps=20)
    with pytest.raises(ValueError, match="no member has a finite value"):
        found.best()


def test_numbers_of_the_loss():
    deltas = [0.1, 1.0, 10.0]
    one = trainer(loss=neuron.Huber(1.0), optimizer=neuron.SGD(0.1))
    found = neuron.sweep(one, (X, Y), {"loss.delta": deltas}, steps=5)
    for delta, member in zip(deltas, found.population.models, strict=True):
        alone = trainer(loss=neuron.Huber(delta), optimizer=neuron.SGD(0.1))
        alone.fit((X, Y), steps=5)
        np.testing.assert_array_equal(member.weight, alone.model.weight)


def test_the_strength_of_a_penalty_is_scikit_learns_alpha():
    strengths = np.array([0.0, 0.1, 1.0, 3.0])
    # Mean squares plus strength: scikit-learn has the sum, and leaves out the bias as well.
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.5, "weight"))
    one = trainer(loss=loss, optimizer=neuron.SGD(0.1))
    found = neuron.sweep(
        one, neuron.DataLoader((X, Y), 60), {"loss.penalties.l2.strength": strengths}, steps=400
    )
    for strength, model in zip(strengths, found.population.models, strict=True):
        ridge = Ridge(60 * strength).fit(X.astype(float), Y)
        np.testing.assert_allclose(model.weight[0], ridge.coef_, atol=2e-5)
        assert model.bias == pytest.approx(ridge.intercept_, abs=2e-5)


def test_the_average():
    decays = [0.5, 0.9, 0.99]
    found = neuron.sweep(trainer(0.1, average=0.9), (X, Y), {"average": decays}, steps=9)
    for decay, model in zip(decays, found.population.models, strict=True):
        alone = trainer(0.1, average=decay)
        alone.fit((X, Y), steps=9)
        np.testing.assert_array_equal(model.weight, alone.model.weight)
    assert len({float(m.weight[0, 0]) for m in found.population.models}) == 3


def test_best_by_another_value():
    metrics = {"r2": neuron.R2()}
    rates = {"optimizer.learning_rate": [1e-3, 0.1]}
    found = neuron.sweep(trainer(metrics=metrics), (X, Y), rates, epochs=3, validation=HELD_OUT)
    values = found.values["val_r2"]
    at = found.settings["optimizer.learning_rate"]
    assert (
        found.best_setting("val_r2", mode="max")["optimizer.learning_rate"] == at[values.argmax()]
    )
    assert found.best_setting("val_r2")["optimizer.learning_rate"] == at[values.argmin()]
    with pytest.raises(ValueError, match="must name a value of the members; got 'r3'"):
        found.best("r3")
    with pytest.raises(ValueError, match="'min' or 'max'"):
        found.best(mode="least")


def test_plots_are_of_the_values():
    settings = {"optimizer.learning_rate": np.logspace(-3, 0, 4), "optimizer.b1": [0.5, 0.9]}
    found = neuron.sweep(trainer(), (X, Y), settings, steps=20)
    ax = found.plot()
    assert len(ax.lines) == 2
    first = found.settings["optimizer.b1"] == 0.5
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.values["loss"][first])
    assert (ax.get_xlabel(), ax.get_xscale()) == ("optimizer.learning_rate", "log")
    assert len(found.plot(name="optimizer.b1").lines) == 4
    with pytest.raises(ValueError, match="must be one of"):
        found.plot(name="optimizer.b3")
    plt.close("all")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "at least one number"),
        ({"optimizer.speed": [1.0]}, "got 'optimizer.speed', there are"),
        ({"optimizer.learning_rate": []}, "a list of numbers"),
        ({"optimizer.learning_rate": 0.1}, "a list of numbers"),
        ({"optimizer.learning_rate": [[0.1]]}, "a list of numbers"),
        ({"optimizer.learning_rate": ["fast"]}, "a list of numbers"),
        ({"optimizer.learning_rate": [1e-3, -1.0]}, "at least 0"),
        ({"optimizer.learning_rate": [1e-3, np.nan]}, "finite"),
        ({"average": [0.9]}, "got 'average', there are"),
    ],
)
def test_refused(settings, words, unchecked):
    with pytest.raises(ValueError, match=words):
        neuron.sweep(trainer(), (X, Y), settings, steps=3)


class Halt(neuron.Callback):
    """Stops the first member after an epoch."""

    def on_epoch_end(self, trainer, logs):
        if trainer.epoch == 1:
            trainer.stop("enough", members=[0])


def test_a_member_that_was_stopped_has_the_values_of_its_last_epoch():
    rates = {"optimizer.learning_rate": [1e-1, 1e-9]}
    found = neuron.sweep(trainer(), (X, Y), rates, epochs=3, callbacks=[Halt()])
    one = trainer(1e-1)
    one.fit((X, Y), epochs=1)
    assert found.values["loss"][0] == one.history.epochs[0]["loss"]
    assert found.best_setting() == {"optimizer.learning_rate": 1e-1}
    assert found.population.best().step == one.step
