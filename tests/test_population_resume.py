"""Populations that go on after they were ended, and members that go on by themselves: the same bits
as a run that was never stopped, or that was always alone."""

import contextlib
import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from test_population_callbacks import HELD, Act, X, Y, assert_same_run, fitted, loader, trainer

import neuron


WEIGHT = np.random.default_rng(1).integers(0, 3, (3, 70)).astype(np.uint8)


class Stop(Exception):
    pass


def end(trainer, logs):
    raise Stop


def new_rates(trainer, logs):
    if trainer.step == 6:
        trainer.set(learning_rate=np.linspace(0.01, 0.03, trainer.members))


def faulty(k, **options):
    """The second member is not finite at its fourth step or so."""
    model = neuron.Dense(3, key=jax.random.key(k))
    options = {"progress": False, "loss": neuron.MeanSquaredError()} | options
    return neuron.Trainer(model, optimizer=neuron.SGD([0.05, 1e12, 0.1][k % 3]), **options)


PARTS = {"average": 0.9, "metrics": {"r2": neuron.R2(), "mae": lambda t, p, sample_weight=None: 1}}
CASES = {
    "Adam, early": lambda: ({}, PARTS, loader(), {}),
    "loaders": lambda: ({}, PARTS, [loader(k) for k in range(3)], {}),
    "weight": lambda: ({}, PARTS, loader(), {"weight": WEIGHT}),
    "fault": lambda: ({"make": faulty}, PARTS, loader(), {}),
    "blocks": lambda: ({"make": faulty, "block_size": 1}, PARTS, loader(), {}),
    "host": lambda: ({}, PARTS, loader(placement="host"), {}),
    "many": lambda: ({"make": faulty, "members": 40}, {}, loader(), {}),
}


def population(callbacks=(), make=trainer, members=3, parts=PARTS, **options):
    return neuron.Population(
        [make(k, **parts) for k in range(members)], callbacks=callbacks, progress=False, **options
    )


def assert_same_populations(one, other):
    assert one.stops == other.stops
    assert_same_run(one, other)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:.*members stopped where")
def test_a_population_goes_on_exactly(case, tmp_path):
    def run(stop=None, every=4, folder="run"):
        options, parts, data, fit = CASES[case]()
        first = [Act(end, stop)] if stop else []
        callbacks = [*first, Act(new_rates, 3), neuron.EarlyStopping(patience=1)]
        callbacks.append(neuron.Checkpoint(tmp_path / folder, every))
        one = population(callbacks, parts=parts, **options)
        resume = tmp_path / folder
        with contextlib.suppress(Stop):
            one.fit(data, epochs=6, validation=HELD, resume_from=resume, **fit)
        return one

    whole = run(folder="whole")
    for stop in (1, 7, 13, 22):
        stopped = run(stop)
        assert stopped.step == min(stop, whole.step)
    assert_same_populations(run(), whole)
    restored = population(make=CASES[case]()[0].get("make", trainer), members=len(whole),
                          parts=CASES[case]()[1])  # fmt: skip
    restored.restore(tmp_path / "whole")
    # What metrics hold of an epoch waits for the fit that goes on with it.
    whole.state = dataclasses.replace(whole.state, metrics={})
    assert_same_populations(restored, whole)


@pytest.mark.parametrize(
    ("members", "rate", "seed", "weight", "words"),
    [
        (4, None, 0, None, "another number of members"),
        (3, 0.5, 0, None, "another optimizer"),
        (3, None, 1, None, "another members' numbers"),
        (3, None, 0, WEIGHT, "another members' weights"),
    ],
)
def test_another_population_is_refused(members, rate, seed, weight, words, tmp_path):
    population([neuron.Checkpoint(tmp_path)]).fit(loader(), epochs=1, resume_from=tmp_path)
    make = lambda k, **options: trainer(k, rate, seed=seed + seed * k, **options)
    other = population([neuron.Checkpoint(tmp_path)], make=make, members=members)
    other._fits = 0
    before = other.snapshot()
    with pytest.raises(neuron.CheckpointError, match=words):
        other.fit(loader(), epochs=2, resume_from=tmp_path, weight=weight)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, other.state))


def network(k, **options):
    """Layers with state and with randomness."""
    keys = jax.random.split(jax.random.key(k), 2)

    class Net(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        dropout: eqx.nn.Dropout
        last: eqx.nn.Linear

        def __call__(self, x, state, *, key):
            x, state = self.norm(self.first(x), state)
            return self.last(self.dropout(jax.nn.relu(x), key=key)), state

    def made():
        return NET(
            eqx.nn.Linear(3, 8, key=keys[0]),
            eqx.nn.BatchNorm(8, "batch", mode="batch"),
            eqx.nn.Dropout(0.3),
            eqx.nn.Linear(8, "scalar", key=keys[1]),
        )

    NET = _once(Net)
    model, state = eqx.nn.make_with_state(made)()
    return neuron.Trainer(model, model_state=state, progress=False, seed=k, **options)


KINDS = []


def _once(kind):
    KINDS.append(kind)
    return KINDS[0]


class Batches:
    def __iter__(self):
        yield from ((X[at : at + 16], Y[at : at + 16]) for at in range(0, 70, 16))


def stream():
    return neuron.DataLoader(Batches())


def sometimes_not_finite():
    y = Y.copy()
    y[3] = 1e30
    return neuron.DataLoader((X, y), 16, sampler=neuron.Shuffle(0))


class Halves(neuron.Metric):
    """A confusion matrix of the signs."""

    def observe(self, prediction, target):
        signs = [jax.nn.one_hot((value > 0).astype(int), 2) for value in (target, prediction)]
        return signs[0][:, None] * signs[1][None, :]

    def compute(self, total):
        return total


MEMBERS = {
    "plain": (trainer, {}, loader),
    "skip": (trainer, {"nonfinite": "skip"}, sometimes_not_finite),
    "accumulate": (trainer, {"accumulate": 2}, loader),
    "average": (trainer, {"average": 0.9}, loader),
    "metrics": (trainer, {"metrics": {"r2": neuron.R2(), "halves": Halves()}}, loader),
    "state": (network, {}, lambda: loader()),
    "host": (trainer, {"metrics": {"r2": neuron.R2()}}, lambda: loader(placement="host")),
    "stream": (trainer, {"metrics": {"halves": Halves()}}, stream),
    "fault": (faulty, {"metrics": {"r2": neuron.R2()}}, loader),
    "fault in a stream": (faulty, {}, stream),
}


@pytest.mark.parametrize("case", MEMBERS)
@pytest.mark.filterwarnings("ignore:.*members stopped where", "ignore:.*not finite")
def test_a_member_goes_on_as_it_would_alone(case):
    make, parts, data = MEMBERS[case]
    many, rows = population(make=make, parts=parts), data()
    many.fit(rows, steps=8, validation=HELD)
    copied = many.copy()
    for k in range(3):
        one, own_rows = many[k], data()
        alone = fitted(make(k, **parts), own_rows, steps=8, validation=HELD)
        assert_same_run(one, alone)
        fitted(one, rows, epochs=2)
        fitted(alone, own_rows, epochs=2)
        assert_same_run(one, alone)
    if "fault" not in case:
        copied.fit(rows, epochs=2)
        many.fit(rows, epochs=2)
        assert [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(copied.state.params)] == [
            np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(many.state.params)
        ]
        for k in range(3):
            assert_same_run(many[k], _alone_twice(make(k, **parts), data()))


@pytest.mark.parametrize("case", [*MEMBERS, *CASES])
@pytest.mark.filterwarnings("ignore:.*members stopped where", "ignore:.*not finite")
def test_all_at_once_as_on_an_accelerator_is_the_same_but_for_rounding(case, monkeypatch):
    def trained():
        if case in CASES:
            options, parts, data, seen = CASES[case]()
        else:
            make, parts, data = MEMBERS[case]
            options, data, seen = {"make": make}, data(), {}
            if case == "state":
                # Adam makes steps of the rounding in gradients that are 0, as those of biases are
                # before a BatchNorm.
                parts = {"optimizer": neuron.SGD(0.01)}
        many = population(parts=parts, **options)
        many.fit(data, epochs=2, validation=HELD, **seen)
        return many

    one = trained()
    monkeypatch.setattr("neuron.run.ways._CPU", "what is no accelerator")
    other = trained()
    assert one.stops == other.stops
    assert other.block_size == (1 if case == "blocks" else len(other))
    np.testing.assert_allclose(
        np.nan_to_num(one.history["loss"], posinf=0),
        np.nan_to_num(other.history["loss"], posinf=0),
        rtol=1e-4,
        atol=1e-6,
    )
    pairs = zip(*(jax.tree.leaves(many.state) for many in (one, other)), strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def _alone_twice(one, rows):
    one.fit(rows, steps=8, validation=HELD)
    one.fit(rows, epochs=2)
    return one
