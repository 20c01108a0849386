"""Formats: files of tables that are read one group of rows at a time. Parquet and Arrow as they
are; CSV, which can not be read from the middle, once it has been written anew as Arrow."""

import abc
import pathlib
from collections.abc import Sequence
from typing import Any

from neuron.data.columns import Choice, Columns, listed, present


PARQUET, ARROW, CSV, NPZ = (".parquet", ".pq"), (".arrow", ".feather", ".ipc"), (".csv",), (".npz",)
_KNOWN = PARQUET + ARROW + CSV + NPZ
# A block of text becomes a group of rows.
_CSV_BLOCK = 1 << 22


class Opened(abc.ABC):
    """A file that is open."""

    @property
    @abc.abstractmethod
    def schema(self) -> Any:
        """Its columns, as Arrow has them."""

    @abc.abstractmethod
    def sizes(self) -> list[int]:
        """How many rows each of its groups has."""

    @abc.abstractmethod
    def read(self, group: int, names: Sequence[str]) -> Any:
        """Some columns of a group, as a table of Arrow."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the file."""


class Parquet(Opened):
    """Groups are row groups."""

    def __init__(self, path: pathlib.Path):
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)

    @property
    def schema(self) -> Any:
        return self._file.schema_arrow

    def sizes(self) -> list[int]:
        metadata = self._file.metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def read(self, group: int, names: Sequence[str]) -> Any:
        # In this thread alone: the cores are the training's.
        return self._file.read_row_group(group, columns=list(names), use_threads=False)

    def close(self) -> None:
        self._file.close()


class Arrow(Opened):
    """Groups are record batches."""

    def __init__(self, path: pathlib.Path):
        import pyarrow as pa

        # Read and not mapped: pages of a mapping stay in memory once they were touched.
        self._source = pa.OSFile(str(path))
        self._schema = pa.ipc.open_file(self._source).schema
        self._reader: tuple[Sequence[str], Any] | None = None

    @property
    def schema(self) -> Any:
        return self._schema

    def sizes(self) -> list[int]:
        reader = self._open(self._schema.names[:1])
        return [reader.get_batch(group).num_rows for group in range(reader.num_record_batches)]

    def read(self, group: int, names: Sequence[str]) -> Any:
        import pyarrow as pa

        return pa.Table.from_batches([self._open(names).get_batch(group)])

    def close(self) -> None:
        self._reader = None
        self._source.close()

    def _open(self, names: Sequence[str]) -> Any:
        """A reader of these columns alone."""
        import pyarrow as pa

        if self._reader is None or self._reader[0] != names:
            fields = sorted(self._schema.get_field_index(name) for name in names)
            options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
            self._reader = names, pa.ipc.open_file(self._source, options=options)
        return self._reader[1]


def open_file(call: str, path: pathlib.Path, shown: str) -> Opened:
    """A file by the end of its name.

    **Raises:**

    - `ValueError` for one that is something else than its name says.
    """
    import pyarrow as pa

    form = Parquet if path.suffix.lower() in PARQUET else Arrow
    try:
        return form(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"`{call}` must be {form.__name__} files; {shown} is none: {error}"
        ) from error


def files_in(call: str, path: Any) -> dict[pathlib.Path, str]:
    """The files that are meant, in the order of their names, and what they are called in errors.

    **Raises:**

    - `TypeError`, `FileNotFoundError` or `ValueError` if there are none, or of two formats.
    """
    given = path if isinstance(path, list | tuple) else [path]
    if not given or not all(isinstance(one, str | pathlib.Path) for one in given):
        raise TypeError(
            f"`{call}` must be the path of a file or of a folder, or a list of paths; got {path!r}."
        )
    found: dict[pathlib.Path, str] = {}
    for one in map(pathlib.Path, given):
        if not one.exists():
            raise FileNotFoundError(f"`{call}` must be a file or a folder; there is no {one}.")
        if one.is_file():
            found[one] = one.name
            continue
        for file in sorted(one.rglob("*")):
            name = file.relative_to(one)
            hidden = any(part.startswith((".", "_")) for part in name.parts)
            if file.suffix.lower() in _KNOWN and file.is_file() and not hidden:
                found[file] = str(name)
    formats = [form for form in (PARQUET, ARROW, CSV, NPZ) if _any_of(found, form)]
    others = [shown for file, shown in found.items() if file.suffix.lower() not in _KNOWN]
    if others or not formats:
        got = others[0] if others else f"{path}, where there are none"
        raise ValueError(
            f"`{call}` must lead to files with one of the endings {listed(_KNOWN)}; got {got}."
        )
    if len(formats) > 1:
        raise ValueError(f"`{call}` must be files of one format; got {listed(found.values())}.")
    return found


def _any_of(files: dict[pathlib.Path, str], suffixes: tuple[str, ...]) -> bool:
    return any(file.suffix.lower() in suffixes for file in files)


def from_csv(
    call: str, files: dict[pathlib.Path, str], folder: pathlib.Path, choice: Choice
) -> dict[pathlib.Path, str]:
    """The needed columns of text files, written as Arrow files into a folder, one block after the
    other."""
    import pyarrow as pa

    columns: Columns | None = None
    written: dict[pathlib.Path, str] = {}
    for number, (file, shown) in enumerate(files.items()):
        try:
            with _reader(file) as reader:
                schema = reader.schema
            columns = choice.of(schema.names) if columns is None else columns
            present(call, columns, schema.names, f" in {shown}")
            seen = {name: schema.field(name).type for name in columns.names}
            types = {name: _type_of(columns, name, kind) for name, kind in seen.items()}
            made = folder / f"{number}.arrow"
            with (
                _reader(file, types) as reader,
                pa.OSFile(str(made), "wb") as sink,
                pa.ipc.new_file(sink, reader.schema) as writer,
            ):
                for block in reader:
                    writer.write_batch(block)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"`{call}` must be CSV of one type a column; {shown} is none: {error}"
            ) from error
        written[made] = shown
    return written


def _reader(file: pathlib.Path, types: dict[str, Any] | None = None) -> Any:
    from pyarrow import csv

    convert = csv.ConvertOptions(column_types=types, include_columns=list(types or ()))
    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
        convert_options=convert,
    )


def _type_of(columns: Columns, name: str, seen: Any) -> Any:
    """What a column of text is read as: what its first block looks like, but that whole numbers may
    be followed by others where it does not matter."""
    import pyarrow as pa

    if name in columns.categories:
        return pa.string()
    known = pa.types.is_null(seen) or pa.types.is_integer(seen)
    free = name not in columns.targets or pa.types.is_null(seen)
    return pa.float64() if known and free else seen
