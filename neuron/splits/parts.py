"""Which row goes to which part: counts of whole rows that come nearest to fractions of them."""

import numpy as np


def stratified(
    order: np.ndarray, labels: np.ndarray, of_label: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """The part of each row. Of every label each part gets its share, to within one row; sizes are
    the shares of all rows, rounded by largest remainder.

    **Arguments:**

    - `order`: the rows at random.
    - `labels`: the labels at random, so that what is left over does not always fall to the same.
    - `of_label`: each row's label, as numbers from 0.
    - `shares`: of the parts, 1 in sum.
    """
    # The rows of each label one behind the other, at random.
    order = order[np.argsort(np.argsort(labels)[of_label[order]], kind="stable")]
    table = counts(np.bincount(of_label)[labels], shares)
    part_of = np.empty(len(order), np.intp)
    part_of[order] = np.repeat(np.tile(np.arange(len(shares)), len(labels)), table.ravel())
    return part_of


def counts(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How many rows of each label each part gets: whole numbers within 1 of `size * share`, whose
    sums are the sizes of the labels and the parts' shares of all rows.

    Each is rounded down, and the rows that are left of a label go to different parts, the ones
    that lack most. With labels taken by how many they have left, that works out whenever anything
    does (Gale, 1957; Ryser, 1957).
    """
    table = _rounded_down(np.outer(sizes, shares))
    lacking = by_largest_remainder(int(sizes.sum()), shares) - table.sum(axis=0)
    left = sizes - table.sum(axis=1)
    for label in np.argsort(-left, kind="stable"):
        parts = np.argsort(-lacking, kind="stable")[: left[label]]
        table[label, parts] += 1
        lacking[parts] -= 1
    return table


def by_largest_remainder(rows: int, shares: np.ndarray) -> np.ndarray:
    """Sizes of parts that add up; of equal remainders the first ones get a row more."""
    sizes = _rounded_down(rows * shares)
    remainders = np.round(rows * shares - sizes, 9)
    sizes[np.argsort(-remainders, kind="stable")[: rows - sizes.sum()]] += 1
    return sizes


def whole_groups(
    order: np.ndarray, of_label: np.ndarray, of_group: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """The part of each row, where the rows of a group stay together.

    The largest group comes first, of equal ones any. Each goes where it brings the rows of every
    label nearest to the part's share, by the sum of squared differences, each divided by the
    label's size. With one label that is the part that lacks most rows.

    **Arguments:**

    - `of_group`: each row's group, as numbers from 0; at least as many as there are parts.
    - the others: as for `stratified`.
    """
    groups, labels = of_group.max() + 1, of_label.max() + 1
    table = np.bincount(of_group * labels + of_label, minlength=groups * labels)
    table = table.reshape(groups, labels)
    sizes = table.sum(axis=0)
    lacking = np.outer(shares, sizes)
    _, first = np.unique(of_group[order], return_index=True)
    empty = np.ones(len(shares), bool)
    part_of_group = np.empty(groups, np.intp)
    # By size, and at random by which comes first.
    for taken, group in enumerate(np.lexsort([first, -table.sum(axis=1)])):
        # Groups may become as few as the parts that have none.
        open_to = empty if groups - taken == empty.sum() else np.ones_like(empty)
        gain = lacking @ (table[group] / sizes)
        part = np.argmax(np.where(open_to, gain, -np.inf))
        lacking[part] -= table[group]
        empty[part] = False
        part_of_group[group] = part
    return part_of_group[of_group]


def _rounded_down(numbers: np.ndarray) -> np.ndarray:
    # 100 times 0.29 is a little less than 29.
    return np.floor(numbers + 1e-9).astype(np.intp)
