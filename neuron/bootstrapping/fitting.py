"""`neuron.bootstrap`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from neuron.bootstrapping.optimization import optimization_error, tell
from neuron.bootstrapping.replicas import Fitting
from neuron.bootstrapping.result import Bootstrapped
from neuron.counters import seed_words
from neuron.data import as_loader
from neuron.errors import NonFiniteLossError
from neuron.population import Population
from neuron.resampling import Cases, Resampling, generator
from neuron.trainer import Trainer
from neuron.types import Key, Model, whole_number


RESIDUALS = "residuals"


def bootstrap(
    trainer: Trainer,
    data: Any,
    *,
    replicas: int = 1000,
    epochs: int | None = None,
    steps: int | None = None,
    level: float = 0.95,
    resampling: Resampling | str = Cases(),
    seed: int = 0,
    initial: Callable[[Key], Model] | None = None,
    check: bool = True,
) -> Bootstrapped:
    """Trains many replicas of a run at once, each on a resample of the rows that is drawn once: how
    often a row is in it is the row's weight in that replica's loss, at every step.

    ```python
    result = neuron.bootstrap(trainer, (x, y), replicas=1000, steps=5_000)
    lower, upper = result.interval(lambda model: model.weight)
    lower, upper = result.predict_interval(x)
    result.out_of_bag["loss"]
    ```

    All replicas see the same batches, whose noise is therefore in none of the intervals: see
    `check`. Training must come close to the minimum of each replica's loss.

    **Arguments:**

    - `trainer`: where all members start from; it is not changed.
    - `data`: rows, or a `DataLoader` on the device with the batch size and the sampler to train by.
    - `replicas`: how many.
    - `epochs`, `steps`: as for `Trainer.fit`.
    - `level`: of the intervals, in (0, 1), where they are not told another one.
    - `resampling`: `Cases()`, `Clusters(groups)` or `Blocks(length)`; or `"residuals"`, which
        keeps the inputs and draws the targets anew: the estimate's predictions, with its residuals
        drawn at random, as if these were alike everywhere. A loader's transform must then leave
        the targets as they are.
    - `seed`: of the resamples, and of `initial`'s keys.
    - `initial`: makes an initial model of a key, for each member its own: then the spread has what
        different beginnings do as well, which for models with several minima is much of it. All
        members start from the trainer's own model if `None`, and the spread is of the data alone.
    - `check`: whether up to 100 replicas are trained for as long again from where they ended, on
        other batches, to see whether they had arrived and what the noise of batches did; a warning
        tells of more than 0.2 standard errors.

    **Raises:**

    - `NonFiniteLossError` where the estimate breaks down; replicas that do are left out.
    - `ValueError` or `TypeError` for what can not be meant; for models and objectives in which the
        rows of a batch see each other, since a row that weighs nothing would still be seen.
    """
    call = "bootstrap"
    replicas = whole_number(f"{call}(replicas=...)", replicas, least=2)
    seed_words(f"{call}(seed=...)", seed)
    if not 0 < level < 1:
        raise ValueError(f"`{call}(level=...)` must be in (0, 1); got {level}.")
    loader = as_loader(f"{call}(data)", data)
    _refuse_what_mixes_rows(call, trainer)
    fitting = Fitting(trainer, loader, epochs, steps, initial, seed)
    # What can not be read as a whole is refused before anything is trained.
    _ = fitting.rows
    counts = targets = drawn = None
    if resampling == RESIDUALS:
        targets = _targets(fitting, replicas)
        weight = np.ones((replicas + 1, fitting.number), np.uint8)
    elif isinstance(resampling, Resampling):
        drawn = resampling
        counts = resampling.counts(fitting.number, replicas, seed).T
        # The first member is the estimate, in which each row counts once.
        weight = np.concatenate([np.ones_like(counts[:1]), counts])
    else:
        raise TypeError(
            f"`{call}(resampling=...)` must be neuron.Cases(), Clusters(...), Blocks(...) or "
            f"'residuals'; got {resampling!r}."
        )
    population = fitting.trained(weight, targets=targets)
    _refuse_broken(population)
    error = None
    if check:
        error = optimization_error(fitting, population, weight, targets)
        tell(error)
    return Bootstrapped(fitting, population, counts, drawn, float(level), error)


def _refuse_what_mixes_rows(call: str, trainer: Trainer) -> None:
    if trainer.model_state is not None or trainer._parts.scoring.objective.coupled:
        raise ValueError(
            f"`{call}(trainer)` must have no layer or objective in which the rows of a batch see "
            "each other: a row that a replica leaves out would still be seen there."
        )


def _refuse_broken(population: Population) -> None:
    """Refuses an estimate that broke down, which would lie where it stopped."""
    if 0 in population.faulty:
        error = NonFiniteLossError(population.stops[0].step, float("nan"))
        error.add_note("`bootstrap`: that is the estimate, trained on the data themselves.")
        raise error


def _targets(fitting: Fitting, replicas: int) -> np.ndarray:
    """The estimate's targets, and each replica's: predictions with residuals drawn anew."""
    one = fitting.trainer.copy()
    one.fit(fitting.loader, epochs=fitting.epochs, steps=fitting.steps)
    targets = fitting.rows.targets
    predicted = one.predict(fitting.shown())
    leaves = jax.tree.leaves((targets, predicted))
    if len(leaves) != 2 or np.asarray(leaves[0]).dtype.kind != "f":
        raise ValueError(
            "`bootstrap(resampling='residuals')` needs targets that are one array of floats, as "
            "the predictions are."
        )
    targets, predicted = map(np.asarray, leaves)
    residuals = targets - predicted
    residuals = residuals - residuals.mean(axis=0)
    drawn = [targets]
    for replica in range(replicas):
        places = generator(fitting.seed, replica).integers(len(targets), size=len(targets))
        drawn.append(predicted + residuals[places])
    return np.stack(drawn).astype(targets.dtype)
