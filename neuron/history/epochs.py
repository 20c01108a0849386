"""Rows of epochs, from what their steps recorded: exact means, and last values."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from neuron.history.columns import Row
from neuron.optimizers import is_rate


# What stands behind the loss: columns of these names, of several losses with `.name` behind them.
_BEHIND_LOSS = ("loss_sum", "loss_weight", "loss_examples", "loss_penalty")
# A stretch of steps in which epochs end: (epoch, the place at which it began, steps from there,
# steps per epoch, steps of the run before place 0).
Stretch = tuple[int, int, int, int, int]


def is_behind(name: str) -> bool:
    """Whether a column is what a loss is made of, and no value of its own."""
    return name.split(".")[0] in _BEHIND_LOSS


def epochs_of(
    stretches: list[Stretch],
    columns: Mapping[str, np.ndarray],
    clock: Mapping[str, np.ndarray],
    finish: Callable[..., dict[str, np.ndarray]],
    metrics: Collection[str],
) -> list[Row]:
    """One row for each epoch that ends in the stretches.

    **Arguments:**

    - `columns`: what the steps recorded.
    - `clock`: at which of the `seconds` of training which of the `steps` was reached.
    - `finish`, `metrics`: as for `History`.
    """
    numbers, ends, lengths, before = np.concatenate(
        [
            np.stack(np.broadcast_arrays(epoch + k, start + k * length, length, before))
            for epoch, start, steps, length, before in stretches
            for k in [np.arange(1, steps // length + 1)]
        ],
        axis=1,
    )
    starts = np.maximum(ends - lengths, 0)
    table = _values(columns, starts, ends, finish, ends + before - 1, metrics)
    seconds = [np.interp(at, clock["steps"], clock["seconds"]) for at in (ends, starts)]
    table |= {"seconds": seconds[0] - seconds[1]}
    return [
        {"epoch": int(number), "step": int(end + before[place])}
        | {name: _plain(values[place]) for name, values in table.items()}
        for place, (number, end) in enumerate(zip(numbers, ends, strict=True))
    ]


def _plain(value: Any) -> Any:
    """A number as Python's; of many runs at once, an array of theirs."""
    return value if np.ndim(value) else value.item()


def _values(
    columns: Mapping[str, np.ndarray],
    starts: np.ndarray,
    ends: np.ndarray,
    finish: Callable[..., dict[str, np.ndarray]],
    steps: np.ndarray,
    metrics: Collection[str],
) -> dict[str, np.ndarray]:
    """Of each name its value in each epoch, which are the columns' places from `starts` to `ends`;
    `steps` are the last ones by the run's count."""
    first, last = starts[0], ends[-1]
    places = np.stack([starts, ends], 1).ravel() - first
    recorded = {name: values[first:last] for name, values in columns.items()}

    def summed(values: np.ndarray) -> np.ndarray:
        # Of the float64 slices [start, end): `reduceat` sums between given places.
        rows = np.concatenate([values.astype(np.float64), np.zeros((1, *values.shape[1:]))])
        return np.add.reduceat(rows, places, axis=0)[::2]

    def averaged(name: str) -> np.ndarray:
        weight = recorded["loss_examples"]
        counted = np.where(weight > 0, weight * recorded[name], 0)
        return summed(counted) / summed(weight)

    with np.errstate(invalid="ignore", divide="ignore"):
        table = finish(_means(recorded, summed), steps)
        if "loss_penalty" in recorded:
            table["loss"] = table["loss"] + averaged("loss_penalty")
        for name in (n for n in recorded if not is_behind(n) and n not in table):
            if name == "skipped":
                table[name] = summed(np.nan_to_num(recorded[name])).astype(np.int64)
            elif is_rate(name) or name in metrics:
                table[name] = recorded[name][ends - 1 - first]
            else:
                table[name] = averaged(name)
    return table


def _means(recorded: dict[str, np.ndarray], summed: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The epochs' weighted means of the one loss, or of each by name."""
    means = {
        name.removeprefix("loss_sum").removeprefix("."): summed(sums)
        / summed(recorded[name.replace("loss_sum", "loss_weight", 1)])
        for name, sums in recorded.items()
        if name.startswith("loss_sum")
    }
    return means.get("", means)
