"""Runs that are stopped in many ways, and all that they end with.

`serve` is a server: a line of JSON orders a run, a child is forked that makes it, before
JAX has any thread, and what it ended with comes back as a line.
"""

import contextlib
import functools
import hashlib
import json
import os
import select
import signal
import sys
import time

import equinox as eqx
import jax
import numpy as np
import optax

import neuron


OPTIMIZERS = {
    "SGD": lambda: neuron.SGD(0.02),
    "momentum": lambda: neuron.SGD(0.01, momentum=0.9),
    "Adam": lambda: neuron.Adam(0.02),
    # One object: another one costs a compilation.
    "optax": functools.cache(lambda: optax.adamw(0.02)),
}
MODELS = ("neuron", "MLP")
SAMPLERS = ("bootstrap", "shuffle", "sequential", "stream")
# Steps of a run, and after how many a checkpoint is written: epochs of 5 or 6 steps end elsewhere.
TOTAL, EVERY = 20, 7
STOPS = (0, 1, EVERY - 1, EVERY, EVERY + 1, TOTAL)
WAYS = ("reached", "SIGTERM", "Ctrl-C", "raises", "SIGKILL")
BATCH = 5
_draws = np.random.default_rng(0)
X = _draws.normal(size=(27, 2)).astype(np.float32)
Y = (X @ [3, 4] + 5 + _draws.normal(size=27)).astype(np.float32)


class Net(eqx.Module):
    """With a state, and with randomness."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.first = eqx.nn.Linear(2, 6, key=keys[0])
        self.norm = eqx.nn.BatchNorm(6, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.3)
        self.last = eqx.nn.Linear(6, "scalar", key=keys[1])

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


def batches():
    """A stream, which begins anew with each epoch; whole batches, as a model with a state needs."""
    for start in range(0, len(X) - BATCH + 1, BATCH):
        yield X[start : start + BATCH], Y[start : start + BATCH]


class Stream:
    def __iter__(self):
        return batches()


def loader_of(model, sampler):
    if sampler == "stream":
        return neuron.DataLoader(Stream())
    # The last batch is short, but for the model whose program would have a part for that.
    rows = slice(25 if model == "MLP" else 27)
    samplers = {
        "bootstrap": neuron.Bootstrap(1),
        "shuffle": neuron.Shuffle(1),
        "sequential": neuron.Sequential(),
    }
    return neuron.DataLoader((X[rows], Y[rows]), batch_size=BATCH, sampler=samplers[sampler])


class Stopped(Exception):
    """What a callback raises."""


class StopAt(neuron.Callback):
    """Ends the run behind a step, in one of the ways; at 0 before the first one."""

    def __init__(self, step, way):
        self.every, self._step, self._way = max(1, step), step, way

    def on_fit_begin(self, trainer):
        if self._step == 0:
            self._end()

    def on_step_end(self, trainer, logs):
        if trainer.step == self._step:
            self._end()

    def _end(self):
        if self._way == "raises":
            raise Stopped
        signals = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT, "SIGKILL": signal.SIGKILL}
        signal.raise_signal(signals[self._way])


class Last(neuron.Callback):
    """What the others remember at the end, before they tidy up; stands before them."""

    def on_fit_end(self, trainer):
        self.states = trainer._hooks.state_dicts()


class Began(neuron.Callback):
    """Says so; and then that the fit is under way."""

    def __init__(self, say):
        self._say = say

    def on_fit_begin(self, trainer):
        self._say("began")


def trainer_of(optimizer, model, directory, *more, every=EVERY):
    """A trainer with callbacks that remember something."""
    if model == "MLP":
        net, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
    else:
        net, state = neuron.Dense(2, key=jax.random.key(0)), None
    callbacks = [Last(), neuron.Checkpoint(directory, every=every, keep=2, monitor="val_loss")]
    callbacks += [neuron.EarlyStopping(patience=50, min_delta=0.5)]
    if optimizer != "optax":
        callbacks += [neuron.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=2.0)]
    return neuron.Trainer(
        net,
        optimizer=OPTIMIZERS[optimizer](),
        model_state=state,
        metrics={"error": neuron.MeanAbsoluteError()},
        average=0.9 if model == "MLP" else None,
        callbacks=[*callbacks, *more],
        progress=False,
    )


def fit(case, directory, *more, stop=None, way=None, total=TOTAL, every=EVERY):
    """The trainer after a run that goes on from a directory; it is stopped if it says so."""
    optimizer, model, sampler = case
    if way is not None and way != "reached":
        more = (*more, StopAt(stop, way))
    trainer = trainer_of(optimizer, model, directory, *more, every=every)
    steps = stop if way == "reached" else total
    data, held_out = loader_of(model, sampler), (X[:9], Y[:9])
    ends = (Stopped, KeyboardInterrupt, neuron.Terminated) if way else ()
    with contextlib.suppress(*ends):
        trainer.fit(data, steps=steps, validation=held_out, resume_from=directory)
    return trainer


def bits(value):
    """A value as text in which each bit counts."""
    if isinstance(value, dict):
        return {name: bits(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [bits(part) for part in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        hashed = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        return f"{array.dtype}{list(array.shape)} {hashed}"
    return value.hex() if isinstance(value, float) else repr(value)


def end_of(trainer):
    """All that a run ends with, but for how long it took."""
    leaves = jax.tree_util.tree_leaves_with_path((trainer.state, trainer.optimizer))
    history = trainer.history
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in history.epochs]
    callbacks = trainer._hooks.callbacks
    return {
        "leaves": {
            jax.tree_util.keystr(path): bits(leaf) for path, leaf in leaves if not callable(leaf)
        },
        "history": {name: bits(column.values) for name, column in history._columns.items()},
        "epochs": bits(rows),
        "callbacks": bits(callbacks[0].states),
        "place": [trainer.step, trainer.epoch, trainer.stopped],
    }


def child(order, say):
    """Makes a run as it was ordered."""
    if order.get("cores"):
        os.sched_setaffinity(0, order["cores"])
    options = {name: order[name] for name in ("stop", "way", "total", "every") if name in order}
    trainer = fit(order["case"], order["directory"], Began(say), **options)
    say(json.dumps(end_of(trainer)))


def run_child(order):
    """Forks, and kills the child a while after its fit has begun, if it is told so; the last line
    that it wrote, or `None` if it was killed before that."""
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            child(order, lambda text: os.write(writes, text.encode() + b"\n"))
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    with open(reads, "rb", buffering=0) as pipe:
        said, begun = b"", None
        kill_at = order.get("kill_after")
        while True:
            left = None if kill_at is None or begun is None else begun + kill_at - time.monotonic()
            if left is not None and (left <= 0 or not select.select([pipe], [], [], left)[0]):
                os.kill(process, signal.SIGKILL)
                break
            part = pipe.read(1 << 20)
            if not part:
                break
            said += part
            if begun is None and b"began\n" in said:
                begun = time.monotonic()
    took = None if begun is None else time.monotonic() - begun
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    last = said.decode().strip().rpartition("\n")[2]
    return {"code": code, "took": took, "end": json.loads(last) if code == 0 else None}


def serve():
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run_child(json.loads(line))), flush=True)
