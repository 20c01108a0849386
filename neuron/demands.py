"""Demands. What a model, an objective and metrics ask of the batches that they are handed."""

from collections.abc import Iterable, Iterator

from neuron.data import DataLoader
from neuron.models import needs_two_rows
from neuron.rows import UNKNOWN
from neuron.step import Scoring
from neuron.types import Batch, Model, ModelState


def check_batches(scoring: Scoring, model: Model, loader: DataLoader, microbatch: int) -> None:
    """Refuses, before the first step, batches that training could not mean.

    **Arguments:**

    - `loader`: with all rows of a step in a batch.
    - `microbatch`: how many of them are computed together.

    **Raises:**

    - `ValueError` for one row where a layer takes statistics over the batch, for a short batch
        where an objective couples the examples, and for epochs without a known end where metrics
        need room for their rows.
    """
    keeping = [name for name, metric in scoring.metrics.items() if metric.keeps_rows]
    if keeping and loader.cut.steps_per_epoch == UNKNOWN:
        raise ValueError(
            "`Trainer.fit(loader)` must know how many batches an epoch has where metrics keep all "
            f"its rows, as {keeping} do; got {loader!r}. Use "
            "`DataLoader(..., steps_per_epoch=...)`."
        )
    if needs_two_rows(model) and 1 in (microbatch, loader.smallest_batch() % microbatch):
        raise ValueError(
            "`Trainer.fit(loader)` must have batches of at least 2 rows where a layer takes "
            f"statistics over them; got one of 1 row from {loader!r}. Use "
            "`DataLoader(drop_last=True)` or another batch size."
        )
    if scoring.objective.coupled and loader.smallest_batch() < loader.batch_size:
        raise ValueError(_whole_batches("Trainer.fit(loader)", scoring, repr(loader)))


def wants_whole(scoring: Scoring, model_state: ModelState) -> str | None:
    """Why a stream's batches may not be shorter than its first, if they may not."""
    objective = scoring.objective
    if objective.coupled:
        return f"an objective couples the examples of one, as {type(objective).__name__} does"
    return None if model_state is None else "a model has state"


def check_held_out(call: str, scoring: Scoring, loader: DataLoader, batch_size: int) -> None:
    """Refuses rows that leave a last batch short, where an objective couples the examples of one
    and the number of rows is known."""
    if scoring.objective.coupled and (loader.rows or 0) % batch_size:
        raise ValueError(_whole_batches(call, scoring, f"{loader.rows} rows"))


def check_separable(call: str, scoring: Scoring) -> None:
    """Refuses to resample rows where an objective couples those of a batch: what a row shows would
    be another thing beside other rows.

    **Raises:**

    - `ValueError`.
    """
    if scoring.objective.coupled:
        raise ValueError(
            f"`{call}` resamples rows, so the objective must score each by itself; "
            f"{type(scoring.objective).__name__} couples the examples of a batch."
        )


def whole_blocks(
    scoring: Scoring, blocks: Iterable[tuple[Batch, int]], batch_size: int
) -> Iterator[tuple[Batch, int]]:
    """The blocks, up to one with a short batch where an objective couples the examples of one."""
    for block, count in blocks:
        if scoring.objective.coupled and count % batch_size:
            got = f"{count} rows in the last ones"
            raise ValueError(_whole_batches("Trainer.evaluate(loader)", scoring, got))
        yield block, count


def _whole_batches(call: str, scoring: Scoring, got: str) -> str:
    return (
        f"`{call}` must have whole batches only for an objective that couples the examples of one, "
        f"as {type(scoring.objective).__name__} does; got {got}. Use "
        "`DataLoader(drop_last=True)` or a batch size that divides the rows."
    )
