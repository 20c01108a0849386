"""The origin of a step that was refused, in words."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from neuron.labels import labeled
from neuron.origin.births import Birth, kinds, layer_scope
from neuron.origin.trail import Seen, Trail
from neuron.rows import Data, Delivered, Generated
from neuron.run import traced
from neuron.selection import dotted
from neuron.state import TrainState
from neuron.step import Task, loss_and_gradients, short_size
from neuron.trees import arrays_of
from neuron.types import Indices


# A parameter that is as large is named: it has most likely run away.
_LARGE = 1e3


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the first value arose that made a step's loss or gradients not finite.

    `operation` is the name of JAX's primitive and `detail` what it was given and gave; `layer` is
    the path of the innermost layer around it, as `neuron.summary` has it, and `line` the line of
    code. Where the loss is finite, `parameters` are the paths of those whose gradients are not.
    `largest` is the largest parameter, where it is very large. Where a value came from outside of
    the step, `detail` alone says which.
    """

    detail: str
    operation: str | None = None
    layer: str | None = None
    line: str | None = None
    parameters: tuple[str, ...] = ()
    largest: str | None = None

    def __str__(self) -> str:
        text = self.detail
        if self.parameters:
            text = f"The gradients of {_listed(self.parameters)} are not finite: {text}"
        if self.layer:
            text += f", in layer {self.layer}"
        if self.line:
            text += f",\n  {'in the derivative of' if self.parameters else 'at'} {self.line}"
        return text + (f"\n  {self.largest}" if self.largest else "")


def located(state: TrainState, task: Task, data: Data, indices: Indices) -> Origin:
    """Computes a step's loss and gradients one operation after the other, and says where the first
    value arose that made them not finite.

    **Arguments:**

    - `state`, `task`, `data`: those of the step.
    - `indices`: its rows.
    """
    rows = np.asarray(indices)
    short = short_size(state, task)
    if short and rows[short] < 0:
        rows = rows[:short]
    program, arguments = _traced(state, task, data, rows)
    loss, *grads = Trail().run(program, arguments)
    largest = _largest(state.params)
    paths = [dotted(path) for path, _ in jtu.tree_leaves_with_path(state.params)]
    if loss.birth:
        return _origin(loss.birth, data, task, rows, (), largest)
    bad = [(path, g.birth) for path, g in zip(paths, grads, strict=True) if g.birth]
    if not bad:
        return Origin(
            "Computed one operation after the other, the step is finite: compiled as a whole it is "
            "rounded in other places, and is just beyond what its type can hold",
            largest=largest,
        )
    births = [birth for _, birth in bad]
    first = min(births, key=lambda birth: (birth.wanted, birth.order))
    return _origin(first, data, task, rows, tuple(path for path, _ in bad), largest)


def _traced(state: TrainState, task: Task, data: Data, indices: Any) -> tuple[Any, list[Seen]]:
    given = (state, task, data)
    places = jnp.asarray(indices)
    try:
        return _with_layers(given, places)
    except Exception:
        # A model may do with its layers what works for their exact classes alone.
        return _as_it_is(given, places)


def _with_layers(given: tuple, places: Array) -> tuple[Any, list[Seen]]:
    """Traced with each layer's operations in a scope of its path."""
    state, task, data = given

    def around(path: str, layer: str, call: Callable[[], Any]) -> Any:
        del layer
        with layer_scope(path):
            return call()

    is_none = lambda leaf: leaf is None
    model = eqx.combine(state.params, task.frozen)
    form = jtu.tree_structure(labeled(model, around), is_leaf=is_none)
    as_labeled = lambda part: jtu.tree_unflatten(form, jtu.tree_leaves(part, is_leaf=is_none))
    state = dataclasses.replace(state, params=as_labeled(state.params))
    task = dataclasses.replace(task, frozen=as_labeled(task.frozen))
    return _as_it_is((state, task, data), places)


def _as_it_is(given: tuple, places: Array) -> tuple[Any, list[Seen]]:
    arrays, rest = eqx.partition(given, eqx.is_array)

    def function(arrays: PyTree, places: Array) -> list[Array]:
        state, task, data = eqx.combine(arrays, rest)
        loss, grads = loss_and_gradients(state, task, data, places)
        return [loss, *arrays_of(grads)]

    program, _ = traced(function, arrays, places)
    seen = [_given(path, leaf) for path, leaf in jtu.tree_leaves_with_path(arrays)]
    return program, [*seen, Seen(places)]


def _given(path: tuple, leaf: Array) -> Seen:
    """What comes from outside. Infinities may be meant, but not among the parameters."""
    nan, inf = kinds(leaf)
    room, name = ("state", "task", "data")[path[0].idx], dotted(path[1:])
    source = (room, name)
    born = Birth(0, source=source)
    wanted = dataclasses.replace(born, wanted=not name.startswith("params."))
    return Seen(leaf, born if nan else None, wanted if inf else None)


def _origin(
    birth: Birth,
    data: Data,
    task: Task,
    indices: Any,
    parameters: tuple[str, ...],
    largest: str | None,
) -> Origin:
    detail = birth.detail
    if birth.source is not None:
        room, name = birth.source
        part, _, rest = name.partition(".")
        if room == "data" and isinstance(data, Generated):
            detail = f"{name} is not finite, which the data's function keeps"
        elif room == "data":
            detail = f"The batch's {name} are not finite{_rows(data, task, indices, name)}"
        elif part == "params":
            detail = (
                f"The parameter {rest} is not finite before this step: an earlier update has made "
                "it so"
            )
            largest = None
        else:
            detail = f"{rest or name} is not finite, and is not trained"
        return Origin(detail, parameters=parameters, largest=largest)
    return Origin(detail, birth.operation, birth.layer, birth.line, parameters, largest)


def _rows(data: Data, task: Task, indices: Any, name: str) -> str:
    """In which rows."""
    leaves = {dotted(path): leaf for path, leaf in jtu.tree_leaves_with_path(data)}
    places = indices[indices >= 0]
    rows = np.asarray(leaves[name][places]).reshape(len(places), -1)
    bad = ~np.isfinite(rows).all(axis=1)
    # A chunk's rows have been laid out anew: there, the places in the batch are all there is.
    if isinstance(task.sampler, Delivered):
        return f", in rows {_listed(np.flatnonzero(bad))} of the batch"
    return f", in rows {_listed(np.unique(places[bad]))} of the data"


def _listed(items: Sequence[Any] | np.ndarray) -> str:
    shown = ", ".join(map(str, items[:6]))
    return shown + (f" and {len(items) - 6} more" if len(items) > 6 else "")


def _largest(params: PyTree) -> str | None:
    sizes = {
        dotted(path): float(np.nanmax(np.abs(np.asarray(leaf).astype(np.float64)), initial=0.0))
        for path, leaf in jtu.tree_leaves_with_path(params)
        if not jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    }
    path = max(sizes, key=lambda path: sizes[path], default="")
    if sizes.get(path, 0) < _LARGE:
        return None
    return (
        f"The largest parameter is {path}, up to {sizes[path]:.4g}: try a smaller learning rate, "
        "or `neuron.Clipped`."
    )
