"""Replicas: members that start alike, see the same batches, and weigh the rows each in its own
way."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from neuron.counters import key_of, seed_words
from neuron.data import DataLoader
from neuron.population import Population
from neuron.trainer import Trainer
from neuron.types import Batch, Key, Model


# An epoch that no run comes to: from there on, batches are other ones.
_ELSEWHERE = 1 << 40


@dataclasses.dataclass(frozen=True)
class Fitting:
    """How a replica is trained: from where, on which rows, and for how long.

    `initial` makes each replica's initial model of a key; all start from the trainer's if `None`.
    """

    trainer: Trainer
    loader: DataLoader
    epochs: int | None
    steps: int | None
    initial: Callable[[Key], Model] | None
    seed: int

    @property
    def rows(self) -> Batch:
        """All rows, on the host or where they are."""
        return self.loader.sample()

    @property
    def number(self) -> int:
        """How many there are."""
        return len(jax.tree.leaves(self.rows)[0])

    def shown(self, most: int | None = None) -> DataLoader:
        """All rows in their order to predict from, with what the loader does to each; or the first
        ones."""
        rows = jax.tree.map(lambda leaf: leaf[:most], self.rows)
        parts = {"inputs": rows.inputs, "targets": rows.targets, "weight": rows.weight}
        there = {name: part for name, part in parts.items() if part is not None}
        return DataLoader(there, 1, transform=self.loader.transform)

    def trained(
        self, weight: np.ndarray, *, targets: np.ndarray | None = None, elsewhere: bool = False
    ) -> Population:
        """Members trained under such weights of the rows, (members, rows).

        **Arguments:**

        - `weight`: how much each row counts for each member.
        - `targets`: of each member, where they have their own.
        - `elsewhere`: whether on other batches than usual.
        """
        members = len(weight)
        population = Population.repeated(self.trainer, members)
        if self.initial is not None:
            population.start_from(_initial(self.initial, self.trainer.model, self.seed, members))
        if elsewhere:
            population.go_elsewhere(_ELSEWHERE)
        population.fit(
            self.loader, epochs=self.epochs, steps=self.steps, weight=weight, targets=targets
        )
        return population


def _initial(make: Callable[[Key], Model], like: Model, seed: int, members: int) -> Model:
    # The first member is the estimate, whose key does not depend on how many replicas there are.
    root = key_of(jax.numpy.asarray(seed_words("bootstrap(seed=...)", seed)))
    made, like = eqx.filter_eval_shape(make, root), eqx.filter_eval_shape(lambda: like)
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(model)] for model in (made, like)]
    if jax.tree.structure(made) != jax.tree.structure(like) or shapes[0] != shapes[1]:
        raise ValueError(
            "`bootstrap(initial=...)` must make models of the structure and the shapes of the "
            f"trainer's; got {made}, the trainer has {like}."
        )
    keys = jax.vmap(lambda member: jax.random.fold_in(root, member))(
        np.arange(members, dtype=np.uint32)
    )
    return eqx.filter_vmap(make)(keys)


def over_models(statistic: Callable[[Model], Any], population: Population) -> np.ndarray:
    """A function of each member's model, members first: in one program if it can be traced, else
    one after the other."""
    one, many = population.parts_of_models()
    axes = jax.tree.map(lambda a, b: 0 if a.ndim != b.ndim else None, one, many)

    def of(arrays: Any) -> Any:
        return statistic(population.model_of(arrays))

    try:
        found = jax.jit(jax.vmap(of, in_axes=(axes,)))(many)
    # Booleans that pick numbers are an `IndexError` of JAX.
    except (jax.errors.JAXTypeError, IndexError, TypeError, ValueError):
        rows = [np.asarray(statistic(model)) for model in population.models]
        return np.stack(rows)
    if not isinstance(found, jax.Array):
        raise TypeError(
            "`Bootstrapped.interval(statistic)` must be a function of a model that returns a "
            f"number or an array; got {type(found).__name__}."
        )
    return np.asarray(found)
