"""`Population.fit`, on the batches of the peers and on its own; and `bootstrap`."""

import dataclasses

import jax
import numpy as np
from many import Many, sized
from peers.equinox_loop import network
from peers.neuron_fit import drawn
from peers.neuron_one_by_one import parts
from tasks import Fit

import neuron


def fit(many: Many) -> Fit:
    return sized(lambda part: _fit(part, own_draws=False), many)


def own_draws(many: Many) -> Fit:
    return sized(lambda part: _fit(part, own_draws=True), many)


def long(many: Many) -> Fit:
    """A longer fit, which batches that are drawn on the way leave the memory for; nobody has them
    all to compare it with."""
    fit = _fit(many.first(many.most_steps), own_draws=True, times=16)
    note = f"{fit.steps:,} steps in one fit of {many.members:,}"
    return dataclasses.replace(fit, indices=None, same_task=False, note=note)


def _fit(many: Many, *, own_draws: bool, times: int = 1) -> Fit:
    steps = times * many.steps
    # One loader for all, or one for each; the weights of rows are given to `fit`, not to loaders.
    seen = range(many.members if many.own_batches else 1)
    if own_draws:
        samplers = [_sampler(many, place) for place in seen]
        data, size = (many.task.inputs, many.task.targets), many.task.batch_size
        loaders = [neuron.DataLoader(data, size, sampler=sampler) for sampler in samplers]
        rows = [drawn(sampler, many.task, many.steps) for sampler in samplers]
        indices = np.stack(rows, axis=1) if many.own_batches else rows[0]
        note = f"{type(samplers[0]).__name__}, history on"
    else:
        loaders, indices = [parts(many, place, counted=False)[1] for place in seen], None
        note = "a user's own sampler, of pre-drawn indices; history on"
    trainers = [parts(many, place, counted=False)[0] for place in range(many.members)]
    population = neuron.Population(trainers, progress=False)
    loader = loaders if many.own_batches else loaders[0]
    weight = {} if many.counts is None else {"weight": many.counts}

    def run(population: neuron.Population) -> neuron.Population:
        population.fit(loader, steps=steps, **weight)
        return population

    weights = lambda population: jax.tree.leaves(population.state.params)
    return Fit(population.copy, run, weights, steps, note, indices, members=many.members)


def _sampler(many: Many, place: int) -> neuron.Sampler:
    kind = neuron.Shuffle if many.task.classifies else neuron.Bootstrap
    return kind(seed=123 + place)


def bootstrap(many: Many) -> Fit:
    return sized(_bootstrap, many)


def _bootstrap(many: Many) -> Fit:
    task = many.task
    loader = neuron.DataLoader(
        (task.inputs, task.targets), task.batch_size, sampler=neuron.Bootstrap(seed=123)
    )
    loss, optimizer = neuron.RootMeanSquaredError(), neuron.SGD(task.learning_rate)
    start = lambda: neuron.Trainer(network(task)[0], loss, optimizer, progress=False)
    return Fit(
        start,
        run=lambda trainer: neuron.bootstrap(
            trainer, loader, replicas=many.members, steps=many.steps
        ),
        weights=lambda _: [np.zeros((many.members, 1))],
        steps=many.steps,
        note="draws counts of its own; all from the same weights, not compared",
        same_task=False,
        members=many.members,
    )
