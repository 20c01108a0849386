"""The bootstrap over rows: bands of predictions, rows out of the bag, and what is refused."""

import equinox as eqx
import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import Normed
from sklearn.ensemble import BaggingRegressor
from sklearn.linear_model import LinearRegression

import neuron
from neuron.resampling import Resampling


matplotlib.use("Agg")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2]) + rng.normal(size=60)).astype(np.float32)
FULL = {"steps": 250, "check": False, "seed": 4}


def trainer_of(out="scalar", features=2, **options):
    model = neuron.Dense(features, out, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.SGD(0.2), progress=False, **options)


def loader_of(*rows, **options):
    return neuron.DataLoader(rows, len(rows[0]), sampler=neuron.Sequential(), **options)


class Given(Resampling):
    """Resamples that somebody else has drawn."""

    def __init__(self, drawn):
        self.drawn = drawn

    def units(self, rows):
        return np.arange(rows)

    def resample(self, units, generator):
        return np.bincount(self.drawn.pop(0), minlength=len(units))


@pytest.fixture(scope="module")
def bagging():
    bagging = BaggingRegressor(LinearRegression(), 100, oob_score=True, random_state=0)
    return bagging.fit(X.astype(float), Y.astype(float))


@pytest.fixture(scope="module")
def result(bagging):
    drawn = Given(list(bagging.estimators_samples_))
    trainer = trainer_of(metrics={"mae": neuron.MeanAbsoluteError()})
    return neuron.bootstrap(trainer, loader_of(X, Y), replicas=100, resampling=drawn, **FULL)


def test_predictions_out_of_the_bag_are_scikit_learns(result, bagging):
    expected = bagging.oob_prediction_
    np.testing.assert_allclose(result.out_of_bag_predictions, expected, atol=2e-5)


def test_scores_out_of_the_bag_are_over_all_pairs(result, bagging):
    predicted = np.stack([one.predict(X) for one in bagging.estimators_])
    out = result.counts == 0
    assert result.out_of_bag["loss"] == pytest.approx(((predicted - Y) ** 2)[out].mean(), rel=1e-4)
    assert result.out_of_bag["mae"] == pytest.approx(np.abs(predicted - Y)[out].mean(), rel=1e-4)


def test_a_band_is_the_quantiles_of_the_replicas_predictions(result, bagging):
    rows = rng.normal(size=(7, 2)).astype(np.float32)
    predicted = np.stack([one.predict(rows) for one in bagging.estimators_])
    lower, upper = result.predict_interval(rows, level=0.8)
    np.testing.assert_allclose([lower, upper], np.quantile(predicted, [0.1, 0.9], 0), atol=2e-5)
    basic = result.predict_interval(rows, kind="basic", level=0.8)
    estimate = LinearRegression().fit(X, Y).predict(rows)
    np.testing.assert_allclose(basic, [2 * estimate - upper, 2 * estimate - lower], atol=5e-5)


def test_bands_hold_outcomes_and_means_as_often_as_they_say():
    draws, of_means, of_outcomes = np.random.default_rng(1), [], []
    for seed in range(12):
        x = draws.normal(size=(60, 2)).astype(np.float32)
        y = (x @ np.float32([1, -2]) + draws.normal(size=60)).astype(np.float32)
        result = neuron.bootstrap(
            trainer_of(), loader_of(x, y), replicas=100, steps=100, check=False, seed=seed
        )
        new = draws.normal(size=(500, 2)).astype(np.float32)
        mean = new @ np.float32([1, -2])
        lower, upper = result.predict_interval(new, level=0.9)
        of_means.append(((lower < mean) & (mean < upper)).mean())
        lower, upper = result.predict_interval(new, level=0.9, outcome=True)
        outcome = mean + draws.normal(size=500)
        of_outcomes.append(((lower < outcome) & (outcome < upper)).mean())
    # 12 data sets tell 90 % to some points: means of one set are off together.
    assert 0.87 < np.mean(of_outcomes) < 0.94
    assert 0.7 < np.mean(of_means) < 1


def test_outcomes_of_several_outputs_have_each_its_own_residuals():
    targets = np.stack([Y, 100 * Y], axis=1)
    both = neuron.bootstrap(trainer_of(2), loader_of(X, targets), replicas=100, **FULL)
    lower, upper = both.predict_interval(X, outcome=True)
    np.testing.assert_allclose(100 * lower[:, 0], lower[:, 1], rtol=1e-3, atol=0.1)
    np.testing.assert_allclose(100 * upper[:, 0], upper[:, 1], rtol=1e-3, atol=0.1)


def tripled(row):
    return type(row)(3 * row.inputs, row.targets, row.weight)


@pytest.mark.parametrize("resampling", [neuron.Cases(), "residuals"])
def test_a_loaders_transform_is_done_wherever_its_rows_are_predicted(resampling):
    options = FULL | {"replicas": 40, "resampling": resampling, "steps": 600}
    # By default in another order each epoch.
    loader = neuron.DataLoader((X / 3, Y), 60, transform=tripled)
    one = neuron.bootstrap(trainer_of(), loader, **options)
    plain = neuron.bootstrap(trainer_of(), loader_of(X, Y), **options)
    weight = lambda model: model.weight
    np.testing.assert_allclose(one.statistic(weight)[1], plain.statistic(weight)[1], atol=2e-5)
    if resampling != "residuals":
        shown = one.out_of_bag_predictions, plain.out_of_bag_predictions
        np.testing.assert_allclose(*shown, atol=5e-5)


def test_plots(result):
    plt.close("all")
    ax = result.plot(names=["a", "b", "c"], reference=[1, -2, 0], kind="basic")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    one = neuron.bootstrap(trainer_of(features=1), loader_of(X[:, :1], Y), replicas=20, **FULL)
    ax = one.plot_fit(np.linspace(-1, 1, 9, dtype=np.float32)[:, None], outcome=True)
    assert ax.get_xlabel() == "input"
    plt.close("all")


def batches():
    yield X, Y


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ((X, Y), {"replicas": 1}, "at least 2"),
        ((X, Y), {"replicas": 2.5}, "whole number"),
        ((X, Y), {"level": 1.0}, r"\(level=...\)` must be in \(0, 1\); got 1.0"),
        ((X, Y), {"level": 95}, r"\(level=...\)` must be in \(0, 1\); got 95"),
        ((X, Y), {"seed": -1}, r"\(seed=...\)` must be from 0"),
        ((X, Y), {"resampling": "cases"}, "must be neuron.Cases"),
        ((X, Y), {"resampling": neuron.Clusters(np.arange(5))}, "one group a row; got 5 for 60"),
        ((X, Y), {"resampling": neuron.Blocks(60)}, "less than the number of rows"),
        ((X, (Y > 0).astype(int)), {"resampling": "residuals"}, "one array of floats"),
        (X, {}, "a tuple of arrays"),
        (neuron.DataLoader(batches()), {}, "live on the device"),
        (neuron.DataLoader((X, Y), placement="host"), {}, "live on the device"),
        (neuron.DataLoader((X, Y), 8, sampler=neuron.Subset(range(20))), {}, "from all rows"),
    ],
)
def test_refused(data, options, words, unchecked):
    with pytest.raises((ValueError, TypeError), match=words):
        neuron.bootstrap(trainer_of(), data, **{"replicas": 4, "steps": 1} | options)


class Spread(neuron.Objective):
    coupled = True

    def __call__(self, model, model_state, example, *, key):
        others = neuron.whole_batch(model, example.inputs)
        return {"spread": (others.std(), 1.0)}, model_state


def test_objectives_and_models_whose_rows_see_each_other_are_refused():
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), Spread(), progress=False)
    with pytest.raises(ValueError, match="rows of a batch see each other"):
        neuron.bootstrap(trainer, (X, Y), replicas=4, steps=1)
    model, state = eqx.nn.make_with_state(Normed)()
    trainer = neuron.Trainer(model, model_state=state, progress=False)
    with pytest.raises(ValueError, match="rows of a batch see each other"):
        neuron.bootstrap(trainer, (X, Y), replicas=4, steps=1)


def test_another_structure_from_initial_is_refused():
    with pytest.raises(ValueError, match="initial"):
        neuron.bootstrap(
            trainer_of(), (X, Y), replicas=4, steps=1, initial=lambda key: neuron.Dense(3, key=key)
        )
