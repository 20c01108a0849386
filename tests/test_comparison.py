"""Two models over the same rows: the paired bootstrap, done by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk

import neuron
from neuron.resampling import Cases, Clusters


rng = np.random.default_rng(8)
ROWS, REPLICAS = 143, 200
X = rng.normal(size=(ROWS, 2)).astype(np.float32)
Y = (X @ np.float32([2, -1]) + rng.normal(size=ROWS)).astype(np.float32)
SIDE = (Y > 0).astype(np.float32)
W = rng.integers(0, 3, ROWS).astype(np.float32)
GROUPS = rng.integers(0, 20, ROWS)


def line(weight, bias=0.0):
    model = neuron.Dense(2, key=jax.random.key(0))
    numbers = jnp.array([weight], jnp.float32), jnp.array(bias, jnp.float32)
    return eqx.tree_at(lambda m: (m.weight, m.bias), model, numbers)


GOOD, BAD = line([1.9, -0.9]), line([1.0, 0.5], 0.3)


def trainer_of(model, loss=None, **options):
    loss = neuron.MeanSquaredError() if loss is None else loss
    return neuron.Trainer(model, loss, progress=False, **options)


def outputs(model):
    return np.asarray(jax.vmap(model)(X), np.float64)


def assert_compared(found, statistic, resamples, level=0.9):
    """Both values, and their difference, are those of the same resamples by hand."""
    once = np.ones(ROWS)
    a, b = (np.array([statistic(outputs(m), c) for c in resamples.T]) for m in (GOOD, BAD))
    tails = [50 * (1 - level), 50 * (1 + level)]
    for score, value, replicates in (
        (found.a, statistic(outputs(GOOD), once), a),
        (found.b, statistic(outputs(BAD), once), b),
        (found.difference, statistic(outputs(GOOD), once) - statistic(outputs(BAD), once), a - b),
    ):
        low, high = np.percentile(replicates, tails)
        assert score.value == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert score.lower == pytest.approx(low, rel=1e-4, abs=1e-6)
        assert score.upper == pytest.approx(high, rel=1e-4, abs=1e-6)
        assert score.standard_error == pytest.approx(np.std(replicates, ddof=1), rel=1e-4)
    beyond = min(np.sum(a - b <= 0), np.sum(a - b >= 0))
    assert found.p_value == pytest.approx(min(1, 2 * (beyond + 1) / (REPLICAS + 1)))


def compared(a, b, data, **options):
    return neuron.compare(a, b, data, **{"level": 0.9, "replicas": REPLICAS, "seed": 3} | options)


def resamples(kind=None):
    return (kind or Cases()).counts(ROWS, REPLICAS, 3).astype(np.float64)


def mse(p, drawn):
    return np.average((p - Y) ** 2, weights=drawn)


def test_both_models_are_given_the_same_resamples():
    metrics = {"r2": neuron.R2(), "mae": sk.mean_absolute_error}
    pair = [trainer_of(model, metrics=metrics) for model in (GOOD, BAD)]
    comparison = compared(*pair, (X, Y))
    assert set(comparison) == {"loss", *metrics}
    assert next(iter(comparison)) == "loss"
    assert_compared(comparison["loss"], mse, resamples())
    r2 = lambda p, drawn: sk.r2_score(Y, p, sample_weight=drawn)
    assert_compared(comparison["r2"], r2, resamples())
    mae = lambda p, drawn: sk.mean_absolute_error(Y, p, sample_weight=drawn)
    assert_compared(comparison["mae"], mae, resamples())


def test_the_area_under_a_curve():
    metrics = {"auc": neuron.ROCAUC(), "f1": neuron.F1()}
    pair = [trainer_of(m, neuron.BinaryCrossEntropy(), metrics=metrics) for m in (GOOD, BAD)]
    comparison = compared(*pair, (X, SIDE))
    auc = lambda p, drawn: sk.roc_auc_score(SIDE, p, sample_weight=drawn)
    assert_compared(comparison["auc"], auc, resamples())
    f1 = lambda p, drawn: sk.f1_score(SIDE, p > 0, sample_weight=drawn)
    assert_compared(comparison["f1"], f1, resamples())


def test_weights_and_groups():
    pair = trainer_of(GOOD), trainer_of(BAD)
    weighted = compared(*pair, (X, Y, W))
    assert_compared(
        weighted["loss"],
        # Once where all count once: the values by hand are weighted here as well.
        lambda p, drawn: mse(p, drawn * W),
        resamples(),
    )
    grouped = compared(*pair, (X, Y), groups=GROUPS)
    assert_compared(grouped["loss"], mse, resamples(Clusters(GROUPS)))


def test_scores_are_those_of_evaluate():
    pair = [trainer_of(model, metrics={"r2": neuron.R2()}) for model in (GOOD, BAD)]
    comparison = compared(*pair, (X, Y))
    for place, trainer in enumerate(pair):
        scores = trainer.evaluate((X, Y), interval=0.9, replicas=REPLICAS, seed=3)
        assert {name: comparison[name][place] for name in comparison} == scores


def test_a_model_and_itself():
    metrics = {"f1": neuron.F1(), "auc": neuron.ROCAUC(), "matrix": neuron.ConfusionMatrix()}
    pair = [trainer_of(GOOD, neuron.BinaryCrossEntropy(), metrics=metrics) for _ in range(2)]
    comparison = compared(*pair, (X, SIDE))
    assert set(comparison) == {"loss", *metrics}
    for found in comparison.values():
        difference = found.difference
        for part in (
            difference.value,
            difference.lower,
            difference.upper,
            difference.standard_error,
        ):
            np.testing.assert_array_equal(part, 0 * np.asarray(found.a.value))
        np.testing.assert_array_equal(found.p_value, np.ones(np.shape(found.a.value)))


def test_a_better_model_has_a_small_p_value():
    found = compared(trainer_of(GOOD), trainer_of(BAD), (X, Y))["loss"]
    assert found.p_value == pytest.approx(2 / (REPLICAS + 1))
    assert found.difference.upper < 0
    # The hard rows are hard for both.
    twin = compared(trainer_of(GOOD), trainer_of(line([1.9, -0.85])), (X, Y))["loss"]
    assert twin.difference.standard_error < 0.2 * twin.a.standard_error


def test_models_that_are_as_good_as_each_other_seldom_differ():
    """200 pairs of lines that are off by as much, to either side: at a level of 5 % there are 10
    expected, with a standard deviation of 3.1; percentiles at 60 rows are a little narrow."""
    pair = trainer_of(line([0.0, 0.0], 0.5)), trainer_of(line([0.0, 0.0], -0.5))
    draws = np.random.default_rng(1)
    small = 0
    for seed in range(200):
        y = draws.normal(size=60).astype(np.float32)
        data = np.zeros((60, 2), np.float32), y
        small += compared(*pair, data, seed=seed)["loss"].p_value <= 0.05
    assert 2 <= small <= 24, small


def test_other_losses_are_left_out():
    metrics = {"r2": neuron.R2(), "f1": neuron.F1("macro")}
    a = trainer_of(GOOD, neuron.BinaryCrossEntropy(), metrics=metrics)
    others = {"r2": neuron.R2(), "f1": neuron.F1("micro"), "more": neuron.R2()}
    b = trainer_of(BAD, neuron.MeanSquaredError(), metrics=others)
    comparison = compared(a, b, (X, SIDE))
    assert list(comparison) == ["r2"]
    assert set(comparison.left_out) == {"loss", "f1"}
    assert "not compared: " in repr(comparison)
    with pytest.raises(KeyError, match=r"'loss' was not compared; there are \['r2'\]"):
        comparison["loss"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (neuron.MeanSquaredError(), neuron.RootMeanSquaredError()),
        (neuron.Huber(1.0), neuron.Huber(2.0)),
        (neuron.MeanSquaredError(), neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.1))),
    ],
)
def test_losses_of_two_kinds_alone_are_refused(one, other):
    reads = []

    def batches():
        reads.append(1)
        yield X, Y

    with pytest.raises(ValueError, match="difference of two kinds of loss means nothing"):
        compared(trainer_of(GOOD, one), trainer_of(BAD, other), neuron.DataLoader(batches()))
    assert len(reads) <= 1


def test_penalties_are_a_part_of_a_loss_and_not_compared():
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.1))
    pair = trainer_of(GOOD, loss), trainer_of(BAD, loss)
    comparison = compared(*pair, (X, Y))
    assert list(comparison) == ["loss"]
    assert comparison.left_out == ()
    a, b = (trainer.evaluate((X, Y))["loss"] for trainer in pair)
    assert comparison["loss"].difference.value == pytest.approx(a - b)


def test_schedules_count_by_what_they_have_come_to():
    loss = lambda: neuron.Supervised(
        {"y": neuron.MeanSquaredError()}, weights={"y": lambda step: 1.0 + step}
    )
    a, b = trainer_of(GOOD, loss()), trainer_of(BAD, loss())
    assert list(compared(a, b, (X, {"y": Y}))) == ["loss", "y"]
    a.fit((X, {"y": Y}), steps=1)
    with pytest.raises(ValueError, match="two kinds of loss"):
        compared(a, b, (X, {"y": Y}))


def test_rows_are_read_once_for_both():
    def batches():
        for first in range(0, ROWS, 20):
            reads.append(first)
            yield X[first : first + 20], Y[first : first + 20]

    reads = []
    pair = trainer_of(GOOD), trainer_of(BAD)
    # A generator is good for one pass.
    found = compared(*pair, neuron.DataLoader(batches()))["loss"]
    assert reads == list(range(0, ROWS, 20))
    expected = compared(*pair, (X, Y))["loss"]
    assert found.difference.lower == pytest.approx(expected.difference.lower, rel=1e-5)


def test_a_table_is_taken_by_each_trainers_columns():
    table = pl.DataFrame({"x": X[:, 0], "z": X[:, 1], "y": Y})
    pair = trainer_of(GOOD), trainer_of(BAD)
    for trainer in pair:
        trainer.fit(neuron.DataLoader.from_dataframe(table, target="y"), steps=1)
    found, expected = compared(*pair, table)["loss"], compared(*pair, (X, Y))["loss"]
    assert found.difference.value == pytest.approx(expected.difference.value, rel=1e-5)
    assert found.difference.lower == pytest.approx(expected.difference.lower, rel=1e-5)


def test_it_prints_a_table():
    comparison = compared(trainer_of(GOOD), trainer_of(BAD), (X, Y))
    head, row = repr(comparison).splitlines()
    assert head.split() == ["a", "b", "a", "-", "b", "p"]
    found = comparison["loss"]
    assert row.split() == f"loss {found.a} {found.b} {found.difference} {found.p_value:.2g}".split()
    assert head.index("b") == row.index(repr(found.b))
    assert dict(comparison) == {"loss": found}
    assert len(comparison) == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"level": 0},
            ValueError,
            r"`compare\(level=...\)` must be a number between 0 and 1; got 0",
        ),
        ({"replicas": 10}, ValueError, r"`compare\(replicas=...\)` must be at least 20 .*; got 10"),
        ({"seed": 1.5}, TypeError, r"`compare\(seed=...\)` must be a whole number"),
        (
            {"groups": [1, 2]},
            ValueError,
            r"`compare\(groups=...\)` must have one group a row; got 2",
        ),
    ],
)
def test_what_can_not_be_meant_is_refused(options, error, words, unchecked):
    with pytest.raises(error, match=words):
        compared(trainer_of(GOOD), trainer_of(BAD), (X, Y), **options)


def test_models_are_refused_and_single_rows(unchecked):
    with pytest.raises(TypeError, match=r"`compare\(trainer_b\)` must be a neuron.Trainer; got"):
        compared(trainer_of(GOOD), BAD, (X, Y))
    with pytest.raises(ValueError, match="`compare` must have at least 2 rows to resample; got 1"):
        compared(trainer_of(GOOD), trainer_of(BAD), (X[:1], Y[:1]))
