"""Accumulation: the sums of a batch, and the gradient of them, taken in microbatches."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped

from neuron.metrics import Metric
from neuron.models import renewed
from neuron.objectives import Parts
from neuron.step.sums import Sums
from neuron.types import Indices, Key, ModelState, Params


class Chunk(eqx.Module):
    """Places of rows in the data, which of them are present, and a key for each."""

    places: Indices
    present: Bool[Array, " rows"]
    keys: Shaped[Key, " rows"]


SumsAt = Callable[[Params, ModelState, Chunk], tuple[Sums, ModelState]]
Pullback = Callable[[Parts], Params]


def sums_and_pullback(
    sums_at: SumsAt,
    params: Params,
    model_state: ModelState,
    chunk: Chunk,
    microbatch: int,
    metrics: dict[str, Metric],
) -> tuple[Sums, ModelState, Pullback]:
    """The sums of a batch, the model's state after it, and what turns a slope for each of its
    values into a gradient.

    A batch of more rows than a microbatch is taken one microbatch after the other. The sums are
    the same but for rounding, since nothing is finished before all of them are there; the
    gradient of each value is kept, since the slopes are known only then.
    """
    if len(chunk.places) <= microbatch:
        return _at_once(sums_at, params, model_state, chunk)

    def one(model_state: ModelState, chunk: Chunk) -> Any:
        sums, after, pullback = _at_once(sums_at, params, model_state, chunk)
        units = jax.jacobian(lambda value: value)(sums.value)
        grads = {name: pullback(unit) for name, unit in _named(units).items()}
        return sums, after, grads

    sums, model_state, grads = _folded(one, model_state, chunk, microbatch, metrics)

    def pullback(slopes: Parts) -> Params:
        total = jax.tree.map(jnp.zeros_like, params)
        for name, slope in _named(slopes).items():
            total = jax.tree.map(lambda t, g: t + slope.astype(g.dtype) * g, total, grads[name])  # noqa: B023
        return total

    return sums, model_state, pullback


def sums_alone(
    sums_at: SumsAt,
    params: Params,
    model_state: ModelState,
    chunk: Chunk,
    microbatch: int,
    metrics: dict[str, Metric],
) -> Sums:
    """The sums of a batch, without a gradient."""
    if len(chunk.places) <= microbatch:
        return sums_at(params, renewed(model_state), chunk)[0]
    one = lambda model_state, chunk: (*sums_at(params, renewed(model_state), chunk), {})
    return _folded(one, model_state, chunk, microbatch, metrics)[0]


def _at_once(
    sums_at: SumsAt, params: Params, model_state: ModelState, chunk: Chunk
) -> tuple[Sums, ModelState, Pullback]:
    def value(params: Params) -> tuple[Parts, Any]:
        sums, after = sums_at(params, renewed(model_state), chunk)
        return sums.value, (sums, after)

    _, pullback, (sums, after) = jax.vjp(value, params, has_aux=True)
    return sums, after, lambda slopes: pullback(slopes)[0]


def _folded(
    one: Callable[[ModelState, Chunk], Any],
    model_state: ModelState,
    chunk: Chunk,
    microbatch: int,
    metrics: dict[str, Metric],
) -> tuple[Sums, ModelState, PyTree]:
    """One microbatch after the other: sums add up, the state goes on, gradients add up."""
    count, rest = divmod(len(chunk.places), microbatch)
    whole = jax.tree.map(lambda rows: rows[: count * microbatch], chunk)
    stacked = jax.tree.map(lambda rows: rows.reshape(count, microbatch), whole)
    first = jax.tree.map(lambda rows: rows[0], stacked)
    like = jax.eval_shape(one, model_state, first)
    sums, _, grads = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    def body(carry: Any, chunk: Chunk) -> Any:
        sums, model_state, grads = carry
        more, after, more_grads = one(model_state, chunk)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, model_state)
        grads = jax.tree.map(jnp.add, grads, more_grads)
        return (_added(sums, more, metrics), after, grads), more.rows

    start = (_without_rows(sums), model_state, grads)
    (sums, model_state, grads), rows = jax.lax.scan(body, start, stacked)
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
    if rest:
        last = jax.tree.map(lambda leaf: leaf[count * microbatch :], chunk)
        (sums, model_state, grads), more = body((sums, model_state, grads), last)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rows, more)
    return eqx.tree_at(lambda s: s.rows, sums, rows), model_state, grads


def _added(one: Sums, other: Sums, metrics: dict[str, Metric]) -> Sums:
    plain = lambda sums: (sums.value, sums.weight, sums.examples, sums.logs)
    value, weight, examples, logs = jax.tree.map(jnp.add, plain(one), plain(other))
    totals = {n: metrics[n].merge(total, other.metrics[n]) for n, total in one.metrics.items()}
    return Sums(value, weight, examples, logs, totals, {})


def _without_rows(sums: Sums) -> Sums:
    return Sums(sums.value, sums.weight, sums.examples, sums.logs, sums.metrics, {})


def _named(parts: Any) -> dict[str, Any]:
    return parts if isinstance(parts, dict) else {"": parts}
