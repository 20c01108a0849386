"""The promises again, for a run with everything in it: state, keys, several losses, microbatches,
an average, half precision, clipping, penalties and metrics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(3)
ROWS = 70
X = rng.normal(size=(ROWS, 5)).astype(np.float32)
KIND = rng.integers(0, 3, ROWS).astype(np.int32)
SIZE = np.abs(X).sum(1)
W = rng.integers(0, 3, ROWS).astype(np.float32)
traces: list[str] = []


class Everything(eqx.Module):
    """A model with statistics, dropout, a frozen part and two outputs."""

    given: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    kind: eqx.nn.Linear
    size: neuron.Dense

    def __init__(self, key):
        given, kind, size = jax.random.split(key, 3)
        self.given = eqx.nn.Linear(5, 12, key=given)
        self.norm = eqx.nn.BatchNorm(12, "rows", mode="batch")
        self.drop = eqx.nn.Dropout(0.3)
        self.kind = eqx.nn.Linear(12, 3, key=kind)
        self.size = neuron.Dense(12, key=size)

    def __call__(self, x, state, *, key):
        traces.append("model")
        x, state = self.norm(self.given(x), state)
        x = self.drop(jax.nn.relu(x), key=key)
        return {"kind": self.kind(x), "size": self.size(x)}, state


def growing(step):
    return jnp.minimum(step / 10, 1.0)


def share_right(targets, predictions, sample_weight=None):
    return np.average(predictions["kind"].argmax(1) == targets["kind"], weights=sample_weight)


def trainer_of(strength=1e-3, rate=1e-2, decay=0.9, weight=0.3, **options):
    model, state = eqx.nn.make_with_state(Everything)(jax.random.key(0))
    losses = {"kind": neuron.CrossEntropy(), "size": neuron.RootMeanSquaredError()}
    loss = neuron.Supervised(losses, weights={"kind": growing, "size": weight})
    return neuron.Trainer(
        model,
        neuron.Penalized(loss, neuron.L2(strength)),
        neuron.Clipped(neuron.AdamW(rate, weight_decay=1e-2), norm=1.0),
        model_state=state,
        metrics={"share": share_right, "size": {"mae": neuron.MeanAbsoluteError()}},
        trainable=["norm.*", "kind.*", "size.*"],
        accumulate=2,
        average=decay,
        precision="bfloat16",
        nonfinite="skip",
        progress=False,
        **options,
    )


def loader():
    data = (X, {"kind": KIND, "size": SIZE}, W)
    return neuron.DataLoader(data, 8, sampler=neuron.Shuffle(5))


def bits(trainer):
    leaves = [*jax.tree.leaves(trainer.state), *(trainer.history[n] for n in trainer.history.names)]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


class Look(neuron.Callback):
    every = 3

    def on_step_end(self, trainer, logs):
        assert np.isfinite(logs["loss"])


@pytest.fixture(scope="module")
def whole():
    trainer = trainer_of()
    trainer.fit(loader(), steps=60)
    return trainer


def test_it_learns(whole):
    epochs = whole.history.epochs
    assert epochs[-1]["size"] < 0.9 * epochs[0]["size"]
    assert epochs[-1]["share"] > epochs[0]["share"] - 0.2
    assert set(whole.history.names) == {
        "loss", "kind", "size", "l2", "grad_norm", "learning_rate", "size_mae", "skipped",
    }  # fmt: skip


def test_pieces_are_the_whole(whole):
    pieces = trainer_of()
    for steps in (1, 2, 7, 50):
        pieces.fit(loader(), steps=steps)
    assert bits(pieces) == bits(whole)
    rows = zip(pieces.history.epochs, whole.history.epochs, strict=True)
    assert all(a["share"] == b["share"] and a["loss"] == b["loss"] for a, b in rows)


def test_looking_changes_nothing(whole):
    looked = trainer_of(callbacks=[Look()])
    looked.fit(loader(), steps=60)
    assert bits(looked) == bits(whole)


def test_validation_changes_nothing(whole):
    watched = trainer_of()
    held_out = (X[:20], {"kind": KIND[:20], "size": SIZE[:20]})
    watched.fit(loader(), steps=60, validation=held_out)
    assert bits(watched) == bits(whole)


def test_the_seed_is_the_dropouts(whole):
    other = trainer_of(seed=1)
    other.fit(loader(), steps=60)
    assert bits(other) != bits(whole)


def test_one_trace_for_all_numbers(whole):
    traces.clear()
    other = trainer_of(strength=0.5, rate=1e-4, decay=0.5, weight=2.0, seed=8)
    other.fit(loader(), steps=10)
    assert not traces
    other.set(learning_rate=1e-3, norm=0.1, weight_decay=0.5, b1=0.5, b2=0.6, eps=1.0)
    other.fit(loader(), steps=25)
    assert not traces


class Counted(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        traces.append("counted")
        return self.weight @ x


NUMBERS = {
    "sgd": (neuron.SGD(0.1), {"learning_rate": 0.2, "weight_decay": 0.1}),
    "momentum": (
        neuron.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        {"learning_rate": 0.2, "momentum": 0.5, "weight_decay": 0.0},
    ),
    "adam": (neuron.Adam(), {"learning_rate": 1e-2, "b1": 0.5, "b2": 0.9, "eps": 10.0}),
    "adamw": (
        neuron.AdamW(),
        {"learning_rate": 1e-2, "b1": 0.5, "b2": 0.9, "eps": 10.0, "weight_decay": 0.3},
    ),
    "clipped": (
        neuron.Clipped(neuron.Adam(), norm=1.0, value=0.5),
        {"learning_rate": 1e-2, "norm": 0.3, "value": 0.1, "b1": 0.2},
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_changes_without_a_trace(name):
    """And each has an effect, between fits and in a hook."""
    optimizer, numbers = NUMBERS[name]

    def trained(change=None):
        trainer = neuron.Trainer(Counted(jnp.ones(5)), optimizer=optimizer, progress=False)
        rows = neuron.DataLoader((X, 3 * SIZE), 10)
        trainer.fit(rows, steps=3)
        traces.clear()
        trainer.set(**(change or {}))
        trainer.fit(rows, steps=5)
        assert not traces
        return np.asarray(trainer.model.weight)

    plain = trained()
    for number, value in numbers.items():
        assert not np.array_equal(trained({number: value}), plain), number

    class Change(neuron.Callback):
        def on_step_end(self, trainer, logs):
            trainer.set(**{n: v * (1 + 0.01 * trainer.step) for n, v in numbers.items()})

    trainer = neuron.Trainer(Counted(jnp.ones(5)), optimizer=optimizer, progress=False)
    rows = neuron.DataLoader((X, 3 * SIZE), 10)
    trainer.fit(rows, steps=1)
    traces.clear()
    watched = neuron.Trainer(
        Counted(jnp.ones(5)), optimizer=optimizer, callbacks=[Change()], progress=False
    )
    watched.fit(rows, steps=10)
    assert not traces
