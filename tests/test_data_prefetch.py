"""The reader: what it makes ahead, how its errors arrive, and that nothing of it stays."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from helpers import line

import neuron
from neuron.data.prefetch import Prefetched


x, y = line(96)
on_linux = pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="needs /proc")


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "neuron-reader"]


def test_items_come_in_their_order_and_end():
    with_reader = Prefetched(n for n in range(100))
    assert list(with_reader) == list(range(100))
    assert not readers()


def test_no_more_is_made_ahead_than_was_said():
    made, asked = [], threading.Semaphore(0)

    def items():
        for n in range(100):
            made.append(n)
            asked.release()
            yield n

    reader = Prefetched(items())
    for _ in range(2):
        assert asked.acquire(timeout=10)
    assert not asked.acquire(timeout=0.5)
    assert made == [0, 1]
    assert next(reader) == 0
    assert asked.acquire(timeout=10)
    reader.close()
    assert len(made) <= 4
    assert not readers()


def test_an_error_comes_where_its_item_was_to_come():
    def items():
        yield 1
        raise OSError("gone")

    reader = Prefetched(items())
    assert next(reader) == 1
    with pytest.raises(OSError, match="gone"):
        next(reader)
    assert not readers()


def test_the_generator_is_closed_in_its_thread_and_then_the_rest():
    noted = []

    def items():
        try:
            while True:
                yield 1
        finally:
            noted.append(threading.current_thread().name)

    reader = Prefetched(items(), then=lambda: noted.append("then"))
    next(reader)
    reader.close()
    reader.close()
    assert noted == ["neuron-reader", "then"]


def test_somebody_is_heard_while_nothing_comes():
    go, calls = threading.Event(), []

    def items():
        go.wait(20)
        yield 1

    def meanwhile():
        calls.append(1)
        if len(calls) == 3:
            go.set()

    reader = Prefetched(items())
    assert reader.next(meanwhile) == 1
    reader.close()
    assert len(calls) >= 3


class Filed(neuron.Source):
    """Keeps a file open while it is read from."""

    def __init__(self, path, broken=None):
        self.path, self.broken, self.file, self.opened = path, broken, None, 0

    def __len__(self):
        return len(x)

    def read(self, rows):
        if self.file is None:
            self.file, self.opened = self.path.open(), self.opened + 1
        if self.broken is not None and self.broken in rows:
            raise OSError("the file is gone")
        return x[rows], y[rows]

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None


class Interrupted(neuron.Callback):
    def on_step_end(self, trainer, logs):
        raise KeyboardInterrupt


class Stopping(neuron.Callback):
    def on_step_end(self, trainer, logs):
        trainer.stop("enough")


def open_files():
    return len(os.listdir("/proc/self/fd"))


@on_linux
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"fit": {"epochs": 2}}, None),
        ({"fit": {"steps": 0}}, None),
        ({"callbacks": [Stopping()]}, None),
        ({"broken": 90}, OSError),
        ({"callbacks": [Interrupted()]}, KeyboardInterrupt),
        ({"fit": {"steps": 1, "epochs": 1}}, ValueError),
        ({"fit": {"epochs": 1, "validation": (x, x)}}, ValueError),
    ],
    ids=["ends", "takes no step", "is stopped", "fails", "is interrupted", "is refused", "no"],
)
def test_threads_and_files_are_gone_after_a_fit(how, error, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("")
    source = Filed(path, how.get("broken"))
    loader = neuron.DataLoader(source, 16, placement="host")
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)), callbacks=how.get("callbacks", ()), progress=False
    )
    # Whatever the first fit of a process opens.
    trainer.copy().fit((x, y), steps=1)
    before = open_files()
    if error is None:
        trainer.fit(loader, **how.get("fit", {"epochs": 1}))
    else:
        with pytest.raises(error):
            trainer.fit(loader, **how.get("fit", {"epochs": 1}))
    assert not readers()
    assert open_files() == before
    assert source.file is None
    if "broken" not in how:
        trainer.evaluate(loader)
        trainer.predict(loader)
        assert source.file is None
        assert open_files() == before
        assert not readers()


@on_linux
def test_a_generator_over_a_file_lets_go_of_it(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("line\n" * 1000)

    def lines():
        with path.open() as file:
            for _ in file:
                yield x[:16], y[:16]

    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    trainer.copy().fit((x, y), steps=1)
    before = open_files()
    for data in (lines(), type("Again", (), {"__iter__": lambda self: lines()})()):
        trainer.fit(neuron.DataLoader(data), steps=3)
        assert open_files() == before


HANGING = """
import signal, sys, threading, jax, numpy as np, neuron
from neuron.data import prefetch

# Whatever started the tests may have them ignore Ctrl-C, as `nohup` and `&` do.
signal.signal(signal.SIGINT, signal.default_int_handler)

prefetch._PATIENCE = 0.2
x = np.ones((16, 2), np.float32)

def hangs():
    for _ in range(int(sys.argv[1])):
        yield x, x[:, 0]
    print("hanging", flush=True)
    threading.Event().wait()

trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
try:
    trainer.fit(neuron.DataLoader(hangs(), steps_per_epoch=1000), epochs=1)
except KeyboardInterrupt:
    trainer.fit((x, x[:, 0]), steps=3)
    print("interrupted at", trainer.step - 3, flush=True)
    raise
"""


@pytest.mark.parametrize("given", [0, 1, 30])
def test_ctrl_c_leaves_a_stream_that_hangs(given, tmp_path):
    """At the first batch, which the main thread waits for, and later, where the reader does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "hanging\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    assert "interrupted at" in out
    assert ("has not ended" in err) == bool(given)


def test_an_interrupt_in_the_reader_is_none_of_the_main_thread():
    """What the reader raises is raised once, by the fit, and leaves the trainer usable."""
    stream = type("Raises", (neuron.Stream,), {"batches": lambda self, epoch: raises()})

    def raises():
        yield x[:16], y[:16]
        raise KeyboardInterrupt

    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(neuron.DataLoader(stream()), epochs=1)
    trainer.fit((x, y), steps=1)
    assert np.isfinite(trainer.model.weight).all()


def test_what_has_ended_stays_so():
    reader = Prefetched(iter_of(range(2)))
    assert list(reader) == [0, 1]
    assert next(reader, "end") == "end"
    closed = Prefetched(iter_of(range(2)))
    closed.close()
    assert list(closed) in ([], [0])
    assert next(closed, "end") == "end"


def iter_of(items):
    yield from items
