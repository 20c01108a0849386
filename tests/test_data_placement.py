"""Where rows live changes no bit: the device and the host give the same runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import line

import neuron
from neuron.data import feed, pieces


x, y = line(100)


class Stateful(eqx.Module):
    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: neuron.Dense

    def __init__(self, key):
        self.hidden = eqx.nn.Linear(2, 4, key=key)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.drop = eqx.nn.Dropout(0.3)
        self.out = neuron.Dense(4, key=key)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.hidden(x), state)
        return self.out(self.drop(jax.nn.relu(x), key=key)), state


def dense():
    return neuron.Dense(2, key=jax.random.key(0)), None


def mlp():
    return eqx.nn.MLP(2, "scalar", 8, 1, key=jax.random.key(0)), None


def stateful():
    return eqx.nn.make_with_state(Stateful)(jax.random.key(0))


class Look(neuron.Callback):
    """Looks at every seventh step, and at each epoch's end."""

    every = 7

    def __init__(self):
        self.seen = []

    def on_step_end(self, trainer, logs):
        self.seen.append((trainer.step, logs["loss"]))

    def on_epoch_end(self, trainer, logs):
        self.seen.append((trainer.epoch, logs["loss"]))


def run(data, placement, *, make=dense, fits=({"epochs": 3},), sampler=None, batch=16, **options):
    """What a run leaves behind: its losses, its state, its epochs' rows, its evaluation."""
    loader_options = {k: options.pop(k) for k in ("drop_last", "transform") if k in options}
    loader = neuron.DataLoader(data, batch, sampler=sampler, placement=placement, **loader_options)
    model, state = make()
    trainer = neuron.Trainer(model, model_state=state, progress=False, **options)
    for fit in fits:
        trainer.fit(loader, **fit)
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in trainer.history.epochs]
    return {
        "losses": trainer.history["loss"],
        "state": jax.tree.leaves(trainer.state),
        "rows": rows,
        "evaluated": trainer.evaluate(loader),
        "predicted": trainer.predict(loader),
    }


def assert_same(one, other):
    for name in one:
        ours, theirs = jax.tree.leaves(one[name]), jax.tree.leaves(other[name])
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of at most 3 steps, each handed over after at most 2 pieces' time."""
    monkeypatch.setattr(feed, "_CHUNK_STEPS", 3)


weights = np.linspace(0, 2, 100, dtype=np.float32)
CASES = {
    "neuron": {},
    "mlp": {"make": mlp},
    "stateful with a short last batch": {"make": stateful, "batch": 24},
    "short last batch": {"batch": 24},
    "drop last": {"batch": 24, "drop_last": True},
    "accumulated": {"make": mlp, "accumulate": 3},
    "averaged": {"make": mlp, "average": 0.9},
    "weights": {"data": (x, y, weights)},
    "metrics and validation": {
        "metrics": {"r2": neuron.R2(), "late": lambda t, p: np.mean(np.abs(t - p))},
        "fits": ({"epochs": 3, "validation": (x, y)},),
    },
    "bootstrap": {"sampler": neuron.Bootstrap(3)},
    "shuffled": {"sampler": neuron.Shuffle(5)},
    "sequential": {"sampler": neuron.Sequential()},
    "cut": {"fits": ({"steps": 5}, {"steps": 1}, {"epochs": 2})},
    "skipping": {"nonfinite": "skip"},
    "integers and bytes": {"data": ({"a": x, "b": np.arange(100, dtype=np.uint8)}, y)},
    "transform": {
        "transform": lambda e, *, key: neuron.Batch(
            e.inputs + 0.1 * jax.random.normal(key, e.inputs.shape), e.targets
        )
    },
}


def tree():
    class Two(eqx.Module):
        dense: neuron.Dense

        def __call__(self, x):
            return self.dense(x["a"]) + x["b"].astype(jnp.float32) / 100

    return Two(dense()[0]), None


@pytest.mark.parametrize("name", CASES)
def test_device_and_host_give_the_same_bits(name, short_chunks):
    options = {"data": (x, y), **CASES[name]}
    if name.startswith("integers"):
        options["make"] = tree
    data = options.pop("data")
    assert_same(run(data, "device", **options), run(data, "host", **options))


@pytest.mark.parametrize("steps", [1, 2, 4096])
def test_the_length_of_a_chunk_changes_no_bit(steps, monkeypatch):
    whole = run((x, y), "device", fits=({"steps": 40},))
    monkeypatch.setattr(feed, "_CHUNK_STEPS", steps)
    assert_same(whole, run((x, y), "host", fits=({"steps": 40},)))


def test_a_chunk_that_is_handed_over_early_changes_no_bit(monkeypatch):
    whole = run((x, y), "device", fits=({"steps": 40},))
    monkeypatch.setattr(pieces, "_SECONDS", 0.0)
    assert_same(whole, run((x, y), "host", fits=({"steps": 40},)))


@pytest.mark.parametrize("placement", ["device", "host"])
def test_hooks_and_cuts_change_no_bit(placement, short_chunks):
    looks = [Look(), Look()]
    whole = run((x, y), placement, fits=({"steps": 30},), callbacks=[looks[0]])
    fits = ({"steps": 5}, {"steps": 9}, {"steps": 16})
    cut = run((x, y), placement, fits=fits, callbacks=[looks[1]])
    assert_same(whole, cut)
    assert_same(whole, run((x, y), placement, fits=({"steps": 30},)))
    assert looks[0].seen == looks[1].seen
    assert [step for step, _ in looks[0].seen] == [7, 1, 14, 2, 21, 3, 28, 4]


def test_double_precision_stays_on_either_side(x64, short_chunks):
    data = (x.astype(np.float64), y.astype(np.float64))
    device, host = (run(data, place) for place in ("device", "host"))
    assert_same(device, host)
    assert device["losses"].dtype == np.float64


def test_double_precision_of_this_thread_alone(short_chunks):
    """`jax.enable_x64` holds in the thread that enters it, and the rows are read in another one."""
    data = (x.astype(np.float64), y.astype(np.float64))
    with jax.enable_x64(True):
        device, host = (run(data, place) for place in ("device", "host"))
    assert_same(device, host)
    assert host["losses"].dtype == np.float64


def test_one_trace_serves_fits_of_all_lengths():
    traces = []

    class Counting(eqx.Module):
        dense: neuron.Dense

        def __call__(self, x):
            traces.append(x.shape)
            return self.dense(x)

    make = lambda: (Counting(dense()[0]), None)
    trainer = neuron.Trainer(make()[0], progress=False)
    loader = neuron.DataLoader((x, y), 16, placement="host")
    trainer.fit(loader, steps=1)
    first = len(traces)
    for steps in (3, 100, 1):
        trainer.fit(loader, steps=steps)
    other = neuron.DataLoader((x, y), 16, placement="host", sampler=neuron.Shuffle(9))
    trainer.fit(other, epochs=2)
    neuron.Trainer(make()[0], progress=False).fit(other, steps=5)
    assert len(traces) == first


def test_the_device_has_a_copy_of_its_own():
    mine = x.copy()
    loader = neuron.DataLoader((mine, y), 4)
    placed = loader._supply.on(jax.devices()[0])
    mine[:] = -1
    np.testing.assert_array_equal(placed.inputs, x)
    assert loader._supply.on(jax.devices()[0]) is placed


def test_where_rows_live_where_nobody_says(tmp_path, monkeypatch):
    from neuron.data import by_rows

    small = neuron.DataLoader((x, y), 4)
    assert small.on_device
    monkeypatch.setattr(by_rows, "BUDGET", x.nbytes)
    assert not neuron.DataLoader((x, y), 4).on_device
    # What is on a device already stays.
    assert neuron.DataLoader((jnp.asarray(x), jnp.asarray(y)), 4).on_device
    assert neuron.DataLoader((x, y), 4, placement="device").on_device
    assert not neuron.DataLoader((x,), 4, host_transform=lambda rows: rows).on_device


def test_rows_that_are_read_are_checked_on_the_device_as_well(tmp_path):
    """The first batch alone was looked at; the class that is none comes later."""
    classes = np.zeros(100, np.int32)
    classes[77] = 3
    np.save(tmp_path / "y.npy", classes)
    model = neuron.Dense(2, 3, key=jax.random.key(0))
    for placement in ("device", "host"):
        loader = neuron.DataLoader((x, tmp_path / "y.npy"), 16, placement=placement)
        trainer = neuron.Trainer(model, neuron.CrossEntropy(), progress=False)
        with pytest.raises(ValueError, match="got 3") as caught:
            trainer.fit(loader, epochs=1)
        assert "row 77" in "".join(caught.value.__notes__)
        with pytest.raises(ValueError, match="got 3"):
            trainer.evaluate(loader)
        with pytest.raises(ValueError, match="got 3"):
            trainer.fit((x, 0 * classes), epochs=1, validation=loader)
