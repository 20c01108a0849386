"""The learning-rate finder."""

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import neuron


mpl.use("Agg")
rng = np.random.default_rng(4)
X = rng.normal(size=(200, 3)).astype(np.float32)
Y = (X @ np.float32([1, -2, 0.5])).astype(np.float32)


def trainer_of(optimizer=None, **options):
    return neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)),
        optimizer=optimizer or neuron.SGD(1e-3),
        progress=False,
        **options,
    )


def loader():
    return neuron.DataLoader((X, Y), 20, sampler=neuron.Shuffle(1))


def test_each_fit_is_one_of_its_own():
    trainer = trainer_of()
    rates = [1e-3, 1e-2, 0.1]
    search = neuron.find_learning_rate(trainer, loader(), rates, steps=30)
    for rate, loss, curve in zip(rates, search.losses, search.curves, strict=True):
        alone = trainer_of(neuron.SGD(rate)).fit(loader(), steps=30)["loss"]
        np.testing.assert_array_equal(curve, alone)
        assert loss == pytest.approx(alone[-3:].mean())
    assert search.suggestion == 0.1


def test_the_trainer_stays_as_it_is():
    class Loud(neuron.Callback):
        def on_fit_begin(self, trainer):
            raise AssertionError

    trainer = trainer_of()
    trainer.fit(loader(), steps=13)
    before = np.asarray(trainer.model.weight)
    trainer._hooks = neuron.callbacks.Hooks([Loud()])
    neuron.find_learning_rate(trainer, loader(), [0.1, 0.01], steps=5)
    np.testing.assert_array_equal(trainer.model.weight, before)
    assert (trainer.step, len(trainer.history)) == (13, 13)
    assert float(trainer.optimizer.learning_rate) == 1e-3


def test_a_rate_that_breaks_down_is_infinitely_bad():
    trainer = trainer_of(loss=Exploding())
    search = neuron.find_learning_rate(trainer, loader(), [1e-2, 1e30], steps=20)
    assert np.isinf(search.losses[1])
    assert np.isnan(search.curves[1]).any()
    assert search.suggestion == 1e-2
    axes = search.plot()
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "not finite",
        "lowest loss, at 0.01",
    ]


class Exploding(neuron.Loss):
    def __call__(self, prediction, target):
        return (prediction - target) ** 4


def test_one_compile_for_all_rates():
    traces = []

    class Noting(neuron.Loss):
        def __call__(self, prediction, target):
            traces.append(1)
            return jnp.abs(prediction - target)

    trainer = trainer_of(loss=Noting())
    neuron.find_learning_rate(trainer, loader(), [0.1], steps=5)
    first = len(traces)
    neuron.find_learning_rate(trainer, loader(), np.logspace(-4, -1, 9), steps=5)
    # The loader is new, so shapes are looked at once more.
    assert len(traces) - first <= 1


def test_groups_keep_their_ratios():
    """The largest has the rate, and the others their share of it."""
    trainer = trainer_of(neuron.Clipped(neuron.SGD({"bias": 1e-4, "*": 1e-3}), norm=100.0))
    search = neuron.find_learning_rate(trainer, loader(), [1e-3, 0.1], steps=20)
    for rate, curve in zip(search.rates, search.curves, strict=True):
        optimizer = neuron.SGD({"bias": 0.1 * rate, "*": rate})
        alone = trainer_of(neuron.Clipped(optimizer, norm=100.0)).fit(loader(), steps=20)["loss"]
        np.testing.assert_allclose(curve, alone, rtol=1e-5)
    assert search.suggestion == pytest.approx({"bias": 0.01, "*": 0.1})
    trainer.set(learning_rate=search.suggestion)
    assert trainer.optimizer.numbers()["learning_rate"] == search.suggestion
    assert "lowest loss, at 0.1" in [t.get_text() for t in search.plot().get_legend().get_texts()]


def test_a_group_that_is_a_function_stays():
    groups = {"bias": halving, "weight": 1e-3}
    search = neuron.find_learning_rate(trainer_of(neuron.SGD(groups)), loader(), [0.1], steps=5)
    alone = trainer_of(neuron.SGD(groups | {"weight": 0.1})).fit(loader(), steps=5)["loss"]
    np.testing.assert_array_equal(search.curves[0], alone)
    assert search.suggestion == {"weight": 0.1}


def halving(count):
    return 0.1 * 0.5**count


def test_groups_of_nothing_have_no_ratio():
    with pytest.raises(ValueError, match=r"one must be above 0; got {'bias': 0.0, '\*': 0.0}"):
        neuron.find_learning_rate(trainer_of(neuron.SGD({"bias": 0, "*": 0})), loader())


@pytest.mark.parametrize("rates", [[], [0.0], [-1.0, 1.0], [np.nan], [[0.1]]])
def test_rates_out_of_range_are_refused(rates, unchecked):
    with pytest.raises(ValueError, match=r"must be a list of numbers above 0"):
        neuron.find_learning_rate(trainer_of(), loader(), rates)


def test_where_nothing_trains_there_is_no_suggestion():
    with pytest.raises(ValueError, match="must have a rate that trains"):
        neuron.find_learning_rate(trainer_of(loss=Exploding()), loader(), [1e30, 1e35], steps=20)


def test_a_schedule_can_not_be_set():
    with pytest.raises(ValueError, match="learning_rate"):
        neuron.find_learning_rate(trainer_of(neuron.SGD(lambda count: 0.1)), loader(), [0.1])
