"""Data: what is taken, what it becomes, and that it trains or is refused."""

import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neuron
from neuron.data import checks


x = np.arange(16, dtype=np.float32).reshape(8, 2)
y = np.arange(8, dtype=np.float32)


def test_an_epoch_draws_as_many_rows_as_there_are():
    for batch_size, drop_last, steps in ((4, False, 2), (3, False, 3), (3, True, 2), (8, False, 1)):
        assert len(neuron.DataLoader((x, y), batch_size, drop_last=drop_last)) == steps
    assert len(neuron.DataLoader((x, y), 50, sampler=neuron.Bootstrap())) == 1
    assert "8 rows" in repr(neuron.DataLoader((x, y), 4))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, np.float16),
        (np.float32, np.float32),
        (">f4", np.float32),
        (jnp.bfloat16, jnp.bfloat16),
        (np.int8, np.int8),
        (np.uint8, np.uint8),
        (">i2", np.int16),
        (np.int64, np.int32),
        (">i8", np.int32),
        (np.uint64, np.uint32),
        (bool, bool),
    ],
)
@pytest.mark.parametrize("placement", ["device", "host"])
def test_types_are_kept_or_narrowed_once(given, kept, placement):
    loader = neuron.DataLoader((x.astype(given), y), 4, placement=placement)
    inputs = loader.sample().inputs
    assert inputs.dtype == np.dtype(kept)
    assert inputs.dtype.isnative
    np.testing.assert_array_equal(inputs.astype(np.float32), x.astype(given).astype(np.float32))
    (block, count), *_ = loader.blocks()
    assert (block.inputs.dtype, count) == (np.dtype(kept), 8)


@pytest.mark.parametrize("wide", [np.float64, np.longdouble])
def test_float64_is_narrowed_with_one_warning(wide):
    checks._warn_of_float64.cache_clear()
    with pytest.warns(UserWarning, match="float64"):
        loader = neuron.DataLoader((x.astype(wide), y), 4)
    assert loader.sample().inputs.dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neuron.DataLoader((x.astype(wide), y.astype(wide)), 4)


def test_float64_stays_under_x64(x64):
    loader = neuron.DataLoader((x.astype(np.float64), y), 4)
    assert loader.sample().inputs.dtype == np.float64


def test_the_warning_points_at_the_caller(tmp_path):
    """In a process of its own: the tests' runtime type checks add frames."""
    script = tmp_path / "mine.py"
    script.write_text("import numpy as np, neuron\nneuron.DataLoader((np.ones((4, 2)),), 2)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert f"{script}:2: UserWarning: The data is float64" in done.stderr


def test_lists_jax_arrays_and_trees_are_rows():
    loader = neuron.DataLoader(({"a": [[1.0], [2.0]], "b": jnp.ones((2, 3))}, [0, 1]), 2)
    assert loader.rows == 2
    assert loader.sample().inputs["a"].shape == (2, 1)
    assert loader.sample().targets.dtype == np.int32


@pytest.mark.parametrize(
    "data",
    [
        (x, y),
        {"inputs": x, "targets": y},
        neuron.Batch(x, y),
        [(row, target) for row, target in zip(x, y, strict=True)],
        [{"inputs": row, "targets": target} for row, target in zip(x, y, strict=True)],
    ],
    ids=["tuple", "dict", "batch", "examples", "named examples"],
)
def test_one_data_in_many_forms(data):
    (block, count), *_ = neuron.DataLoader(data, 4).blocks()
    assert count == 8
    np.testing.assert_array_equal(block.inputs[:8], x)
    np.testing.assert_array_equal(block.targets[:8], y)


@pytest.mark.parametrize("data", [x, (x,), x.tolist(), jnp.asarray(x), {"inputs": x}])
def test_inputs_alone(data):
    loader = neuron.DataLoader(data, 4)
    np.testing.assert_array_equal(loader.sample().inputs, x)
    assert loader.sample().targets is None


@given(rows=st.integers(1, 300), batch_size=st.integers(1, 40), columns=st.integers(1, 300_000))
@settings(deadline=None, max_examples=30)
def test_blocks_hold_each_row_once_in_one_shape(rows, batch_size, columns):
    data = np.broadcast_to(np.arange(rows, dtype=np.float32)[:, None], (rows, columns))
    shapes, seen = set(), []
    loader = neuron.DataLoader((data,), batch_size, sampler=neuron.Bootstrap())
    for block, count in loader.blocks():
        block = block.inputs
        assert len(block) % batch_size == 0
        assert (block[count:, 0] == block[0, 0]).all()
        shapes.add(block.shape)
        seen.append(block[:count, 0])
    np.testing.assert_array_equal(np.concatenate(seen), data[:, 0])
    assert len(shapes) == 1
