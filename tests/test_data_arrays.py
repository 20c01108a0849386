"""Arrays that are read as rows are needed: mapped files, HDF5, Zarr, and what looks like them."""

import mmap
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import line

import neuron
from neuron.data import arrays


x, y = line(200)


def trained(data, **options):
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader = neuron.DataLoader(data, 16, **options)
    trainer.fit(loader, epochs=2)
    return np.concatenate([trainer.history["loss"], trainer.predict(loader)])


EXPECTED = trained((x, y))


class Rows:
    """What looks like an array, and is read by index."""

    def __init__(self, array, dtype=None):
        self._array, self.shape, self.dtype = array, array.shape, dtype or array.dtype
        self.asked = []

    def __getitem__(self, rows):
        self.asked.append(np.asarray(rows))
        return self._array[rows]


def saved(tmp_path):
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return tmp_path / "x.npy", tmp_path / "y.npy"


def by_path(tmp_path):
    return saved(tmp_path)


def by_name(tmp_path):
    return tuple(map(str, saved(tmp_path)))


def in_fortran_order(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    return tmp_path / "x.npy", y


def mapped(mode):
    def made(tmp_path):
        return tuple(np.load(path, mmap_mode=mode) for path in saved(tmp_path))

    made.__name__ = f"mapped {mode}"
    return made


def slices(tmp_path):
    np.save(tmp_path / "both.npy", np.concatenate([y[:, None], x], axis=1))
    both = np.load(tmp_path / "both.npy", mmap_mode="r")
    return both[:, 1:], both[:, 0]


def views(tmp_path):
    return tuple(np.asarray(np.load(path, mmap_mode="r")) for path in saved(tmp_path))


def half_mapped(tmp_path):
    return saved(tmp_path)[0], y


def in_a_dict(tmp_path):
    inputs, targets = saved(tmp_path)
    return {"inputs": inputs, "targets": targets}


def in_an_archive(tmp_path):
    np.savez(tmp_path / "both.npz", inputs=x, targets=y)
    return np.load(tmp_path / "both.npz")


def of_ones_own(tmp_path):
    return Rows(x), Rows(y, np.float32)


def hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 is read by h5py")
    file = h5py.File(tmp_path / "both.h5", "w")
    file["inputs"], file["targets"] = x, y
    return file["inputs"], file["targets"]


def hdf5_file(tmp_path):
    return hdf5(tmp_path)[0].parent


def zarr_arrays(tmp_path):
    zarr = pytest.importorskip("zarr", reason="Zarr is read by zarr")
    made = [
        zarr.create_array(str(tmp_path / name), shape=a.shape, dtype=a.dtype, chunks=(64,) * a.ndim)
        for name, a in (("x", x), ("y", y))
    ]
    for array, rows in zip(made, (x, y), strict=True):
        array[:] = rows
    return tuple(made)


KINDS = [
    by_path, by_name, in_fortran_order, mapped("r"), mapped("r+"), mapped("c"), slices, views,
    half_mapped, in_a_dict, in_an_archive, of_ones_own, hdf5, hdf5_file, zarr_arrays,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("placement", ["auto", "host"])
def test_rows_are_the_same_wherever_they_are_read_from(kind, placement, tmp_path):
    np.testing.assert_array_equal(trained(kind(tmp_path), placement=placement), EXPECTED)


@pytest.mark.parametrize("batch_size", [7, 200])
def test_held_out_rows_come_in_their_order(batch_size, tmp_path):
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader = neuron.DataLoader(
        saved(tmp_path), batch_size, sampler=neuron.Bootstrap(), placement="host"
    )
    assert loader.rows == 200
    np.testing.assert_array_equal(trainer.predict(loader), trainer.predict(x))
    assert trainer.evaluate(loader) == pytest.approx(trainer.evaluate((x, y)))


def test_each_row_is_asked_for_once_and_in_order():
    """As HDF5 wants it; a bootstrap draws some rows twice."""
    inputs = Rows(x)
    trained((inputs, y), placement="host", sampler=neuron.Bootstrap(1))
    for asked in inputs.asked:
        assert (np.diff(asked) > 0).all()
    host = trained((Rows(x), y), placement="host", sampler=neuron.Bootstrap(1))
    np.testing.assert_array_equal(host, trained((x, y), sampler=neuron.Bootstrap(1)))


@pytest.mark.parametrize("dtype", [">f4", np.float64, np.int16, ">i8", np.uint8, bool])
def test_types_on_file_become_those_of_the_program(dtype, tmp_path):
    rows = (10 * x).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    with warnings.catch_warnings(action="ignore"):
        mapped_rows = trained((tmp_path / "x.npy", y), placement="host")
        np.testing.assert_array_equal(mapped_rows, trained((rows, y)))


def test_bfloat16_is_read_as_it_is():
    rows = Rows(np.asarray(jnp.asarray(x, jnp.bfloat16)))
    loader = neuron.DataLoader((rows, y), 16, placement="host")
    assert loader.sample().inputs.dtype == jnp.bfloat16


def test_the_first_row_with_nan_is_named(tmp_path):
    rows = x.copy()
    rows[[150, 77]] = np.nan
    np.save(tmp_path / "x.npy", rows)
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    for placement in ("device", "host"):
        loader = neuron.DataLoader(
            (tmp_path / "x.npy", y), 16, placement=placement, sampler=neuron.Sequential()
        )
        with pytest.raises(ValueError, match=r"inputs has .* in row 77"):
            trainer.fit(loader, epochs=1)
    with pytest.raises(ValueError, match="in row 77"):
        trainer.predict(loader)


@pytest.mark.parametrize(
    ("answer", "point"),
    [
        (lambda rows: x[:3], r"Odd gave shape \(3, 2\) instead of \(16, 2\)"),
        (lambda rows: x[0], "gave shape"),
        (lambda rows: None, "gave shape"),
        (lambda rows: np.zeros((len(rows), 5), np.float32), r"\(16, 5\) instead of \(16, 2\)"),
    ],
)
def test_what_is_indexed_must_give_its_rows(answer, point):
    class Odd:
        shape, dtype = (200, 2), np.dtype(np.float32)

        def __getitem__(self, rows):
            return answer(rows)

    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    with pytest.raises(ValueError, match=point):
        trainer.fit(neuron.DataLoader((Odd(), y), 16), steps=1)


def test_a_sparse_matrix_is_refused_with_a_hint():
    sparse = pytest.importorskip("scipy.sparse")
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    with pytest.raises(ValueError, match=r"toarray\(\)"):
        trainer.fit(neuron.DataLoader((sparse.csr_array(x), y), 16), steps=1)


def test_a_private_mapping_keeps_what_was_written_to_it(tmp_path):
    """To let go of its pages would bring the file's rows back."""
    path = saved(tmp_path)[0]
    changed = np.load(path, mmap_mode="c")
    changed[:] = x + 1
    for array in (changed, changed[:], np.asarray(changed)):
        assert arrays._mapping(array) is None
    with path.open("r+b") as file:
        private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    rows = np.frombuffer(private, np.float32, offset=128).reshape(-1, 2)
    rows += 1
    loader = neuron.DataLoader((rows, y), 16, placement="host")
    for block, count in loader.blocks():
        np.testing.assert_array_equal(block.inputs[:count], x + 1)
    np.testing.assert_array_equal(rows, x + 1)


def test_what_is_written_through_a_mapping_stays(tmp_path):
    path = saved(tmp_path)[0]
    shared = np.load(path, mmap_mode="r+")
    shared[:] = x + 1
    for block, count in neuron.DataLoader((shared, y), 16, placement="host").blocks():
        np.testing.assert_array_equal(block.inputs[:count], x + 1)
    np.testing.assert_array_equal(np.load(path), x + 1)


PROGRAM = """
import re, sys, jax, numpy as np, neuron

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

trainer = neuron.Trainer(neuron.Dense(1024, key=jax.random.key(0)), progress=False)
few = np.ones((2000, 1024), np.float32)
trainer.fit(neuron.DataLoader((few, few[:, 0]), 500, placement="host"), epochs=2)
trainer.evaluate((few, few[:, 0]))
before, most = resident(), 0

class Look(neuron.Callback):
    every = 10
    def on_step_end(self, trainer, logs):
        global most
        most = max(most, resident())

y = np.zeros(300_000, np.float32)
loader = neuron.DataLoader((sys.argv[1], y), 500, placement="host")
trainer = neuron.Trainer(neuron.Dense(1024, key=jax.random.key(0)), callbacks=[Look()], progress=False)
trainer.fit(loader, steps=300)
trainer.evaluate(loader)
print(max(most, resident()) - before)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_pages_that_were_read_are_let_go_of(tmp_path):
    """A file of 1.2 GB: what is held of it while it is trained on, and evaluated, is far less."""
    path = tmp_path / "large.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (300_000, 1024))
    rows[:, 0] = 1
    rows.flush()
    del rows
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 700
