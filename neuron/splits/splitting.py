"""Data in parts: what may be split, in how many, and the checks before it is."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from neuron.counters import fold_in, key_of, random_words, seed_words
from neuron.splits.parts import stratified, whole_groups
from neuron.splits.tables import column, count_rows, taken
from neuron.types import whole_number


# By these a split and folds of one seed have different orders, each one of rows and one of labels.
_SPLIT, _FOLDS = 0, 2


def split(
    data: Any,
    fractions: float | Sequence[float],
    *,
    stratify: Any = None,
    groups: Any = None,
    seed: int = 0,
) -> list[Any]:
    """Parts of the data: rows are drawn at random, each for one part, and keep their order in it.

    ```python
    train, test = neuron.split((x, y), 0.8)
    train, validation, test = neuron.split((x, y), [0.7, 0.15, 0.15], stratify=y, seed=1)
    ```

    **Arguments:**

    - `data`: an array; a tuple, list or dict of arrays with a common first axis, as for
        `DataLoader`; a table of pandas, polars or pyarrow (`neuron-equinox[frames]`), alone or in
        the place of an array; or a number of rows, for which parts are arrays of row numbers.
    - `fractions`: how much of the rows the first of two parts gets; or a number for each part, 1 in
        sum. Sizes are rounded by largest remainder, so that they add up.
    - `stratify`: a label for each row, or the name of a table's column. Each part gets its share of
        every label, to within one row.
    - `groups`: likewise; the rows of one group, a patient say, stay together. Sizes, and with
        `stratify` the shares of the labels, are then as near as whole groups come, the largest
        ones being placed first.
    - `seed`: from 0 to 2^64 - 1.

    **Returns:**

    One part a fraction, each of the data's own kind.

    **Raises:**

    - `ValueError` or `TypeError` for what can not be meant: among it a part without rows, a label
        with fewer rows than there are parts, and fewer groups than parts.
    - `ImportError` for a table, without narwhals.
    """
    shares = _shares(fractions)
    rows = count_rows("split(data)", data)
    part_of = _parts("split", data, rows, shares, stratify, groups, seed, _SPLIT)
    return [taken("split(data)", data, part_of == part) for part in range(len(shares))]


def k_folds(
    data: Any, folds: int = 5, *, stratify: Any = None, groups: Any = None, seed: int = 0
) -> Iterator[tuple[Any, Any]]:
    """Pairs of training rows and held-out rows; every row is held out once.

    ```python
    for training, held_out in neuron.k_folds((x, y), 5):
        trainer = neuron.Trainer(model)
        trainer.fit(neuron.DataLoader(training), validation=held_out)
    ```

    **Arguments:**

    - `data`: as for `split`.
    - `folds`: how many pairs, at least 2.
    - `stratify`, `groups`, `seed`: as for `split`, the held-out rows being the parts.

    **Returns:**

    An iterator, which makes a pair when it is asked for it: all of them at once would be the data
    `folds` times over.

    **Raises:**

    - As for `split`, before the first pair.
    """
    part_of = fold_of("k_folds", data, folds, stratify=stratify, groups=groups, seed=seed)
    held = (part_of == fold for fold in range(folds))
    pair = lambda out: (taken("k_folds(data)", data, ~out), taken("k_folds(data)", data, out))
    return map(pair, held)


def fold_of(
    name: str, data: Any, folds: int, *, stratify: Any, groups: Any, seed: int
) -> np.ndarray:
    """In which fold each row is held out.

    **Arguments:**

    - `name`: of the function that was called, for errors.
    - `data`, `folds`, `stratify`, `groups`, `seed`: as for `k_folds`.
    """
    folds = whole_number(f"{name}(folds=...)", folds, least=2)
    rows, shares = count_rows(f"{name}(data)", data), np.full(folds, 1 / folds)
    return _parts(name, data, rows, shares, stratify, groups, seed, _FOLDS)


def _shares(fractions: Any) -> np.ndarray:
    """The share of each part, 1 in sum."""
    call = "split(fractions)"
    try:
        shares = np.asarray(fractions, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{call}` must be a number, or one a part; got {fractions!r}.") from error
    if shares.ndim == 0:
        shares = np.stack([shares, 1 - shares])
    if shares.ndim != 1 or len(shares) < 2 or not ((shares > 0) & (shares < 1)).all():
        raise ValueError(
            f"`{call}` must be a number between 0 and 1, or one for each of at least two parts; "
            f"got {fractions!r}."
        )
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"`{call}` must be 1 in sum, so that every row has a part; got {fractions!r}, "
            f"{shares.sum():g} in sum."
        )
    return shares / shares.sum()


def _parts(
    name: str,
    data: Any,
    rows: int,
    shares: np.ndarray,
    stratify: Any,
    groups: Any,
    seed: int,
    purpose: int,
) -> np.ndarray:
    """The part of each row."""
    order = _order(f"{name}(seed=...)", rows, seed, purpose)
    labels = _codes(f"{name}(stratify=...)", data, stratify, rows)
    if labels is None:
        of_label = np.zeros(rows, np.intp)
    else:
        kinds, of_label = labels
        _refuse_rare(name, kinds, of_label, len(shares))
    grouped = _codes(f"{name}(groups=...)", data, groups, rows)
    if grouped is None:
        of_labels = _order(f"{name}(seed=...)", int(of_label.max()) + 1, seed, purpose + 1)
        part_of = stratified(order, of_labels, of_label, shares)
        if not np.bincount(part_of, minlength=len(shares)).all():
            raise ValueError(
                f"`{name}(data)` must have rows for every part; got {rows} rows for {len(shares)} "
                f"parts, the smallest one with a share of {shares.min():g}."
            )
        return part_of
    names, of_group = grouped
    if len(names) < len(shares):
        raise ValueError(
            f"`{name}(groups=...)` must have at least as many groups as there are parts; got "
            f"{len(names)} for {len(shares)}."
        )
    return whole_groups(order, of_label, of_group, shares)


def _order(call: str, number: int, seed: int, purpose: int) -> np.ndarray:
    """All rows, or labels, in an order at random."""
    key = fold_in(key_of(jnp.asarray(seed_words(call, seed))), jnp.uint32(purpose))
    # To a power of two: each length would be compiled for by itself.
    places = jnp.arange(1 << (number - 1).bit_length(), dtype=jnp.uint32)
    # Words of distinct places are distinct, so that no two ever tie.
    return np.argsort(np.asarray(random_words(key, places))[:number], kind="stable")


def _codes(call: str, data: Any, given: Any, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct values that rows are told apart by, and the place of each row's among them."""
    if given is None:
        return None
    values = column(call, data, given)
    if values.shape != (rows,):
        raise ValueError(
            f"`{call}` must have one value a row; got shape {values.shape} for {rows} rows."
        )
    # A missing value is not equal to itself, and `None` has no place among others.
    missing = []
    if values.dtype.kind in "fO":
        missing = [place for place, value in enumerate(values.tolist()) if _is_missing(value)]
    if missing:
        row = missing[0]
        raise ValueError(
            f"`{call}` must have a value in every row; got {values[row]} in row {row}."
        )
    try:
        distinct, places = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise TypeError(f"`{call}` must be values of one kind; {error}.") from error
    return distinct, places


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _refuse_rare(name: str, kinds: np.ndarray, of_label: np.ndarray, parts: int) -> None:
    counts = np.bincount(of_label)
    rarest = int(np.argmin(counts))
    if counts[rarest] < parts:
        raise ValueError(
            f"`{name}(stratify=...)` must have at least as many rows of each label as there are "
            f"parts; got {counts[rarest]} of {kinds.tolist()[rarest]!r} for {parts} parts."
        )
