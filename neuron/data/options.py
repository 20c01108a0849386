"""Options. What a `DataLoader` is told beside its data, what of it means something for data of a
kind, and what then supplies the program."""

import dataclasses
from collections.abc import Callable
from typing import Any

from neuron.data.by_function import ByFunction
from neuron.data.by_rows import ByRows
from neuron.data.by_stream import ByStream
from neuron.data.kinds import Kind
from neuron.data.source import Source, Stream
from neuron.data.supply import Supply
from neuron.samplers import Sampler
from neuron.types import whole_number


_PLACEMENTS = ("auto", "device", "host")
_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that decide how data gets into the program; see `DataLoader`.

    **Raises:**

    - `TypeError` or `ValueError` for what can not be meant, whatever the data.
    """

    batch_size: int | None
    sampler: Sampler | None
    drop_last: bool
    placement: str
    host_transform: Callable[..., Any] | None
    steps_per_epoch: int | None

    def __post_init__(self):
        if self.placement not in _PLACEMENTS:
            raise ValueError(
                f"`DataLoader(placement=...)` must be one of {_PLACEMENTS}; got {self.placement!r}."
            )
        if self.host_transform is not None and not callable(self.host_transform):
            raise TypeError(
                f"`DataLoader(host_transform=...)` must be callable; got {self.host_transform!r}."
            )
        if self.sampler is not None and not isinstance(self.sampler, Sampler):
            raise TypeError(
                "`DataLoader(sampler=...)` must be a neuron.Sampler, such as neuron.Shuffle(); "
                f"got {self.sampler!r}."
            )
        numbers = {"steps_per_epoch": self.steps_per_epoch, "batch_size": self.batch_size}
        for name, value in numbers.items():
            if value is not None:
                whole_number(f"DataLoader({name}=...)", value, least=1)
        if self.placement == "device" and self.host_transform is not None:
            raise ValueError(
                "`DataLoader(placement='device')` must come without `host_transform=`, which is "
                "done to each batch on the host; got both."
            )

    def supply_of(self, kind: Kind) -> Supply:
        """What supplies data of a kind.

        **Raises:**

        - `ValueError` for an option that means nothing for it.
        """
        if isinstance(kind, Source):
            _refuse("rows", steps_per_epoch=self.steps_per_epoch)
            return ByRows(
                kind,
                _BATCH_SIZE if self.batch_size is None else int(self.batch_size),
                kind.sampler() if self.sampler is None else self.sampler,
                drop_last=self.drop_last,
                placement=self.placement,
                host_transform=self.host_transform,
            )
        moved = None if self.placement == "auto" else self.placement
        _refuse("batches", batch_size=self.batch_size, sampler=self.sampler, placement=moved)
        if isinstance(kind, Stream):
            return ByStream(
                kind,
                drop_last=self.drop_last,
                steps_per_epoch=self.steps_per_epoch,
                host_transform=self.host_transform,
            )
        dropped = self.drop_last or None
        _refuse("a function", host_transform=self.host_transform, drop_last=dropped)
        return ByFunction(kind, steps_per_epoch=self.steps_per_epoch)


def _refuse(kind: str, **options: Any) -> None:
    """Refuses options that mean nothing for data of a kind."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"`DataLoader({name}=...)` means nothing for data that is {kind}; got {value!r}."
            )
