"""Arrays as a source: in memory, or read lazily from memory-mapped and array-like files."""

import mmap
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from neuron.data.checks import (
    as_rows,
    checked,
    of_one_length,
    refuse_kind,
    refuse_no_weight,
)
from neuron.data.memory import aligned
from neuron.data.source import Source
from neuron.types import Batch


# Of a mapped file no more than this much is resident before its pages are let go of. A page fault
# maps all of the folio that the page belongs to, which in Linux's page cache has up to 2 MiB.
_MAPPED_BYTES = 1 << 28
_FOLIO_BYTES = 1 << 21


@runtime_checkable
class ArrayLike(Protocol):
    """What HDF5 and Zarr arrays look like: a shape, a type and indexing."""

    shape: tuple[int, ...]
    dtype: np.dtype | type

    def __getitem__(self, rows: Any) -> Any: ...


@runtime_checkable
class Labeled(Protocol):
    """What looks like an array and is indexed by labels: a column of pandas."""

    iloc: Any


@runtime_checkable
class Tensor(Protocol):
    """What NumPy makes an array of, in one piece: PyTorch's tensors."""

    shape: tuple[int, ...]

    def __array__(self) -> np.ndarray: ...


class Arrays(Source):
    """A batch of all rows: arrays of one length, each in memory or read as rows are asked for."""

    def __init__(self, call: str, batch: Batch):
        """**Raises:**

        - `ValueError` or `TypeError` for arrays that can not be meant.
        """
        is_leaf = lambda node: isinstance(node, list) or is_lazy(node)
        opened = jax.tree.map(_opened, batch, is_leaf=is_leaf)
        self.lazy = any(map(is_lazy, jax.tree.leaves(opened, is_leaf=is_leaf)))
        if not self.lazy:
            opened = checked(call, opened)
            refuse_no_weight(call, opened.weight)
        self.batch = opened if not self.lazy else of_one_length(call, _checked_lazily(call, opened))

        self._length = jax.tree.leaves(self.batch, is_leaf=is_lazy)[0].shape[0]

    def __len__(self) -> int:
        return self._length

    def read(self, rows: np.ndarray) -> Batch:
        return jax.tree.map(lambda leaf: _rows_of(leaf, rows), self.batch, is_leaf=is_lazy)


def is_lazy(leaf: Any) -> bool:
    """Whether an array's rows are to be read when they are needed."""
    if isinstance(leaf, np.ndarray):
        return _mapping(leaf) is not None
    known = isinstance(leaf, jax.Array | np.generic | Labeled)
    return not known and isinstance(leaf, ArrayLike) and isinstance(leaf.dtype, np.dtype | type)


def is_array(data: Any) -> bool:
    """Whether data is one array, or the path of a file that holds one."""
    if isinstance(data, Labeled):
        return False
    return isinstance(data, np.ndarray | jax.Array | Tensor) or is_lazy(data) or _is_file(data)


def _is_file(leaf: Any) -> bool:
    return isinstance(leaf, str | pathlib.Path) and str(leaf).endswith(".npy")


def _opened(leaf: Any) -> Any:
    """The array in a `.npy` file that is named by its path, mapped into memory."""
    if _is_file(leaf):
        return np.load(leaf, mmap_mode="r")
    return leaf


def _checked_lazily(call: str, batch: Batch) -> Batch:
    """Leaves that are in memory are checked now, the others as far as their shapes tell."""

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path).lstrip(".")
        if not is_lazy(leaf):
            return as_rows(call, name, leaf)
        refuse_kind(call, name, leaf)
        return leaf

    is_leaf = lambda node: isinstance(node, list) or is_lazy(node)
    return jax.tree_util.tree_map_with_path(one, batch, is_leaf=is_leaf)


def _rows_of(leaf: Any, rows: np.ndarray) -> np.ndarray:
    if isinstance(leaf, jax.Array):
        return _taken(np.asarray(leaf), rows)
    if not isinstance(leaf, np.ndarray):
        return _rows_by_index(leaf, rows)
    mapping = _mapping(leaf)
    if mapping is None or len(mapping) <= _MAPPED_BYTES or sys.platform == "win32":
        return _taken(leaf, rows)
    stride, size = abs(leaf.strides[0]), len(rows)
    if int(np.ptp(rows)) * stride > _MAPPED_BYTES:
        size = max(1, _MAPPED_BYTES // (_FOLIO_BYTES + stride))
    # What was read must not stay.
    return _taken(leaf, rows, size, lambda: mapping.madvise(mmap.MADV_DONTNEED))


def _rows_by_index(leaf: ArrayLike, rows: np.ndarray) -> np.ndarray:
    # HDF5 wants each row once, and in order.
    distinct, places = np.unique(rows, return_inverse=True)
    read, expected = np.asarray(leaf[distinct]), (len(distinct), *leaf.shape[1:])
    if read.shape != expected:
        raise ValueError(
            f"`DataLoader(data)` must give an array of rows where it is indexed by an array; "
            f"{type(leaf).__name__} gave shape {read.shape} instead of {expected}. Use "
            "`.toarray()` if it is sparse."
        )
    return read[places]


def _taken(
    leaf: np.ndarray,
    rows: np.ndarray,
    at_once: int = 1 << 62,
    then: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Rows of an array, so many at once."""
    taken = aligned((len(rows), *leaf.shape[1:]), leaf.dtype)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        # Rows are known to be there; with `raise` NumPy would put a buffer between.
        np.asarray(leaf).take(rows[part], axis=0, out=taken[part], mode="clip")
        then()
    return taken


def _mapping(array: Any) -> mmap.mmap | None:
    """The file mapping behind an array, where NumPy made it a shared one: the pages of a private
    one hold what was written to them alone, and must not be let go of."""
    shared = False
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            shared = array.mode in ("r", "r+", "w+")
        array = array.base
    return array if shared and isinstance(array, mmap.mmap) else None
