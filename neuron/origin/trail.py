"""A trail. A traced program, computed one operation after the other, with the births of all values.

It looks at each value on the host, so it is slow: for one step that has failed.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from neuron.origin.births import Birth, kinds, told


# What only calls a program of the same arguments.
_CALLS = {
    "pjit", "jit", "closed_call", "core_call", "remat", "remat2", "checkpoint",
    "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Seen:
    """A value, and the births of the NaN and of the infinities in it. A `constant` depends on
    nothing that the program is handed."""

    value: Any
    nan: Birth | None = None
    inf: Birth | None = None
    constant: bool = False

    @property
    def birth(self) -> Birth | None:
        """Of the NaN in it, or of the infinities if there is none."""
        return self.nan or self.inf


class Trail:
    """Computes programs."""

    def __init__(self):
        self._order = 0

    def run(self, program: ClosedJaxpr, arguments: Sequence[Seen], above: tuple = ()) -> list[Seen]:
        """What a program returns. `above` are the calls around it, outermost first."""
        jaxpr = program.jaxpr
        known: dict[Any, Seen] = dict(zip(jaxpr.invars, arguments, strict=True))
        known |= zip(jaxpr.constvars, map(self._constant, program.consts), strict=True)
        read = lambda v: self._literal(v) if isinstance(v, Literal) else known[v]
        needed, last = _needed(jaxpr)
        for place, equation in needed:
            results = self._equation(equation, [read(v) for v in equation.invars], above)
            known |= zip(equation.outvars, results, strict=True)
            for variable in last.get(place, ()):
                known.pop(variable, None)
        return [read(variable) for variable in jaxpr.outvars]

    def _literal(self, literal: Any) -> Seen:
        return self._constant(jnp.asarray(literal.val, literal.aval.dtype))

    def _constant(self, value: Any) -> Seen:
        nan, inf = kinds(value)
        birth = Birth(self._order, wanted=True)
        return Seen(value, birth if nan else None, birth if inf else None, constant=True)

    def _equation(self, equation: JaxprEqn, inputs: list[Seen], above: tuple) -> list[Seen]:
        name, params, here = equation.primitive.name, equation.params, (*above, equation)
        if name == "cond":
            branches = params["branches"]
            choice = min(max(int(inputs[0].value), 0), len(branches) - 1)
            return self.run(branches[choice], inputs[1:], here)
        inner = _program(equation) if name in _CALLS else None
        if inner is not None and len(inner.jaxpr.invars) == len(inputs):
            return self.run(inner, inputs, here)
        self._order += 1
        results = self._judged(here, inputs, _computed(equation, [i.value for i in inputs]))
        if name not in ("scan", "while") or all(result.birth is None for result in results):
            return results
        # What goes through no round at all was born before.
        if params.get("length") == 0:
            return results
        return self._scan(here, inputs) if name == "scan" else self._while(here, inputs)

    def _judged(self, here: tuple, inputs: list[Seen], values: list[Any]) -> list[Seen]:
        constant = all(seen.constant for seen in inputs)
        nans = [seen.nan for seen in inputs if seen.nan]
        infs = [seen.inf for seen in inputs if seen.inf]
        blamed = [birth for birth in infs if not birth.wanted]

        def born(value: Any) -> Birth:
            given = told([seen.value for seen in inputs])
            return Birth(
                self._order,
                here,
                wanted=constant,
                detail=f"`{here[-1].primitive.name}` of {given} gave {told([value])}",
            )

        def judged(value: Any) -> Seen:
            nan, inf = kinds(value)
            first = lambda births: _first(births, () if constant else here, value)
            return Seen(
                value,
                (first(nans) or first(blamed) or born(value)) if nan else None,
                (first(infs) or first(nans) or born(value)) if inf else None,
                constant,
            )

        return [judged(value) for value in values]

    def _scan(self, here: tuple, inputs: list[Seen]) -> list[Seen]:
        params = here[-1].params
        consts, carried = params["num_consts"], params["num_carry"]
        fixed, carry = inputs[:consts], inputs[consts : consts + carried]
        rows = inputs[consts + carried :]
        places = range(params["length"])
        stacks: list[list[Seen]] = []
        for place in reversed(places) if params["reverse"] else places:
            now = [_part(seen, place) for seen in rows]
            results = self.run(params["jaxpr"], [*fixed, *carry, *now], here)
            carry = results[:carried]
            stacks.append(results[carried:])
        if params["reverse"]:
            stacks.reverse()
        return [*carry, *(_stacked(column) for column in zip(*stacks, strict=True))]

    def _while(self, here: tuple, inputs: list[Seen]) -> list[Seen]:
        params = here[-1].params
        tests, fixed = params["cond_nconsts"], params["body_nconsts"]
        asked = [seen.value for seen in inputs[:tests]]
        fixed, carry = inputs[tests : tests + fixed], inputs[tests + fixed :]
        goes_on = jaxpr_as_fun(params["cond_jaxpr"])
        while bool(goes_on(*asked, *(seen.value for seen in carry))[0]):
            carry = self.run(params["body_jaxpr"], [*fixed, *carry], here)
        return carry


def _first(births: Sequence[Birth], here: tuple, value: Any) -> Birth | None:
    """The one to blame: the first that nobody wanted, or else the first. A constant has no place of
    its own: it gets that where it meets a value that is none."""
    births = sorted(births, key=lambda birth: (birth.wanted, birth.order))
    if not births:
        return None
    birth = births[0]
    if birth.wanted and here and not birth.equations and birth.source is None:
        detail = f"`{here[-1].primitive.name}` took a constant that is not finite: {told([value])}"
        return dataclasses.replace(birth, equations=here, detail=detail)
    return birth


def _part(seen: Seen, place: int) -> Seen:
    nan, inf = kinds(part := seen.value[place])
    return Seen(part, seen.nan if nan else None, seen.inf if inf else None, seen.constant)


def _stacked(column: Sequence[Seen]) -> Seen:
    nans = [seen.nan for seen in column if seen.nan]
    infs = [seen.inf for seen in column if seen.inf]
    stack = jnp.stack([seen.value for seen in column])
    constant = all(seen.constant for seen in column)
    return Seen(stack, _first(nans, (), stack), _first(infs, (), stack), constant)


def _needed(jaxpr: Jaxpr) -> tuple[list[tuple[int, JaxprEqn]], dict[int, list[Any]]]:
    """The equations that the results need, and the variables for which each is the last one."""
    wanted = {variable for variable in jaxpr.outvars if not isinstance(variable, Literal)}
    needed: list[tuple[int, JaxprEqn]] = []
    last: dict[int, list[Any]] = {}
    for place in reversed(range(len(jaxpr.eqns))):
        equation = jaxpr.eqns[place]
        if not wanted.isdisjoint(equation.outvars):
            needed.append((place, equation))
            given = {v for v in equation.invars if not isinstance(v, Literal)}
            last[place] = list(given - wanted)
            wanted |= given
    return needed[::-1], last


def _program(equation: JaxprEqn) -> ClosedJaxpr | None:
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        if isinstance(inner, ClosedJaxpr):
            return inner
        if isinstance(inner, Jaxpr):
            return ClosedJaxpr(inner, ())
    return None


def _computed(equation: JaxprEqn, values: list[Any]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*values, **bound)
    return list(results) if equation.primitive.multiple_results else [results]
