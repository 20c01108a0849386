"""Formats: how a file of a table is read in groups of rows. The one place that knows pyarrow."""

import abc
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import Any


# Rows of a group in which a CSV file, which has none, is converted.
_ROWS = 1 << 16


class Table(abc.ABC):
    """A file of a table. `sizes` says how many rows each of its groups has."""

    path: pathlib.Path
    names: list[str]
    sizes: list[int]

    @abc.abstractmethod
    def read(self, group: int, names: list[str]) -> Any:
        """Some columns of a group, as a `pyarrow.Table`. Opens the file, if it is closed."""

    @abc.abstractmethod
    def empty(self) -> Any:
        """The table without its rows."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the file until it is read again."""


class Parquet(Table):
    """Groups are the file's row groups."""

    def __init__(self, path: pathlib.Path):
        self.path, self._file = path, None
        meta = self._opened().metadata
        self.sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self._schema = self._opened().schema_arrow
        self.names = self._schema.names
        self.close()

    def read(self, group: int, names: list[str]) -> Any:
        # One thread: the cores are for training.
        return self._opened().read_row_group(group, names, use_threads=False)

    def empty(self) -> Any:
        return self._schema.empty_table()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> Any:
        if self._file is None:
            import pyarrow.parquet

            self._file = pyarrow.parquet.ParquetFile(self.path)
        return self._file


class Arrow(Table):
    """An IPC file, Feather's second version among them; groups are its record batches."""

    def __init__(self, path: pathlib.Path):
        self.path, self._file = path, None
        reader = self._opened()
        self.sizes = [reader.get_batch(g).num_rows for g in range(reader.num_record_batches)]
        self._schema = reader.schema
        self.names = self._schema.names
        self.close()

    def read(self, group: int, names: list[str]) -> Any:
        import pyarrow

        batch = self._opened().get_batch(group)
        return pyarrow.Table.from_batches([batch]).select(names)

    def empty(self) -> Any:
        return self._schema.empty_table()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> Any:
        import pyarrow.ipc

        if self._file is None:
            # Not mapped: what was read of a mapped file stays in memory.
            self._file = pyarrow.OSFile(str(self.path))
            self._reader = pyarrow.ipc.open_file(self._file)
        return self._reader


class Csv(Table):
    """A CSV file can not be read from the middle: it is converted once, in one pass, to an Arrow
    file in a temporary folder, which goes when this object does."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        folder = tempfile.mkdtemp(prefix="neuron-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        converted = pathlib.Path(folder) / "rows.arrow"
        _convert(path, converted)
        self._table = Arrow(converted)
        self.names, self.sizes = self._table.names, self._table.sizes

    def read(self, group: int, names: list[str]) -> Any:
        return self._table.read(group, names)

    def empty(self) -> Any:
        return self._table.empty()

    def close(self) -> None:
        self._table.close()


FORMATS: dict[str, Callable[[pathlib.Path], Table]] = {
    ".parquet": Parquet,
    ".pq": Parquet,
    ".arrow": Arrow,
    ".ipc": Arrow,
    ".feather": Arrow,
    ".csv": Csv,
}


def opened(call: str, path: Any) -> list[Table]:
    """The files at a path: one, those of a folder in the order of their names, or of a list.

    **Raises:**

    - `ImportError` without pyarrow, which the extra `neuron-equinox[files]` brings.
    - `FileNotFoundError` for a path where nothing is, `ValueError` for what is no such file.
    """
    paths = [pathlib.Path(one) for one in (path if isinstance(path, list | tuple) else [path])]
    found = [file for one in paths for file in _files(call, one)]
    if not found:
        raise ValueError(
            f"`{call}` must lead to files with one of the endings {list(FORMATS)}; got {path}, "
            "where there are none."
        )
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            f"`{call}` reads files with pyarrow; install `neuron-equinox[files]`."
        ) from error
    tables = []
    for file in found:
        try:
            tables.append(FORMATS[file.suffix.lower()](file))
        except pyarrow.ArrowException as error:
            what = f"a {file.suffix.lower()} file"
            raise ValueError(f"`{call}` must be {what}; {file.name} is none: {error}") from error
    return tables


def _files(call: str, path: pathlib.Path) -> Iterator[pathlib.Path]:
    if not path.exists():
        raise FileNotFoundError(f"`{call}` must be a file or a folder; there is no {path}.")
    if path.is_dir():
        yield from sorted(f for f in path.rglob("*") if f.suffix.lower() in FORMATS)
    elif path.suffix.lower() in FORMATS:
        yield path
    else:
        raise ValueError(
            f"`{call}` must lead to files with one of the endings {list(FORMATS)}, or `.npz`; "
            f"got {path}."
        )


def _convert(source: pathlib.Path, target: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.csv
    import pyarrow.ipc

    # One thread, so that an error tells the row.
    options = pyarrow.csv.ReadOptions(use_threads=False)
    with (
        pyarrow.csv.open_csv(source, options) as batches,
        pyarrow.ipc.new_file(str(target), batches.schema) as writer,
    ):
        held, rows = [], 0
        for batch in batches:
            held.append(batch)
            rows += batch.num_rows
            if rows >= _ROWS:
                _write(writer, held)
                held, rows = [], 0
        _write(writer, held)


def _write(writer: Any, batches: list[Any]) -> None:
    """Batches as one group."""
    import pyarrow

    if batches:
        writer.write_table(pyarrow.Table.from_batches(batches).combine_chunks())
