"""`Trainer.fit` of one member after the other, all in one compiled program."""

import jax
import jax.numpy as jnp
from many import Many
from peers.equinox_loop import network
from peers.neuron_fit import Given
from tasks import Fit

import neuron


def parts(
    many: Many, place: int, *, counted: bool = True
) -> tuple[neuron.Trainer, neuron.DataLoader]:
    """A member's trainer, at its start, and its loader; `neuron_population` takes the same ones."""
    task = many.member(place)
    loss = neuron.CrossEntropy() if task.classifies else neuron.RootMeanSquaredError()
    kind = neuron.Adam if task.classifies else neuron.SGD
    data = (task.inputs, task.targets)
    if counted and many.counts is not None:
        data = (*data, many.counts[place].astype("f4"))
    sampler = Given(jnp.asarray(task.indices))
    loader = neuron.DataLoader(data, task.batch_size, sampler=sampler)
    return neuron.Trainer(network(task)[0], loss, kind(task.learning_rate), progress=False), loader


def fit(many: Many, places: range | None = None) -> Fit:
    places = range(min(many.members, many.alone)) if places is None else places
    pairs = [parts(many, place) for place in places]

    def start() -> list[neuron.Trainer]:
        return [trainer.copy() for trainer, _ in pairs]

    def run(trainers: list[neuron.Trainer]) -> list[neuron.Trainer]:
        for trainer, (_, loader) in zip(trainers, pairs, strict=True):
            trainer.fit(loader, steps=many.steps)
        return trainers

    def weights(trainers: list[neuron.Trainer]) -> list[jax.Array]:
        columns = zip(*[jax.tree.leaves(t.state.params) for t in trainers], strict=True)
        return [jnp.stack(leaves) for leaves in columns]

    note = f"{many.steps:,} steps each, of at most {many.alone} members, as a step is timed"
    return Fit(start, run, weights, many.steps, note, members=len(pairs))
