"""Lanes. A program of one member, for many of them side by side along the last axis.

`jax.vmap` puts the new axis where each operation likes it, which is mostly the first; the CPU
then works its vectors along the last one, of two weights say. Here the members stay last, so that
a vector is as many members as it holds, whatever the model's own axes are.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.lax import GatherDimensionNumbers
from jaxtyping import Array

from neuron.kernel import shape_of


# A value, and whether it has a lane for each member or is the same for all.
Laned = tuple[Any, bool]

# Rows are few operations each; several of them in one round of the loop cost less than one by one.
_UNROLL = 5

_ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt ceil clamp
    convert_element_type copy copy_p cos cosh div eq erf erf_inv exp exp2 expm1 floor ge gt
    integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt
    select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor
    """.split()  # noqa: SIM905
)
# The axes that they name keep their places.
_KEEPING = frozenset(
    """
    reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin rev
    """.split()  # noqa: SIM905
)
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def in_lanes(program: ClosedJaxpr, inputs: Sequence[Laned], size: int) -> list[Laned]:
    """What a program gives for `size` members at once."""
    return _evaluated(program.jaxpr, program.consts, inputs, size)


def _evaluated(
    jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Laned], size: int
) -> list[Laned]:
    known: dict[Any, Laned] = {}
    known.update(zip(jaxpr.constvars, ((const, False) for const in consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Laned:
        return (atom.val, False) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        found = _applied(equation, [read(atom) for atom in equation.invars], size)
        known.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _applied(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    name = equation.primitive.name
    if name in _CALLS:
        called = equation.params[_CALLS[name]]
        return in_lanes(called, inputs, size)
    if not any(laned for _, laned in inputs):
        return [(value, False) for value in _bound(equation, [value for value, _ in inputs])]
    rule = _RULES.get(name, _elementwise if name in _ELEMENTWISE else _by_vmap)
    return rule(equation, inputs, size)


def _bound(equation: JaxprEqn, values: Sequence[Any], **changed: Any) -> list[Any]:
    params = equation.primitive.get_bind_params(equation.params | changed)
    found = equation.primitive.bind(*values, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def spread(value: Laned, size: int) -> Array:
    """A value with a lane for each member."""
    array, laned = value
    if laned:
        return array
    array = jnp.asarray(array)
    return jax.lax.broadcast_in_dim(array, (*array.shape, size), range(array.ndim))


def _all(values: Iterable[Any]) -> list[Laned]:
    return [(value, True) for value in values]


def _elementwise(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    # A single number may stand beside an array.
    shape = (*shape_of(equation.outvars[0]), size)
    arrays = (spread(value, size) for value in inputs)
    return _all(_bound(equation, [_as_wide(array, shape) for array in arrays]))


def _as_wide(array: Array, shape: Sequence[int]) -> Array:
    return array if array.ndim == len(shape) else jnp.broadcast_to(array, shape)


def _keeping(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    del size
    return _all(_bound(equation, [inputs[0][0]]))


def _reshape(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    return _all([jnp.reshape(inputs[0][0], (*shape_of(equation.outvars[0]), size))])


def _transpose(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    del size
    order = equation.params["permutation"]
    return _all([jax.lax.transpose(inputs[0][0], (*order, len(order)))])


def _broadcast(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    shape, dims = equation.params["shape"], equation.params["broadcast_dimensions"]
    return _all([jax.lax.broadcast_in_dim(inputs[0][0], (*shape, size), (*dims, len(shape)))])


def _slice(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    start, limit, strides = (
        equation.params[name] for name in ("start_indices", "limit_indices", "strides")
    )
    strides = None if strides is None else (*strides, 1)
    return _all([jax.lax.slice(inputs[0][0], (*start, 0), (*limit, size), strides)])


def _concatenate(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    arrays = [spread(value, size) for value in inputs]
    return _all([jax.lax.concatenate(arrays, equation.params["dimension"])])


def _product(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    """A product as a sum of products, each a vector of members: nothing here is large, and a
    library's product would be called for each member."""
    (sums, batch), dtype = equation.params["dimension_numbers"], _dtype(equation)
    (left, left_laned), (right, right_laned) = inputs
    shapes = [shape_of(variable) for variable in equation.invars]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*summed, *shared)]
        for shape, summed, shared in zip(shapes, sums, batch, strict=True)
    ]
    # As (batch, free on the left, free on the right, summed, lanes).
    number = [len(batch[0]), len(free[0]), len(free[1]), len(sums[0])]

    def placed(array: Any, side: int, laned: bool) -> Array:
        order = (*batch[side], *free[side], *sums[side])
        array = jax.lax.transpose(array, (*order, len(order)) if laned else order)
        own = array.shape[number[0] : number[0] + number[1 + side]]
        middle = (*own, *([1] * number[2])) if side == 0 else (*([1] * number[1]), *own)
        ends = array.shape[: number[0]], array.shape[number[0] + number[1 + side] :]
        return array.reshape((*ends[0], *middle, *ends[1], *(() if laned else (1,))))

    terms = placed(left, 0, left_laned).astype(dtype) * placed(right, 1, right_laned).astype(dtype)
    axes = range(sum(number[:3]), sum(number))
    # One after the other: few terms, and the same order for any number of members.
    flat = terms.reshape((*terms.shape[: axes.start], -1, size))
    if flat.shape[-2] > 16:
        return _all([jnp.sum(flat, axis=-2)])
    return _all([functools.reduce(jnp.add, [flat[..., k, :] for k in range(flat.shape[-2])])])


def _dtype(equation: JaxprEqn) -> Any:
    return getattr(equation.outvars[0].aval, "dtype")  # noqa: B009


def _gather(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    (array, array_laned), (places, places_laned) = inputs
    numbers: GatherDimensionNumbers = equation.params["dimension_numbers"]
    if array_laned and places_laned:
        return _by_vmap(equation, inputs, size)
    if places_laned:
        # The lanes are one more axis of places; the axis that says where stays last.
        return _all(_bound(equation, [array, jnp.swapaxes(places, -1, -2)]))
    rank = len(shape_of(equation.outvars[0]))
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, rank))
    sizes = (*equation.params["slice_sizes"], size)
    return _all(_bound(equation, [array, places], dimension_numbers=numbers, slice_sizes=sizes))


def _cond(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    (index, laned), *operands = inputs
    branches = equation.params["branches"]
    if not laned:
        like = [(jnp.zeros(()), True)] * len(equation.outvars)

        def branch(program: ClosedJaxpr) -> Callable[..., list[Array]]:
            def taken(*values: Any) -> list[Array]:
                known = list(zip(values, (flag for _, flag in operands), strict=True))
                return [spread(value, size) for value in in_lanes(program, known, size)]

            return taken

        found = jax.lax.switch(index, [branch(b) for b in branches], *(v for v, _ in operands))
        return list(zip(found, (flag for _, flag in like), strict=True))
    # Every branch for every member, of which each keeps its own.
    results = [in_lanes(program, operands, size) for program in branches]
    chosen = index if index.dtype == bool else index.astype(jnp.int32)
    return _all(
        jax.lax.select_n(
            jnp.broadcast_to(chosen, spread(cases[0], size).shape),
            *(spread(case, size) for case in cases),
        )
        for cases in zip(*results, strict=True)
    )


def _scan(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    params = equation.params
    fixed, carried = params["num_consts"], params["num_carry"]
    consts, start, rows = (
        inputs[:fixed],
        inputs[fixed : fixed + carried],
        inputs[fixed + carried :],
    )
    flags = [flag for _, flag in start]

    def body(flags: list[bool], carry: Sequence[Any], row: Sequence[Any]) -> list[Laned]:
        carry_in = list(zip(carry, flags, strict=True))
        row_in = list(zip(row, (flag for _, flag in rows), strict=True))
        return in_lanes(params["jaxpr"], [*consts, *carry_in, *row_in], size)

    first = [value[0] for value, _ in rows]
    while True:
        found: list[bool] = []

        def flags_of(carry: Any, row: Any, found: list[bool] = found) -> None:
            found += [flag for _, flag in body(flags, carry, row)]  # noqa: B023

        carry = [_at(value, flag, size) for value, flag in zip(start, flags, strict=True)]
        jax.eval_shape(flags_of, carry, first)
        wider = [a or b for a, b in zip(flags, found[:carried], strict=True)]
        if wider == flags:
            break
        flags = wider
    out_flags = found[carried:]

    def one(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        results = body(flags, carry, row)
        after = [_at(v, flag, size) for v, flag in zip(results[:carried], flags, strict=True)]
        return after, [value for value, _ in results[carried:]]

    begin = [_at(value, flag, size) for value, flag in zip(start, flags, strict=True)]
    many = [value for value, _ in rows]
    options = {"length": params["length"], "reverse": params["reverse"], "unroll": _UNROLL}
    carry, stacked = jax.lax.scan(one, begin, many, **options)
    return [*zip(carry, flags, strict=True), *zip(stacked, out_flags, strict=True)]


def _at(value: Laned, laned: bool, size: int) -> Any:
    return spread(value, size) if laned else value[0]


def _by_vmap(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    del size
    axes = [-1 if laned else None for _, laned in inputs]
    call = lambda *values: _bound(equation, values)
    return _all(jax.vmap(call, in_axes=axes, out_axes=-1)(*(value for value, _ in inputs)))


_RULES: dict[str, Callable[[JaxprEqn, list[Laned], int], list[Laned]]] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "concatenate": _concatenate,
    "dot_general": _product,
    "gather": _gather,
    "cond": _cond,
    "scan": _scan,
    **dict.fromkeys(_KEEPING, _keeping),
}
