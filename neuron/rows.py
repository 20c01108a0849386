"""Rows. What a program takes the rows of a step from: arrays, a chunk of batches, a function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt32

from neuron.counters import as_count, fold_in, key_of, place_after
from neuron.models import takes_key
from neuron.samplers import Sampler
from neuron.types import Batch, Indices, Words


FORMS = "(inputs,), (inputs, targets) or (inputs, targets, weight)"
_NAMES = ("inputs", "targets", "weight")


def as_batch(call: str, rows: Any) -> Batch:
    """Rows as they are handed over, by the names that a batch has.

    **Raises:**

    - `TypeError` for what has no such names.
    """
    if isinstance(rows, Batch):
        return rows
    if isinstance(rows, tuple | list) and 1 <= len(rows) <= 3:
        return Batch(*rows)
    if isinstance(rows, Mapping) and "inputs" in rows and set(rows) <= set(_NAMES):
        return Batch(**rows)
    if isinstance(rows, Mapping):
        raise TypeError(
            f"`{call}` must be a tuple, {FORMS}, or named so; got a dict of {list(rows)}. Say "
            "what is what, by `(data,)` if all are inputs, or for an iterable by "
            "`DataLoader(..., host_transform=lambda rows: (rows[...], rows[...]))`."
        )
    if isinstance(rows, tuple | list):
        raise TypeError(
            f"`{call}` must be a tuple: {FORMS}; got a {type(rows).__name__} of {len(rows)}."
        )
    return Batch(rows)


class Delivered(Sampler):
    """The places of rows that the host has laid out batch by batch: a chunk of some steps.

    `epoch` and `position` say which batch comes first, and `present` which places hold a row. To
    the program such a chunk is data like any other, and this a sampler like any other.
    """

    epoch: Words
    position: UInt32[Any, ""]
    steps_per_epoch: UInt32[Any, ""]
    present: Bool[Any, "steps batch"]

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del size
        # Modulo 2^32, which a chunk is far from: the differences may wrap, the step does not.
        epochs = epoch[1] - self.epoch[1]
        step = epochs * self.steps_per_epoch + position - self.position
        step = jnp.minimum(step, jnp.uint32(len(self.present) - 1))
        places = step * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        return jnp.where(self.present[step], places.astype(jnp.int32), -1)


class Whole(Sampler):
    """All rows in their order, at every step: those that a function makes for the step."""

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del epoch, position, size
        return jnp.arange(batch_size, dtype=jnp.int32)


class Generated(eqx.Module):
    """Data that a function makes inside the program: `function(step)` is one batch, a tuple
    (inputs, targets, weight) or a part of it.

    Where the function takes `key=`, it gets one of its own for each batch. `batches` of them are
    the rows of one step.
    """

    function: Callable[..., Any]
    batches: int = eqx.field(static=True, default=1)

    def at(self, step: Words, seed: Words) -> Batch:
        """The rows of a step."""
        key = fold_in(key_of(seed), step)

        def batch(place: UInt32[Array, ""]) -> Batch:
            own = {"key": jax.random.fold_in(key, place)} if takes_key(self.function) else {}
            number = as_count(step) * self.batches + place.astype(jnp.int32)
            return as_batch("DataLoader(function)", self.function(number, **own))

        many = jax.vmap(batch)(jnp.arange(self.batches, dtype=jnp.uint32))
        if any(rows.ndim < 2 for rows in jax.tree.leaves(many)):
            raise ValueError(
                "`DataLoader(function)` must make a batch, with rows along a first axis; got "
                f"{jax.tree.map(lambda rows: f'{rows.dtype}{list(rows.shape[1:])}', many)} at a "
                "step."
            )
        return jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), many)


Data = Batch | Generated


# Steps per epoch, where a stream does not say how many: it ends where it ends.
UNKNOWN = 1 << 31


@dataclasses.dataclass(frozen=True)
class Cut:
    """How rows are cut into steps, and steps into epochs.

    A step has `batch_size` of the `rows` that a sampler draws from; `short` is how many the last
    step of an epoch has where it runs out of them, or 0.
    """

    rows: int
    batch_size: int
    steps_per_epoch: int
    short: int = 0


def indices_ahead(
    sampler: Sampler, epoch: Words, position: UInt32[Any, ""], cut: Cut, count: int
) -> Int[Array, "count batch"]:
    """The rows of that many steps from a place on, in one vectorized call."""

    def indices(steps: UInt32[Array, ""]) -> Indices:
        then = place_after(epoch, position, steps, cut.steps_per_epoch)
        return sampler.indices(*then, cut.batch_size, cut.rows).astype(jnp.int32)

    return jax.vmap(indices)(jnp.arange(count, dtype=jnp.uint32))


# The same draw by itself, for whoever fetches the rows ahead of the program.
draw_ahead = jax.jit(indices_ahead, static_argnums=(3, 4))


def batch_of(data: Data, step: Words, seed: Words) -> Batch:
    """The arrays that a step's indices point into."""
    return data.at(step, seed) if isinstance(data, Generated) else data


def rows_at(batch: Batch, places: Indices) -> Batch:
    """Rows by their places, which are all there."""
    # Unsigned, since a signed index would first be tested for counting from the end.
    unsigned = places.astype(jnp.uint32)
    return jax.tree.map(lambda rows: rows.at[unsigned].get(mode="promise_in_bounds"), batch)
