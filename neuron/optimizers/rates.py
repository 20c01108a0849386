"""Learning rates: a number, a function of the count, or several of these for groups of leaves."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int

from neuron.optimizers.fields import as_like, is_number, not_negative, value_of
from neuron.selection import dotted, leaf_paths, matches, refuse_unmatched
from neuron.types import Number, Params, Scalar, shown


Schedule = Callable[[Int[Array, ""]], Scalar]
_NAME = "learning_rate"


class Groups(eqx.Module):
    """A learning rate for each pattern of paths; the first that matches a parameter counts."""

    # In the user's order, which a dict among the leaves would lose: JAX sorts its keys.
    patterns: tuple[str, ...] = eqx.field(static=True)
    rates: tuple[Number | Schedule, ...]

    def first(self, path: str) -> int | None:
        """The place of the first pattern that matches."""
        found = (place for place, p in enumerate(self.patterns) if matches(path, p))
        return next(found, None)

    def numbers(self) -> dict[str, Any]:
        """The rates that are numbers, by pattern."""
        rates = zip(self.patterns, self.rates, strict=True)
        return {pattern: value_of(rate) for pattern, rate in rates if is_number(rate)}

    def with_rates(self, call: str, new: Number | dict[str, Number]) -> "Groups":
        """Other numbers for the patterns that are named. One number for all would lose what lies
        between them, and is refused."""
        known = list(self.numbers())
        if not isinstance(new, dict):
            raise TypeError(
                f"`{call}` must be a dict where the learning rate has groups, such as "
                f"{{{known[0]!r}: 0.001}}; got {new!r}, there are {known}."
            )
        for pattern in new:
            if pattern not in known:
                raise ValueError(
                    f"`{call}` must name groups whose rate is a number; got {pattern!r}, "
                    f"there are {known}."
                )
        checked = {pattern: not_negative(call, rate) for pattern, rate in new.items()}
        rates = zip(self.patterns, self.rates, strict=True)
        return Groups(self.patterns, tuple(checked.get(p, rate) for p, rate in rates))

    def check(self, call: str, params: Params) -> None:
        """Refuses patterns that leave a parameter out, or that count nowhere. One that matches only
        what is frozen may count later."""
        refuse_unmatched(call, params, self.patterns, frozen=True)
        for path in leaf_paths(params):
            if self.first(path) is None:
                raise ValueError(
                    f"`{call}` must have a pattern for each parameter, such as '*' for the rest; "
                    f"got {list(self.patterns)}, and {path!r} matches none."
                )
        counting = {self.first(path) for path in leaf_paths(params, frozen=True)}
        for place, pattern in enumerate(self.patterns):
            if place not in counting and pattern != "*":
                raise ValueError(
                    f"`{call}` takes the first pattern that matches; got {list(self.patterns)}, "
                    f"where {pattern!r} comes behind others that match all it does."
                )

    def __repr__(self) -> str:
        rates = zip(self.patterns, self.rates, strict=True)
        return "{" + ", ".join(f"{pattern!r}: {shown(rate)}" for pattern, rate in rates) + "}"


Rate = Number | Schedule | dict[str, Number | Schedule] | Groups


def rate_field(kind: str, rate: Rate) -> Any:
    """A learning rate as a field: checked numbers, and functions of the count as they are."""
    call = f"{kind}({_NAME}=...)"
    if isinstance(rate, Groups):
        return rate
    if not isinstance(rate, dict):
        return _one_rate(call, rate)
    if not rate or not all(isinstance(pattern, str) for pattern in rate):
        raise ValueError(f"`{call}` must have patterns as its keys, at least one; got {rate!r}.")
    one = lambda pattern: _one_rate(f"{kind}({_NAME}={{{pattern!r}: ...}})", rate[pattern])
    return Groups(tuple(rate), tuple(map(one, rate)))


def check_rate(kind: str, rate: Any, params: Params) -> None:
    """Refuses groups that do not fit the parameters."""
    if isinstance(rate, Groups):
        rate.check(f"{kind}({_NAME}=...)", params)


def scaled(direction: Params, rate: Any, count: Int[Array, ""]) -> Params:
    """The step against a direction after that many updates: `-rate * direction`."""
    if not isinstance(rate, Groups):
        now = _rate_at(rate, count)
        return jax.tree.map(lambda d: as_like(d, -now) * d, direction)
    rates = [_rate_at(each, count) for each in rate.rates]

    def against(path: Any, d: Array) -> Array:
        place = rate.first(dotted(path))
        assert place is not None, "`init` has refused it"
        return as_like(d, -rates[place]) * d

    return jtu.tree_map_with_path(against, direction)


def rate_logs(rate: Any, count: Int[Array, ""]) -> dict[str, Scalar]:
    """The rates of the next update, by name."""
    if not isinstance(rate, Groups):
        return {_NAME: _rate_at(rate, count)}
    rates = zip(rate.patterns, rate.rates, strict=True)
    return {f"{_NAME}[{pattern}]": _rate_at(each, count) for pattern, each in rates}


def is_rate(name: str) -> bool:
    """Whether a value that a step records is a learning rate."""
    return name == _NAME or name.startswith(f"{_NAME}[")


def _one_rate(call: str, rate: Any) -> Any:
    return rate if callable(rate) else not_negative(call, rate)


def _rate_at(rate: Any, count: Int[Array, ""]) -> Scalar:
    return jnp.asarray(rate(count) if callable(rate) else rate)
