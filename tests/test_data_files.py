"""Files of tables: the rows of arrays in memory, in groups, with memory that does not grow."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import neuron


ROWS = 3000
rng = np.random.default_rng(0)
x = rng.normal(size=(ROWS, 3)).astype(np.float32)
y = (x @ np.float32([1, 2, 3]) + 1).astype(np.float32)
kind = np.array(["low", "high", "mid"])[rng.integers(0, 3, ROWS)]
WORDS = ("high", "low", "mid")
MATRIX = np.column_stack([x, np.searchsorted(WORDS, kind)]).astype(np.float32)
TABLE = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": pa.array(kind), "y": y})


def written(folder, form, table=TABLE, name="rows"):
    """The table as files of a kind; several of them in a folder where they have groups."""
    if form == "csv":
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
        return folder / f"{name}.csv"
    if form == "arrow":
        with pa.ipc.new_file(str(folder / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=170)
        return folder / f"{name}.arrow"
    (folder / name).mkdir()
    for part, start in enumerate(range(0, len(table), 1000)):
        pq.write_table(
            table.slice(start, 1000), folder / name / f"part-{part}.parquet", row_group_size=170
        )
    return folder / name


def fitted(loader, steps=150):
    trainer = neuron.Trainer(
        neuron.Dense(4, key=jax.random.key(0)), optimizer=neuron.Adam(1e-2), progress=False
    )
    trainer.fit(loader, steps=steps)
    return trainer


def same(one, other):
    leaves = zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True)
    np.testing.assert_array_equal(one.history["loss"], other.history["loss"])
    return all((np.asarray(a) == np.asarray(b)).all() for a, b in leaves)


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_files_train_as_their_rows_in_memory_do(tmp_path, form):
    path = written(tmp_path, form)
    read = lambda **options: neuron.DataLoader.from_files(path, 40, target="y", **options)
    host, device = read(placement="host", window=3), read(placement="device", window=3)
    assert len(host) == 75
    assert host.columns.categories == {"kind": WORDS}
    from_host = fitted(host)
    assert same(from_host, fitted(device))
    sampler = host._supply.sampler
    assert isinstance(sampler, neuron.ShuffleBlocks)
    assert same(from_host, fitted(neuron.DataLoader((MATRIX, y), 40, sampler=sampler)))
    assert host.columns.features == ("a", "b", "c", "kind")
    # In their order, and once each.
    predicted = from_host.predict(host)
    np.testing.assert_allclose(predicted, from_host.predict(MATRIX), rtol=1e-6, atol=1e-6)


def test_nothing_stays_open_and_little_is_kept(tmp_path):
    loader = neuron.DataLoader.from_files(
        written(tmp_path, "parquet"), 40, target="y", window=2, placement="host"
    )
    files = len(os.listdir("/proc/self/fd"))
    source, most = loader._supply.source, []
    decoded = source._decoded
    source._decoded = lambda group: most.append(len(source._kept)) or decoded(group)
    fitted(loader)
    assert max(most) <= 4
    assert not source._kept
    assert len(os.listdir("/proc/self/fd")) <= files
    assert not [t for t in threading.enumerate() if t.name == "neuron-reader"]


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    loader = neuron.DataLoader.from_files(
        written(tmp_path, "parquet"), 40, target="y", features=["b"], placement="host"
    )
    asked = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, i, columns, **k: asked.append(tuple(columns)) or read(self, i, columns, **k),
    )
    assert loader.sample().inputs.shape == (40, 1)
    trainer = neuron.Trainer(neuron.Dense(1, key=jax.random.key(0)), progress=False)
    trainer.fit(loader, steps=5)
    assert set(asked) == {("b", "y")}


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_is_arrays_by_name(tmp_path, compressed):
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "rows.npz", inputs=MATRIX, y=y, spare=kind == "low")
    read = lambda **options: neuron.DataLoader.from_files(
        tmp_path / "rows.npz", 40, target="y", features=["inputs"], **options
    )
    plain = fitted(neuron.DataLoader((MATRIX, y), 40))
    assert same(fitted(read(placement="host")), plain)
    assert same(fitted(read(placement="device")), plain)
    assert read()._supply.source.lazy is not compressed
    several = neuron.DataLoader.from_files(tmp_path / "rows.npz", 40, target="y")
    assert set(several.sample().inputs) == {"inputs", "spare"}


def test_a_converted_file_goes_with_its_loader(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "data").mkdir()
    loader = neuron.DataLoader.from_files(written(tmp_path / "data", "csv"), 40, target="y")
    assert list(tmp_path.glob("neuron-*/*.arrow"))
    del loader
    assert not list(tmp_path.glob("neuron-*"))


def test_memory_does_not_grow_with_the_files(tmp_path):
    script = """
import sys, jax, numpy as np, pyarrow as pa, pyarrow.parquet as pq, neuron

def resident():
    (line,) = [l for l in open("/proc/self/status") if l.startswith("VmRSS")]
    return int(line.split()[1]) / 1024

for part in range(30):
    x = np.random.default_rng(part).standard_normal((100_000, 40), dtype=np.float32)
    table = pa.table([*x.T, x[:, 0]], [*map(str, range(40)), "y"])
    pq.write_table(table, f"{sys.argv[1]}/{part}.parquet", row_group_size=20_000)
del x, table
loader = neuron.DataLoader.from_files(sys.argv[1], 100, target="y", window=2, placement="host")

class Peak(neuron.Callback):
    every, most = 200, 0.0
    def on_step_end(self, trainer, logs):
        Peak.most = max(Peak.most, resident())

model = neuron.Dense(40, key=jax.random.key(0))
neuron.Trainer(model, progress=False).fit(loader, steps=400)
before = resident()
neuron.Trainer(model, callbacks=[Peak()], progress=False).fit(loader, steps=30_000)
print(Peak.most - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # 490 MB of numbers went by: groups, chunks and what the allocators keep are less.
    assert float(done.stdout) < 400


def broken(folder, column, row, value):
    """The files with one value changed in the third one."""
    path = written(folder, "parquet")
    values = TABLE[column].to_pylist()[2000:]
    values[row] = value
    part = TABLE.slice(2000).set_column(TABLE.column_names.index(column), column, pa.array(values))
    pq.write_table(part, path / "part-2.parquet", row_group_size=170)
    return path


def fit(path, **options):
    fitted(neuron.DataLoader.from_files(path, 40, target="y", placement="host", **options))


def test_one_reader_at_a_time(tmp_path):
    """A loader may serve a fit and its validation, whose threads read ahead of both."""
    loader = neuron.DataLoader.from_files(written(tmp_path, "parquet"), 40, target="y", window=1)
    source, inside, met = loader._supply.source, threading.Semaphore(1), []
    decoded = source._decoded

    def slowly(group):
        alone = inside.acquire(blocking=False)
        met.append(not alone)
        time.sleep(0.02)
        if alone:
            inside.release()
        return decoded(group)

    source._decoded = slowly
    threads = [
        threading.Thread(target=source.read, args=(np.arange(start, start + 900),))
        for start in (0, 1500)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(met) > 8
    assert not any(met)


def test_one_loader_serves_a_fit_and_its_validation(tmp_path):
    path = written(tmp_path, "parquet")
    read = lambda: neuron.DataLoader.from_files(path, 20, target="y", placement="host", window=2)
    loader = read()
    trainer, alone = (
        neuron.Trainer(neuron.Dense(4, key=jax.random.key(0)), progress=False) for _ in range(2)
    )
    history = trainer.fit(loader, epochs=4, validation=loader)
    alone.fit(read(), epochs=4)
    np.testing.assert_array_equal(history["loss"], alone.history["loss"])


def test_few_files_are_open_and_nothing_is_kept_beside_the_device(tmp_path):
    (tmp_path / "many").mkdir()
    for part in range(40):
        pq.write_table(TABLE.slice(70 * part, 70), tmp_path / "many" / f"{part:02}.parquet")
    loader = neuron.DataLoader.from_files(tmp_path / "many", 40, target="y")
    source = loader._supply.source
    before = len(os.listdir("/proc/self/fd"))
    np.testing.assert_array_equal(source.read(np.arange(2800)).inputs, MATRIX[:2800])
    assert len(os.listdir("/proc/self/fd")) - before <= 8
    fitted(loader, steps=1)
    assert not source._kept


def test_rows_come_in_the_order_asked_for(tmp_path):
    source = neuron.DataLoader.from_files(
        written(tmp_path, "parquet"), 40, target="y"
    )._supply.source
    asked = np.random.default_rng(1).integers(0, ROWS, 999)
    batch = source.read(asked)
    np.testing.assert_array_equal(batch.inputs, MATRIX[asked])
    np.testing.assert_array_equal(batch.targets, y[asked])


def test_what_is_kept_has_a_bound_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("neuron.data.files._CACHE_BYTES", 10_000)
    path = written(tmp_path, "parquet")
    for window, most in ((1, 2), (2, 3), (5, 6)):
        source = neuron.DataLoader.from_files(path, 40, target="y", window=window)._supply.source
        source.read(np.arange(ROWS))
        assert len(source._kept) == most


def test_of_an_arrow_file_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    fields = []
    opened = pa.ipc.open_file

    def open_file(source, **options):
        fields.extend(o.included_fields for o in options.values())
        return opened(source, **options)

    monkeypatch.setattr(pa.ipc, "open_file", open_file)
    loader = neuron.DataLoader.from_files(
        written(tmp_path, "arrow"), 40, target="y", features=["c", "b"]
    )
    np.testing.assert_array_equal(loader.sample().inputs, MATRIX[:40, [2, 1]])
    # To count the rows, the first column; then those asked for.
    assert fields == [[0], [1, 2, 4]]


def test_whole_numbers_may_be_followed_by_fractions(tmp_path, monkeypatch):
    monkeypatch.setattr("neuron.data.formats._CSV_BLOCK", 1000)
    values = np.append(np.arange(500), [2.5])
    lines = [f"{value:g},{place % 3}" for place, value in enumerate(values)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,y", *lines]))
    loader = neuron.DataLoader.from_files(tmp_path / "rows.csv", 501, target="y")
    np.testing.assert_array_equal(loader.sample().inputs[:, 0], values.astype(np.float32))
    assert loader.sample().targets.dtype == np.int32


def test_files_that_are_being_written_are_left_out_and_folders_are_named(tmp_path):
    for folder in ("b", "a", "_temporary"):
        (tmp_path / folder).mkdir()
        pq.write_table(TABLE[:10], tmp_path / folder / "part.parquet")
    source = neuron.DataLoader.from_files(tmp_path, 4, target="y")._supply.source
    assert len(source) == 20
    assert [source.name(row) for row in (3, 13)] == [
        "row 3 of a/part.parquet",
        "row 3 of b/part.parquet",
    ]


def test_the_seed_is_that_of_the_shuffling(tmp_path):
    path = written(tmp_path, "parquet")
    read = lambda seed: neuron.DataLoader.from_files(path, 40, target="y", seed=seed)
    one, again, other = (fitted(read(seed)) for seed in (1, 1, 2))
    assert same(one, again)
    assert (one.history["loss"] != other.history["loss"]).any()


V, T = ValueError, TypeError
REFUSED = [
    ("nothing there", lambda d: fit(d / "none.parquet"), FileNotFoundError, "there is no"),
    ("an empty folder", lambda d: fit(d), V, "where there are none"),
    ("another ending", lambda d: fit(touched(d / "rows.xlsx")), V, r"endings.*rows\.xlsx"),
    ("no Parquet", lambda d: fit(touched(d / "rows.parquet")), V, r"rows\.parquet is none"),
    ("no Arrow", lambda d: fit(touched(d / "rows.arrow")), V, r"rows\.arrow is none"),
    ("no CSV", lambda d: fit(touched(d / "rows.csv")), V, r"rows\.csv is none"),
    ("no rows", lambda d: fit(written(d, "arrow", TABLE.slice(0, 0))), V, "at least one row"),
    ("NaN", lambda d: fit(broken(d, "a", 7, float("nan"))), V, r"'a'.*row 7 of part-2\.parquet"),
    ("inf", lambda d: fit(broken(d, "y", 9, float("inf"))), V, r"'y'.*row 9 of part-2\.parquet"),
    ("null", lambda d: fit(broken(d, "b", 3, None)), V, r"'b'.*row 3 of part-2\.parquet"),
    ("null word", lambda d: fit(broken(d, "kind", 5, None)), V, r"'kind'.*row 5 of part-2"),
    ("no such target", lambda d: neuron.DataLoader.from_files(written(d, "arrow"), target="z"), V, "'z'.*there are"),
    ("no such feature", lambda d: fit(written(d, "arrow"), features=["a", "q"]), V, "'q'.*there are"),
    ("one column twice", lambda d: fit(written(d, "arrow"), features=["a", "y"]), V, "'y' as two"),
    ("a window of none", lambda d: fit(written(d, "arrow"), window=0), V, "window=...\\)` must be at least 1"),
    ("words as weights", lambda d: fit(written(d, "arrow"), weight="kind"), T, "numbers as weights"),
    ("a column missing in a file", lambda d: fit(other(d, TABLE.drop(["b"]))), V, r"'b' is missing in part-9"),
    ("a column of another kind", lambda d: fit(other(d, TABLE.set_column(0, "a", pa.array(kind)))), T, "'a' holds categories in part-9"),
    ("like with target", lambda d: fit(written(d, "arrow"), like=neuron.Columns(("a",))), V, "as well"),
    ("like of arrays", lambda d: neuron.DataLoader.from_files(d, like=neuron.DataLoader((x, y))), T, "like"),
    ("dates", lambda d: fit(written(d, "arrow", TABLE.set_column(0, "a", pa.array(np.zeros(ROWS, "M8[s]"))))), T, "'a' has dtype"),
    ("no array of that name", lambda d: neuron.DataLoader.from_files(archive(d), target="z"), V, "'z'"),
    ("an array of objects", lambda d: neuron.DataLoader.from_files(archive(d, y=np.array([None] * 4)), target="y"), T, "objects"),
    ("compressed objects", lambda d: neuron.DataLoader.from_files(archive(d, np.savez_compressed, y=np.array([None] * 4)), target="y"), T, "'y' in rows.npz holds objects"),
    ("no archive", lambda d: neuron.DataLoader.from_files(touched(d / "rows.npz")), V, r"rows\.npz is none"),
    ("an archive without rows", lambda d: neuron.DataLoader.from_files(archive(d, x=x[:0], y=y[:0]), target="y"), V, "at least one row"),
    ("like of an archive", lambda d: neuron.DataLoader.from_files(archive(d), like=neuron.Columns(("x",))), V, "no columns"),
    ("several archives", lambda d: neuron.DataLoader.from_files([archive(d), archive(other_folder(d))]), V, "one archive of arrays; got 2"),
    ("two formats", lambda d: neuron.DataLoader.from_files([written(d, "csv"), written(d, "arrow")]), V, "files of one format"),
    ("a path that is none", lambda d: neuron.DataLoader.from_files(3), T, "list of paths; got 3"),
    ("a line that is too long", lambda d: neuron.DataLoader.from_files(text(d, "a,y", "1,2", "2,x,3")), V, r"rows\.csv is none"),
    ("a path as data", lambda d: neuron.DataLoader(str(d / "rows.parquet")), T, "from_files"),
]  # fmt: skip


def touched(path):
    path.write_bytes(b"\x00\x01 not, a table\n\xff\xfe\x00")
    return path


def other(folder, table):
    path = written(folder, "parquet")
    pq.write_table(table, path / "part-9.parquet")
    return path


def text(folder, *lines):
    (folder / "rows.csv").write_text("\n".join(lines))
    return folder / "rows.csv"


def other_folder(folder):
    (folder / "other").mkdir()
    return folder / "other"


def archive(folder, save=np.savez, **arrays):
    save(folder / "rows.npz", **({"x": x[:4], "y": y[:4]} | arrays))
    return folder / "rows.npz"


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(tmp_path, call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(tmp_path)
