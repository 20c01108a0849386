"""What the layers of a model return, noted while the model is traced."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import PyTree

from neuron.models import prediction_like
from neuron.selection import dotted
from neuron.summaries.arrays import is_array
from neuron.trees import refuse_unhashable
from neuron.types import Model, ModelState


@dataclasses.dataclass(frozen=True)
class Output:
    """What one call of a layer returned, as a tree of `jax.ShapeDtypeStruct`.

    The whole model has the path `""`. A layer that is vmapped inside the model has the
    shapes that it sees itself. What is called in another way than `layer(...)`, or kept in a
    static field, is not noted.
    """

    path: str
    layer: str
    output: PyTree


def outputs_of(model: Model, model_state: ModelState, example: PyTree) -> tuple[Output, ...]:
    """What the model returns for one example, then what its layers return."""
    refuse_unhashable("summary(model)", model)
    leaves = jax.tree.leaves(example)
    if not leaves or not all(map(is_array, leaves)):
        raise TypeError(
            "`summary(example=...)` must be one example's inputs, as arrays or "
            f"jax.ShapeDtypeStruct; got {example!r}."
        )
    one_row = lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
    rows = jax.tree.map(one_row, example)
    # The plain model first: its errors are its own, and its output is sure.
    prediction = _prediction(model, model_state, rows)
    notes: list[Output] = []
    try:
        noted = _prediction(_noting(model, (), notes), model_state, rows)
    except Exception:
        # A model may do with its layers what works for their exact classes alone, such as stack
        # two of them into one. Then its own output is all there is to say.
        noted = None
    if noted is None or jax.tree.leaves(noted) != jax.tree.leaves(prediction):
        notes.clear()
    return (Output("", type(model).__name__, prediction), *notes)


def _prediction(model: Model, model_state: ModelState, rows: PyTree) -> PyTree:
    """`prediction_like` for a model whose arrays may be NumPy's, or shapes alone."""
    arrays, rest = eqx.partition((model, model_state), is_array)
    found = []

    def predict(arrays: PyTree) -> None:
        model, model_state = eqx.combine(arrays, rest)
        found.append(prediction_like(model, model_state, rows))

    jax.eval_shape(predict, arrays)
    return found[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Label:
    """Which layer it is, and where it notes. Compared by identity: JAX and Equinox remember what
    they have traced, and would skip a layer that looks like another one."""

    path: str
    layer: str
    notes: list[Output]


def _noting(node: PyTree, path: tuple, notes: list[Output]) -> PyTree:
    """The same tree, but that the layers below its root note what they return."""
    if jtu.all_leaves([node]):
        return node
    children, treedef = jtu.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    children = [_noting(child, (*path, *key), notes) for key, child in children]
    node = jtu.tree_unflatten(treedef, children)
    is_layer = isinstance(node, eqx.Module) and callable(node)
    # `Shared` is no layer: what it returns are the layers inside it.
    if not path or not is_layer or isinstance(node, eqx.nn.Shared):
        return node
    layer = object.__new__(_noting_class(type(node)))
    for name, value in vars(node).items():
        object.__setattr__(layer, name, value)
    object.__setattr__(layer, "_neuron_label", _Label(dotted(path), type(node).__name__, notes))
    return layer


@functools.cache
def _noting_class(kind: Any) -> Any:
    """A subclass that notes what its calls return. Equinox has no hooks, and a wrapper would
    hide a layer's attributes and class from its parent."""

    class Noting(kind):
        # `None` on an instance that the model itself makes, by `type(layer)(...)`.
        _neuron_label: _Label | None = eqx.field(static=True, init=False, default=None)

        @functools.wraps(kind.__call__, updated=())
        def __call__(self, *args, **kwargs):
            if self._neuron_label is None:
                return kind.__call__(self, *args, **kwargs)
            place = len(self._neuron_label.notes)
            output = kind.__call__(self, *args, **kwargs)
            note = Output(self._neuron_label.path, self._neuron_label.layer, _shapes(output))
            self._neuron_label.notes.insert(place, note)
            return output

    Noting.__name__, Noting.__qualname__ = kind.__name__, kind.__qualname__
    return Noting


def _shapes(output: PyTree) -> PyTree:
    """What a layer returned, without its state and without values."""
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], eqx.nn.State):
        output = output[0]
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array(leaf) else leaf
    return jax.tree.map(shape, output)
