"""The values that resamples of rows give, from what the rows have shown once."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, PyTree

from neuron.evaluation.finishing import as_step, present, values_of
from neuron.evaluation.observing import Observed
from neuron.metrics import Metric
from neuron.run import Leaves
from neuron.step import Shown, Sums, summed
from neuron.trees import Static, arrays_of


# How many resamples one call computes, and how many of them side by side.
_RESAMPLES, _TOGETHER = 64, 8
# How many rows are totaled at once, and how many bytes of them at most.
_LEAST, _MOST, _BYTES = 256, 1 << 14, 1 << 22


def resampled(
    observed: Observed, counts: Integer[np.ndarray, "rows resamples"]
) -> dict[str, np.ndarray]:
    """The values of each resample, along a first axis: those of `evaluate`, of rows that each count
    as often as it was drawn. Sums are in single precision.

    Memory does not grow with the number of resamples: a fixed number of them is computed at once,
    over one piece of the rows after the other.

    **Arguments:**

    - `counts`: how often each resample has drawn each row.
    """
    metrics, number = observed.scoring.metrics, counts.shape[1]
    pieces = []
    for first in range(0, number, _RESAMPLES):
        own = counts[:, first : first + _RESAMPLES]
        own = np.pad(own, ((0, 0), (0, _RESAMPLES - own.shape[1])))
        pieces.append(jax.device_get(_values_of(observed, own)))
    joined = lambda *leaves: np.concatenate(leaves)[:number].astype(np.float64)
    values: dict[str, np.ndarray] = jax.tree.map(joined, *pieces)
    kept = {
        n: _of_rows(metrics[n], present(rows), counts) for n, rows in observed.sums.rows.items()
    }
    return values | kept


def _of_rows(metric: Metric, rows: PyTree, counts: np.ndarray) -> np.ndarray:
    """A metric of all rows at once, of each resample: a row comes as often as it was drawn, so that
    a function that knows no weights serves as well."""
    places = np.arange(len(counts))
    values = []
    for column in counts.T:
        drawn = np.repeat(places, column)
        total = jax.tree.map(lambda leaf, drawn=drawn: leaf[drawn], rows)
        values.append(np.asarray(metric.compute(total), np.float64))
    return np.stack(values)


def _values_of(observed: Observed, counts: np.ndarray) -> dict[str, Array]:
    """The values of a fixed number of resamples."""
    scoring, shown = observed.scoring, observed.shown
    metrics = {name: scoring.metrics[name] for name in shown.seen}
    static, arrays = Static(metrics), arrays_of(metrics)
    size = _piece(observed)
    totals = None
    for first in range(0, observed.rows, size):
        cut = lambda leaf, first=first: _filled(leaf[first : first + size], size)
        rows, drawn = jax.tree.map(cut, shown), _filled(counts[first : first + size], size, 0)
        totals = _none(static, arrays, rows) if totals is None else totals
        totals = _added(static, arrays, totals, rows, drawn)
    kept = (observed.model, scoring)
    return _finished(Static(kept), arrays_of(kept), totals, as_step(observed.step))


def _piece(observed: Observed) -> int:
    """How many rows are totaled at once: a power of two, and so a program for each power alone."""
    row_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(observed.shown)) // observed.rows
    most = min(_MOST, max(_LEAST, 1 << (_BYTES // max(1, row_bytes)).bit_length() - 1))
    return min(most, max(_LEAST, 1 << (observed.rows - 1).bit_length()))


def _filled(rows: np.ndarray, size: int, value: Any = None) -> np.ndarray:
    """That many rows: what is lacking is a value, or the first row."""
    if len(rows) == size:
        return rows
    filled = np.empty((size, *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    filled[len(rows) :] = rows[0] if value is None else value
    return filled


@functools.partial(jax.jit, static_argnums=0)
def _none(static: Static, arrays: Leaves, rows: Shown) -> Sums:
    """The sums of no rows, for each resample."""
    there = jnp.ones(len(rows.examples), bool)
    like = jax.eval_shape(lambda own: summed(static.combine(own), rows, there), arrays)
    return jax.tree.map(lambda leaf: jnp.zeros((_RESAMPLES, *leaf.shape), leaf.dtype), like)


@functools.partial(jax.jit, static_argnums=0)
def _added(static: Static, arrays: Leaves, totals: Sums, rows: Shown, counts: Array) -> Sums:
    """The sums of each resample, with those of some more rows."""
    metrics = static.combine(arrays)

    def one(pair: tuple[Sums, Array]) -> Sums:
        before, drawn = pair
        counted = rows.examples * drawn.astype(rows.examples.dtype)
        weighted = dataclasses.replace(rows, examples=counted)
        after = _merged(metrics, before, summed(metrics, weighted, drawn > 0))
        return jax.tree.map(lambda old, new: new.astype(old.dtype), before, after)

    return jax.lax.map(one, (totals, counts.T), batch_size=_TOGETHER)


def _merged(metrics: dict[str, Metric], one: Sums, other: Sums) -> Sums:
    add = functools.partial(jax.tree.map, jnp.add)
    totals = {n: metric.merge(one.metrics[n], other.metrics[n]) for n, metric in metrics.items()}
    return Sums(
        add(one.value, other.value),
        add(one.weight, other.weight),
        one.examples + other.examples,
        add(one.logs, other.logs),
        totals,
        {},
    )


@functools.partial(jax.jit, static_argnums=0)
def _finished(static: Static, arrays: Leaves, totals: Sums, step: Array) -> dict[str, Any]:
    model, scoring = static.combine(arrays)

    def one(sums: Sums) -> dict[str, Any]:
        mean = jax.tree.map(lambda v, w: v / w, sums.value, sums.weight)
        logs = {name: log / sums.examples for name, log in sums.logs.items()}
        return values_of(model, scoring, mean, sums.metrics, step) | logs

    return jax.vmap(one)(totals)
