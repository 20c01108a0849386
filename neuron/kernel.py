"""One kernel: XLA's way to run a small loop on the CPU as a single native function.

By default the CPU backend calls each operation of a loop's body on its own, which costs a
small step three times its arithmetic. A call that carries `xla_cpu_small_call` is compiled
whole. The attribute is experimental, and bodies that call a library (matrix products,
convolutions, sorts) do not compile under it, so it is used only where the traced step shows
neither; figures are in `benchmarks/README.md`.

Sums over a row may be added in another order than without it: from about ten inputs on the two
ways round differently. Which of them a run takes depends on its structure and device alone, so
every cut of a run takes the same.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Jaxpr, JaxprEqn
from jaxtyping import Array, PyTree

from neuron.types import Device


# Beyond this many scalar operations a step's arithmetic outweighs its calls.
_SMALL = 1 << 15

# Of a loop whose end its own numbers decide. Too many are no harm: the first slice is then short.
_UNKNOWN_ROUNDS = 1000

_STRUCTURE = """
    bitcast_convert_type
    broadcast_in_dim concatenate cond convert_element_type copy copy_p custom_jvp_call
    custom_vjp_call dynamic_slice gather iota jit pad pjit reshape reduce_and reduce_max
    reduce_min reduce_or reduce_prod reduce_sum rev select_n slice split squeeze stack stop_gradient
    transpose dot_general add_any closed_call argmax argmin
    random_bits random_fold_in random_seed random_split random_unwrap random_wrap threefry2x32
"""
_ARITHMETIC = """
    abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil clamp cos cosh div eq erf
    erf_inv exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min
    mul ne neg not or pow rem round rsqrt shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square sub tan tanh xor
"""
_PLAIN = frozenset((_STRUCTURE + _ARITHMETIC).split())


def fits_one_kernel(step: Jaxpr, device: Device, *, loops: bool = False) -> bool:
    """Whether a loop over this step is worth compiling as one kernel, and likely to compile.

    **Arguments:**

    - `loops`: whether the step may have loops of its own.
    """
    if device.platform != "cpu" or work(step) > _SMALL:
        return False
    plain = _PLAIN | {"scan"} if loops else _PLAIN
    return all(e.primitive.name in plain and not _calls_library(e) for e in equations(step))


def as_one_kernel(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The function of arrays, compiled whole where it is called inside a larger program."""

    @jax.jit
    def whole(*arguments: PyTree) -> tuple[PyTree, Array]:
        # The compiler aborts the process over an argument whose every use it has simplified away
        # (seen in jaxlib 0.10.2), so one number of each is read, and goes as far as a barrier.
        first_numbers = jnp.stack([_first_number(a) for a in jax.tree.leaves(arguments)])
        return function(*arguments), jnp.sum(first_numbers)

    def call(*arguments: PyTree) -> PyTree:
        if not all(_is_plain(leaf) for leaf in jax.tree.leaves(arguments)):
            return function(*arguments)
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            results = whole(*arguments)
        return jax.lax.optimization_barrier(results)[0]

    return call


def _is_plain(leaf: Array) -> bool:
    number = jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.issubdtype(leaf.dtype, jnp.integer)
    return leaf.size > 0 and (number or leaf.dtype == bool)


def _first_number(leaf: Array) -> Array:
    return jnp.ravel(leaf)[0].astype(jnp.float32)


def work(step: Jaxpr) -> int:
    """A step's cost in scalar operations, roughly: a guess at its time before it is measured."""
    return sum(
        _cost(equation) + _rounds(equation) * sum(map(work, _inside(equation)))
        for equation in step.eqns
    )


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All equations of a program, with those of its branches, loops and calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inside(equation):
            yield from equations(inner)


def _inside(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The programs that an equation calls."""
    for param in equation.params.values():
        for part in param if isinstance(param, tuple) else (param,):
            if hasattr(part, "eqns"):
                yield getattr(part, "jaxpr", part)


def _rounds(equation: JaxprEqn) -> int:
    """How often it calls them."""
    if equation.primitive.name == "while":
        return _UNKNOWN_ROUNDS
    return equation.params["length"] if equation.primitive.name == "scan" else 1


def _cost(equation: JaxprEqn) -> int:
    outputs = sum(math.prod(shape_of(variable)) for variable in equation.outvars)
    if equation.primitive.name == "dot_general":
        return 2 * outputs * math.prod(_product_sizes(equation)[2])
    if equation.primitive.name == "conv_general_dilated":
        return 2 * outputs * math.prod(shape_of(equation.invars[1])[1:])
    return outputs


def _calls_library(equation: JaxprEqn) -> bool:
    """Whether this is a product of two matrices; one of a matrix and a vector is written inline."""
    if equation.primitive.name != "dot_general":
        return False
    batch, free, contracted = _product_sizes(equation)
    return bool(batch) or (min(free) > 1 and math.prod(contracted) > 1)


def _product_sizes(equation: JaxprEqn) -> tuple[list[int], list[int], list[int]]:
    """The sizes of a product's batch axes, of its two free sides, and of what it sums over."""
    (left_sum, _), (left_batch, _) = equation.params["dimension_numbers"]
    left, right = map(shape_of, equation.invars)
    batch = [left[axis] for axis in left_batch]
    contracted = [left[axis] for axis in left_sum]
    shared = math.prod(batch) * math.prod(contracted)
    return batch, [math.prod(left) // shared, math.prod(right) // shared], contracted


def shape_of(variable: Any) -> tuple[int, ...]:
    """The shape of an equation's input or output."""
    return getattr(variable.aval, "shape", ())
