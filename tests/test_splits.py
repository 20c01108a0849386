"""Splits: every row in one part, at random, in the shares that were asked for."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import model_selection

import neuron
from neuron.splits.parts import by_largest_remainder, counts


x = np.arange(24, dtype=np.float32).reshape(12, 2)
y = np.arange(12)
labels = np.array(list("aaaaaabbbbcc"))


@st.composite
def shares(draw, most=6):
    weights = draw(st.lists(st.integers(1, 30), min_size=2, max_size=most))
    return np.array(weights) / sum(weights)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), shares(), st.integers(0, 2**64 - 1))
def test_every_row_has_one_part_of_the_right_size(rows, fractions, seed):
    sizes = by_largest_remainder(rows, fractions)
    assume(sizes.all())
    parts = neuron.split(rows, list(fractions), seed=seed)
    assert [len(part) for part in parts] == sizes.tolist()
    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert (np.abs(sizes - rows * fractions) < 1 + 1e-6).all()


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), shares(8))
def test_counts_of_labels_are_within_one_row_and_add_up(sizes, fractions):
    """The table exists for whatever sizes and shares: no row of it is left over."""
    table = counts(np.array(sizes), fractions)
    assert (table >= 0).all()
    assert (np.abs(table - np.outer(sizes, fractions)) <= 1 + 1e-6).all()
    assert table.sum(axis=1).tolist() == sizes
    assert (table.sum(axis=0) == by_largest_remainder(sum(sizes), fractions)).all()


def test_sizes_of_decimal_fractions_are_as_written():
    assert [len(part) for part in neuron.split(100, [0.29, 0.57, 0.14])] == [29, 57, 14]
    assert [len(part) for part in neuron.split(10, 0.7)] == [7, 3]
    assert [len(part) for part in neuron.split(1000, [0.1] * 10)] == [100] * 10


def test_it_is_a_function_of_the_seed_alone():
    again = [neuron.split(1000, 0.8, seed=3)[1].tolist() for _ in range(2)]
    assert again[0] == again[1] != neuron.split(1000, 0.8, seed=4)[1].tolist()
    # Another seed's held-out rows are as many as chance has it: 200 * 0.2, give or take 5.7.
    assert len(set(again[0]) & set(neuron.split(1000, 0.8, seed=4)[1].tolist())) < 40 + 5 * 5.7
    # The folds of a seed are not its split.
    (_, held), *_ = neuron.k_folds(1000, 5, seed=3)
    assert len(set(again[0]) & set(held.tolist())) < 40 + 5 * 5.7
    # The high word of a seed counts as well.
    assert neuron.split(1000, 0.8, seed=3 + 2**32)[1].tolist() != again[0]


def test_every_row_and_every_pair_is_held_out_as_often_as_any():
    draws = np.zeros((600, 8))
    for seed in range(600):
        draws[seed, neuron.split(8, 0.75, seed=seed)[1]] = 1
    assert stats.chisquare(draws.sum(axis=0)).pvalue > 1e-4
    pairs = (draws.T @ draws)[np.triu_indices(8, 1)]
    assert stats.chisquare(pairs).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_labels_are_as_scikit_learn_has_them(seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(4, 503, p=[0.6, 0.3, 0.07, 0.03])
    theirs = model_selection.StratifiedKFold(7, shuffle=True, random_state=0)
    table = lambda pairs: np.array([np.bincount(kinds[held], minlength=4) for _, held in pairs])
    mine = table(neuron.k_folds(503, 7, stratify=kinds, seed=seed))
    ideal = np.bincount(kinds) / 7
    assert (np.abs(mine - ideal) < 1).all()
    assert (np.abs(table(theirs.split(kinds, kinds)) - ideal) < 1).all()
    # Theirs may differ by more in size, label by label.
    assert np.ptp(mine.sum(axis=1)) <= 1


def test_rows_of_a_label_are_drawn_at_random():
    held = np.zeros(12)
    for seed in range(600):
        held[neuron.split(12, [0.75, 0.25], stratify=labels, seed=seed)[1]] += 1
    # 6 of a, 4 of b, 2 of c: 1.5, 1 and 0.5 held out, of 3.
    assert held.sum() == 1800
    for kind, expected in zip("abc", (1.5, 1.0, 0.5), strict=True):
        assert stats.chisquare(held[labels == kind]).pvalue > 1e-4
        np.testing.assert_allclose(held[labels == kind].sum() / 600, expected, atol=0.1)


def grouped(seed, rows=400, groups=40):
    return np.random.default_rng(seed).zipf(1.6, rows) % groups


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_sizes_are_near(seed):
    groups = grouped(seed)
    theirs = [len(held) for _, held in model_selection.GroupKFold(4).split(groups, groups=groups)]
    folds = list(neuron.k_folds(400, 4, groups=groups, seed=seed))
    for training, held in folds:
        assert not set(groups[training]) & set(groups[held])
    assert np.ptp([len(held) for _, held in folds]) <= np.ptp(theirs)
    train, test = neuron.split(400, 0.8, groups=groups, seed=seed)
    assert not set(groups[train]) & set(groups[test])
    assert abs(len(test) - 80) < np.bincount(groups).max()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=12), shares(4), st.integers(0, 99))
def test_no_part_is_empty_where_there_are_groups_enough(sizes, fractions, seed):
    assume(len(sizes) >= len(fractions))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    parts = neuron.split(len(groups), list(fractions), groups=groups, seed=seed)
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    assert sum(len(set(groups[part])) for part in parts) == len(sizes)


def test_equal_groups_are_drawn_at_random():
    groups = np.repeat(np.arange(8), 3)
    held = np.zeros(8)
    for seed in range(400):
        held[np.unique(groups[neuron.split(24, 0.75, groups=groups, seed=seed)[1]])] += 1
    assert held.sum() == 800
    assert stats.chisquare(held).pvalue > 1e-4


def test_groups_and_labels_together():
    """Nearer to the labels' shares than groups alone, and about as near as scikit-learn."""
    worst = {"mine": [], "alone": [], "theirs": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        groups = np.sort(rng.integers(0, 60, 600))
        kinds = (rng.random(600) < rng.beta(0.6, 2.0, 60)[groups]).astype(int)
        both = list(neuron.k_folds(600, 4, stratify=kinds, groups=groups, seed=seed))
        for training, held in both:
            assert not set(groups[training]) & set(groups[held])
        alone = neuron.k_folds(600, 4, groups=groups, seed=seed)
        theirs = model_selection.StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        off = lambda pairs: max(abs(kinds[held].mean() - kinds.mean()) for _, held in pairs)  # noqa: B023
        worst["mine"].append(off(both))
        worst["alone"].append(off(alone))
        worst["theirs"].append(off(theirs.split(kinds, kinds, groups)))
    mine, alone, theirs = (np.mean(worst[name]) for name in ("mine", "alone", "theirs"))
    assert mine < 0.5 * alone
    assert mine < 1.5 * theirs


def test_folds_hold_every_row_out_once():
    pairs = list(neuron.k_folds((x, y), 5, seed=2))
    theirs = [len(held) for _, held in model_selection.KFold(5).split(x)]
    assert [len(held[0]) for _, held in pairs] == theirs == [3, 3, 2, 2, 2]
    for (inputs, targets), (held_inputs, held_targets) in pairs:
        assert sorted([*targets, *held_targets]) == y.tolist()
        np.testing.assert_array_equal(inputs, x[targets])
        np.testing.assert_array_equal(held_inputs, x[held_targets])
    assert sorted(np.concatenate([held[1] for _, held in pairs])) == y.tolist()


def test_trees_of_arrays_are_split_leaf_by_leaf():
    data = ({"a": x, "b": [jnp.asarray(y), labels]}, y, None)
    first, second = neuron.split(data, 0.5, seed=1)
    (rows, others) = neuron.split(12, 0.5, seed=1)
    for part, places in ((first, rows), (second, others)):
        assert isinstance(part[0]["b"][0], jnp.ndarray)
        assert part[2] is None
        np.testing.assert_array_equal(part[0]["a"], x[places])
        np.testing.assert_array_equal(part[0]["b"][0], y[places])
        np.testing.assert_array_equal(part[0]["b"][1], labels[places])
    batch, _ = neuron.split(neuron.Batch(x, y), 0.5, seed=1)
    np.testing.assert_array_equal(batch.inputs, x[rows])
    (alone, _) = neuron.split(x, 0.5, seed=1)
    np.testing.assert_array_equal(alone, x[rows])
    # Not views: nothing that is done to a part is done to the data.
    alone[:] = -1
    assert (x >= 0).all()


frame = pd.DataFrame({"size": y * 1.5, "kind": labels}, index=np.arange(100, 112))


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (frame, pd.DataFrame),
        (pl.from_pandas(frame), pl.DataFrame),
        (pa.Table.from_pandas(frame), pa.Table),
    ],
    ids=["pandas", "polars", "pyarrow"],
)
def test_tables_stay_tables(table, kind):
    parts = neuron.split(table, 0.5, stratify="kind", seed=1)
    expected = neuron.split(12, 0.5, stratify=labels, seed=1)
    for part, rows in zip(parts, expected, strict=True):
        assert isinstance(part, kind)
        np.testing.assert_array_equal(np.asarray(part["size"]), 1.5 * rows)
        np.testing.assert_array_equal(np.asarray(part["kind"]), labels[rows])
    together, _ = neuron.split((table, table["kind"], y), 0.5, stratify=table["kind"], seed=1)
    np.testing.assert_array_equal(np.asarray(together[1]), labels[expected[0]])
    np.testing.assert_array_equal(together[2], expected[0])
    for training, held in neuron.k_folds(table, 2, groups="kind"):
        assert not set(np.asarray(training["kind"])) & set(np.asarray(held["kind"]))


def test_rows_of_pandas_keep_their_index():
    part, _ = neuron.split(frame, 0.5, seed=1)
    np.testing.assert_array_equal(part.index, 100 + neuron.split(12, 0.5, seed=1)[0])


def test_parts_train_and_validate():
    train, held = neuron.split((x / 10, x[:, 0] / 10), 0.75)
    trainer = neuron.Trainer(neuron.Dense(2, key=neuron.counters.key_of(neuron.counters.words(0))))
    trainer.fit(neuron.DataLoader(train, 3), epochs=1, validation=held)
    assert np.isfinite(trainer.history.epochs[0]["val_loss"])


def test_arrays_need_no_narwhals_and_tables_say_so():
    program = """
import sys
sys.modules["narwhals"] = None
import numpy as np, pandas as pd, neuron
neuron.split((np.ones((4, 2)), np.arange(4)), 0.5, stratify=["a", "b"] * 2)
try:
    neuron.split(pd.DataFrame({"a": [1, 2]}), 0.5)
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    point = "`split(data)` reads a DataFrame by narwhals; install `neuron-equinox[frames]`."
    assert done.stdout.strip() == point


V, T = ValueError, TypeError
TABLE = [
    ("no number", lambda: neuron.split(x, "most"), T, r"`split\(fractions\)` must be a number.*'most'"),
    ("all", lambda: neuron.split(x, 1.0), V, "between 0 and 1.*got 1.0"),
    ("percent", lambda: neuron.split(x, 80), V, "between 0 and 1.*got 80"),
    ("none of it", lambda: neuron.split(x, [0.0, 1.0]), V, "between 0 and 1"),
    ("nan", lambda: neuron.split(x, float("nan")), V, "between 0 and 1"),
    ("one part", lambda: neuron.split(x, [0.5]), V, "at least two parts"),
    ("too much", lambda: neuron.split(x, [0.8, 0.3]), V, r"1 in sum.*got \[0.8, 0.3\], 1.1 in sum"),
    ("left over", lambda: neuron.split(x, [0.5, 0.3]), V, "every row has a part.*0.8 in sum"),
    ("empty part", lambda: neuron.split(x, [0.98, 0.02]), V, "12 rows for 2 parts.*share of 0.02"),
    ("folds", lambda: neuron.k_folds(x, 1), V, r"`k_folds\(folds=...\)` must be at least 2; got 1"),
    ("many folds", lambda: neuron.k_folds(x, 13), V, r"`k_folds\(data\)` must have rows.*12 rows"),
    ("half folds", lambda: neuron.k_folds(x, 2.5), T, "whole number; got 2.5"),
    ("seed", lambda: neuron.split(x, 0.5, seed=-1), V, r"`split\(seed=...\)` must be from 0"),
    ("lengths", lambda: neuron.split((x, y[:7]), 0.5), V, r"equally many rows.*\[0\] has 12, \[1\] has 7"),
    ("scalar", lambda: neuron.split((x, np.float32(1)), 0.5), T, r"got float32 at \[1\]"),
    ("no axis", lambda: neuron.split(np.array(1.0), 0.5), V, "rows along a first axis"),
    ("nothing", lambda: neuron.split((), 0.5), V, r"must have rows; got \(\)"),
    ("no rows", lambda: neuron.split(0, 0.5), V, r"`split\(data\)` must be at least 1; got 0"),
    ("boolean", lambda: neuron.split(True, 0.5), T, "whole number; got True"),
    ("numbers", lambda: neuron.split([1, 2, 3], 0.5), T, r"got int at \[0\]"),
    ("text", lambda: neuron.split("data.csv", 0.5), T, "must be arrays.*got str"),
    ("lazy", lambda: neuron.split(pl.LazyFrame({"a": [1]}), 0.5), T, "a table in memory.*LazyFrame"),
    ("labels", lambda: neuron.split(x, 0.5, stratify=y[:5]), V, r"one value a row; got shape \(5,\) for 12"),
    ("matrix", lambda: neuron.split(x, 0.5, groups=x), V, r"`split\(groups=...\)`.*shape \(12, 2\)"),
    ("rare", lambda: neuron.k_folds(x, 3, stratify=labels), V, "got 2 of 'c' for 3 parts"),
    ("singletons", lambda: neuron.split(x, 0.5, stratify=y), V, "got 1 of 0 for 2 parts"),
    ("few groups", lambda: neuron.k_folds(x, 4, groups=labels), V, "at least as many groups.*3 for 4"),
    ("missing", lambda: neuron.split(x, 0.5, stratify=np.where(y == 4, np.nan, 0)), V, "nan in row 4"),
    ("None", lambda: neuron.split(3, 0.5, groups=["a", None, "b"]), V, "None in row 1"),
    ("mixed", lambda: neuron.split(3, 0.5, groups=np.array(["a", 1, "b"], object)), T, "of one kind"),
    ("name", lambda: neuron.split(x, 0.5, stratify="kind"), T, "data that is no table; got the name 'kind'"),
    ("rare name", lambda: neuron.split(frame.head(7), 0.5, stratify="kind"), V, "got 1 of 'b' for 2 parts"),
    ("no column", lambda: neuron.split(frame, 0.5, groups="who"), V, r"'who', there are \['size', 'kind'\]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "point"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_refused(unchecked, call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind
