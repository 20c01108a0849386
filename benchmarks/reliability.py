"""Faults that a checkpoint meets, given to several libraries alike: a table in Markdown.

    python benchmarks/reliability.py [--seed 0] [--flips 2000] [--only neuron keras ...]

Each library saves three checkpoints into one folder, one over the other, with what its own
documentation has for that. It is killed just before each of its calls that concern files (`strace`
does that, so this needs Linux); single bits of what it wrote are flipped; and a run with shuffled
batches and dropout is stopped in the middle of an epoch and goes on in a new process.
"""

import argparse
import collections
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np


os.environ.setdefault("KERAS_BACKEND", "torch")
STEPS = (1, 2, 3)
CALLS = (
    *("openat", "creat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "close"),
    *(
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "mkdir",
        "mkdirat",
        "copy_file_range",
    ),
    *("sendfile", "lseek", "link", "linkat"),
)
# Of the runs that are stopped: 10 batches an epoch, and a checkpoint after each 7.
ROWS, BATCH, EPOCHS, EVERY, STOP = 50, 5, 3, 7, 17
X = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
Y = (X @ np.array([3, 4], np.float32)).reshape(-1, 1)


class Stopped(Exception):
    """What ends a run."""


# Each library: how numbers are saved and loaded, and how a run is made. Where a file holds the
# step in each of its numbers, it is known what a whole one is.


class Neuron:
    """Safetensors files under a digest, and `Checkpoint`."""

    name = "neuron"

    def ready(self):
        import neuron

        self.neuron = neuron
        self.like = {"weight": np.zeros(500, np.float32), "bias": np.zeros(3, np.float32)}

    def save(self, folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        tree = {name: np.full_like(value, step) for name, value in self.like.items()}
        self.neuron.save(folder / "model.safetensors", tree)

    def load(self, folder):
        if not (folder / "model.safetensors").exists():
            return []
        return [*self.neuron.load(folder / "model.safetensors", self.like).values()]

    def run(self, folder, stop):
        import equinox as eqx
        import jax

        import neuron

        class Net(eqx.Module):
            first: eqx.nn.Linear
            dropout: eqx.nn.Dropout
            last: eqx.nn.Linear

            def __call__(self, x, *, key=None):
                return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))

        class Stop(neuron.Callback):
            def on_step_end(self, trainer, logs):
                if trainer.step == stop:
                    raise Stopped

        keys = jax.random.split(jax.random.key(0))
        net = Net(
            eqx.nn.Linear(2, 8, key=keys[0]), eqx.nn.Dropout(0.3), eqx.nn.Linear(8, 1, key=keys[1])
        )
        callbacks = [neuron.Checkpoint(folder, every=EVERY), *([Stop()] if stop else [])]
        trainer = neuron.Trainer(
            net, optimizer=neuron.Adam(0.01), callbacks=callbacks, progress=False
        )
        loader = neuron.DataLoader((X, Y), batch_size=BATCH, sampler=neuron.Shuffle(0))
        trainer.fit(loader, epochs=EPOCHS, resume_from=folder)
        return jax.tree.leaves(trainer.state.params)


class Keras:
    """Its callback for runs that are interrupted."""

    name, double = "Keras `BackupAndRestore`", False

    def ready(self):
        import keras
        import torch

        torch.set_num_threads(1)
        self.keras = keras
        self.model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20)])
        self.model.compile(optimizer="sgd", loss="mse")

    def _callback(self, folder):
        backup = self.keras.callbacks.BackupAndRestore(folder, double_checkpoint=self.double)
        backup.set_model(self.model)
        return backup

    def save(self, folder, step):
        self.model.set_weights([np.full_like(w, step) for w in self.model.get_weights()])
        self._callback(folder).on_epoch_end(step - 1)

    def load(self, folder):
        self.model._initial_epoch = 0
        self._callback(folder).on_train_begin()
        epoch = self.model._initial_epoch
        return [*self.model.get_weights(), np.full(1, epoch, np.float32)] if epoch else []

    def run(self, folder, stop):
        import keras

        class Stop(keras.callbacks.Callback):
            seen = 0

            def on_train_batch_end(self, batch, logs=None):
                self.seen += 1
                if self.seen == stop:
                    raise Stopped

        keras.utils.set_random_seed(0)
        layers = keras.layers
        net = [keras.Input((2,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(1)]
        model = keras.Sequential(net)
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
        backup = keras.callbacks.BackupAndRestore(
            folder, save_freq=EVERY, double_checkpoint=self.double, delete_checkpoint=False
        )
        model.fit(X, Y, batch_size=BATCH, epochs=EPOCHS, callbacks=[backup, Stop()], verbose=0)
        return model.get_weights()


class KerasTwice(Keras):
    """With the checkpoint before the last one kept as well."""

    name, double = "the same, `double_checkpoint=True`", True


class Lightning:
    """`Trainer.save_checkpoint`, and `ModelCheckpoint` for the run."""

    name = "Lightning `save_checkpoint`"

    def ready(self):
        import torch

        torch.set_num_threads(1)
        self.torch = torch
        self.trainer = self._trainer()
        self.module = self._module(torch.nn.Linear(30, 20))
        self.trainer.fit(
            self.module, self._loader(np.zeros((5, 30), np.float32), np.zeros((5, 20), np.float32))
        )

    def save(self, folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        with self.torch.no_grad():
            for weight in self.module.parameters():
                weight.fill_(step)
        self.trainer.save_checkpoint(folder / "last.ckpt")

    def load(self, folder):
        if not (folder / "last.ckpt").exists():
            return []
        read = self.torch.load(folder / "last.ckpt", weights_only=False)
        return [weight.numpy() for weight in read["state_dict"].values()]

    def _loader(self, x, y, shuffle=False):
        data = self.torch.utils.data
        rows = data.TensorDataset(self.torch.from_numpy(x), self.torch.from_numpy(y))
        return data.DataLoader(rows, batch_size=BATCH, shuffle=shuffle)

    def _module(self, net):
        import lightning
        import torch

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = net

            def training_step(self, batch, number):
                return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=0.01)

        return Module()

    def _trainer(self, epochs=1, callbacks=(), saves=False):
        import lightning

        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[*callbacks],
            enable_checkpointing=saves,
            **quiet,
        )

    def run(self, folder, stop):
        import lightning
        import torch

        self.torch = torch

        class Stop(lightning.Callback):
            def on_train_batch_end(self, trainer, *rest):
                if trainer.global_step == stop:
                    raise Stopped

        lightning.seed_everything(0, verbose=False)
        nn = torch.nn
        net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        saves = lightning.pytorch.callbacks.ModelCheckpoint(
            folder, filename="last", every_n_train_steps=EVERY, enable_version_counter=False
        )
        trainer = self._trainer(EPOCHS, [saves, Stop()], saves=True)
        last = folder / "last.ckpt"
        module = self._module(net)
        trainer.fit(
            module, self._loader(X, Y, shuffle=True), ckpt_path=last if last.exists() else None
        )
        return [weight.detach().numpy() for weight in module.parameters()]


class Equinox:
    """Leaves one after the other, into a file that is open meanwhile."""

    name = "`eqx.tree_serialise_leaves`"

    def ready(self):
        import equinox as eqx

        self.eqx = eqx
        self.like = {"weight": np.zeros(500, np.float32), "bias": np.zeros(3, np.float32)}

    def save(self, folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        tree = {name: np.full_like(value, step) for name, value in self.like.items()}
        self.eqx.tree_serialise_leaves(folder / "model.eqx", tree)

    def load(self, folder):
        if not (folder / "model.eqx").exists():
            return []
        return [*self.eqx.tree_deserialise_leaves(folder / "model.eqx", self.like).values()]

    # How a run is made and goes on is its user's own.
    run = None


LIBRARIES = {
    "neuron": Neuron,
    "keras": Keras,
    "keras_twice": KerasTwice,
    "lightning": Lightning,
    "equinox": Equinox,
}
NEEDS = {"keras": "keras", "keras_twice": "keras", "lightning": "lightning"}


def loaded(library, folder):
    """The step of a checkpoint, or 0 for none; -1 if it can not be read, -2 for wrong numbers."""
    try:
        numbers = [np.asarray(array, np.float64).ravel() for array in library.load(folder)]
    except Exception:
        return -1
    values = set(np.concatenate(numbers).tolist()) if numbers else {0}
    return int(values.pop()) if len(values) == 1 and values <= {0, *STEPS} else -2


def forked(act):
    """What a child that does something gives back; `None` if it dies."""
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.write(writes, json.dumps(act()).encode())
        os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    return json.loads(said) if said else None


def traced(library, folder, log, expression):
    """A child saves with strace attached; whether it was killed, and what strace wrote."""
    gate, opens = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            acknowledged = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.readv(gate, [bytearray(1)])
            for step in STEPS:
                library.save(folder, step)
                os.pwrite(acknowledged, b"x", 0)
        finally:
            os._exit(0)
    out = log.with_suffix(".strace")
    command = ["strace", "-f", "-p", str(process), "-o", str(out), "-e", expression]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        if "attached" not in strace.stderr.readline():
            raise SystemExit("strace may not attach here")
        os.write(opens, b"x")
        _, status = os.waitpid(process, 0)
        strace.stderr.read()
    os.close(gate)
    os.close(opens)
    return os.waitstatus_to_exitcode(status) < 0, out.read_text()


def swept(library, scratch):
    """How many kills there were, and how many left what can not be read, or parts of two
    checkpoints, or lost what was said to be saved."""
    _, out = traced(library, scratch / "all", scratch / "all.log", "trace=all")
    assert (scratch / "all.log").stat().st_size == len(STEPS)
    names = re.findall(r"^\d+ +(\w+)\(", out, re.MULTILINE)
    calls = collections.Counter(name for name in names if name in CALLS)
    kills = unreadable = mixed = lost = 0
    for name, number in calls.items():
        for n in range(1, number + 1):
            folder, log = scratch / f"{name} {n}", scratch / f"{name} {n}.log"
            killed, _ = traced(library, folder, log, f"inject={name}:signal=KILL:when={n}")
            saved = log.stat().st_size if log.exists() else 0
            found = forked(lambda folder=folder: loaded(library, folder))
            kills += killed
            unreadable += found is None or found == -1
            mixed += found == -2
            lost += saved > 0 and (found is None or found == -1 or 0 <= found < saved)
            shutil.rmtree(folder, ignore_errors=True)
    return {"kills": kills, "unreadable": unreadable, "mixed": mixed, "lost": lost}


def flipped(library, scratch, flips, seed):
    """Of so many flips of one bit, how many were noticed, and how many gave wrong numbers."""
    folder = scratch / "flips"
    forked(lambda: library.save(folder, STEPS[-1]))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert loaded(library, folder) == STEPS[-1]
    sizes = [file.stat().st_size for file in files]
    draws, counts = random.Random(seed), collections.Counter()
    for _ in range(flips):
        (file,) = draws.choices(files, sizes)
        whole = file.read_bytes()
        bit = draws.randrange(8 * len(whole))
        made = bytearray(whole)
        made[bit // 8] ^= 1 << bit % 8
        file.write_bytes(made)
        found = loaded(library, folder)
        counts["noticed" if found == -1 else "right" if found == STEPS[-1] else "wrong"] += 1
        # Whatever the library did to them.
        for other in set(folder.rglob("*")) - set(files):
            other.unlink()
        file.write_bytes(whole)
    return {"flips": flips, **counts}


def run_of(key, folder, stop):
    """The weights that a run in a process of its own ends with; `None` if it was stopped."""
    command = [sys.executable, __file__, "--run", key, str(folder), str(stop)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        return None if "Stopped" in found.stderr.splitlines()[-1] else found.stderr[-300:]
    return found.stdout.strip().splitlines()[-1]


def resumed(key, scratch):
    """Whether a run that was stopped ends as one that was not."""
    if LIBRARIES[key].run is None:
        return "its user's own"
    whole, again = (run_of(key, scratch / name, 0) for name in ("whole", "again"))
    if whole != again:
        return "not the same twice"
    assert run_of(key, scratch / "stopped", STOP) is None
    return "same bits" if run_of(key, scratch / "stopped", 0) == whole else "other weights"


def measured(key, flips, seed):
    """All figures of a library, in a process that has it and has no threads yet."""
    library = LIBRARIES[key]()
    library.ready()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        return swept(library, scratch) | flipped(library, scratch, flips, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=LIBRARIES, default=[*LIBRARIES])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        key, folder, stop = given.run
        weights = LIBRARIES[key]().run(pathlib.Path(folder), int(stop))
        print(b"".join(np.asarray(weight).tobytes() for weight in weights).hex())
        return
    if given.one:
        print(json.dumps(measured(given.one, given.flips, given.seed)))
        return
    print(
        "| | kills | unreadable | parts of two | saved, and lost | flipped bits noticed "
        "| wrong numbers read | stopped in an epoch |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for key in given.only:
        name = LIBRARIES[key].name
        if importlib.util.find_spec(NEEDS.get(key, "equinox")) is None:
            print(f"| {name} | missing | | | | | | |")
            continue
        began = time.monotonic()
        command = [sys.executable, __file__, "--one", key, "--seed", str(given.seed)]
        one = subprocess.run(
            [*command, "--flips", str(given.flips)], stdout=subprocess.PIPE, check=True
        )
        found = json.loads(one.stdout.decode().strip().splitlines()[-1])
        with tempfile.TemporaryDirectory() as scratch:
            how = resumed(key, pathlib.Path(scratch))
        noticed = f"{found.get('noticed', 0)} of {found['flips']}"
        print(
            f"| {name} | {found['kills']} | {found['unreadable']} | {found['mixed']} "
            f"| {found['lost']} | {noticed} | {found.get('wrong', 0)} | {how} |",
            flush=True,
        )
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
