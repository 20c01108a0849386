"""Tables in memory: columns by name as arrays of numbers, and the same again for another table."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import neuron


F = np.float32
rng = np.random.default_rng(0)
COLUMNS = {
    "size": rng.normal(size=60),
    "kind": np.array(["b", "a", "c"] * 20),
    "new": rng.random(60) < 0.5,
    "count": rng.integers(0, 9, 60),
    "price": rng.normal(size=60),
    "w": rng.random(60),
}
MATRIX = np.column_stack(
    [COLUMNS["size"], np.tile([1, 0, 2], 20), COLUMNS["new"], COLUMNS["count"]]
).astype(F)
KINDS = {
    "pandas": lambda columns: pd.DataFrame(columns).assign(
        kind=lambda d: d.kind.astype("category")
    ),
    "polars": pl.DataFrame,
    "pyarrow": lambda columns: pa.table({k: pa.array(v) for k, v in columns.items()}),
}


def load(table, **options):
    return neuron.DataLoader.from_dataframe(table, 10, **({"target": "price"} | options))


def changed(name, values):
    return pd.DataFrame(COLUMNS | {name: values})


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_a_matrix_of_its_columns(kind):
    loader = load(KINDS[kind](COLUMNS), weight="w")
    rows = loader.sample()
    np.testing.assert_array_equal(rows.inputs, MATRIX)
    np.testing.assert_array_equal(rows.targets, COLUMNS["price"].astype(F))
    np.testing.assert_array_equal(rows.weight, COLUMNS["w"].astype(F))
    assert loader.columns.features == ("size", "kind", "new", "count")
    assert loader.columns.categories == {"kind": ("a", "b", "c")}


@pytest.mark.parametrize(
    "kind", [lambda t: t, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "pyarrow"]
)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "Int64"])
def test_integers_are_rounded_to_floats(kind, dtype):
    # 2^53 + 1 is no float, not even in double precision.
    most = 255 if dtype == "uint8" else 2**53 + 1
    table = kind(pd.DataFrame({"a": [0.5, 1.5], "b": pd.Series([1, most], dtype=dtype)}))
    loader = neuron.DataLoader.from_dataframe(table, 2)
    np.testing.assert_array_equal(loader.sample().inputs[:, 1], np.array([1, most], np.float32))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("kind", np.tile([1, 0, 2], 20).astype(np.int32)),
        ("new", COLUMNS["new"].astype(np.int32)),
        ("count", COLUMNS["count"].astype(np.int32)),
        (["size", "w"], np.column_stack([COLUMNS["size"], COLUMNS["w"]]).astype(F)),
    ],
)
def test_targets_are_classes_or_floats(target, expected):
    targets = load(KINDS["polars"](COLUMNS), target=target, features=["price"]).sample().targets
    assert targets.dtype == expected.dtype
    np.testing.assert_array_equal(targets, expected)


def test_another_table_has_the_same_codes_and_predicts_by_name():
    loader = load(KINDS["pandas"](COLUMNS), features=["kind", "size"])
    few = pl.DataFrame({"size": [0.5, 0.5], "price": [1.0, 2.0], "kind": ["c", "a"]})
    again = neuron.DataLoader.from_dataframe(few, 2, like=loader).sample()
    np.testing.assert_array_equal(again.inputs, F([[2, 0.5], [0, 0.5]]))
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    trainer.fit(loader, epochs=1)
    np.testing.assert_array_equal(trainer.predict(few), trainer.predict(again.inputs))
    np.testing.assert_array_equal(trainer.copy().predict(few), trainer.predict(few))
    held = neuron.DataLoader.from_dataframe(few, 2, like=loader).sample()
    assert trainer.evaluate(few) == trainer.evaluate((held.inputs, held.targets))
    trainer.fit(loader, epochs=1, validation=few)
    assert trainer.history.epochs[-1]["val_loss"] == trainer.evaluate(few)["loss"]
    with pytest.raises(ValueError, match=r"'kind' is missing, and there are \['size'"):
        trainer.predict(few.drop("kind"))


V, T = ValueError, TypeError
REFUSED = [
    ("a null", lambda: load(changed("size", [None] + [1.0] * 59)), V, "'size' has none.*row 0"),
    ("inf", lambda: load(changed("size", [1.0] * 59 + [np.inf])), V, "'size' has inf in row 59"),
    ("a null word", lambda: load(changed("kind", ["a"] * 59 + [None])), V, "'kind'.*row 59"),
    ("dates", lambda: load(changed("size", pd.Timestamp(0))), T, "'size' has dtype Datetime"),
    ("no target", lambda: load(changed("size", 1.0), target="cost"), V, "'cost', and there are"),
    ("no feature", lambda: load(changed("size", 1.0), features=["x"]), V, "'x', and there are"),
    ("no weight", lambda: load(changed("size", 1.0), weight="x"), V, "'x', and there are"),
    ("one name", lambda: load(changed("size", 1.0), features="size"), T, "a list of names"),
    ("two roles", lambda: load(changed("size", 1.0), weight="price"), V, "'price' as two"),
    ("twice", lambda: load(changed("size", 1.0), features=["w", "w"]), V, "'w' twice"),
    ("a number", lambda: load(changed("size", 1.0), target=3), T, "by strings; got 3"),
    ("no names", lambda: load(pd.DataFrame(np.ones((4, 2))), target=None), T, "columns with names"),
    ("an array", lambda: load(np.ones((4, 2))), T, "must be a table"),
    ("words as weight", lambda: load(changed("size", 1.0), weight="kind"), T, "numbers as weights"),
    ("negative weight", lambda: load(changed("w", -1.0), weight="w"), V, "weights of at least 0"),
    (
        "unlike",
        lambda: load(changed("size", 1.0), target=None, like="kind"),
        T,
        "like=...\\)` must be",
    ),
    ("no loader", lambda: neuron.DataLoader(changed("size", 1.0)), T, "from_dataframe"),
    (
        "another category",
        lambda: load(changed("kind", "z"), target=None, like=load(changed("size", 1.0))),
        V,
        "known categories in 'kind'; got 'z' in row 0",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call()
