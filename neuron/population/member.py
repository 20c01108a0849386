"""One member of a population as an ordinary trainer."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from neuron.counters import words
from neuron.members import picked
from neuron.place import Place
from neuron.population.stacks import Stack
from neuron.trainer import Trainer
from neuron.trees import on_entry


if TYPE_CHECKING:
    from neuron.population.population import Population


def member_of(population: "Population", member: int) -> Trainer:
    """A member, with the history of its own steps, and without callbacks."""
    trainer = population._first.copy()
    own = population._stack_now().member(member, Stack.of([trainer]))
    scoring = dataclasses.replace(
        trainer._parts.scoring, objective=own.objective, metrics=own.metrics
    )
    parts = {"scoring": scoring, "average": own.average, "seed": own.seed}
    trainer._parts = dataclasses.replace(trainer._parts, **parts)
    trainer._frozen, trainer._optimizer = own.frozen, own.optimizer
    trainer._optimizer_given = own.optimizer
    trainer._place = _place(population, member)
    one, many = (dataclasses.replace(s, metrics={}) for s in (trainer._state, population.state))
    state = trainer._place.put_into(jax.tree.map(jnp.copy, picked(one, many, member)))
    # What was observed of the epoch under way.
    metrics = jax.tree.map(lambda leaf: jnp.copy(leaf[member]), population.state.metrics)
    state = dataclasses.replace(state, step=words(trainer.step), metrics=metrics)
    trainer._state = on_entry(state, trainer._parts.device)
    finish: Any = trainer._new_history()._finish
    trainer.history = population.history.of(member, finish, population.step)
    trainer._columns, trainer._taken = population._columns, population._taken.copy()
    fitted = None if population._fitted is None else population._fitted.loader()
    if fitted is not None and fitted in population._taken:
        trainer._taken[fitted] -= population.step - trainer.step
    return trainer


def _place(population: "Population", member: int) -> Place:
    """Where a member stands: where the population does, or where it has stopped."""
    stop = population.stops.get(member)
    if stop is None or stop.step == population.step:
        return dataclasses.replace(population._place)
    where = {"step": stop.step, "epoch": stop.epoch, "position": stop.position}
    return dataclasses.replace(population._place, **where, ending=False)
