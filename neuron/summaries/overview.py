"""The summary of a model: a value with a table for its `repr`."""

import dataclasses
from collections import Counter

import equinox as eqx
import jax
from jaxtyping import PyTree

from neuron.models import check_state
from neuron.selection import Selection
from neuron.summaries.arrays import Row, is_array, rows_of
from neuron.summaries.outputs import Output, outputs_of
from neuron.types import Model, ModelState


_Cells = tuple[str, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """A table of a model's arrays, and of its layers' outputs where an example was given.

    `rows` has one `Row` an array, in the order of the model's leaves; `outputs` one `Output`
    a call, each layer before the ones it calls.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Output, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers the arrays hold."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable_parameters(self) -> int:
        """How many of them are trained."""
        return sum(row.parameters for row in self.rows if row.trainable)

    @property
    def bytes(self) -> int:
        """How much memory the arrays take."""
        return sum(row.bytes for row in self.rows)

    def __repr__(self) -> str:
        arrays = _table(self._arrays(), right=(3, 4))
        return f"{_table(self._layers())}\n\n{arrays}" if self.outputs else arrays

    def _layers(self) -> list[list[_Cells]]:
        calls = Counter((one.path, one.layer, _words(one.output)) for one in self.outputs)
        body = [
            (path or "(model)", layer, text if count == 1 else f"{text} ({count} calls)")
            for (path, layer, text), count in calls.items()
        ]
        return [[("layer", "class", "output")], body]

    def _arrays(self) -> list[list[_Cells]]:
        head = ("array", "shape", "dtype", "parameters", "bytes", "trainable")
        body = [
            (
                *(row.path or "(model)", str(row.shape), str(row.dtype)),
                *(f"{row.parameters:,}", _human(row.bytes), "yes" if row.trainable else "no"),
            )
            for row in self.rows
        ]
        trained = Summary(tuple(row for row in self.rows if row.trainable))
        frozen = Summary(tuple(row for row in self.rows if not row.trainable))
        totals = {"total": self, "trainable": trained, "not trainable": frozen}
        foot = [
            (name, "", "", f"{part.parameters:,}", _human(part.bytes), "")
            for name, part in totals.items()
        ]
        return [[head], body, foot]


def summary(
    model: Model,
    example: PyTree = None,
    *,
    model_state: ModelState = None,
    trainable: Selection | None = None,
) -> Summary:
    """What a model holds, and what its layers give for one example.

    ```python
    model = eqx.nn.MLP(3, 1, 16, 2, key=jax.random.key(0))
    print(neuron.summary(model, jnp.ones(3), trainable="layers.2.*"))
    neuron.summary(model).parameters  # 353
    ```

    Nothing is computed or compiled. The model's own arrays may be shapes alone, as
    `equinox.filter_eval_shape` gives them for a model that is too large to make.

    **Arguments:**

    - `model`: the model; any tree of arrays, where no example is given.
    - `example`: one example's inputs, without the batch axis: arrays, or
        `jax.ShapeDtypeStruct`. With it the model is traced, in inference mode and as a
        `Trainer` calls it, and every layer below it that is an `equinox.Module` notes what it
        returns. Without it there are no outputs. A model that needs its layers to be of their
        exact class, as to stack them, has its own output alone.
    - `model_state`: the `equinox.nn.State` of a model with state; its arrays are listed as well,
        at the paths of the layers they belong to, and are not trainable.
    - `trainable`: which leaves are trained, as for `Trainer`: patterns of paths, a function of
        the path, or a filter spec; every floating-point array if `None`. Those of `Fixed` parts
        never are.

    **Returns:**

    A `Summary`, which prints as a table and has `rows`, `outputs`, `parameters`,
    `trainable_parameters` and `bytes`.

    **Raises:**

    - `ValueError` or `TypeError` for a selection, state or example that does not fit the model,
        with the model's own error where it can not take the example.
    """
    if example is not None and not callable(model):
        raise TypeError(
            "`summary(model, example)` must have a model that is callable on one example; got "
            f"{eqx.tree_pformat(model)}."
        )
    if example is not None or model_state is not None:
        check_state(model, model_state, call="summary")
    rows = tuple(rows_of(model, model_state, trainable))
    return Summary(rows, () if example is None else outputs_of(model, model_state, example))


class _Word(str):
    """A string that prints without quotes."""

    __repr__ = str.__str__


def _words(output: PyTree) -> str:
    """Shapes and types as errors have them: `float32[3]`, `(float32[8], float32[8])`."""
    word = lambda leaf: _Word(f"{leaf.dtype}{list(leaf.shape)}") if is_array(leaf) else leaf
    return eqx.tree_pformat(jax.tree.map(word, output), width=10_000)


def _human(size: int) -> str:
    """Bytes, in the largest unit of which there is one: `36 B`, `4.5 KiB`."""
    power = min((size.bit_length() - 1) // 10, 4) if size else 0
    unit = ("B", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{size / 1024**power:,.1f} {unit}" if power else f"{size} B"


def _table(blocks: list[list[_Cells]], right: tuple[int, ...] = ()) -> str:
    """Blocks of rows over common columns, with a rule between them."""
    rows = [row for block in blocks for row in block]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: _Cells) -> str:
        cells = zip(row, widths, strict=True)
        aligned = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(cells)
        )
        return "  ".join(aligned).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return f"\n{rule}\n".join("\n".join(map(line, block)) for block in blocks if block)
