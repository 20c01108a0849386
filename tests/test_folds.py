"""Cross-validation: each row scored by a model that has not seen it."""

import equinox as eqx
import jax
import numpy as np
import pytest
from helpers import Normed
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict, cross_val_score

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2]) + 0.1 * rng.normal(size=60)).astype(np.float32)


def trainer():
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.Adam(0.05), progress=False)


def test_a_fold_is_a_fit_in_which_its_rows_weigh_nothing():
    scores = neuron.cross_validate(trainer(), (X, Y), folds=4, epochs=3)
    assert sorted(np.bincount(scores.fold_of)) == [15] * 4
    for fold in range(4):
        held = scores.fold_of == fold
        one = trainer()
        one.fit((X, Y, (~held).astype(np.float32)), epochs=3)
        assert scores["loss"][fold] == pytest.approx(one.evaluate((X[held], Y[held]))["loss"])
    predicted = scores.predict(X)
    assert np.mean((predicted - Y) ** 2) == pytest.approx(scores.mean["loss"], rel=1e-5)


def test_rows_that_are_held_out_change_nothing():
    scores = neuron.cross_validate(trainer(), (X, Y), folds=3, epochs=2)
    other = np.where(scores.fold_of == 0, Y + 100, Y).astype(np.float32)
    again = neuron.cross_validate(trainer(), (X, other), folds=3, epochs=2)
    np.testing.assert_array_equal(scores.trainers[0].model.weight, again.trainers[0].model.weight)


def exact(metrics=None, **options):
    """Full batches, which come to the minimum: what closed forms are compared with."""
    model = neuron.Dense(2, key=jax.random.key(0))
    optimizer = neuron.SGD(0.3)
    trainer = neuron.Trainer(model, optimizer=optimizer, metrics=metrics, progress=False)
    return neuron.cross_validate(
        trainer, neuron.DataLoader((X, Y), 60), folds=5, steps=200, **options
    )


def predefined(scores):
    return PredefinedSplit(scores.fold_of)


@pytest.mark.parametrize(
    "options",
    [{}, {"stratify": (Y > 0).astype(int)}, {"groups": np.arange(60) // 4, "seed": 2}],
    ids=["rows", "stratify", "groups"],
)
def test_scores_are_scikit_learns_on_the_same_folds(options):
    scores = exact({"mae": neuron.MeanAbsoluteError()}, **options)
    kinds = {"loss": "neg_mean_squared_error", "mae": "neg_mean_absolute_error"}
    for name, scoring in kinds.items():
        line, folds = LinearRegression(), predefined(scores)
        expected = -cross_val_score(line, X, Y, cv=folds, scoring=scoring)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4)
        assert scores.mean[name] == pytest.approx(expected.mean(), rel=1e-4)
        error = expected.std(ddof=1) / np.sqrt(5)
        assert scores.standard_error[name] == pytest.approx(error, rel=1e-3)
    expected = cross_val_predict(LinearRegression(), X, Y, cv=predefined(scores))
    np.testing.assert_allclose(scores.predict(X), expected, atol=1e-5)
    if "stratify" in options:
        positive = np.bincount(scores.fold_of, weights=options["stratify"])
        assert np.ptp(positive) <= 1
    if "groups" in options:
        assert all(len(set(rows)) == 1 for rows in scores.fold_of.reshape(-1, 4).tolist())


def test_weights_count_in_training_and_in_scores():
    weight = np.random.default_rng(1).integers(1, 4, 60).astype(np.float32)
    model = neuron.Dense(2, key=jax.random.key(0))
    one = neuron.Trainer(model, optimizer=neuron.SGD(0.3), progress=False)
    loader = neuron.DataLoader((X, Y, weight), 60)
    scores = neuron.cross_validate(one, loader, folds=4, steps=200)
    for fold, score in enumerate(scores["loss"]):
        held = scores.fold_of == fold
        line = LinearRegression().fit(X[~held], Y[~held], weight[~held])
        errors = (line.predict(X[held]) - Y[held]) ** 2
        assert score == pytest.approx(np.average(errors, weights=weight[held]), rel=1e-4)


# 50 rows of a fold leave one over of seven batches; and 60 rows are more than it has.
@pytest.mark.parametrize("options", [{"batch_size": 7, "drop_last": True}, {"batch_size": 60}])
def test_with_statistics_of_batches_each_fold_is_a_fit_on_its_own_rows(options):
    def make():
        model, state = eqx.nn.make_with_state(Normed)()
        return neuron.Trainer(model, model_state=state, progress=False)

    loader = neuron.DataLoader((X, Y), **options)
    scores = neuron.cross_validate(make(), loader, folds=6, epochs=2)
    for fold in (0, 5):
        held = scores.fold_of == fold
        one, size = make(), min(50, options["batch_size"])
        rows = neuron.Subset(np.flatnonzero(~held), neuron.Shuffle())
        own = neuron.DataLoader((X, Y), **options | {"batch_size": size}, sampler=rows)
        one.fit(own, epochs=2)
        assert scores["loss"][fold] == one.evaluate((X[held], Y[held]))["loss"]


def quadrupled(row):
    return type(row)(4 * row.inputs, row.targets, row.weight)


def test_a_loaders_transform_is_done_in_training_and_in_scores():
    plain = neuron.cross_validate(trainer(), neuron.DataLoader((X, Y), 16), folds=3, epochs=2)
    loader = neuron.DataLoader((X / 4, Y), 16, transform=quadrupled)
    scores = neuron.cross_validate(trainer(), loader, folds=3, epochs=2)
    np.testing.assert_allclose(scores["loss"], plain["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ((X, Y), {"folds": 1}, "at least 2"),
        ((X, Y), {"folds": 61}, "rows for every part"),
        ((X, Y), {"groups": np.arange(60) // 30, "folds": 3}, "at least as many groups"),
        (X, {}, "a tuple of arrays"),
        (neuron.DataLoader((X, Y), placement="host"), {}, "live on the device"),
        (neuron.DataLoader((X, Y), 8, sampler=neuron.Subset(range(20))), {}, "from all rows"),
    ],
)
def test_refused(data, options, words, unchecked):
    with pytest.raises((ValueError, TypeError), match=words):
        neuron.cross_validate(trainer(), data, **{"folds": 4, "steps": 1} | options)
