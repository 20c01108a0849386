"""Files of tables: Parquet, Arrow and CSV, larger than memory, read group by group."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from neuron.data.columns import Choice, Columns
from neuron.data.formats import Table, opened
from neuron.data.frames import distinct, kinds, narwhals_for, rows, typed
from neuron.data.memory import aligned
from neuron.data.source import Source
from neuron.samplers import Sampler, ShuffleBlocks
from neuron.types import Batch


# Where nobody says how many groups are shuffled together: as many as are this large, decoded.
_WINDOW_BYTES = 1 << 26


class Files(Source):
    """The rows of files of tables, one file behind the other.

    A file is read in the groups of rows that it was written in. Those that were used last are kept,
    as many as two windows of `ShuffleBlocks` have, so memory does not grow with the files.
    """

    columns: Columns

    def __init__(self, call: str, path: Any, choice: Choice, window: int | None):
        """**Arguments:**

        - `call`: what is quoted in an error.
        - `path`: a file, a folder, or a list of files.
        - `choice`: which columns are meant.
        - `window`: how many groups are shuffled together; as many as make 64 MiB if `None`.
        """
        self._call = call
        self._files = opened(call, path)
        sizes = [file.sizes for file in self._files]
        self._groups = [(f, g) for f, of_file in enumerate(sizes) for g in range(len(of_file))]
        self._ends = np.cumsum(np.concatenate([np.array(s, np.int64) for s in sizes]))
        if not len(self._ends) or not self._ends[-1]:
            raise ValueError(f"`{call}` must have at least one row; got 0 in {path}.")
        self._file_starts = np.cumsum([0, *map(sum, sizes)])
        self._kept: collections.OrderedDict[int, Batch] = collections.OrderedDict()
        self.columns = self._found(choice)
        self._window = window or self._usual_window()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: np.ndarray) -> Batch:
        group_of = np.searchsorted(self._ends, rows, side="right")
        needed = np.unique(group_of).tolist()
        like = self._group(needed[0])
        taken = jax.tree.map(lambda a: aligned((len(rows), *a.shape[1:]), a.dtype), like)
        for group in needed:
            here = np.flatnonzero(group_of == group)
            places = rows[here] - self._start(group)

            def put(out: np.ndarray, leaf: np.ndarray, here=here, places=places) -> None:
                out[here] = leaf[places]

            jax.tree.map(put, taken, self._group(group))
        return taken

    def name(self, row: int) -> str:
        file = int(np.searchsorted(self._file_starts, row, side="right")) - 1
        return f"row {row - self._file_starts[file]} of {self._files[file].path.name}"

    def sampler(self) -> Sampler:
        sizes = np.diff(self._ends, prepend=0)
        return ShuffleBlocks(sizes, window=min(self._window, len(sizes)))

    def close(self) -> None:
        self._kept.clear()
        for file in self._files:
            file.close()

    def _group(self, group: int) -> Batch:
        """A group's rows as arrays, kept for a while."""
        if group not in self._kept:
            self._kept[group] = self._decoded(group)
            while len(self._kept) > 2 * self._window:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]

    def _decoded(self, group: int) -> Batch:
        start = self._start(group)
        table = self._table(group, self.columns.names)
        return rows(self._call, self.columns, table, lambda row: self.name(start + row))

    def _table(self, group: int, names: Iterable[str]) -> Any:
        file, number = self._groups[group]
        table = self._files[file].read(number, list(names))
        return narwhals_for(self._call).from_native(table, eager_only=True)

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def _usual_window(self) -> int:
        largest = int(np.argmax(np.diff(self._ends, prepend=0)))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(self._decoded(largest)))
        return max(1, _WINDOW_BYTES // size)

    def _found(self, choice: Choice) -> Columns:
        """The columns, which every file has, with the categories of all files."""
        first, *others = self._files
        columns = choice.of(first.names)
        schema = self._schema(first)
        if choice.like is None:
            columns = typed(self._call, columns, schema)
        held = kinds(self._call, columns, schema)
        for file in others:
            self._check_alike(columns, held, file)
        if choice.like is not None:
            return columns
        words = {name: self._words(name) for name in columns.categories}
        return dataclasses.replace(columns, categories=words)

    def _check_alike(self, columns: Columns, held: dict[str, str], file: Table) -> None:
        where = f" in {file.path.name}"
        if missing := [name for name in columns.names if name not in file.names]:
            raise ValueError(
                f"`{self._call}` must have the same columns in each file; {missing[0]!r} is "
                f"missing{where}."
            )
        for name, kind in kinds(self._call, columns, self._schema(file), where).items():
            if kind != held[name]:
                raise TypeError(
                    f"`{self._call}` must have columns that are alike in each file; {name!r} holds "
                    f"{kind}{where} and {held[name]} in {self._files[0].path.name}."
                )

    def _schema(self, file: Table) -> Any:
        return narwhals_for(self._call).from_native(file.empty(), eager_only=True).schema

    def _words(self, name: str) -> tuple[str, ...]:
        """The categories of a column, in one pass over it."""
        groups = range(len(self._groups))
        found = (distinct(self._table(group, [name])[name]) for group in groups)
        return tuple(sorted(set(itertools.chain.from_iterable(found))))
