"""Whatever table comes in trains to a finite model or is refused by one of the documented errors."""

import faulthandler

import hypothesis.extra.pandas as hpd
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_property import calm, trains_or_is_refused

import neuron


@pytest.fixture(autouse=True)
def watched(unchecked):
    """A test that hangs shows where, and ends."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


finite = st.floats(-100, 100, width=32)
columns = st.one_of(
    st.builds(hpd.column, elements=st.just(finite), dtype=st.sampled_from(["float32", "float64"])),
    st.just(hpd.column(dtype=float)),
    st.just(hpd.column(dtype="int16")),
    st.just(hpd.column(dtype="uint64")),
    st.just(hpd.column(dtype=bool)),
    st.just(hpd.column(elements=st.sampled_from(["a", "b", "ü"]), dtype=object)),
    st.just(hpd.column(elements=st.one_of(st.none(), st.integers(), st.text()), dtype=object)),
    st.just(hpd.column(dtype="datetime64[ns]")),
    st.just(hpd.column(dtype="complex64")),
)


@st.composite
def tables(draw):
    """Up to four columns, some of the same name, of up to eight rows."""
    kinds = draw(st.lists(columns, min_size=1, max_size=4))
    names = draw(st.lists(st.sampled_from(["a", "b", "y", "w", 0]), min_size=len(kinds),
                          max_size=len(kinds)))  # fmt: skip
    made = [
        hpd.column(name=str(place), elements=kind.elements, dtype=kind.dtype, fill=kind.fill)
        for place, kind in enumerate(kinds)
    ]
    table = draw(hpd.data_frames(made, index=hpd.range_indexes(max_size=8)))
    table.columns = names
    if draw(st.booleans()):
        # Hypothesis makes no categories.
        return table.astype("category") if draw(st.booleans()) else table.convert_dtypes()
    return table


choices = st.fixed_dictionaries(
    {},
    optional={
        "target": st.sampled_from(["y", ["y"], ["y", "b"], "none", 3]),
        "weight": st.sampled_from(["w", "y"]),
        "features": st.sampled_from([["a"], ["a", "b"], ["b", "y"], [], "a"]),
    },
)


def as_is(table):
    return table


def nullable(table):
    return table.convert_dtypes()


def as_polars(table):
    return pl.from_pandas(table)


def as_arrow(table):
    return pa.Table.from_pandas(table, preserve_index=False)


def made(table, kind):
    """The table as another library has it; as it is where that one can not hold it."""
    try:
        return kind(table)
    except (ValueError, TypeError, pa.ArrowException, pl.exceptions.PolarsError):
        return table


def quotes_the_call(error):
    return str(error).startswith(("`DataLoader", "`Trainer", "`Loss", "Step ")) or "`" in str(error)


@given(tables(), choices, st.sampled_from([as_is, nullable, as_polars, as_arrow]))
@settings(calm, max_examples=80)
def test_any_table(table, choice, kind):
    table = made(table, kind)
    features = len(choice.get("features", [])) or 2
    refused = trains_or_is_refused(
        lambda: neuron.DataLoader.from_dataframe(table, 3, **choice), features
    )
    if refused is not None:
        assert quotes_the_call(refused), refused


@given(
    hpd.data_frames(
        [hpd.column("a", elements=finite, dtype="float32"), hpd.column("b", dtype="int8"),
         hpd.column("y", elements=finite, dtype="float64")],
        index=hpd.range_indexes(min_size=3, max_size=8),
    ),
    st.sampled_from([as_is, nullable, as_polars, as_arrow]),
)  # fmt: skip
@settings(calm, max_examples=25)
def test_tables_that_are_meant_are_taken(table, kind):
    loader = neuron.DataLoader.from_dataframe(kind(table), 3, target="y")
    (inputs, targets) = loader.sample().inputs, loader.sample().targets
    np.testing.assert_array_equal(inputs, table[["a", "b"]].to_numpy(np.float32))
    np.testing.assert_array_equal(targets, table["y"].to_numpy(np.float32))
    assert trains_or_is_refused(lambda: loader) is None


@given(tables(), choices, st.integers(1, 4))
@settings(calm, max_examples=30)
def test_any_parquet_file(tmp_path_factory, table, choice, group):
    path = tmp_path_factory.mktemp("files") / "rows.parquet"
    try:
        pq.write_table(
            pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=group
        )
    except (ValueError, TypeError, pa.ArrowException):
        return
    features = len(choice.get("features", [])) or 2
    refused = trains_or_is_refused(
        lambda: neuron.DataLoader.from_files(path, 3, **choice), features
    )
    if refused is not None:
        assert quotes_the_call(refused), refused
