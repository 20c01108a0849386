"""Categories that are coded as whole numbers, as numbers that a model can add up."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuron.preprocessing.rows import rows_of
from neuron.types import Fixed, Key


class OneHot(Fixed):
    """One column for each category, which is 1 where an example is of it and else 0.

    Categories are whole numbers, any and not only 0, 1, 2. Their columns come in ascending order,
    those of an earlier column of the data first. A category that was not there to be fitted on has
    0 in all of them: a compiled program can not stop for it, so this is scikit-learn's
    `OneHotEncoder(handle_unknown="ignore")`. Columns that hold no categories come first, as they
    are.

    ```python
    encode = neuron.OneHot.fit(np.array([[0.5, 7], [0.1, 9]]), columns=[1])
    encode(np.array([0.2, 9]))  # [0.2, 0, 1]
    encode.out_features  # 3
    ```
    """

    codes: Int[Array, " out"]
    source: Int[Array, " out"]
    others: Int[Array, " others"]
    in_shape: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def fit(
        cls, data: Any, columns: Sequence[int] | None = None, *, what: str = "inputs"
    ) -> "OneHot":
        """Finds the categories in one pass.

        **Arguments:**

        - `data`: as for `Standardize.fit`; its rows are numbers, or vectors of them.
        - `columns`: which places of a vector hold categories, all of them if `None`.
        - `what`: of a loader, `"inputs"` or `"targets"`.

        **Raises:**

        - `ValueError` or `TypeError` for rows that can not be meant, among them numbers that are
            not whole.
        """
        found: list[np.ndarray] = []
        shape: tuple[int, ...] = ()
        places: list[int] = []
        seen = 0
        for rows, _ in rows_of("OneHot.fit", data, what):
            if not seen:
                shape, places = rows.shape[1:], _places(rows.shape[1:], columns)
            flat = rows.reshape(len(rows), -1)
            kinds = [_kinds(flat[:, place], seen) for place in places]
            found = list(map(np.union1d, found, kinds)) if seen else kinds
            seen += len(rows)
        width = shape[0] if shape else 1
        others = [place for place in range(width) if place not in places]
        source = np.repeat(places, [len(kinds) for kinds in found])
        codes = np.concatenate(found)
        as_leaf = lambda numbers: jnp.asarray(numbers, jnp.int32)
        return cls(as_leaf(codes), as_leaf(source), as_leaf(others), shape)

    @property
    def out_features(self) -> int:
        """How many numbers an example has afterwards."""
        return len(self.others) + len(self.codes)

    def __call__(self, x: Any, *, key: Key | None = None) -> Float[Array, " out_features"]:
        """One example: a number or a vector, to a vector. `key` is not used."""
        del key
        x = jnp.asarray(x)
        if x.shape != self.in_shape:
            raise ValueError(
                f"`OneHot(x)` takes one example of shape {self.in_shape}, which it was fitted on; "
                f"got {x.shape}."
            )
        flat = x.reshape(-1)
        dtype = jnp.promote_types(x.dtype, jax.dtypes.canonicalize_dtype(float))
        encoded = (flat[self.source] == self.codes).astype(dtype)
        return jnp.concatenate([flat[self.others].astype(dtype), encoded])


def _places(shape: tuple[int, ...], columns: Sequence[int] | None) -> list[int]:
    """The columns to encode, in ascending order."""
    if len(shape) > 1:
        raise ValueError(
            f"`OneHot.fit(data)` must have rows that are numbers or vectors; got shape {shape}."
        )
    width = shape[0] if shape else 1
    if columns is None:
        return list(range(width))
    whole = all(isinstance(place, int | np.integer) for place in columns)
    if not (whole and shape and columns and 0 <= min(columns) <= max(columns) < width):
        rows = f"vectors of {width}" if shape else "rows that are numbers"
        raise ValueError(
            f"`OneHot.fit(columns=...)` must be places in a vector, from 0; got {columns!r} "
            f"for {rows}."
        )
    return sorted({int(place) for place in columns})


def _kinds(values: np.ndarray, seen: int) -> np.ndarray:
    """The distinct numbers of a column, if all are whole."""
    limits = np.iinfo(np.int32)
    whole = (values == np.floor(values)) & (values >= limits.min) & (values <= limits.max)
    if not whole.all():
        row = int(np.argmin(whole))
        raise ValueError(
            f"`OneHot.fit(data)` must have whole numbers that fit int32 as categories; got "
            f"{values[row]} in row {seen + row}."
        )
    return np.unique(values.astype(np.int32))
