"""What the layers of a model return, noted while the model is traced."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from neuron.labels import Around, labeled
from neuron.models import prediction_like
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
        noted = _prediction(labeled(model, _noting(notes)), model_state, rows)
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


def _noting(notes: list[Output]) -> Around:
    """What notes the outputs of the layers, in the order in which they are called."""

    def around(path: str, layer: str, call: Callable[[], Any]) -> Any:
        place = len(notes)
        output = call()
        notes.insert(place, Output(path, layer, _shapes(output)))
        return output

    return around


def _shapes(output: PyTree) -> PyTree:
    """What a layer returned, without its state and without values."""
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], eqx.nn.State):
        output = output[0]
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array(leaf) else leaf
    return jax.tree.map(shape, output)
