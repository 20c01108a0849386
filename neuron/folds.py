"""Cross-validation: a run for each fold, all at once, on data that are there once."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from neuron.data import DataLoader, as_loader
from neuron.evaluation import BATCH_SIZE
from neuron.population import Population
from neuron.samplers import Sequential, Subset
from neuron.splits import fold_of
from neuron.trainer import Trainer
from neuron.types import Batch


@dataclasses.dataclass(frozen=True)
class CrossValidation(Mapping[str, Any]):
    """The scores of each fold's held-out rows, by the model that has not seen them:
    `scores["loss"]` is (folds,).

    `trainers` are the folds' own, and `fold_of` says in which fold each row was held out.
    """

    scores: dict[str, np.ndarray]
    trainers: list[Trainer]
    fold_of: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def mean(self) -> dict[str, Any]:
        """The mean over the folds of each score."""
        return {name: _plain(np.mean(values, axis=0)) for name, values in self.scores.items()}

    @property
    def standard_error(self) -> dict[str, Any]:
        """The folds' standard deviation over the root of their number. It is a rough guide: folds
        share most of their training rows, so the true error is mostly larger (Bengio & Grandvalet,
        2004)."""
        number = len(self.trainers)
        spread = {name: np.std(values, axis=0, ddof=1) for name, values in self.scores.items()}
        return {name: _plain(value / np.sqrt(number)) for name, value in spread.items()}

    def predict(self, inputs: Any) -> Any:
        """For the rows that were validated on: each one's prediction by the model that has not
        seen it.

        **Arguments:**

        - `inputs`: the same rows, in the same order.
        """
        shown = jax.tree.map(np.asarray, inputs)
        parts = [
            jax.tree.map(np.asarray, trainer.predict(_rows(shown, self.fold_of == fold)))
            for fold, trainer in enumerate(self.trainers)
        ]
        order = np.argsort(np.argsort(self.fold_of, kind="stable"), kind="stable")
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)

    def __repr__(self) -> str:
        mean, error = self.mean, self.standard_error
        lines = [
            f"{name} {mean[name]:.4g} (standard error {error[name]:.2g})"
            for name in self.scores
            if np.ndim(mean[name]) == 0
        ]
        return f"CrossValidation({len(self.trainers)} folds: {', '.join(lines)})"


def cross_validate(
    trainer: Trainer,
    data: Any,
    *,
    folds: int = 10,
    epochs: int | None = None,
    steps: int | None = None,
    stratify: Any = None,
    groups: Any = None,
    seed: int = 0,
) -> CrossValidation:
    """Trains a copy of a trainer for each fold on all rows but the fold's own, and scores it on
    those.

    All folds run as one program on batches that they share, where the held-out rows of a fold
    weigh nothing for it; so an epoch has as many steps as the whole data, and a fold's batches are
    a little smaller by chance. Where the rows of a batch see each other (`BatchNorm`, objectives
    that couple examples) that would let held-out rows in: then each fold is trained by itself, on
    its own rows.

    ```python
    scores = neuron.cross_validate(trainer, (x, y), folds=10, epochs=20)
    scores["loss"], scores.mean["loss"]
    ```

    **Arguments:**

    - `trainer`: where each fold starts from; it is not changed.
    - `data`: rows, or a `DataLoader` on the device with the batch size and the sampler to train by.
    - `folds`: how many, at least 2.
    - `epochs`, `steps`: as for `Trainer.fit`.
    - `stratify`, `groups`, `seed`: as for `k_folds`.

    **Raises:**

    - `ValueError` or `TypeError` for data and folds that can not be meant.
    """
    loader = as_loader("cross_validate(data)", data)
    rows = loader.whole("cross_validate(data)", trainer._parts.device)
    plain = tuple(part for part in (rows.inputs, rows.targets) if part is not None)
    table = data if not isinstance(data, DataLoader) else plain
    fold = fold_of("cross_validate", table, folds, stratify=stratify, groups=groups, seed=seed)
    if trainer.model_state is not None or trainer._parts.scoring.objective.coupled:
        trainers = [_alone(trainer, loader, rows, fold != k, epochs, steps) for k in range(folds)]
    else:
        population = Population.repeated(trainer, folds)
        weight = (fold != np.arange(folds)[:, None]).astype(np.uint8)
        population.fit(loader, epochs=epochs, steps=steps, weight=weight)
        trainers = [population[k] for k in range(folds)]
    scores = []
    for k, one in enumerate(trainers):
        held = _rows(rows, fold == k)
        scores.append(one.evaluate(_in_order(as_rows(held), loader.transform)))
    table = {name: np.stack([np.asarray(one[name]) for one in scores]) for name in scores[0]}
    return CrossValidation(table, trainers, fold)


def _alone(
    trainer: Trainer,
    loader: DataLoader,
    rows: Batch,
    there: np.ndarray,
    epochs: int | None,
    steps: int | None,
) -> Trainer:
    one, parts = trainer.copy(), as_rows(rows)
    chosen = np.flatnonzero(there)
    # All rows in one batch are all of the fold's.
    own = DataLoader(
        parts,
        min(loader.batch_size, len(chosen)),
        sampler=Subset(chosen, loader.parts()["sampler"]),
        drop_last=loader.drop_last,
        transform=loader.transform,
    )
    one.fit(own, epochs=epochs, steps=steps)
    return one


def _in_order(rows: tuple[Any, ...], transform: Any) -> DataLoader:
    size = min(BATCH_SIZE, len(jax.tree.leaves(rows)[0]))
    return DataLoader(rows, size, sampler=Sequential(), transform=transform)


def _rows(tree: Any, there: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[there], tree)


def _plain(value: Any) -> Any:
    return value if np.ndim(value) else float(value)


def as_rows(batch: Batch) -> tuple[Any, ...]:
    """A batch as the tuple that a loader takes."""
    return tuple(part for part in (batch.inputs, batch.targets, batch.weight) if part is not None)
