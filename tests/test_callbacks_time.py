"""Timer and Profile: what a fit's time goes into, and a trace of chosen steps."""

import time

import jax
import numpy as np
import pytest

import neuron
from neuron.clock import STRETCHES
from neuron.data.feed import Chunked
from neuron.run import Run
from neuron.trainer import held_out


X = np.random.default_rng(3).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)


def trainer(*callbacks, features=2):
    model = neuron.Dense(features, key=jax.random.key(1))
    return neuron.Trainer(model, callbacks=callbacks, progress=False)


def loader():
    return neuron.DataLoader((X, Y), 10)


class Nap(neuron.Callback):
    def on_epoch_end(self, trainer, logs):
        time.sleep(0.05)


def test_a_timer_tells_of_all_that_a_fit_took():
    timer = neuron.Timer()
    timed = trainer(Nap(), timer)
    began = time.perf_counter()
    timed.fit(loader(), epochs=2, validation=(X, Y))
    whole = time.perf_counter() - began
    assert tuple(timer.seconds) == STRETCHES
    assert all(seconds >= 0 for seconds in timer.seconds.values())
    assert 0.1 <= timer.seconds["callbacks"] < sum(timer.seconds.values()) <= whole
    # It has ended with the fit.
    assert timer.seconds == timer.seconds


def test_compiling_is_told_apart_and_is_nothing_where_all_is_compiled():
    first, second = neuron.Timer(), neuron.Timer()
    # A width that no other test has.
    wide = np.ones((40, 23), np.float32)
    for timer in (first, second):
        trainer(timer, features=23).fit((wide, Y), epochs=2, validation=(wide, Y))
    assert first.seconds["compile"] > 0
    assert second.seconds["compile"] == 0
    assert second.seconds["steps"] > 0
    assert second.seconds["validation"] > 0


def test_waiting_for_data_is_input():
    def batches():
        for _ in range(3):
            time.sleep(0.1)
            yield X, Y

    timer = neuron.Timer()
    trainer(timer).fit(neuron.DataLoader(batches()), steps=3)
    # The rows before the first step are looked at to check them; the other two are waited for.
    assert timer.seconds["input"] > 0.1


def test_each_part_of_a_fit_has_its_stretch(monkeypatch):
    seen = []

    def watched(name, call):
        def watching(*arguments):
            seen.append((name, watching.trainer.clock._stretch))
            return call(*arguments)

        return watching

    class Look(neuron.Callback):
        def on_step_end(self, trainer, logs):
            seen.append(("hook", trainer.clock._stretch))

        on_fit_begin = lambda self, trainer: self.on_step_end(trainer, {})
        on_epoch_begin = on_fit_end = on_fit_begin
        on_epoch_end = on_validation_end = on_step_end

    watching = [
        watched("take", Run.take),
        watched("renew", Chunked.renew),
        watched("evaluate", held_out._scores),
    ]
    monkeypatch.setattr(Run, "take", watching[0])
    monkeypatch.setattr(Chunked, "renew", watching[1])
    monkeypatch.setattr(held_out, "_scores", watching[2])
    looked_at = trainer(Look())
    for each in watching:
        each.trainer = looked_at
    batches = ((X, Y) for _ in range(6))
    looked_at.fit(neuron.DataLoader(batches, steps_per_epoch=3), steps=6, validation=(X, Y))
    expected = {"hook": "callbacks", "take": "steps", "renew": "input", "evaluate": "validation"}
    assert set(seen) == set(expected.items())
    # Before the first step, and behind the first chunk.
    assert sum(name == "renew" for name, _ in seen) >= 2


def test_a_timer_is_of_the_last_fit_and_reads_during_it():
    seen = []

    class Look(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            seen.append(sum(timer.seconds.values()))

    timer = neuron.Timer()
    assert timer.seconds == dict.fromkeys(STRETCHES, 0.0)
    timed = trainer(Look(), timer)
    timed.fit(loader(), epochs=3)
    assert seen == sorted(seen)
    after = sum(timer.seconds.values())
    assert seen[-1] < after
    time.sleep(0.02)
    assert sum(timer.seconds.values()) == after
    timed.fit(loader(), steps=1)
    assert sum(timer.seconds.values()) != after


def test_a_timer_tells_of_a_fit_that_failed():
    class Raising(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            raise KeyError

    timer = neuron.Timer()
    with pytest.raises(KeyError):
        trainer(Raising(), timer).fit(loader(), epochs=2)
    before = timer.seconds
    time.sleep(0.01)
    assert timer.seconds == before
    assert before["steps"] > 0


def test_a_timer_prints_a_table():
    timer = neuron.Timer()
    assert str(timer).splitlines()[0] == "fit             0.000 s"
    trainer(timer).fit(loader(), epochs=1)
    lines = str(timer).splitlines()
    assert [line.split()[0] for line in lines] == ["fit", *STRETCHES]
    assert sum(float(line.split()[3]) for line in lines[1:]) == pytest.approx(100, abs=0.5)
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.fixture
def traces(monkeypatch):
    """A profiler that notes the step at which it is asked."""
    noted = []

    class Trace:
        def __init__(self, directory):
            self.directory = directory

        def __enter__(self):
            noted.append(("begin", Trace.trainer.step))

        def __exit__(self, *error):
            noted.append(("end", Trace.trainer.step))

    monkeypatch.setattr(jax.profiler, "trace", Trace)
    return lambda trainer: (setattr(Trace, "trainer", trainer), noted)[1]


@pytest.mark.parametrize(
    ("start", "steps", "of", "expected"),
    [
        (0, 5, 20, [("begin", 0), ("end", 5)]),
        (7, 3, 20, [("begin", 7), ("end", 10)]),
        (3, 100, 20, [("begin", 3), ("end", 20)]),
        (19, 1, 20, [("begin", 19), ("end", 20)]),
    ],
)
def test_a_profile_is_of_the_steps_that_were_asked_for(
    traces, tmp_path, start, steps, of, expected
):
    profiled = trainer(neuron.Profile(tmp_path, start=start, steps=steps))
    noted = traces(profiled)
    profiled.fit(loader(), steps=of)
    assert noted == expected
    # Once each fit, counted from its own first step.
    profiled.fit(loader(), steps=of)
    assert noted[2:] == [(name, step + of) for name, step in expected]


def test_a_profile_cuts_the_run_at_its_ends_alone(traces, tmp_path, monkeypatch):
    asked, take = [], Run.take
    monkeypatch.setattr(Run, "take", lambda run, steps: (asked.append(steps), take(run, steps))[1])
    monkeypatch.setattr("neuron.driving.Slices.steps", lambda slices: _started(slices))
    profiled = trainer(neuron.Profile(tmp_path, start=6, steps=4))
    traces(profiled)
    profiled.fit(loader(), steps=100)
    assert asked == [6, 4, 90]


def _started(slices):
    slices._started = 0.0
    return 10_000


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_fit_that_fails_ends_the_trace(traces, tmp_path, error):
    class Raising(neuron.Callback):
        every = 5

        def on_step_end(self, trainer, logs):
            raise error

    profiled = trainer(neuron.Profile(tmp_path, start=2, steps=50), Raising())
    noted = traces(profiled)
    with pytest.raises(error):
        profiled.fit(loader(), steps=20)
    assert noted == [("begin", 2), ("end", 5)]


def test_a_fit_that_is_too_short_says_so(traces, tmp_path):
    profiled = trainer(neuron.Profile(tmp_path, start=50))
    noted = traces(profiled)
    with pytest.warns(UserWarning, match=r"`Profile\(start=50\)` has traced nothing.*step 20"):
        profiled.fit(loader(), steps=20)
    assert noted == []


def test_jax_writes_a_trace_of_it(tmp_path):
    trainer(neuron.Profile(tmp_path / "new", steps=5)).fit(loader(), steps=10)
    (trace,) = (tmp_path / "new").rglob("*.xplane.pb")
    assert b"_run" in trace.read_bytes()


def test_two_profiles_at_once_are_refused_and_the_first_one_ends(tmp_path):
    pair = [neuron.Profile(tmp_path / name, start=1, steps=5) for name in "ab"]
    with pytest.raises(RuntimeError, match="Only one profile"):
        trainer(*pair).fit(loader(), steps=10)
    trainer(pair[0]).fit(loader(), steps=10)


ARGUMENTS = [
    ({"start": -1}, ValueError, r"`Profile\(start=...\)` must be at least 0; got -1"),
    ({"start": 0.5}, TypeError, r"`Profile\(start=...\)` must be a whole number; got 0.5"),
    ({"steps": 0}, ValueError, r"`Profile\(steps=...\)` must be at least 1; got 0"),
    ({"steps": "all"}, TypeError, r"`Profile\(steps=...\)` must be a whole number; got 'all'"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), ARGUMENTS)
@pytest.mark.usefixtures("unchecked")
def test_arguments_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        neuron.Profile("traces", **arguments)


def test_a_directory_that_can_not_be_made_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    refused = trainer(neuron.Profile(tmp_path / "file"))
    with pytest.raises(FileExistsError, match="file"):
        refused.fit(loader(), steps=10)
    assert refused.step == 0
