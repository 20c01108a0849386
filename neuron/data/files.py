"""Files of tables, larger than memory if need be: groups of rows are read as they are needed."""

import dataclasses
import pathlib
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from typing import Any

import jax
import numpy as np

from neuron.data.archives import from_archive
from neuron.data.columns import Choice, Columns, present
from neuron.data.formats import CSV, NPZ, Opened, files_in, from_csv, open_file
from neuron.data.frames import distinct, kinds, narwhals_for, rows, typed
from neuron.data.memory import aligned
from neuron.data.source import Source
from neuron.extras import extra
from neuron.samplers import Sampler, ShuffleBlocks
from neuron.types import Batch, whole_number


# The groups that are shuffled together have about this many bytes where nobody says.
_WINDOW_BYTES = 1 << 26
# And those that are kept at most this many, unless one window needs more.
_CACHE_BYTES = 1 << 28
_FILES_OPEN = 8


def from_path(
    call: str, path: Any, choice: Choice, *, window: int | None, seed: int
) -> tuple[Source, Columns | None]:
    """What is in files: tables as rows to read, or the arrays of an archive."""
    if window is not None:
        window = whole_number("DataLoader.from_files(window=...)", window, least=1)
    files = files_in(call, path)
    if next(iter(files)).suffix.lower() in NPZ:
        return from_archive(call, files, choice), None
    source = Files(call, files, choice, window=window, seed=seed)
    return source, source.columns


class Files(Source):
    """The rows of files, one behind the other in the order of the files' names.

    Of each file, the needed columns of one group of rows at a time are read, made a matrix, and
    kept for as long as rows near them are asked for.
    """

    def __init__(
        self,
        call: str,
        files: dict[pathlib.Path, str],
        choice: Choice,
        *,
        window: int | None,
        seed: int,
    ):
        """**Raises:**

        - `ImportError` without pyarrow and narwhals, of the extra `neuron-equinox[files]`.
        - `ValueError` or `TypeError` that names the file.
        """
        does = f"`{call}` reads files with pyarrow and narwhals"
        extra(does, "files", "pyarrow", "narwhals")
        self._call = call
        if next(iter(files)).suffix.lower() in CSV:
            folder = tempfile.mkdtemp(prefix="neuron-csv-")
            # Gone with this object, or else when Python ends.
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            files = from_csv(call, files, pathlib.Path(folder), choice)
        self._files = list(files)
        self._shown = list(files.values())
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._kept: OrderedDict[int, Batch] = OrderedDict()
        self.columns, groups = self._looked_at(choice)
        # Of each group: its file, its place there, and how many rows it has.
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._ends = np.cumsum(self._groups[:, 2])
        if not len(self):
            raise ValueError(f"`{call}` must have at least one row; got 0.")
        self._bound(window)
        self._sampler = ShuffleBlocks(self._groups[:, 2], seed, window=self._window)
        if choice.like is None and self.columns.categories:
            self.columns = self._with_categories(self.columns)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, rows: np.ndarray) -> Batch:
        with self._lock:
            # Of 16 bits, so that sorting counts.
            number = np.searchsorted(self._ends, rows, side="right")
            number = number.astype(np.uint16) if len(self._ends) < 1 << 16 else number
            order = np.argsort(number, kind="stable")
            needed, starts = np.unique(number[order], return_index=True)
            made: Batch | None = None
            for group, places in zip(needed, np.split(order, starts[1:]), strict=True):
                part = self._group(int(group))
                if made is None:
                    made = jax.tree.map(lambda a: aligned((len(rows), *a.shape[1:]), a.dtype), part)
                within = rows[places] - self._first(int(group))
                for whole, leaf in zip(jax.tree.leaves(made), jax.tree.leaves(part), strict=True):
                    whole[places] = leaf.take(within, axis=0)
            assert made is not None, "rows are asked for"
            return made

    def name(self, row: int) -> str:
        group = int(np.searchsorted(self._ends, row, side="right"))
        file = self._groups[group, 0]
        before = int(self._groups[self._groups[:, 0] < file, 2].sum())
        return f"row {row - before} of {self._shown[file]}"

    def sampler(self) -> Sampler:
        return self._sampler

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            while self._open:
                self._open.popitem()[1].close()

    def _looked_at(self, choice: Choice) -> tuple[Columns, list[tuple[int, int, int]]]:
        """The columns, which all files must have alike, and the groups of all files."""
        columns: Columns | None = None
        alike: dict[str, str] = {}
        groups: list[tuple[int, int, int]] = []
        for number, shown in enumerate(self._shown):
            file = self._file(number)
            schema = narwhals_for(self._call).from_native(file.schema.empty_table()).schema
            if columns is None:
                columns = choice.of(list(schema))
                columns = columns if choice.like else typed(self._call, columns, schema)
            present(self._call, columns, list(schema), f" in {shown}")
            held = kinds(self._call, columns, schema, f" in {shown}")
            for name, kind in held.items():
                if alike.setdefault(name, kind) != kind:
                    raise TypeError(
                        f"`{self._call}` must have columns of one type; {name!r} holds {kind} in "
                        f"{shown}, and {alike[name]} in {self._shown[0]}."
                    )
            sizes = enumerate(file.sizes())
            groups += [(number, group, size) for group, size in sizes if size]
        assert columns is not None, "there are files"
        return columns, groups

    def _with_categories(self, columns: Columns) -> Columns:
        """The columns with all categories that occur: one pass over those of categories."""
        found: dict[str, set[str]] = {name: set() for name in columns.categories}
        for file, place, _ in self._groups:
            table = self._table(int(file), int(place), tuple(found))
            for name, words in found.items():
                words.update(distinct(table[name]))
        self.close()
        words = {name: tuple(sorted(words)) for name, words in found.items()}
        return dataclasses.replace(columns, categories=words)

    def _bound(self, window: int | None) -> None:
        """How many groups are shuffled together and kept."""
        width = jax.dtypes.canonicalize_dtype(np.float64).itemsize
        largest = int(self._groups[:, 2].max()) * width * len(self.columns.names)
        window = max(1, _WINDOW_BYTES // largest) if window is None else window
        self._window = min(window, len(self._groups))
        within = max(_CACHE_BYTES // largest, self._window + 1)
        self._most = min(2 * self._window, within)

    def _first(self, group: int) -> int:
        return int(self._ends[group] - self._groups[group, 2])

    def _group(self, group: int) -> Batch:
        """A group as arrays: the one used last stays the longest."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        while len(self._kept) >= self._most:
            self._kept.popitem(last=False)
        self._kept[group] = self._decoded(group)
        return self._kept[group]

    def _decoded(self, group: int) -> Batch:
        file, place, _ = map(int, self._groups[group])
        name = lambda row: self.name(self._first(group) + row)
        return rows(self._call, self.columns, self._table(file, place, self.columns.names), name)

    def _table(self, file: int, place: int, names: tuple[str, ...]) -> Any:
        nw = narwhals_for(self._call)
        try:
            return nw.from_native(self._file(file).read(place, names))
        except (OSError, ValueError) as error:
            error.add_note(f"It came while reading {self._shown[file]}.")
            raise

    def _file(self, number: int) -> Opened:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        while len(self._open) >= _FILES_OPEN:
            self._open.popitem(last=False)[1].close()
        opened = open_file(self._call, self._files[number], self._shown[number])
        self._open[number] = opened
        return opened
