"""Runs that go on after they were ended: the same bits as a run that was never stopped."""

import contextlib
import datetime
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import line

import neuron
from neuron.slices import Pace


X, Y = line(103)
EPOCHS = 8


def model(seed=0):
    return eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(seed))


def trainer(*callbacks, net=None, **options):
    options = {"optimizer": neuron.Adam(1e-2), "progress": False} | options
    return neuron.Trainer(net or model(), callbacks=callbacks, **options)


def loader(**options):
    return neuron.DataLoader((X, Y), 20, sampler=neuron.Shuffle(3), **options)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def rows(history):
    # How long an epoch took is no part of what happened.
    return [{k: repr(v) for k, v in row.items() if k != "seconds"} for row in history.epochs]


def assert_same_run(one, other):
    assert bits(one.state) == bits(other.state)
    assert one.history.names == other.history.names
    for name in one.history.names:
        assert one.history[name].tobytes() == other.history[name].tobytes(), name
    assert rows(one.history) == rows(other.history)
    assert (one.step, one.epoch, one.stopped) == (other.step, other.epoch, other.stopped)


class Stop(Exception):
    pass


class StopAt(neuron.Callback):
    def __init__(self, step):
        self.every = self.step = step

    def on_step_end(self, trainer, logs):
        if trainer.step == self.step:
            raise Stop


def fit(directory, *callbacks, stop=None, data=None, total=None, checkpoint=None, **options):
    """A trainer after a fit that goes on from a directory, and is stopped at a step if it says so."""
    stops = [] if stop is None else [StopAt(stop)]
    checkpoint = checkpoint or {}
    run = trainer(*stops, *callbacks, neuron.Checkpoint(directory, **checkpoint), **options)
    total = total or {"epochs": EPOCHS}
    try:
        run.fit(
            loader() if data is None else data,
            validation=(X[:30], Y[:30]),
            resume_from=directory,
            **total,
        )
    except Stop:
        assert run.step == stop
    return run


def parts():
    return [
        neuron.EarlyStopping(patience=2, min_delta=0.05),
        neuron.ReduceLROnPlateau(patience=1, min_delta=1e3),
    ]


@pytest.mark.parametrize("every", [7, 1, "epoch", datetime.timedelta(microseconds=1)])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, every):
    options = {"metrics": {"r2": neuron.R2()}, "average": 0.9}
    whole = fit(tmp_path / "whole", *parts(), **options)
    for stop in (10, 11, 24):
        fit(tmp_path / "cut", *parts(), stop=stop, checkpoint={"every": every}, **options)
    resumed = fit(tmp_path / "cut", *parts(), checkpoint={"every": every}, **options)
    assert_same_run(resumed, whole)
    assert resumed.optimizer.numbers() == whole.optimizer.numbers()
    assert resumed.optimizer.numbers()["learning_rate"] < 1e-2


def test_a_stop_by_patience_is_the_same(tmp_path):
    stopping = lambda: neuron.EarlyStopping(patience=2, min_delta=1.0)
    plain = trainer(stopping())
    plain.fit(loader(), epochs=50, validation=(X[:30], Y[:30]))
    assert plain.stopped
    assert plain.epoch < 50
    whole = fit(tmp_path / "a", stopping(), total={"epochs": 50})
    cut = tmp_path / "b"
    for stop in (7, 19, plain.step - 1):
        fit(cut, stopping(), stop=stop, total={"epochs": 50})
    resumed = fit(cut, stopping(), total={"epochs": 50})
    assert_same_run(whole, plain)
    assert_same_run(resumed, plain)
    # The run is over, whoever asks again; its end is in the directory whichever callback is first.
    again = trainer(neuron.Checkpoint(cut), stopping())
    again.fit(loader(), epochs=50, validation=(X[:30], Y[:30]), resume_from=cut)
    assert_same_run(again, plain)


def test_the_last_epoch_is_ended_before_its_checkpoint_is_written(tmp_path):
    # Step 18 is the end of epoch 3: whoever resumes there has its validation already.
    fit(tmp_path, *parts(), stop=24, checkpoint={"every": 18})
    resumed = fit(tmp_path, *parts())
    assert_same_run(resumed, fit(tmp_path / "whole", *parts()))


@pytest.mark.parametrize("validation", [1, 3, "last"])
@pytest.mark.parametrize("every", [1, 7, "epoch"])
def test_a_validation_that_is_interrupted_is_made_again(tmp_path, monkeypatch, validation, every):
    """Its checkpoint is of the epoch's last step, and the end of the epoch is still to come."""
    made = itertools.count(1)

    class Signals(Pace):
        def __call__(self, number, wait):
            if next(made) == validation:
                signal.raise_signal(signal.SIGTERM)
            yield from super().__call__(number, wait)

    options = {"metrics": {"r2": neuron.R2()}, "average": 0.9}
    whole = fit(tmp_path / "whole", *parts(), **options)
    validation = whole.epoch if validation == "last" else validation
    monkeypatch.setattr(neuron.driving, "Pace", Signals)
    with pytest.raises(neuron.Terminated):
        fit(tmp_path / "cut", *parts(), checkpoint={"every": every}, **options)
    assert (tmp_path / "cut" / f"step-{6 * validation:012}.safetensors").exists()
    resumed = fit(tmp_path / "cut", *parts(), checkpoint={"every": every}, **options)
    assert next(made) == whole.epoch + 2
    assert_same_run(resumed, whole)
    assert resumed.optimizer.numbers() == whole.optimizer.numbers()


def test_a_run_that_failed_goes_on_with_a_trainer_that_tells_why(tmp_path):
    y = Y.copy()
    y[40] = 3e38
    data = lambda: neuron.DataLoader((X, y), 20, sampler=neuron.Sequential())
    squared = {"loss": neuron.MeanSquaredError()}
    with pytest.raises(neuron.NonFiniteLossError):
        fit(tmp_path, data=data(), checkpoint={"every": 1}, **squared)
    with pytest.raises(neuron.NonFiniteLossError) as caught:
        fit(tmp_path, data=data(), nonfinite="locate", **squared)
    assert caught.value.step == 2
    assert caught.value.where.operation


def test_layers_with_state_and_keys(tmp_path):
    def net():
        class Net(eqx.Module):
            norm: eqx.nn.BatchNorm
            drop: eqx.nn.Dropout
            out: eqx.nn.Linear

            def __call__(self, x, state, *, key):
                x, state = self.norm(x, state)
                return self.out(self.drop(x, key=key)), state

        key = jax.random.key(0)
        return eqx.nn.make_with_state(Net)(
            eqx.nn.BatchNorm(2, axis_name="batch", mode="batch"),
            eqx.nn.Dropout(0.4),
            eqx.nn.Linear(2, "scalar", key=key),
        )

    def run(directory, stop=None):
        made, state = net()
        return fit(directory, stop=stop, net=made, model_state=state)

    run(tmp_path / "cut", stop=13)
    assert_same_run(run(tmp_path / "cut"), run(tmp_path / "whole"))


@pytest.mark.parametrize("running_on", [False, True])
def test_streams_go_on_where_they_were(tmp_path, running_on):
    read: list[tuple[int, int]] = []

    class Noise(neuron.Stream):
        def batches(self, epoch):
            return self.batches_from(epoch, 0)

        def batches_from(self, epoch, first):
            for batch in range(first, 5):
                read.append((epoch, batch))
                rng = np.random.default_rng([epoch, batch])
                yield rng.random((8, 2), np.float32), rng.random(8, np.float32)

    data = lambda: neuron.DataLoader(Noise(), steps_per_epoch=3 if running_on else None)
    whole = fit(tmp_path / "whole", data=data())
    fit(tmp_path / "cut", data=data(), stop=8, checkpoint={"every": 7})
    read.clear()
    resumed = fit(tmp_path / "cut", data=data())
    assert_same_run(resumed, whole)
    # Beside the first batch, which says what a batch is, nothing is read twice.
    after = [(epoch, batch) for epoch in range(1, 20) for batch in range(5)][2:]
    assert sorted(read[1:]) == after[: len(read) - 1]


def test_an_iterator_with_a_place_of_its_own_is_told_it(tmp_path):
    moved: list[int] = []

    class Places:
        """An iterator as grain has them."""

        def __init__(self):
            self.at = 0

        def __iter__(self):
            return self

        def __next__(self):
            if self.at == 200:
                raise StopIteration
            rng = np.random.default_rng(self.at)
            self.at += 1
            return rng.random((4, 2), np.float32), rng.random(4, np.float32)

        def get_state(self):
            return {"at": self.at}

        def set_state(self, state):
            moved.append(state["at"])
            self.at = state["at"]

    class Data:
        def __iter__(self):
            return Places()

    data = lambda: neuron.DataLoader(Data())
    whole = fit(tmp_path / "whole", data=data(), total={"steps": 180})
    fit(tmp_path / "cut", data=data(), stop=150, total={"steps": 180}, checkpoint={"every": 140})
    resumed = fit(tmp_path / "cut", data=data(), total={"steps": 180})
    assert_same_run(resumed, whole)
    assert moved == [128]


def test_grain_goes_on_where_it_was(tmp_path):
    grain = pytest.importorskip("grain", reason="grain is not installed")
    made: list[int] = []

    def noted(row):
        made.append(row)
        return X[row], Y[row]

    def data():
        rows = grain.MapDataset.source(list(range(103))).shuffle(seed=5).repeat(60)
        return neuron.DataLoader(rows.map(noted).to_iter_dataset().batch(32))

    whole = fit(tmp_path / "whole", data=data(), total={"steps": 150})
    fit(tmp_path / "cut", data=data(), stop=140, total={"steps": 150}, checkpoint={"every": 130})
    made.clear()
    assert_same_run(fit(tmp_path / "cut", data=data(), total={"steps": 150}), whole)
    # From the last mark on, and what grain reads ahead; not the 130 batches before.
    assert 0 < len(made) < 130 * 32


def test_a_generator_can_not_be_gone_on_with(tmp_path):
    batches = lambda: ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 80, 8))
    run = trainer(neuron.Checkpoint(tmp_path, every=2))
    run.fit(neuron.DataLoader(batches()), steps=4, resume_from=tmp_path)
    with pytest.raises(ValueError, match=r"fit\(resume_from=\.\.\.\)` goes on in the middle"):
        trainer().fit(neuron.DataLoader(batches()), steps=8, resume_from=tmp_path)


def test_epochs_and_steps_are_totals(tmp_path):
    first = fit(tmp_path, total={"epochs": 2})
    assert (first.step, first.epoch) == (12, 2)
    assert fit(tmp_path, total={"epochs": 2}).step == 12
    assert fit(tmp_path, total={"steps": 20}).step == 20
    assert fit(tmp_path, total={"steps": 15}).step == 20
    again = fit(tmp_path, total={"epochs": 5})
    assert (again.step, again.epoch) == (30, 5)
    assert_same_run(again, fit(tmp_path / "whole", total={"epochs": 5}))


def test_the_same_trainer_goes_on(tmp_path):
    run = trainer(neuron.Checkpoint(tmp_path), *parts())
    run.fit(loader(), epochs=3, resume_from=tmp_path, validation=(X[:30], Y[:30]))
    run.fit(loader(), epochs=5, resume_from=tmp_path, validation=(X[:30], Y[:30]))
    assert run.epoch == 5


def test_a_script_of_several_fits(tmp_path):
    def script(stop=None):
        run = trainer(*([StopAt(stop)] if stop else []), neuron.Checkpoint(tmp_path, every=5),
                      trainable="layers.0.*")  # fmt: skip
        run.fit(loader(), epochs=2, resume_from=tmp_path)
        run.train_only(None)
        run.fit(loader(), epochs=4, resume_from=tmp_path)
        return run

    def plain():
        run = trainer(trainable="layers.0.*")
        run.fit(loader(), epochs=2)
        run.train_only(None)
        run.fit(loader(), epochs=2)
        return run

    for stop in (8, 21):
        with pytest.raises(Stop):
            script(stop)
    assert_same_run(script(), plain())
    assert_same_run(script(), plain())


def test_ctrl_c_writes_a_last_checkpoint(tmp_path):
    class Interrupt(neuron.Callback):
        every = 10

        def on_step_end(self, trainer, logs):
            if trainer.step == 10:
                signal.raise_signal(signal.SIGINT)

    run = trainer(Interrupt(), neuron.Checkpoint(tmp_path, every=1000))
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader(), epochs=EPOCHS, validation=(X[:30], Y[:30]), resume_from=tmp_path)
    assert [p.name for p in tmp_path.glob("step*")] == ["step-000000000010.safetensors"]
    assert_same_run(fit(tmp_path), fit(tmp_path / "whole"))


def test_no_checkpoint_is_written_in_the_middle_of_the_hooks(tmp_path):
    fit(tmp_path, stop=10, checkpoint={"every": 1000})
    assert not list(tmp_path.glob("step*"))


def test_save_and_restore(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = trainer(average=0.9, metrics={"r2": neuron.R2()})
    whole.fit(loader(), steps=10)
    whole.set(learning_rate=0.05)
    whole.save(path)
    whole.fit(loader(), steps=15)
    other = trainer(net=model(5), average=0.9, metrics={"r2": neuron.R2()})
    other.restore(path)
    assert other.step == 10
    assert other.optimizer.numbers()["learning_rate"] == 0.05
    assert len(other.history) == 10
    other.fit(loader(), steps=15)
    assert_same_run(other, whole)
    loaded = neuron.load(path, like=model(7))
    other.restore(path)
    assert bits(loaded) == bits(other.model)


def test_restore_takes_the_newest_of_a_directory(tmp_path):
    run = fit(tmp_path, total={"epochs": 3}, checkpoint={"monitor": "val_loss", "keep": 2})
    assert len(list(tmp_path.glob("step*"))) == 2
    other = trainer()
    other.restore(tmp_path)
    assert bits(other.state) == bits(run.state)
    other.restore(tmp_path / "best.safetensors")
    best = min(run.history.epochs, key=lambda row: row["val_loss"])
    assert other.step == best["step"]
    assert other.evaluate((X[:30], Y[:30]))["loss"] == best["val_loss"]


def test_the_newest_is_the_highest_step_that_is_whole(tmp_path):
    whole = fit(tmp_path, total={"steps": 30}, checkpoint={"every": 10})
    names = [f"step-{step:012d}.safetensors" for step in (10, 20, 30)]
    os.utime(tmp_path / names[0])
    content = (tmp_path / names[2]).read_bytes()
    (tmp_path / names[2]).write_bytes(content[:-1])
    (tmp_path / "step-000000000040.safetensors").write_bytes(content[:500])
    (tmp_path / "step-x.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="was skipped") as caught:
        resumed = fit(tmp_path, total={"steps": 30})
    texts = [str(warning.message) for warning in caught]
    assert names[2] in "".join(texts)
    assert "000040" in "".join(texts)
    assert_same_run(resumed, whole)


def test_a_directory_of_a_later_run_is_refused(tmp_path):
    fit(tmp_path, total={"steps": 30})
    with pytest.raises(neuron.CheckpointError, match=r"step 30, and this run stands at step 0"):
        trainer(neuron.Checkpoint(tmp_path)).fit(loader(), epochs=1)


def test_leftovers_are_cleaned_up(tmp_path):
    (tmp_path / ".step-000000000010.safetensors.77.tmp").write_bytes(b"half")
    fit(tmp_path, total={"steps": 10}, checkpoint={"every": 10})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "step-000000000010.safetensors"]


def test_two_fits_of_one_directory(tmp_path):
    class Nested(neuron.Callback):
        def on_fit_begin(self, run):
            with pytest.raises(neuron.CheckpointError, match="in use by another fit"):
                trainer(neuron.Checkpoint(tmp_path)).fit(loader(), steps=1)

    trainer(neuron.Checkpoint(tmp_path), Nested()).fit(loader(), steps=1)
    # And it is free again.
    fit(tmp_path, total={"steps": 2})


def test_two_processes_of_one_directory(tmp_path):
    program = f"""
import sys, time, pathlib
from neuron.checkpoint import Directory
with Directory({str(tmp_path)!r}).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(neuron.CheckpointError, match="in use by another process"):
            fit(tmp_path, total={"steps": 2})
        holder.kill()
    fit(tmp_path, total={"steps": 2})


def test_a_save_that_fails_is_not_silent(tmp_path, monkeypatch):
    import neuron.checkpoint.files as files

    whole = fit(tmp_path / "whole", total={"steps": 30})
    full = OSError(28, "No space left on device")

    def no_space(file, content):
        raise full

    fit(tmp_path / "full", total={"steps": 10})
    before = sorted(p.name for p in (tmp_path / "full").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", no_space)
        with pytest.raises(neuron.CheckpointError, match="No space left"):
            fit(tmp_path / "full", total={"steps": 30}, checkpoint={"every": 5})
        with pytest.warns(UserWarning, match="No space left"):
            warned = fit(
                tmp_path / "full",
                total={"steps": 30},
                checkpoint={"every": 5, "on_save_error": "warn"},
            )
    assert_same_run(warned, whole)
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == before
    assert_same_run(fit(tmp_path / "full", total={"steps": 30}), whole)


def test_what_nobody_takes_is_warned_about(tmp_path):
    fit(tmp_path, *parts(), total={"epochs": 2})
    with pytest.warns(UserWarning, match="what a ReduceLROnPlateau remembered"):
        fit(tmp_path, parts()[0], total={"epochs": 3})


def test_skipped_steps_are_counted_on(tmp_path):
    class Sometimes(eqx.Module):
        """A model with an output that is not finite for some rows."""

        weight: jax.Array

        def __call__(self, x):
            return jnp.log(x[0] + 1.5) * self.weight

    def run(directory, stop=None):
        return fit(directory, net=Sometimes(jnp.ones(())), stop=stop, nonfinite="skip",
                   checkpoint={"every": 3}, total={"steps": 30})  # fmt: skip

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", stop=14)
    resumed = run(tmp_path / "cut")
    assert 0 < whole.history["skipped"].sum() < 30
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("kind", [neuron.CSVLogger, neuron.JSONLLogger])
def test_a_log_of_a_resumed_run_is_that_of_one_never_stopped(tmp_path, kind):
    def run(name, stop=None):
        return fit(tmp_path / name, kind(tmp_path / f"{name}.log", every=5), stop=stop,
                   checkpoint={"every": 7})  # fmt: skip

    run("whole")
    # Behind step 21 there are lines that the checkpoint knows nothing of.
    run("cut", stop=26)
    before = (tmp_path / "cut.log").read_bytes()
    run("cut")
    after = (tmp_path / "cut.log").read_bytes()
    assert after == (tmp_path / "whole.log").read_bytes()
    assert len(before) < len(after)


def test_two_callbacks_of_a_kind_keep_apart(tmp_path):
    class Counter(neuron.Callback):
        def __init__(self, add):
            self.add, self.total = add, 0

        def on_epoch_end(self, trainer, logs):
            self.total += self.add

        def state_dict(self):
            return {"total": self.total, "as_array": np.array([self.total])}

        def load_state_dict(self, trainer, state):
            self.total = state["total"]
            assert state["as_array"].tolist() == [self.total]

    fit(tmp_path, Counter(1), Counter(10), total={"epochs": 2})
    one, ten = Counter(1), Counter(10)
    fit(tmp_path, one, ten, total={"epochs": 3})
    assert (one.total, ten.total) == (3, 30)


def test_a_metric_that_is_an_array_comes_back(tmp_path):
    def run(directory, stop=None):
        classes = (Y > 5).astype(np.int32)
        net = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))
        checkpoint = neuron.Checkpoint(directory, every=4)
        stops = [StopAt(stop)] if stop else []
        made = neuron.Trainer(net, neuron.CrossEntropy(), metrics={"c": neuron.ConfusionMatrix()},
                              callbacks=[*stops, checkpoint], progress=False)  # fmt: skip
        with contextlib.suppress(Stop):
            made.fit(neuron.DataLoader((X, classes), 20), epochs=3, resume_from=directory)
        return made

    run(tmp_path / "cut", stop=8)
    one, other = run(tmp_path / "cut"), run(tmp_path / "whole")
    assert_same_run(one, other)
    assert one.history.epochs[-1]["c"].dtype == other.history.epochs[-1]["c"].dtype


def test_the_file_tells_what_it_is(tmp_path):
    run = fit(tmp_path, total={"steps": 6}, seed=3)
    import safetensors

    with safetensors.safe_open(tmp_path / "step-000000000006.safetensors", "np") as file:
        facts = json.loads(file.metadata()["neuron"])
        assert {"state.params.layers[0].weight", "history.steps.loss"} <= set(file.keys())
    assert facts["step"] == 6
    assert facts["seed"] == 3
    assert facts["configuration"]["seed"]
    assert len(facts["digest"]) == 64
    assert run.history["loss"].shape == (6,)


OTHERS = {
    "loss": {"loss": neuron.Huber(1.0)},
    "optimizer": {"optimizer": neuron.Adam(2e-2)},
    "seed": {"seed": 1},
    "nonfinite": {"nonfinite": "skip"},
    "sampler": {"data": neuron.DataLoader((X, Y), 20, sampler=neuron.Shuffle(4))},
    "data": {"data": neuron.DataLoader((X, Y), 10, sampler=neuron.Shuffle(3))},
}


@pytest.mark.parametrize("part", OTHERS)
def test_another_part_is_another_run(tmp_path, part):
    fit(tmp_path, total={"steps": 6})
    with pytest.raises(neuron.CheckpointError, match=rf"of a run with another {part}: it had"):
        fit(tmp_path, **OTHERS[part])
    if part != "data":
        options = {k: v for k, v in OTHERS[part].items() if k != "data"}
        trainer(**options).restore(tmp_path)


REFUSED = {
    "no path": (lambda d: trainer().fit(loader(), resume_from=3), TypeError, "directory; got 3"),
    "a file": (
        lambda d: trainer().fit(loader(), resume_from=d / "step-000000000006.safetensors"),
        neuron.CheckpointError,
        "must be a directory",
    ),
    "another model": (
        lambda d: trainer(net=eqx.nn.MLP(2, "scalar", 5, 1, key=jax.random.key(0))).restore(d),
        neuron.CheckpointError,
        r"`state.params.layers\[0\].weight` has shape \(5, 2\) here, \(4, 2\) there",
    ),
    "another optimizer": (
        lambda d: trainer(optimizer=neuron.SGD(0.1)).restore(d),
        neuron.CheckpointError,
        "is in the file alone",
    ),
    "no average": (
        lambda d: trainer(average=0.5).restore(d),
        neuron.CheckpointError,
        "`state.average.weight` is missing",
    ),
    "an empty directory": (
        lambda d: trainer().restore(d / "empty"),
        neuron.CheckpointError,
        "there is none in",
    ),
    "nothing": (lambda d: trainer().restore(d / "x"), neuron.CheckpointError, "No such file"),
    "a model's file": (
        lambda d: trainer().restore(d / "model"),
        neuron.CheckpointError,
        "holds a model alone",
    ),
    "directory": (lambda d: neuron.Checkpoint(3), TypeError, "must be a path; got 3"),
    "every: text": (lambda d: neuron.Checkpoint(d, "step"), TypeError, "got 'step'"),
    "every: seconds": (lambda d: neuron.Checkpoint(d, 60.0), TypeError, "timedelta; got 60.0"),
    "every: none": (lambda d: neuron.Checkpoint(d, 0), ValueError, r"every=\.\.\."),
    "every: no time": (
        lambda d: neuron.Checkpoint(d, datetime.timedelta(0)),
        ValueError,
        "must be some time",
    ),
    "keep": (lambda d: neuron.Checkpoint(d, keep=0), ValueError, "keep"),
    "mode": (lambda d: neuron.Checkpoint(d, mode="low"), ValueError, "'min' or 'max'"),
    "error": (lambda d: neuron.Checkpoint(d, on_save_error="x"), ValueError, "'raise' or 'warn'"),
    "monitor": (
        lambda d: trainer(neuron.Checkpoint(d / "m", monitor="x")).fit(loader(), epochs=1),
        ValueError,
        "must name a value of the epoch",
    ),
    "no directory": (
        lambda d: trainer(neuron.Checkpoint(d / "model" / "x")).fit(loader(), epochs=1),
        neuron.CheckpointError,
        "could not be made",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path, case):
    fit(tmp_path, total={"steps": 6})
    (tmp_path / "empty").mkdir()
    neuron.save(tmp_path / "model", model())
    call, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        call(tmp_path)


def test_restore_leaves_the_trainer_alone_where_it_fails(tmp_path):
    fit(tmp_path, total={"steps": 6})
    other = trainer(optimizer=neuron.SGD(0.1))
    other.fit(loader(), steps=3)
    before = bits(other.state), other.history["loss"].tobytes()
    with pytest.raises(neuron.CheckpointError):
        other.restore(tmp_path)
    assert (bits(other.state), other.history["loss"].tobytes()) == before
    assert other.step == 3


def test_checkpoints_do_not_cut_the_run(tmp_path):
    looks: list[int] = []

    class Watch(neuron.Callback):
        every = None

        def on_step_end(self, trainer, logs):
            looks.append(trainer.step)

    trainer(Watch(), neuron.Checkpoint(tmp_path, every=600)).fit(loader(), epochs=200)
    assert {600, 1200} <= set(looks)
    assert len(looks) < 12


def test_double_precision(tmp_path, x64):
    def run(directory, stop=None):
        net = neuron.Dense(2, key=jax.random.key(0), dtype=jnp.float64)
        return fit(directory, net=net, stop=stop, data=neuron.DataLoader((X.astype(float), Y), 20))

    run(tmp_path / "cut", stop=13)
    assert_same_run(run(tmp_path / "cut"), run(tmp_path / "whole"))


def test_a_killed_process_goes_on(tmp_path):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import neuron, test_resume

class Kill(neuron.Callback):
    every = 17

    def on_step_end(self, trainer, logs):
        if trainer.step == 17:
            os.kill(os.getpid(), signal.SIGKILL)

test_resume.fit({str(tmp_path / "cut")!r}, Kill(), *test_resume.parts(), checkpoint={{"every": 5}})
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL
    resumed = fit(tmp_path / "cut", *parts())
    assert_same_run(resumed, fit(tmp_path / "whole", *parts()))
