"""What a fit would begin with, for whoever takes its steps in another way."""

from typing import TYPE_CHECKING, Any, NamedTuple

from neuron.data import DataLoader, as_loader
from neuron.demands import check_batches
from neuron.rows import Data
from neuron.state import TrainState
from neuron.step import Task
from neuron.trainer.fitting import _feed
from neuron.trainer.held_out import check
from neuron.trees import on_entry


if TYPE_CHECKING:
    from neuron.trainer.trainer import Trainer


class Beginning(NamedTuple):
    """The state that a run starts from, what its steps read, and the rows of all of them."""

    state: TrainState
    task: Task
    data: Data


def beginning(
    trainer: "Trainer", call: str, loader: DataLoader | tuple[Any, ...], steps: int
) -> Beginning:
    """What a fit of that many steps would begin with. The trainer stays as it is.

    **Raises:**

    - `ValueError` or `TypeError` for data that the trainer can not take, and for what is not all on
        the device.
    """
    loader = as_loader(call, loader)
    if loader.streamed:
        raise _elsewhere(call, loader, "A stream is read once.")
    # Its place is moved to where a fit on this data begins.
    trainer = trainer.copy()
    check(trainer, loader)
    steps_of = loader.in_groups(trainer._parts.accumulate)
    microbatch = steps_of.batch_size // trainer._parts.accumulate
    check_batches(trainer._parts.scoring, trainer.model, steps_of, microbatch)
    trainer._place.cut(steps_of.cut.steps_per_epoch)
    with _feed(trainer, loader, steps_of, steps) as feed:
        if feed.left < max(1, steps):
            raise _elsewhere(call, loader, "Use `DataLoader(..., placement='device')`.")
        task = trainer._task(steps_of, feed.sampler)
        state = on_entry(trainer._place.put_into(trainer._state), trainer._parts.device)
        return Beginning(state, task, feed.data)


def _elsewhere(call: str, loader: DataLoader, hint: str) -> ValueError:
    return ValueError(
        f"`{call}` must have all rows on the device, or be a function of the step, since a "
        f"derivative goes through all steps; got {loader!r}. {hint}"
    )
