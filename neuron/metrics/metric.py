"""What a metric is: one example is observed, a batch is totaled, totals are merged, and a value
computed."""

import abc
import math
import operator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from neuron.types import Number, Printable


class Metric(Printable):
    """Measures predictions against targets, over however many examples.

    What is observed of each example is summed, times the example's weight; the value is computed
    from the sums. Where the weights themselves are needed, observe a 1. A metric of your own is
    two methods:

    ```python
    class Within(neuron.Metric):
        tolerance: jax.Array = eqx.field(converter=jnp.asarray)

        def observe(self, prediction, target):
            return jnp.abs(prediction - target) < self.tolerance, 1

        def compute(self, total):
            hits, weight = total
            return hits / weight
    ```
    """

    # Whether the rows are kept, as `Gathered` does, and no total of them.
    keeps_rows: ClassVar[bool] = False

    @abc.abstractmethod
    def observe(self, prediction: Any, target: Any) -> PyTree:
        """What one example shows: numbers or arrays, of shapes that do not depend on values.

        **Arguments:**

        - `prediction`: what the model gave for one example.
        - `target`: what it should have given.

        **Raises:**

        - `ValueError` where the shapes do not fit.
        """

    @abc.abstractmethod
    def compute(self, total: PyTree) -> Number:
        """The value, a number or an array of them, from what all examples showed."""

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        """What a batch shows: by default the weighted sums over its examples.

        **Arguments:**

        - `observations`: what `observe` gave, rows first.
        - `weight`: of each example, at least 0; one of weight 0 does not enter.
        """
        return jax.tree.map(lambda rows: weighted_sum(jnp.asarray(rows), weight), observations)

    def merge(self, one: PyTree, other: PyTree) -> PyTree:
        """Two totals as one. Zeros are the total of no examples: merged, they change nothing."""
        return jax.tree.map(operator.add, one, other)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        """Refuses targets (rows first, on the host) that can not be meant, before compiling.

        **Arguments:**

        - `prediction`: the shape and type of one example's prediction.
        - `targets`: the targets of all rows.

        **Raises:**

        - `ValueError`, naming the first row.
        """
        del prediction, targets

    def check_weight(self, weight: np.ndarray) -> None:
        """Refuses weights (one a row, on the host) that it can not count by, before compiling.

        **Raises:**

        - `ValueError`.
        """
        del weight


class Gathered(Metric):
    """A metric of all rows at once, which no sum can give, such as an area under a curve.

    The program keeps what is observed of every example, and `compute` is called on the host,
    with NumPy arrays: `total` is the observations, rows first, and the weight of each.
    """

    keeps_rows: ClassVar[bool] = True

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        return observations, weight

    def merge(self, one: PyTree, other: PyTree) -> PyTree:
        return jax.tree.map(lambda *rows: np.concatenate(rows), one, other)


def weighted_sum(rows: Array, weight: Float[Array, " batch"]) -> Array:
    """The sum of weight times row; what has weight 0 is left out, even if it is infinite."""
    weight = weight.reshape(-1, *[1] * (rows.ndim - 1))
    return jnp.sum(jnp.where(weight > 0, weight * rows, 0), axis=0)


def ratio(above: Any, below: Any, empty: float = math.nan) -> Array:
    """`above / below`, and `empty` where there is nothing to divide by; of JAX or of NumPy."""
    nothing = below == 0
    return jnp.where(nothing, empty, above / (below + nothing))
