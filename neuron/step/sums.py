"""The batch axis: an objective and metrics, of one example each, over the rows of a batch."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree, Shaped, UInt32

from neuron.counters import fold_in, key_of
from neuron.metrics import Metric
from neuron.models import batch_axis, renewed, takes_key, without_rows
from neuron.objectives import Objective, Parts, Terms, compared
from neuron.rows import as_batch
from neuron.step.precision import in_precision, inputs_in_precision
from neuron.step.terms import as_terms, check_comparable
from neuron.trees import Shapes, Static, structure
from neuron.types import Batch, Key, Model, ModelState, Scalar, Words


_TRANSFORM = 0x7472616E
# How many rows a transform is tried on before the first step.
_LOOKED_AT = 256


class Scoring(eqx.Module):
    """How a batch is scored: by what, and in which precision the model computes, that of its own
    weights if `None`. `transform` is what the data does to each example first."""

    objective: Objective
    metrics: dict[str, Metric]
    precision: str | None = eqx.field(static=True)
    transform: Callable[..., Any] | None = None

    def __call__(
        self, model: Model, model_state: ModelState, example: Batch, key: Key
    ) -> tuple[Terms, dict[str, PyTree], ModelState]:
        """One example's terms, what the metrics observe of it, and the model's state after it."""
        answer = self.objective(model, model_state, example, key=key)
        terms, after = as_terms(type(self.objective).__name__, answer)
        seen = {}
        for name, metric in self.metrics.items():
            check_comparable(name, type(self.objective).__name__, terms, example)
            seen[name] = compared(
                f"Trainer(metrics={{{name!r}: ...}})",
                f"metrics={{'part': {{{name!r}: ...}}}}",
                metric.observe,
                terms.prediction,
                example.targets,
            )
        return terms, seen, after

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        """Refuses data (rows first, on the host) that can not be meant, before compiling."""
        data = self._prepared_rows(data)
        self.objective.check(model, model_state, data)
        if not self.metrics:
            return

        one_row = lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype)
        examples = jax.tree.map(one_row, Batch(data.inputs, data.targets))
        prediction = _prediction_like(*structure((self, model, model_state)), Static(examples))
        for metric in self.metrics.values():
            metric.check(prediction, data.targets)
            if data.weight is not None:
                metric.check_weight(np.asarray(data.weight))

    def _prepared_rows(self, data: Batch) -> Batch:
        """Some of the rows, as the data's transform makes them; all where it has none."""
        if self.transform is None:
            return data
        rows = jax.tree.map(lambda leaf: leaf[:_LOOKED_AT], Batch(data.inputs, data.targets))
        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(rows)[0]))
        return jax.tree.map(
            np.asarray, jax.vmap(functools.partial(prepared, self.transform))(rows, keys)
        )


class Sums(eqx.Module):
    """Weighted sums over examples, not yet means: they add up over batches without error.

    `value` and `weight` are a number each, or dicts of the same names. `examples` is the sum of
    the examples' own weights, with which `logs` were summed. `metrics` holds totals, and `rows`
    what metrics that are no sums keep of each row; where none is, its weight is -1.
    """

    value: Parts
    weight: Parts
    examples: Scalar
    logs: dict[str, Scalar]
    metrics: dict[str, PyTree]
    rows: dict[str, PyTree]

    def mean(self) -> Parts:
        """The weighted means of the values; 0 where all weights are 0."""
        return jax.tree.map(lambda s, w: s / jnp.where(w > 0, w, 1), self.value, self.weight)


class Shown(eqx.Module):
    """What each row of a batch shows, rows first: what sums are made of.

    `value`, `weight` and `logs` are as an objective says them of an example, `seen` is what metrics
    observe, and `examples` the rows' own weights.
    """

    value: Array | dict[str, Array]
    weight: Array | dict[str, Array]
    logs: dict[str, Array]
    seen: dict[str, PyTree]
    examples: Array


def sums_of(
    scoring: Scoring,
    model: Model,
    model_state: ModelState,
    batch: Batch,
    present: Bool[Array, " batch"],
    keys: Shaped[Key, " batch"],
) -> tuple[Sums, ModelState]:
    """The sums over a batch's rows that are present, and the model's state after it.

    **Raises:**

    - `ValueError` or `TypeError` for terms that can not be meant.
    """
    shown, model_state = shown_by(scoring, model, model_state, batch, keys)
    return summed(scoring.metrics, shown, present), model_state


def shown_by(
    scoring: Scoring,
    model: Model,
    model_state: ModelState,
    batch: Batch,
    keys: Shaped[Key, " batch"],
) -> tuple[Shown, ModelState]:
    """What each row of a batch shows, and the model's state after it.

    **Raises:**

    - As `sums_of`.
    """
    model = in_precision(scoring.precision, model)

    def score(example: Batch, key: Key) -> tuple[Any, ModelState]:
        example = prepared(scoring.transform, example, key)
        inputs = inputs_in_precision(scoring.precision, model, example.inputs)
        example = Batch(inputs, example.targets)
        terms, seen, after = scoring(model, model_state, example, key)
        return (terms.value, terms.weight, terms.logs, seen), after

    over_batch = jax.vmap(score, out_axes=(0, None), axis_name=batch_axis(model))
    try:
        scores, model_state = over_batch(Batch(batch.inputs, batch.targets), keys)
    except ValueError as error:
        if "out_axes is None" not in str(error):
            raise
        raise ValueError(
            "`model(x, state)` must give the same state for every example of a batch; a layer "
            "here keeps one example's own. Reduce it first: `jax.lax.pmean(..., axis_name)`."
        ) from error

    dtype = jnp.result_type(*jax.tree.leaves(scores[0]), jnp.float32)
    ones = jnp.ones(len(keys), dtype)
    row_weights = ones if batch.weight is None else batch.weight.astype(dtype)
    value, weight, logs, seen = scores
    return Shown(value, weight, logs, seen, row_weights), model_state


def summed(metrics: dict[str, Metric], shown: Shown, present: Bool[Array, " batch"]) -> Sums:
    """The sums over the rows that are present: of values, weights and logs, and of what the metrics
    have seen."""
    # Padding is removed, not multiplied by zero: 0 * inf is NaN.
    row_weights = jnp.where(present, shown.examples, 0)
    dtype = row_weights.dtype
    whole = lambda rows, weight: jnp.sum(jnp.where(present, weight * rows.astype(dtype), 0))
    weights = shown.weight
    if not isinstance(weights, dict):
        weights = jax.tree.map(lambda _: weights, shown.value)
    weights = jax.tree.map(lambda w: row_weights * w.astype(dtype), weights)
    totals, rows = {}, {}
    for name, metric in metrics.items():
        if metric.keeps_rows:
            rows[name] = metric.total(shown.seen[name], jnp.where(present, row_weights, -1))
        else:
            totals[name] = metric.total(shown.seen[name], row_weights)
    return Sums(
        jax.tree.map(whole, shown.value, weights),
        jax.tree.map(jnp.sum, weights),
        jnp.sum(row_weights),
        {name: whole(log, row_weights) for name, log in shown.logs.items()},
        totals,
        rows,
    )


def prepared(transform: Callable[..., Any] | None, example: Batch, key: Key) -> Batch:
    """One example as the data's transform makes it."""
    if transform is None:
        return example
    # Not one of the keys that a model makes of the same one by splitting it.
    own = {"key": jax.random.fold_in(key, _TRANSFORM)} if takes_key(transform) else {}
    made = as_batch("DataLoader(transform=...)", transform(example, **own))
    if made.weight is not None:
        raise ValueError(
            "`DataLoader(transform=...)` must return inputs and targets; a row's weight is the "
            "data's own. Use `host_transform=` to change it."
        )
    return made


def example_keys(
    seed: Words, counter: Words | UInt32[Array, ""], count: int, first: UInt32[Any, ""] | int = 0
) -> Shaped[Key, " batch"]:
    """A key for each example of a batch: of its place, from the first one on, and of a counter, of
    batches or of samples."""
    key = fold_in(key_of(seed), counter)
    places = jnp.uint32(first) + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(places)


@functools.lru_cache(maxsize=256)
def _prediction_like(static: Static, shapes: Shapes, examples: Static) -> PyTree:
    """The shape and type of what an objective predicts of one example; also sees to it that the
    metrics can observe it."""

    def predictions(arrays: tuple, examples: Batch) -> PyTree:
        scoring, model, model_state = static.combine(arrays)
        key = jax.random.key(0)
        one = lambda example: scoring(model, renewed(model_state), example, key)[0].prediction
        return jax.vmap(one, axis_name=batch_axis(model))(examples)

    rows = jax.eval_shape(predictions, shapes, examples.combine([]))
    return jax.tree.map(without_rows, rows)
