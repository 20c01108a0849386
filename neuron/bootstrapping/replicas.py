"""Replicas: members that start alike, see the same batches, and weigh the rows each in its own
way."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np

from neuron.counters import key_of, seed_words
from neuron.data import DataLoader
from neuron.members import first_members
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
        """All rows, where they are."""
        return self.loader.whole("bootstrap(data)", self.trainer._parts.device)

    @property
    def number(self) -> int:
        """How many there are."""
        return self.loader.cut.rows

    def shown(self, most: int | None = None) -> DataLoader:
        """All rows in their order to predict from, with what the loader does to each; or the first
        ones."""
        rows = jax.tree.map(lambda leaf: leaf[:most], self.rows)
        parts = {"inputs": rows.inputs, "targets": rows.targets, "weight": rows.weight}
        there = {name: part for name, part in parts.items() if part is not None}
        return DataLoader(there, 1, transform=self.loader.transform)

    def trained(
        self,
        weight: np.ndarray,
        *,
        targets: np.ndarray | None = None,
        after: Population | None = None,
    ) -> Population:
        """Members trained under such weights of the rows, (members, rows).

        **Arguments:**

        - `weight`: how much each row counts for each member.
        - `targets`: of each member, where they have their own.
        - `after`: members whose first ones go on from where they ended, on other batches.
        """
        trainer, members, models, block_size = self.trainer, len(weight), None, None
        if after is not None:
            trainer, models = trainer.copy(), first_members(trainer.model, after.stacked, members)
            trainer._place.epoch += _ELSEWHERE
            # The program of the others, to have none compiled.
            block_size = after.block_size
        elif self.initial is not None:
            models = _initial(self.initial, trainer.model, self.seed, members)
        population = Population.repeated(trainer, members, models=models, block_size=block_size)
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
