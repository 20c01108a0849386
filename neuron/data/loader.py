"""`DataLoader`: data as people have it, through one door."""

import copy
from collections.abc import Callable, Generator
from typing import Any

from neuron.data.columns import Choice, Columns
from neuron.data.feed import Feed
from neuron.data.files import from_path
from neuron.data.frames import from_frame
from neuron.data.kinds import as_kind
from neuron.data.options import Options
from neuron.data.prefetch import Prefetched
from neuron.data.supply import Check, Wanted, accepted
from neuron.place import Place
from neuron.rows import UNKNOWN, Cut
from neuron.samplers import Sampler
from neuron.types import Batch, Device


class DataLoader:
    """Data, how many rows make a batch, and which.

    ```python
    loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Bootstrap(seed=123))
    ```

    It takes data as they are:

    - `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weight)`: arrays, lists of numbers or
      trees of them, whose first axis is the rows; also under these names in a dict, or inputs
      alone. Arrays that are mapped into memory, `.npy` files by their path, and array-like objects
      as HDF5 and Zarr have them are read as rows are needed.
    - A dataset with `__len__` and `__getitem__`, such as PyTorch's, Hugging Face's or grain's
      `MapDataset`: one example by its number.
    - An iterable of batches, such as PyTorch's `DataLoader`, or a generator, which is good for one
      fit. Each batch is such a tuple.
    - A function of the step that makes a batch, inside the program; where it takes `key=`, it gets
      one that belongs to the step.
    - A `neuron.Source` or `neuron.Stream` of your own.

    An *epoch* is `len(loader)` batches: as many as it takes to draw as many rows as there are, or
    as the sampler says. The batches are the same to the bit wherever the rows live.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        *,
        sampler: Sampler | None = None,
        drop_last: bool = False,
        placement: str = "auto",
        transform: Callable[..., Any] | None = None,
        host_transform: Callable[..., Any] | None = None,
        steps_per_epoch: int | None = None,
    ):
        """**Arguments:**

        - `data`: rows, batches or a function, as above. The weight, one number of at least 0 a row,
            says how much a row counts in losses and metrics. Floats, integers and booleans are
            taken; 64-bit ones become 32-bit ones unless `jax_enable_x64` is set.
        - `batch_size`: rows a step, 32 if `None`; that of the batches themselves where the data
            comes in batches.
        - `sampler`: which rows; `Shuffle()` if `None`.
        - `drop_last`: whether to leave out a last batch that would be short.
        - `placement`: where rows live that can be read in any order: `"device"`, or `"host"`, from
            where chunks of batches are brought ahead of their use by a background thread. `"auto"`
            puts up to a gibibyte on the device.
        - `transform`: what is done to each example inside the program: a function of a `Batch` of
            one example, without the row axis, that returns another; where it takes `key=`, it gets
            a key of the example's own. It is done wherever the loader is used, evaluation too.
        - `host_transform`: what is done to the rows of each batch on the host, as they are read: a
            function of a `Batch` where the data is arrays, else of what the data gives, its rows
            stacked; it returns as many rows, in a form that `data` may have.
        - `steps_per_epoch`: how many batches an epoch has, for a function of the step, which needs
            it, and for a stream that then runs on from one epoch to the next.

        Rows on the device go there when they are first trained on, and stay; do not write to them
        afterwards.

        **Raises:**

        - `ValueError` or `TypeError` for data that can not be meant: empty, of unequal lengths,
            with NaN or infinity (naming array and row), or of a type that is no number.
        """
        options = Options(
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            placement=placement,
            host_transform=host_transform,
            steps_per_epoch=steps_per_epoch,
        )
        if transform is not None and not callable(transform):
            raise TypeError(f"`DataLoader(transform=...)` must be callable; got {transform!r}.")
        self.transform, self.drop_last = transform, drop_last
        self.columns: Columns | None = None
        self._supply = options.supply_of(as_kind("DataLoader(data)", data))

    @classmethod
    def from_dataframe(
        cls,
        table: Any,
        batch_size: int | None = None,
        *,
        target: str | list[str] | None = None,
        features: list[str] | None = None,
        weight: str | None = None,
        like: "DataLoader | Columns | None" = None,
        **options: Any,
    ) -> "DataLoader":
        """The rows of a table of pandas, polars or pyarrow.

        Features become one matrix of floats: numbers as they are, booleans as 0 and 1, categories
        as the codes that `loader.columns` keeps. A target of floats stays floats, any other becomes
        whole numbers.

        **Arguments:**

        - `table`: in memory; its nulls are refused by column and row.
        - `batch_size`: as for `DataLoader`.
        - `target`: the column of the targets, or several.
        - `features`: the columns of the inputs; all others if `None`.
        - `weight`: the column that says how much a row counts.
        - `like`: a loader of another table: the same columns, and the same codes.
        - `options`: as for `DataLoader`.

        **Raises:**

        - `ValueError` or `TypeError` that names the column, and the row.
        - `ImportError` without narwhals, which the extra `neuron-equinox[frames]` brings.
        """
        call = "DataLoader.from_dataframe(table)"
        choice = Choice(call, target, features, weight, _columns_of(like))
        rows, columns = from_frame(call, table, choice)
        return cls(rows, batch_size, **options)._with(columns)

    @classmethod
    def from_files(
        cls,
        path: Any,
        batch_size: int | None = None,
        *,
        target: str | list[str] | None = None,
        features: list[str] | None = None,
        weight: str | None = None,
        like: "DataLoader | Columns | None" = None,
        window: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> "DataLoader":
        """The rows of files of tables, Parquet, Arrow or CSV, which may be larger than memory; or
        the arrays of an `.npz` file.

        The files of a folder are read in the order of their names, and only what is asked for.
        Unless a sampler is given, the groups of rows in which they are written are shuffled, and
        the rows within a window of some of them: see `ShuffleBlocks`. A sampler that jumps about,
        such as `Shuffle`, reads a group for each row. CSV, which can not be read from the middle,
        is written anew as Arrow first, in one pass, into a temporary folder.

        **Arguments:**

        - `path`: a file, a folder of them, or a list.
        - `batch_size`: as for `DataLoader`.
        - `target`, `features`, `weight`, `like`: as for `from_dataframe`; of an archive, the names
            of arrays. Categories are those that occur, which takes a pass over their columns.
        - `window`: how many groups are shuffled together, as many as make 64 MiB if `None`. Two
            windows are kept in memory, or a little over one where two are more than 256 MiB.
        - `seed`: of that shuffling.
        - `options`: as for `DataLoader`.

        **Raises:**

        - `FileNotFoundError` where nothing is; `ValueError` or `TypeError` that names the file, the
            column and the row.
        - `ImportError` without pyarrow, which the extra `neuron-equinox[files]` brings.
        """
        call = "DataLoader.from_files(path)"
        choice = Choice(call, target, features, weight, _columns_of(like))
        source, columns = from_path(call, path, choice, window=window, seed=seed)
        return cls(source, batch_size, **options)._with(columns)

    def _with(self, columns: Columns | None) -> "DataLoader":
        self.columns = columns
        return self

    @property
    def batch_size(self) -> int:
        """Rows a step."""
        return self.cut.batch_size

    @property
    def streamed(self) -> bool:
        """Whether the batches come in an order of their own."""
        return self._supply.streamed

    @property
    def on_device(self) -> bool:
        """Whether the rows live on the device."""
        return self._supply.on_device

    @property
    def rows(self) -> int | None:
        """How many rows an evaluation goes through, if that is known."""
        return self._supply.rows

    def refuse_spent(self, call: str, *, again: bool = False) -> None:
        """Refuses data that was read before and can not begin anew; with `again`, any data that
        could not be read a second time."""
        self._supply.refuse_spent(call, again=again)

    @property
    def cut(self) -> Cut:
        """How rows are cut into steps, and steps into epochs."""
        return self._supply.cut

    def __len__(self) -> int:
        """How many steps an epoch has; `TypeError` for a stream that does not say."""
        steps = self.cut.steps_per_epoch
        if steps == UNKNOWN:
            raise TypeError(
                "`len(loader)` is not known: the stream does not say how many batches it has. Give "
                "`DataLoader(..., steps_per_epoch=...)`."
            )
        return steps

    def in_groups(self, batches: int) -> "DataLoader":
        """The same data, that many batches a step."""
        grouped = copy.copy(self)
        grouped._supply = self._supply.in_groups(batches)
        return grouped

    def smallest_batch(self) -> int:
        """How many rows the last batch of an epoch has, as far as is known; the others are full."""
        return self._supply.smallest_batch()

    def sample(self) -> Batch:
        """Some rows, or all of them where they are at hand: rows first."""
        return self._supply.sample()

    def whole(self, call: str, device: Device) -> Batch:
        """All rows, read once and put on the device where they are not at hand.

        **Raises:**

        - `ValueError` for rows that do not live on the device, and where not all are drawn from.
        """
        return self._supply.whole(call, device)

    def blocks(
        self, batch_size: int | None = None, check: Check = accepted
    ) -> Generator[tuple[Batch, int], None, None]:
        """All rows once and in their order, in blocks of one shape, some batches each, with how
        many rows of each count. `check` refuses rows that `sample` did not show."""
        return self._supply.blocks(self.batch_size if batch_size is None else batch_size, check)

    def read(
        self,
        batch_size: int | None = None,
        check: Check = accepted,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Prefetched:
        """The same blocks, read ahead in a background thread. To be closed. `meanwhile` is called
        now and then while one is waited for."""
        return Prefetched(self.blocks(batch_size, check), then=self.close, meanwhile=meanwhile)

    def feed(self, wanted: Wanted) -> Feed:
        """What feeds the program."""
        return self._supply.feed(wanted)

    def parts(self) -> dict[str, Any]:
        """What decides which rows make which batch, and what is done to them."""
        return {"data": self.cut, "sampler": self._supply.drawn_by(), "transform": self.transform}

    def position(self, place: Place, taken: int) -> Any:
        """What the data needs, beside the number of steps taken, to go on from a place in a new
        process: numbers, strings, bytes, lists and dicts; `None` for nothing."""
        return self._supply.position(place, taken)

    def go_to(self, call: str, position: Any) -> None:
        """Takes that back.

        **Raises:**

        - `ValueError` for data that can not go on in a new process.
        """
        self._supply.go_to(call, position)

    def close(self) -> None:
        """Lets go of files; they are opened again where they are needed."""
        self._supply.close()

    def __repr__(self) -> str:
        return f"DataLoader({self._supply!r})"


def _columns_of(like: Any) -> Any:
    return like.columns or like if isinstance(like, DataLoader) else like
