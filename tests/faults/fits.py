"""Many fits in one process: what they leave behind.

    python tests/faults/fits.py 1000

fits that many trainers, one after the other and of all kinds, and prints what the process holds after
some of each kind and at the end: memory, threads, open files, and what JAX has traced and compiled.
"""

import gc
import itertools
import json
import os
import signal
import sys
import threading

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

import neuron


ROWS, BATCH = 64, 8
compiled = itertools.count()


class Count(neuron.Callback):
    every = 3

    def on_step_end(self, trainer, logs):
        assert np.isfinite(logs["loss"])

    def on_epoch_end(self, trainer, logs):
        assert trainer.step == logs["step"]


class Fail(neuron.Callback):
    """Ends a fit after some steps."""

    every = 5

    def __init__(self, how):
        self.how = how

    def on_step_end(self, trainer, logs):
        self.how()


class Log(neuron.Loss):
    """The squared error; not finite at a target of 0."""

    def __call__(self, prediction, target):
        return (prediction - target) ** 2 + jnp.log(jnp.where(target == 0, 0.0, 1.0))


def raising():
    raise RuntimeError("of the user's own")


def interrupting():
    signal.raise_signal(signal.SIGINT)


def terminating():
    signal.raise_signal(signal.SIGTERM)


def batches(x, y):
    return ((x[k : k + BATCH], y[k : k + BATCH]) for k in range(0, ROWS, BATCH))


def kinds(seed):
    """Each kind of fit, with data and numbers of its own: how it is made, fitted, and how it ends."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    y = x.sum(1) + 10
    zero = np.where(np.arange(ROWS) == 20, 0, y).astype(np.float32)
    model = neuron.Dense(3, key=jax.random.key(seed))
    optimizer = neuron.Adam(1e-3 * (1 + seed % 7))

    def fit(data, *, ends=None, steps=16, **options):
        validation = options.pop("validation", None)
        options = {"optimizer": optimizer, "seed": seed, "progress": False} | options
        trainer = neuron.Trainer(model, **options)
        try:
            trainer.fit(data, steps=steps, validation=validation)
        except BaseException as error:
            if ends is None or not isinstance(error, ends):
                raise
            return
        assert ends is None
        assert trainer.step == steps
        trainer.predict(x)

    resident = lambda y=y: neuron.DataLoader((x, y), BATCH, sampler=neuron.Shuffle(seed))
    host = lambda y=y: neuron.DataLoader((x, y), BATCH, placement="host")
    watched = [Count(), neuron.EarlyStopping("val_loss", patience=50)]
    metrics = {"mae": neuron.MeanAbsoluteError(), "r2": neuron.R2()}
    return {
        "plain": lambda: fit(resident()),
        "host": lambda: fit(host()),
        "stream": lambda: fit(neuron.DataLoader(batches(x, y)), steps=8),
        "validated": lambda: fit(resident(), validation=(x, y), callbacks=watched, metrics=metrics),
        "validated from the host": lambda: fit(host(), validation=host(), callbacks=[Count()]),
        "accumulated": lambda: fit(resident(), accumulate=2, average=0.9),
        "not finite": lambda: fit(
            host(zero), loss=Log(), steps=1000, ends=neuron.NonFiniteLossError
        ),
        "skipped": lambda: fit(resident(zero), loss=Log(), nonfinite="skip"),
        "failed": lambda: fit(host(), callbacks=[Fail(raising)], ends=RuntimeError),
        "interrupted": lambda: fit(
            neuron.DataLoader(batches(x, y)), callbacks=[Fail(interrupting)], ends=KeyboardInterrupt
        ),
        "terminated": lambda: fit(
            resident(), callbacks=[Fail(terminating)], ends=neuron.Terminated
        ),
    }


def held():
    """What the process holds."""
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "megabytes": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "traces and compilations": int(repr(compiled)[6:-1]),
        "live arrays": len(jax.live_arrays()),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)],
    }


def soak(fits, warm=3):
    """What is held after that many rounds of each kind, and after that many fits more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: "compile" in event and next(compiled)
    )
    seeds = itertools.count()
    for _ in range(warm):
        for fit in kinds(next(seeds)).values():
            fit()
    before, done = held(), 0
    while done < fits:
        for fit in itertools.islice(kinds(next(seeds)).values(), fits - done):
            fit()
            done += 1
    return {"fits": fits, "before": before, "after": held()}


if __name__ == "__main__":
    print(json.dumps(soak(int(sys.argv[1]))))
