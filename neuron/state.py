"""The state of a run: everything that a step changes, as one value."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree, UInt32

from neuron.average import Average
from neuron.counters import advance, place_after
from neuron.types import ModelState, Params, Words


class TrainState(eqx.Module):
    """Everything that a step changes.

    `average` is there where the weights are averaged; `metrics` holds what was observed since the
    epoch began. `step` counts from the run's start; `epoch` and `position` say which batch comes
    next; `skipped` counts the updates that were dropped for not being finite; `stopped` is set by
    the step that refused such an update, and keeps what is queued behind it from running.

    Of many runs at once each array has the members first, but for the counters `step`, `epoch` and
    `position`, which they share.
    """

    params: Params
    model_state: ModelState
    opt_state: PyTree
    average: Average | None
    metrics: dict[str, PyTree]
    step: Words
    epoch: Words
    position: UInt32[Array | np.ndarray, ""]
    skipped: UInt32[Array | np.ndarray, "..."]
    stopped: Bool[Array | np.ndarray, "..."]

    def changed(
        self,
        params: Params,
        model_state: ModelState,
        opt_state: PyTree,
        average: Average | None,
    ) -> "TrainState":
        """The state with an update in it, and the same counters."""
        return dataclasses.replace(
            self, params=params, model_state=model_state, opt_state=opt_state, average=average
        )

    def with_weights_of(self, other: "TrainState") -> "TrainState":
        """The state with another's parameters, average and model state; the optimizer's and the
        counters stay."""
        return self.changed(other.params, other.model_state, self.opt_state, other.average)

    @property
    def averaged_params(self) -> Params:
        """The parameters to predict with: their average where there is one."""
        return self.params if self.average is None else self.average.params

    def ahead(self, steps: UInt32[Array, ""], steps_per_epoch: int) -> "TrainState":
        """The state with its counters some steps on."""
        epoch, position = place_after(self.epoch, self.position, steps, steps_per_epoch)
        step = advance(self.step, steps)
        return dataclasses.replace(self, step=step, epoch=epoch, position=position)

    def counted(
        self, steps_per_epoch: int, *, taken: Bool[Array, ""], dropped: Bool[Array, ""]
    ) -> "TrainState":
        """The state with its counters one step on, if the step was taken."""
        return dataclasses.replace(
            self.ahead(taken.astype(jnp.uint32), steps_per_epoch),
            skipped=advance(self.skipped, (taken & dropped).astype(jnp.uint32)),
            stopped=~taken,
        )


def initial_state(
    params: Params,
    model_state: ModelState,
    opt_state: PyTree,
    average: Average | None = None,
) -> TrainState:
    """The state before the first step."""
    zero = np.zeros(2, np.uint32)
    running = np.zeros((), np.bool_)
    return TrainState(
        params,
        model_state,
        opt_state,
        average,
        {},
        zero,
        zero,
        np.zeros((), np.uint32),
        zero,
        running,
    )
