"""Interrupts: Ctrl-C and SIGTERM end a fit where the run is whole, and leave everything as it was."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import neuron
from neuron import interrupts as room
from neuron.interrupts import Interrupts


X = np.random.default_rng(4).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)
SIGNALS = [signal.SIGINT, signal.SIGTERM]
ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: neuron.Terminated}
each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def pythons_own_handlers():
    """Whatever started the tests may have them ignore Ctrl-C, as `nohup` and `&` do."""
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield
    now = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert now == own


@pytest.fixture
def handled_by():
    """Sets handlers for one test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield lambda number, handler: signal.signal(number, handler)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def no_delay(monkeypatch):
    """A second signal is one however soon it comes."""
    monkeypatch.setattr(room, "_SAME", -1)


def trainer(*callbacks, **options):
    model = neuron.Dense(2, key=jax.random.key(1))
    options = {"optimizer": neuron.SGD(0.01), "progress": False} | options
    return neuron.Trainer(model, callbacks=callbacks, **options)


class Press(neuron.Callback):
    """Has a signal come at some hook, and notes what hears of it."""

    every = 7

    def __init__(self, number, hook="on_step_end", step=14):
        self.number, self.hook, self.step, self.heard = number, hook, step, []

    def _at(self, hook, trainer):
        self.heard.append(hook)
        if hook == self.hook and trainer.step == self.step:
            signal.raise_signal(self.number)

    def on_step_end(self, trainer, logs):
        self._at("on_step_end", trainer)

    def on_epoch_begin(self, trainer):
        self._at("on_epoch_begin", trainer)

    def on_epoch_end(self, trainer, logs):
        self._at("on_epoch_end", trainer)

    def on_exception(self, trainer, error):
        self.heard.append(type(error))

    def on_fit_end(self, trainer):
        self._at("on_fit_end", trainer)


def ends(number, one, *args, **options):
    """Fits until the signal ends it."""
    before = signal.getsignal(number)
    with pytest.raises(ENDS[number]):
        one.fit(*args, **options)
    assert signal.getsignal(number) is before


@each_signal
def test_a_signal_leaves_a_whole_trainer(number):
    press = Press(number)
    one = trainer(press)
    loader = neuron.DataLoader((X, Y), 8)
    ends(number, one, loader, steps=1000)
    assert press.heard[-2:] == [ENDS[number], "on_fit_end"]
    assert one.step == len(one.history) == 14
    one.fit(loader, steps=6)
    whole = trainer()
    whole.fit(loader, steps=20)
    np.testing.assert_array_equal(one.model.weight, whole.model.weight)
    np.testing.assert_array_equal(one.history["loss"], whole.history["loss"])


@each_signal
def test_a_signal_from_another_thread_of_the_system(number):
    """As a terminal sends it, while the program runs."""
    one = trainer()
    loader = neuron.DataLoader((X, Y), 8)
    one.fit(loader, steps=1)
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident, number))
    timer.start()
    ends(number, one, loader, steps=10**7)
    timer.join()
    assert one.step == len(one.history) > 1
    assert np.isfinite(one.model.weight).all()


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
@each_signal
def test_all_hooks_of_a_look_are_called_first(hook, number):
    press, after = Press(number, hook, step=5), Press(number, step=-1)
    one = trainer(press, after)
    ends(number, one, neuron.DataLoader((X, Y), 8), epochs=3)
    # A signal before the first step of an epoch waits for a slice, which a look cuts here.
    assert one.step == {"on_epoch_begin": 7, "on_epoch_end": 5}[hook]
    assert press.heard == after.heard


@each_signal
def test_a_signal_counts_more_than_a_stop(number):
    class StopToo(neuron.Callback):
        def on_step_end(self, trainer, logs):
            signal.raise_signal(number)
            trainer.stop("Enough.")

    one = trainer(StopToo())
    ends(number, one, (X, Y), steps=10)
    assert (one.step, one.stopped) == (1, "Enough.")


@pytest.mark.parametrize("hook", ["on_step_end", "on_fit_end"])
@each_signal
def test_a_signal_at_the_very_end_is_not_lost(hook, number):
    one = trainer(Press(number, hook, step=14))
    ends(number, one, (X, Y), steps=14)
    assert one.step == 14


@each_signal
def test_a_signal_counts_more_than_an_error(number):
    class Fail(neuron.Callback):
        def on_step_end(self, trainer, logs):
            signal.raise_signal(number)
            raise RuntimeError("of the user's own")

    with pytest.raises(ENDS[number]) as caught:
        trainer(Fail()).fit((X, Y), steps=10)
    assert isinstance(caught.value.__context__, RuntimeError)


@each_signal
def test_a_second_one_ends_a_hook_at_once(number):
    class Long(neuron.Callback):
        reached = 0

        def on_step_end(self, trainer, logs):
            signal.raise_signal(number)
            time.sleep(2 * room._SAME)
            self.reached = 1
            signal.raise_signal(number)
            self.reached = 2

    long = Long()
    ends(number, trainer(long), (X, Y), steps=10)
    assert long.reached == 1


def test_a_second_one_ends_the_hooks_of_an_end_at_once(no_delay):
    class Long(neuron.Callback):
        reached = 0

        def on_step_end(self, trainer, logs):
            signal.raise_signal(signal.SIGINT)

        def on_exception(self, trainer, error):
            self.reached = 1
            signal.raise_signal(signal.SIGTERM)
            self.reached = 2

    long = Long()
    ends(signal.SIGTERM, trainer(long), (X, Y), steps=10)
    assert long.reached == 1


def test_what_arrives_twice_at_once_is_one():
    """`timeout` and `srun` send a signal to the process and to its group."""

    class Twice(neuron.Callback):
        def on_step_end(self, trainer, logs):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            self.reached = trainer.step

    twice = Twice()
    ends(signal.SIGTERM, trainer(twice), (X, Y), steps=10)
    assert twice.reached == 1


def test_of_two_that_come_at_once_the_one_that_ends_the_process_counts():
    class Both(neuron.Callback):
        def on_step_end(self, trainer, logs):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    ends(signal.SIGTERM, trainer(Both()), (X, Y), steps=10)


@each_signal
def test_a_function_of_the_users_own_is_called_where_the_run_is_whole(handled_by, number):
    one, calls = None, []

    class Hook(neuron.Callback):
        def on_step_end(self, trainer, logs):
            if trainer.step in (3, 6):
                signal.raise_signal(number)
                calls.append("end of hook")

    def own(received, frame):
        calls.append((received, one.step, len(one.history)))
        if one.step == 6:
            one.stop("Preempted.")

    handled_by(number, own)
    one = trainer(Hook())
    one.fit((X, Y), steps=10)
    assert calls == ["end of hook", (number, 3, 3), "end of hook", (number, 6, 6)]
    assert (one.step, one.stopped) == (6, "Preempted.")
    assert signal.getsignal(number) is own


@each_signal
def test_what_it_raises_ends_the_fit(handled_by, number):
    def own(received, frame):
        raise SystemExit(85)

    handled_by(number, own)
    one = trainer(Press(number))
    with pytest.raises(SystemExit) as caught:
        one.fit((X, Y), steps=100)
    assert (caught.value.code, one.step) == (85, 14)


@each_signal
def test_a_second_one_goes_to_it_at_once(handled_by, no_delay, number):
    pressed = []
    handled_by(number, lambda received, frame: pressed.append(received))
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        assert pressed == []
        signal.raise_signal(number)
        assert pressed == [number]
        interrupts.check()
        assert pressed == [number] * 2
        signal.raise_signal(number)
        assert pressed == [number] * 2
    assert pressed == [number] * 3
    signal.raise_signal(number)
    assert pressed == [number] * 4


@each_signal
def test_what_is_ignored_stays_ignored(handled_by, number):
    handled_by(number, signal.SIG_IGN)
    one = trainer(Press(number))
    one.fit((X, Y), steps=20)
    assert one.step == 20
    assert signal.getsignal(number) is signal.SIG_IGN


@each_signal
def test_what_the_system_does_by_default_is_waited_for_as_well(handled_by, number):
    handled_by(number, signal.SIG_DFL)
    one = trainer(Press(number))
    ends(number, one, (X, Y), steps=20)
    assert one.step == 14


@each_signal
def test_handlers_that_are_not_pythons_are_left_alone(monkeypatch, number):
    changed = []
    monkeypatch.setattr(room.signal, "getsignal", lambda number: None)
    monkeypatch.setattr(room.signal, "signal", lambda *call: changed.append(call))
    with Interrupts() as interrupts:
        interrupts.check()
    assert changed == []


def test_a_handler_that_a_hook_sets_stays(handled_by):
    own = lambda number, frame: None

    class Set(neuron.Callback):
        def on_fit_begin(self, trainer):
            signal.signal(signal.SIGTERM, own)

    trainer(Set()).fit((X, Y), steps=2)
    assert signal.getsignal(signal.SIGTERM) is own


@each_signal
def test_handlers_are_put_back_however_a_fit_ends(number):
    class Fail(neuron.Callback):
        def on_step_end(self, trainer, logs):
            assert isinstance(signal.getsignal(number), Interrupts)
            raise RuntimeError

    before = signal.getsignal(number)
    with pytest.raises(RuntimeError):
        trainer(Fail()).fit((X, Y), steps=3)
    assert signal.getsignal(number) == before
    with pytest.raises(neuron.NonFiniteLossError):
        trainer().fit((np.float32(1e30) * X, Y), steps=3)
    assert signal.getsignal(number) == before


def test_nothing_is_touched_off_the_main_thread():
    handlers = []

    def fit():
        class Note(neuron.Callback):
            def on_step_end(self, trainer, logs):
                handlers.append([signal.getsignal(number) for number in SIGNALS])

        trainer(Note()).fit((X, Y), steps=1)

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert handlers == [before]


@each_signal
def test_a_fit_inside_a_fit_ends_both(number):
    class Inner(neuron.Callback):
        def on_step_end(self, trainer, logs):
            self.inner = globals()["trainer"](Press(number))
            self.inner.fit((X, Y), steps=100)

    inner = Inner()
    outer = trainer(inner)
    ends(number, outer, (X, Y), steps=100)
    assert (inner.inner.step, outer.step) == (14, 1)


class Noting(neuron.Loss):
    """The squared error, with a word to the host for each row."""

    note: object = None

    def __call__(self, prediction, target):
        jax.debug.callback(self.note, prediction)
        return (prediction - target) ** 2


@each_signal
def test_a_long_validation_is_left_and_made_again(monkeypatch, number):
    """A block has eight batches here, and a piece one of them: a single one comes after the signal."""
    monkeypatch.setattr("neuron.slices._within", lambda steps: 1)
    rows = itertools.count(1)

    def note(prediction):
        if armed and next(rows) == 20:
            os.kill(os.getpid(), number)

    armed = []
    hooks = Press(number, step=-1)
    held_out = neuron.DataLoader((X, Y), 5)
    loader = neuron.DataLoader((X, Y), 8)

    class Arm(neuron.Callback):
        every = 5

        def on_step_end(self, trainer, logs):
            if trainer.step == 5 and not armed:
                jax.effects_barrier()
                armed.append(True)

    one = trainer(Arm(), hooks, loss=Noting(note))
    ends(number, one, loader, epochs=3, validation=held_out)
    # 20 rows are 4 batches; the next one is begun before the host hears of it, at the most.
    assert 20 < next(rows) <= 41
    assert one.step == 5
    assert "on_epoch_end" not in hooks.heard
    assert "val_loss" not in one.history.epochs[-1]
    one.fit(loader, epochs=2, validation=held_out)

    whole = trainer(loss=Noting(lambda prediction: None))
    whole.fit(loader, epochs=3, validation=held_out)
    for name in ("epoch", "step", "loss", "val_loss"):
        assert [row[name] for row in one.history.epochs] == [
            row[name] for row in whole.history.epochs
        ]
    np.testing.assert_array_equal(one.model.weight, whole.model.weight)
    assert hooks.heard.count("on_epoch_end") == 3


def test_pieces_of_an_evaluation_give_the_same_bits(monkeypatch):
    one = trainer(metrics={"r2": neuron.R2(), "mae": neuron.MeanAbsoluteError()})
    expected = one.evaluate(neuron.DataLoader((X, Y), 3))
    monkeypatch.setattr("neuron.slices._within", lambda steps: 2)
    one.fit(neuron.DataLoader((X, Y), 8), steps=0)
    logs = []

    class Note(neuron.Callback):
        def on_validation_end(self, trainer, found):
            logs.append(found)

    frozen = trainer(Note(), optimizer=neuron.SGD(0.0), metrics=one._parts.scoring.metrics)
    frozen.fit(neuron.DataLoader((X, Y), 8), epochs=1, validation=neuron.DataLoader((X, Y), 3))
    assert logs == [{f"val_{name}": value for name, value in expected.items()}]


SCRIPT = """
import signal, sys, time
import numpy as np, jax
import neuron

# Whatever started the tests may have them ignore Ctrl-C, as `nohup` and `&` do.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Ready(neuron.Callback):
    every = None
    def on_step_end(self, trainer, logs):
        if not self.__dict__.setdefault("told", False):
            self.told = True
            print("ready", flush=True)
    def on_exception(self, trainer, error):
        print(f"final {trainer.step == len(trainer.history)}", flush=True)

def slow():
    for k in range(10**6):
        if where == "waiting" and k == 20:
            print("waiting", flush=True)
            time.sleep(600)
        yield x, y

def slow_rows(rows):
    if where == "reading validation":
        print("waiting", flush=True)
        time.sleep(600)
    return rows

where = sys.argv[1]
x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
y = x.sum(1)
trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), callbacks=[Ready()], progress=False)
try:
    if where == "steps":
        trainer.fit((x, y), steps=10**12)
    elif where == "waiting":
        trainer.fit(neuron.DataLoader(slow(), steps_per_epoch=10), steps=10**6)
    else:
        calls = []
        def held_out(rows):
            calls.append(1)
            return slow_rows(rows) if len(calls) > 1 else rows
        validation = neuron.DataLoader((x, y), 8, host_transform=held_out, placement="host")
        trainer.fit((x, y), epochs=3, validation=validation)
finally:
    print("finally", flush=True)
"""


@pytest.mark.parametrize("where", ["steps", "waiting", "reading validation"])
@each_signal
def test_a_script_ends_with_the_right_exit_code(where, number):
    """As a shell sees it: 128 and the signal's number."""
    process = subprocess.Popen(
        ["bash", "-c", '"$@"; echo "exit code $?"', "bash", sys.executable, "-c", SCRIPT, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        wanted = "ready" if where == "steps" else "waiting"
        while not said or said[-1] != wanted:
            said.append(process.stdout.readline().strip())
            assert said[-1], process.stderr.read()
        time.sleep(0.3)
        (child,) = children(process.pid)
        sent = time.monotonic()
        os.kill(child, number)
        out, err = process.communicate(timeout=60)
        # Half a second, and what it takes a process with JAX in it to end.
        assert time.monotonic() - sent < 10
    finally:
        process.kill()
    said = [line for line in out.splitlines() if line != "ready"]
    assert said == ["final True", "finally", f"exit code {128 + number}"]
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def children(pid):
    path = f"/proc/{pid}/task/{pid}/children"
    if not os.path.exists(path):
        pytest.skip("needs /proc")
    with open(path) as file:
        return list(map(int, file.read().split()))
