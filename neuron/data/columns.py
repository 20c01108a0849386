"""Columns. Which of a table's columns are features, target and weight, by name, and what codes
their categories have."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table a loader was made of, and the codes of their categories.

    `loader.columns` says it, `like=loader` makes another loader by it, and a trainer that was
    fitted on the loader predicts from tables by it.

    - `features`: the columns of the inputs, in their order.
    - `target`: the column of the targets, or several of them.
    - `weight`: the column of the weights.
    - `categories`: for each column that holds categories, which; a category's code is its place.
    - `classes`: whether the targets are classes: whole numbers, booleans or codes.
    """

    features: tuple[str, ...]
    target: str | tuple[str, ...] | None = None
    weight: str | None = None
    categories: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    classes: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of the targets; none, one or several."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are needed."""
        weight = () if self.weight is None else (self.weight,)
        return self.features + self.targets + weight

    def inputs(self) -> "Columns":
        """The columns that a prediction needs."""
        return dataclasses.replace(self, target=None, weight=None, classes=False)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was asked for: columns by name, or those of another loader.

    **Raises:**

    - `TypeError` or `ValueError` for what can not be meant, whatever the table.
    """

    call: str
    target: Any = None
    features: Any = None
    weight: Any = None
    like: Any = None

    def __post_init__(self):
        if self.like is not None:
            self._check_like()
        if self.features is not None and not isinstance(self.features, list | tuple):
            raise TypeError(
                f"`{self._option('features')}` must be a list of names; got {self.features!r}."
            )
        if self.weight is not None and not isinstance(self.weight, str):
            raise TypeError(
                f"`{self._option('weight')}` must be one column's name; got {self.weight!r}."
            )
        for option, names in (("target", self._target()), ("features", self.features or ())):
            if others := [name for name in names if not isinstance(name, str)]:
                raise TypeError(
                    f"`{self._option(option)}` must name columns by strings; got {others[0]!r}."
                )
            if twice := _twice(names):
                raise ValueError(
                    f"`{self._option(option)}` must name each column once; got {twice} twice."
                )
        for option, names in (("target", self._target()), ("features", self.features)):
            if names is not None and not names and getattr(self, option) is not None:
                raise ValueError(f"`{self._option(option)}` must name a column; got none.")
        self._refuse_two_roles()

    def of(self, there: list[Any]) -> Columns:
        """The columns, where those of a table are these; without categories, unless they are known
        from before.

        **Raises:**

        - `ValueError` or `TypeError` for a name that is not there.
        """
        for name in there:
            if not isinstance(name, str):
                raise TypeError(
                    f"`{self.call}` must have columns with names; got {name!r}. Give them some: "
                    "`df.columns = [...]`."
                )
        if self.like is not None:
            return present(self.call, self.like, there)
        target, weight = self._target(), () if self.weight is None else (self.weight,)
        for option, names in (
            ("target", target),
            ("weight", weight),
            ("features", self.features or ()),
        ):
            if missing := [name for name in names if name not in there]:
                raise ValueError(
                    f"`{self._option(option)}` must name columns that are there; "
                    f"got {missing[0]!r}, and there are {listed(there)}."
                )
        rest = [name for name in there if name not in target + weight]
        features = tuple(rest if self.features is None else self.features)
        if not features:
            raise ValueError(
                f"`{self.call}` must have a column beside target and weight; got {listed(there)}."
            )
        return Columns(
            features=features,
            target=self.target if isinstance(self.target, str) or not target else target,
            weight=self.weight,
        )

    def _check_like(self) -> None:
        if not isinstance(self.like, Columns):
            raise TypeError(
                f"`{self._option('like')}` must be a loader that was made of a table or of files "
                f"of tables, or its `columns`; got {self.like!r}."
            )
        for option in ("target", "features", "weight"):
            if (given := getattr(self, option)) is not None:
                raise ValueError(
                    f"`{self._option('like')}` says which columns are meant; got "
                    f"{option}={given!r} as well."
                )

    def _refuse_two_roles(self) -> None:
        roles = (*self._target(), *(self.features or ()), *([self.weight] if self.weight else ()))
        if twice := _twice(roles):
            raise ValueError(
                f"`{self.call}` must use a column as one of features, target and weight; got "
                f"{twice} as two of them."
            )

    def _target(self) -> tuple[Any, ...]:
        if self.target is None:
            return ()
        return tuple(self.target) if isinstance(self.target, list | tuple) else (self.target,)

    def _option(self, name: str) -> str:
        return f"{self.call.partition('(')[0]}({name}=...)"


def present(call: str, columns: Columns, there: list[str], where: str = "") -> Columns:
    """The columns, if they are all there; `ValueError` naming the first that is not."""
    if missing := [name for name in columns.names if name not in there]:
        raise ValueError(
            f"`{call}` must have the columns {listed(columns.names)}; {missing[0]!r} is "
            f"missing{where}, and there are {listed(there)}."
        )
    return columns


def listed(names: Any) -> str:
    """Names as an error lists them: not more than a person reads."""
    shown = [repr(name) for name in names]
    if len(shown) > 20:
        shown = [*shown[:20], f"... ({len(shown)} in all)"]
    return f"[{', '.join(shown)}]"


def _twice(names: Any) -> str:
    """The first name that occurs a second time, as it is shown; nothing if there is none."""
    seen: list[Any] = []
    for name in names:
        if name in seen:
            return repr(name)
        seen.append(name)
    return ""
