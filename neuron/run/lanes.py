"""Lanes. A program of one member, for many of them side by side along the last axis.

`jax.vmap` puts the new axis where each operation likes it, which is mostly the first; the CPU
then works its vectors along the last one, of two weights say. Here the members stay last, so that
a vector is as many members as it holds, whatever the model's own axes are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

from neuron.run.lane_rules import RULES, Laned, Rule, all_laned, bound, by_vmap, spread


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
        return [(value, False) for value in bound(equation, [value for value, _ in inputs])]
    rule = _CONTROL.get(name) or RULES.get(name, by_vmap)
    return rule(equation, inputs, size)


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
    return all_laned(
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
    options = {"length": params["length"], "reverse": params["reverse"]}
    carry, stacked = jax.lax.scan(one, begin, many, **options)
    return [*zip(carry, flags, strict=True), *zip(stacked, out_flags, strict=True)]


def _at(value: Laned, laned: bool, size: int) -> Any:
    return spread(value, size) if laned else value[0]


_CONTROL: dict[str, Rule] = {"cond": _cond, "scan": _scan}
