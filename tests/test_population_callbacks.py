"""Hooks that look at many runs at once: each member fares as it would have fared alone."""

import contextlib
import json
import logging
import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counted

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(70, 3)).astype(np.float32)
Y = (X @ np.float32([1, -2, 0.5]) + 0.5 * rng.normal(size=70)).astype(np.float32)
HELD_X = rng.normal(size=(30, 3)).astype(np.float32)
HELD_Y = (HELD_X @ np.float32([1, -2, 0.5]) + 0.5 * rng.normal(size=30)).astype(np.float32)
HELD = (HELD_X, HELD_Y)
# Some overshoot, some get there, one blows up after a while.
RATES = [0.9, 0.05, 1.2, 1e30, 0.3]


def trainer(k, rate=None, **options):
    """A network that overfits by Adam, each member at another pace."""
    model = eqx.nn.MLP(3, "scalar", 16, 1, key=jax.random.key(k))
    optimizer = neuron.Adam((0.3, 0.1, 0.03, 0.2, 0.05)[k % 5] if rate is None else rate)
    return neuron.Trainer(model, **{"optimizer": optimizer, "progress": False} | options)


def blown_up(k, **options):
    """A neuron; the rate of one of them is far too large."""
    model = neuron.Dense(3, key=jax.random.key(k))
    optimizer = neuron.SGD(RATES[k % 5])
    return neuron.Trainer(model, **{"optimizer": optimizer, "progress": False} | options)


def loader(seed=0, **options):
    return neuron.DataLoader((X, Y), 16, sampler=neuron.Shuffle(seed), **options)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def weights(trainer):
    state = trainer.state
    return bits((state.params, state.model_state, state.opt_state, state.average, state.metrics))


def rows(history):
    # How long an epoch took is no part of what happened.
    return [{k: repr(v) for k, v in row.items() if k != "seconds"} for row in history.epochs]


def assert_same_run(one, other):
    assert weights(one) == weights(other)
    assert (one.step, one.epoch) == (other.step, other.epoch)
    assert bits((one.state.step, one.state.epoch, one.state.position)) == bits(
        (other.state.step, other.state.epoch, other.state.position)
    )
    assert one.history.names == other.history.names
    for name in one.history.names:
        assert one.history[name].tobytes() == other.history[name].tobytes(), name
    assert rows(one.history) == rows(other.history)


def fitted(run, *args, **options):
    """A trainer after a fit that may end in an error of the numbers."""
    with contextlib.suppress(neuron.NonFiniteLossError):
        run.fit(*args, **options)
    return run


class Act(neuron.Callback):
    """Calls a function at some steps."""

    def __init__(self, act, every=1):
        self.act, self.every = act, every

    def on_step_end(self, trainer, logs):
        self.act(trainer, logs)


# --- stopping early


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"restore_best": False},
        {"monitor": "loss", "min_delta": 0.01},
        {"monitor": "val_r2", "mode": "max", "patience": 4},
        {"patience": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [trainer, blown_up])
@pytest.mark.parametrize("block_size", [None, 1])
@pytest.mark.filterwarnings("ignore:.*members stopped where")
def test_each_member_stops_early_as_it_would_alone(make, options, block_size):
    options = {"patience": 2} | options
    parts = {"average": 0.9, "metrics": {"r2": neuron.R2()}}
    stopping = neuron.EarlyStopping(**options)
    population = neuron.Population(
        [make(k, **parts) for k in range(5)], callbacks=[stopping], block_size=block_size
    )
    population.fit(loader(), epochs=25, validation=HELD)
    ends = set()
    for k in range(5):
        own = neuron.EarlyStopping(**options)
        alone = fitted(make(k, **parts, callbacks=[own]), loader(), epochs=25, validation=HELD)
        assert_same_run(population[k], alone)
        assert (stopping.best[k], stopping.best_epoch[k]) == (own.best, own.best_epoch)
        if alone.stopped is not None:
            assert population.stops[k].reason == alone.stopped
            assert population.stops[k].step == alone.step
        else:
            assert (k in population.stops) == (alone.epoch < 25)
        ends.add(alone.step)
    assert len(ends) > 1
    assert population.step == max(ends)


def test_a_fit_ends_when_the_last_member_has_stopped():
    class Never(neuron.Callback):
        epochs = 0

        def on_epoch_end(self, trainer, logs):
            Never.epochs += 1

    callbacks = [neuron.EarlyStopping(patience=1), Never()]
    population = neuron.Population([trainer(k) for k in range(3)], callbacks=callbacks)
    population.fit(loader(), epochs=1000, validation=HELD)
    assert population.stopped == "all members have stopped"
    assert sorted(population.stops) == [0, 1, 2]
    last = max(stop.epoch for stop in population.stops.values())
    assert Never.epochs == population.epoch == last < 1000


def test_a_member_with_no_best_keeps_its_weights():
    """A metric that is NaN for some is no best value, and nothing of the others comes to them."""

    class Some(neuron.Metric):
        scale: jax.Array

        def observe(self, prediction, target):
            return self.scale * (prediction - target) ** 2

        def compute(self, total):
            return total

    def make(k):
        metrics = {"some": Some(jnp.float32([1.0, np.nan, 1.0][k]))}
        return trainer(k, metrics=metrics)

    stopping = neuron.EarlyStopping("val_some", patience=3)
    population = neuron.Population([make(k) for k in range(3)], callbacks=[stopping])
    population.fit(loader(), epochs=2, validation=HELD)
    assert stopping.best[1] == np.inf
    for k in range(3):
        alone = make(k)
        alone._hooks = neuron.callbacks.Hooks([neuron.EarlyStopping("val_some", patience=3)])
        alone.fit(loader(), epochs=2, validation=HELD)
        assert weights(population[k]) == weights(alone)


@pytest.mark.parametrize("monitor", ["val_matrix", "seconds", "nothing"])
def test_a_monitor_must_be_one_number_of_each_member(monitor):
    population = neuron.Population(
        [blown_up(k, metrics={"matrix": Matrix()}) for k in range(3)],
        callbacks=[neuron.EarlyStopping(monitor)],
    )
    with pytest.raises(ValueError, match=r"are \['learning_rate', 'loss', 'val_loss'\]"):
        population.fit(loader(), epochs=2, validation=HELD)


class Matrix(neuron.Metric):
    """An array, of as many rows as there are members."""

    def observe(self, prediction, target):
        return jnp.outer(jnp.ones(3), jnp.stack([prediction, target]))

    def compute(self, total):
        return total


# --- every callback


class Memory(neuron.Logger):
    every = 4

    def __init__(self):
        self.rows = []

    def log(self, values, step):
        self.rows.append((step, values))


WORK = {
    "ProgressBar": lambda folder: neuron.ProgressBar(),
    "PrintLog": lambda folder: neuron.PrintLog(),
    "EarlyStopping": lambda folder: neuron.EarlyStopping(),
    "Checkpoint": lambda folder: neuron.Checkpoint(folder / "run"),
    "CSVLogger": lambda folder: neuron.CSVLogger(folder / "log.csv", every=3),
    "JSONLLogger": lambda folder: neuron.JSONLLogger(folder / "log.jsonl", every=3),
    "TensorBoard": lambda folder: neuron.TensorBoard(folder / "board", every=3),
    "Logger": lambda folder: Memory(),
    "Timer": lambda folder: neuron.Timer(),
    "Profile": lambda folder: neuron.Profile(folder / "profile", start=1, steps=2),
}
REFUSED = {
    "ReduceLROnPlateau": lambda folder: neuron.ReduceLROnPlateau(),
    "LearningRateLogger": lambda folder: neuron.LearningRateLogger(),
    "Checkpoint": lambda folder: neuron.Checkpoint(folder, monitor="val_loss"),
}


@pytest.mark.parametrize("name", WORK)
def test_callbacks_that_take_arrays(name, tmp_path, caplog):
    pytest.importorskip("tensorboardX") if name == "TensorBoard" else None
    caplog.set_level(logging.INFO, "neuron")
    parts = {"metrics": {"matrix": Matrix()}}
    callback = WORK[name](tmp_path)
    population = neuron.Population([trainer(k, **parts) for k in range(3)], callbacks=[callback])
    population.fit(loader(), epochs=2, validation=HELD)
    for k in range(3):
        alone = trainer(k, **parts)
        alone.fit(loader(), epochs=2, validation=HELD)
        rows = zip(population[k].history.epochs, alone.history.epochs, strict=True)
        assert all(repr(a["matrix"]) == repr(b["matrix"]) for a, b in rows)
        if name != "EarlyStopping":
            assert weights(population[k]) == weights(alone)
    last, loss = population.history.epochs[-1], population.history["loss"]
    if name == "PrintLog":
        lines = [record.message for record in caplog.records]
        at_last = loss[:, -1]
        assert f"loss {at_last.min():.4g} to {at_last.max():.4g}" in lines[-2]
    if name == "Checkpoint":
        assert len(list((tmp_path / "run").glob("step-*.safetensors"))) == 2
    if name == "CSVLogger":
        table = (tmp_path / "log.csv").read_text().splitlines()
        assert len(table) == 1 + 2 + 3
        assert json.dumps(last["loss"].tolist()) in table[-1]
    if name == "JSONLLogger":
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert lines[-1]["val_loss"] == last["val_loss"].tolist()
        assert lines[-1]["matrix"] == last["matrix"].tolist()
        assert lines[0]["step_loss"] == loss[:, 2].tolist()
    if name == "Logger":
        assert [step for step, _ in callback.rows] == [4, 5, 8, 10]
        np.testing.assert_array_equal(callback.rows[0][1]["step_loss"], loss[:, 3])
    if name == "TensorBoard":
        assert list((tmp_path / "board").iterdir())
    if name == "Timer":
        assert callback.seconds["steps"] > 0
    if name == "Profile":
        assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("name", REFUSED)
def test_callbacks_that_look_at_one_run_are_refused(name, tmp_path):
    with pytest.raises(TypeError, match=rf"can not have {name}.*looks at one run"):
        neuron.Population([trainer(0)], callbacks=[REFUSED[name](tmp_path)])


def test_these_are_all_callbacks():
    services = {"WandB", "MLflow"}  # as TensorBoard: `Logger` and `curves`
    kinds = {
        name
        for name, value in vars(neuron).items()
        if isinstance(value, type) and issubclass(value, neuron.Callback)
    }
    assert kinds - {"Callback"} == WORK.keys() | REFUSED.keys() | services


# --- hooks that act


@pytest.mark.parametrize("rates", [0.01, [0.01, 0.02, 0.03]], ids=["one", "each"])
def test_rates_that_a_hook_sets(rates):
    of = lambda k: float(np.broadcast_to(rates, 3)[k])

    def setting(rate):
        def act(trainer, logs):
            if trainer.step == 6:
                trainer.set(learning_rate=rate)

        return Act(act, every=3)

    population = neuron.Population(
        [trainer(k) for k in range(3)],
        callbacks=[setting(np.array(rates) if rates != 0.01 else rates)],
    )
    population.fit(loader(), epochs=3)
    population.set(learning_rate=1e-3)
    population.fit(loader(), epochs=1)
    for k in range(3):
        alone = trainer(k, callbacks=[setting(of(k))])
        alone.fit(loader(), epochs=3)
        alone.set(learning_rate=1e-3)
        alone.fit(loader(), epochs=1)
        assert_same_run(population[k], alone)


def test_rates_that_are_set_cost_no_trace():
    line, traces = counted(jnp.zeros(3))
    of = lambda k: type(line)(jnp.full(3, float(k)))

    def act(trainer, logs):
        if trainer.step == 4:
            before.append(len(traces))
            trainer.set(learning_rate=0.5)
        if trainer.step == 8:
            trainer.set(learning_rate=np.array([0.1, 0.2, 0.3]))

    before = []
    trainers = [neuron.Trainer(of(k), progress=False) for k in range(3)]
    population = neuron.Population(trainers, callbacks=[Act(act, every=4)])
    population.fit(loader(), epochs=3)
    population.set(learning_rate=np.array([0.1, 0.1, 0.1]))
    population.fit(loader(), epochs=1)
    assert before == [len(traces)]
    assert population.history["learning_rate"][:, -6].tolist() == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="one for each of the 3 members"):
        population.set(learning_rate=np.ones(2))
    with pytest.raises(ValueError, match="learning_rate"):
        population.set(learning_rate=-1.0)


def test_a_hook_looks_where_it_asked_to_and_ends_the_fit():
    seen = []

    def act(trainer, logs):
        seen.append((trainer.step, logs["loss"].copy()))
        if trainer.step == 9:
            trainer.stop("enough")

    population = neuron.Population([trainer(k) for k in range(3)], callbacks=[Act(act, every=3)])
    population.fit(loader(), epochs=10)
    assert [step for step, _ in seen] == [3, 6, 9]
    for step, loss in seen:
        np.testing.assert_array_equal(loss, population.history["loss"][:, step - 1])
    assert (population.stopped, population.step, population.stops) == ("enough", 9, {})
    for k in range(3):
        alone = trainer(k)
        alone.fit(loader(), steps=9)
        assert_same_run(population[k], alone)


@pytest.mark.parametrize("which", [[1], np.array([False, True, False]), 1, []], ids=str)
def test_members_that_a_hook_stops(which):
    def act(trainer, logs):
        if trainer.step == 7:
            trainer.stop("enough", members=which)
            trainer.stop("again", members=which)

    population = neuron.Population([trainer(k) for k in range(3)], callbacks=[Act(act)])
    population.fit(loader(), epochs=3)
    assert population.step == 15
    some = np.size(which) > 0
    assert {m: (s.step, s.reason) for m, s in population.stops.items()} == (
        {1: (7, "enough")} if some else {}
    )
    for k in range(3):
        alone = trainer(k)
        alone.fit(loader(), steps=7 if k == 1 and some else 15)
        assert_same_run(population[k], alone)
        # And goes on from there.
        one = population[k]
        one.fit(loader(), epochs=1)
        alone.fit(loader(), epochs=1)
        assert_same_run(one, alone)


def test_other_weights_in_a_hook_set_nobody_going():
    def act(trainer, logs):
        if trainer.step == 3:
            kept.append(trainer.snapshot())
            trainer.stop("enough", members=[0])
        if trainer.step == 4:
            trainer.state = trainer.state.with_weights_of(kept[0])

    kept = []
    population = neuron.Population([trainer(k) for k in range(3)], callbacks=[Act(act)])
    population.fit(loader(), epochs=2)
    assert np.isnan(population.history["loss"][0, 3:]).all()
    assert np.isfinite(population.history["loss"][1:]).all()


@pytest.mark.parametrize("interrupt", [lambda: os.kill(os.getpid(), signal.SIGINT), None])
def test_what_an_interrupt_leaves(interrupt):
    def act(trainer, logs):
        if trainer.step == 7:
            if interrupt is None:
                raise KeyboardInterrupt
            interrupt()

    population = neuron.Population([trainer(k) for k in range(3)], callbacks=[Act(act)])
    with pytest.raises(KeyboardInterrupt):
        population.fit(loader(), epochs=3)
    assert population.step == 7
    population._hooks = neuron.callbacks.Hooks([])
    population.fit(loader(), steps=8)
    for k in range(3):
        alone = trainer(k)
        alone.fit(loader(), steps=15)
        assert_same_run(population[k], alone)
