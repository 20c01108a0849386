"""The system refuses a call of a save: the disk is full, is broken, may not be written, has no file
left to open. That is a `CheckpointError`, and what was saved before stands."""

import errno
import itertools
import os
import shutil
import subprocess

import bare
import jax
import numpy as np
import pytest
from server import acknowledged, calls_of, can_trace, check, left

import neuron
from neuron.checkpoint import Directory
from neuron.errors import CheckpointError


ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE")
NAMES = (
    "open",
    "write",
    "fsync",
    "close",
    "replace",
    "unlink",
    "mkdir",
    "listdir",
    "scandir",
    "stat",
)
STEPS, EVERY = 12, 4


class Refusing:
    """Stands before `os` and refuses a call below a folder, once or from there on for ever."""

    def __init__(self, patch, root, number=0, error="EIO", forever=False):
        self._root, self._number, self._forever = str(root), number, forever
        self._error = getattr(errno, error)
        self.calls = 0
        self._opened = set()
        for name in NAMES:
            patch.setattr(os, name, self._before(name, getattr(os, name)))

    def _before(self, name, real):
        def call(target=".", *arguments, **options):
            mine = target in self._opened or str(target).startswith(self._root)
            if not mine:
                return real(target, *arguments, **options)
            self.calls += 1
            refused = self.calls == self._number or (self._forever and self.calls > self._number)
            if name == "close":
                # Linux closes a file whatever it says.
                real(target)
                self._opened.discard(target)
            if refused:
                raise OSError(self._error, os.strerror(self._error), str(target))
            if name == "close":
                return None
            made = real(target, *arguments, **options)
            if name == "open":
                self._opened.add(made)
            return made

        return call


def chosen(calls, soak):
    """Each call, and how it is refused: in the short form each by the next error."""
    ways = list(itertools.product(ERRORS, (False, True)))
    every = itertools.product(range(1, calls + 1), ways)
    if soak.long:
        return list(every)
    turns = itertools.cycle(ways)
    return [(number, next(turns)) for number in range(1, calls + 1)]


def test_a_file_that_can_not_be_written(folder, monkeypatch, soak):
    file, model = folder / "model.safetensors", {"weight": np.arange(3.0)}
    with monkeypatch.context() as patch:
        counted = Refusing(patch, folder)
        neuron.save(file, model)
    tried = 0
    for number, (error, forever) in itertools.product(
        range(1, counted.calls + 1), itertools.product(ERRORS, (False, True))
    ):
        neuron.save(file, model)
        tried += 1
        with monkeypatch.context() as patch:
            Refusing(patch, folder, number, error, forever)
            with pytest.raises(CheckpointError, match=os.strerror(getattr(errno, error))):
                neuron.save(file, {"weight": np.arange(3.0) + 1})
        kept = neuron.load(file, model)["weight"].tolist()
        # Refused after the rename, the new one may be there: whole in either case.
        assert kept in ([0, 1, 2], [1, 2, 3])
        assert forever or not left(folder)
    soak.tell(f"{tried} refusals of a call of `neuron.save`, each a CheckpointError")


def fitted(directory, callbacks=(), steps=STEPS, on_save_error="raise"):
    """A trainer after its fit, and what ended that."""
    model = neuron.Dense(2, key=jax.random.key(0))
    saving = neuron.Checkpoint(directory, every=EVERY, keep=2, on_save_error=on_save_error)
    trainer = neuron.Trainer(
        model, optimizer=neuron.Adam(), callbacks=[saving, *callbacks], progress=False
    )
    x = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
    error = None
    try:
        trainer.fit(
            neuron.DataLoader((x, x.sum(1)), batch_size=5, sampler=neuron.Shuffle(1)), steps=steps
        )
    except Exception as raised:
        error = raised
    return trainer, error


def weights(trainer):
    return [leaf.tobytes() for leaf in map(np.asarray, jax.tree.leaves(trainer.state.params))]


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The weights after each number of steps."""
    made = {}
    for steps in range(0, STEPS + 1, EVERY):
        trainer, error = fitted(tmp_path_factory.mktemp("runs"), steps=steps)
        assert error is None
        made[steps] = weights(trainer)
    return made


@pytest.mark.filterwarnings("ignore:.*(not written|not removed)")
@pytest.mark.parametrize("how", ["raise", "warn"])
def test_a_fit_whose_checkpoints_can_not_be_written(folder, monkeypatch, soak, how, after):
    with monkeypatch.context() as patch:
        counted = Refusing(patch, folder / "counted")
        fitted(folder / "counted", on_save_error=how)
    tries = chosen(counted.calls, soak)
    ended = 0
    for number, (error, forever) in tries:
        here = folder / "runs"
        with monkeypatch.context() as patch:
            Refusing(patch, here, number, error, forever)
            trainer, raised = fitted(here, on_save_error=how)
        tag = (number, error, forever, trainer.step, raised)
        assert raised is None or isinstance(raised, CheckpointError), tag
        ended += raised is not None
        # The training stands where it stood, with the bits that it has without any error.
        assert weights(trainer) == after[trainer.step], tag
        if how == "warn" and trainer.step:
            assert trainer.step == STEPS, tag
        # Only the error itself can cost a checkpoint.
        newest = Directory(here).newest()
        step = 0 if newest is None else newest.step
        assert forever or step >= trainer.step - EVERY, tag
        assert forever or not left(here), tag
        shutil.rmtree(here, ignore_errors=True)
    soak.tell(
        f"{len(tries)} fits with a refused call, {ended} ended by a CheckpointError, 0 otherwise"
    )


def test_refused_by_the_system(server, folder, soak):
    if not can_trace():
        pytest.skip("strace is not there, or may not attach")
    deep = folder / "all" / "0" / "runs" / "first"
    deep.parents[1].mkdir(parents=True)
    code, out = server.traced(deep, folder / "all.log", "trace=all")
    assert code == 0
    kinds = {
        "openat",
        "write",
        "fsync",
        "close",
        "rename",
        "unlink",
        "mkdir",
        "getdents64",
        "newfstatat",
    }
    calls = {name: number for name, number in calls_of(out).items() if name in kinds}
    tried = 0
    for name in calls:
        for number, (error, forever) in chosen(calls[name], soak):
            here, log = folder / name / f"{tried}" / "runs" / "first", folder / f"{tried}.log"
            here.parents[1].mkdir(parents=True)
            when = f"{number}{'+' if forever else ''}"
            code, _ = server.traced(here, log, f"inject={name}:error={error}:when={when}")
            assert code in (0, bare.REFUSED), (name, when, error)
            check(here, acknowledged(log))
            assert name in ("unlink", "close") or not left(here), (name, when, error)
            assert server.order(here, log, how="kill", when=0, last=4) == 0
            check(here, acknowledged(log))
            tried += 1
    soak.tell(f"{tried} refused system calls, 0 unreadable states, 0 acknowledged checkpoints lost")


def test_a_file_that_the_system_does_not_give(server, folder, soak):
    if not can_trace():
        pytest.skip("strace is not there, or may not attach")
    (folder / "file").write_bytes(bare.content(1))
    read = lambda inject: server.traced(folder / "file", folder / "log", inject, reads=True)
    code, out = read("trace=all")
    assert code == 0
    calls = calls_of(out)
    assert {"openat", "read", "close"} <= set(calls)
    tried = refused = 0
    for name in {"openat", "read", "close", "newfstatat", "fstat"} & set(calls):
        for number, (error, forever) in itertools.product(
            range(1, calls[name] + 1), itertools.product(ERRORS, (False, True))
        ):
            code, _ = read(f"inject={name}:error={error}:when={number}{'+' if forever else ''}")
            assert code in (0, bare.REFUSED), (name, number, error)
            tried, refused = tried + 1, refused + (code == bare.REFUSED)
    assert refused > tried / 2
    soak.tell(f"{tried} refused system calls of a read, {refused} a CheckpointError, 0 otherwise")


@pytest.mark.parametrize(
    "limits", [{"RLIMIT_FSIZE": 1000}, {"RLIMIT_NOFILE": 5}], ids=["large files", "many files"]
)
def test_what_the_system_itself_does_not_allow(server, folder, limits):
    assert server.order(folder / "runs", folder / "log", how="kill", when=0) == 0
    how = {"how": "kill", "when": 0, "last": 9, **limits}
    assert server.order(folder / "runs", folder / "log", **how) == bare.REFUSED
    check(folder / "runs", acknowledged(folder / "log"))
    assert acknowledged(folder / "log") == {"step": 3, "best": 3}
    assert not left(folder / "runs")


def test_a_disk_that_is_full(server, folder):
    (folder / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder / "small")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        runs, log = folder / "small" / "runs", folder / "log"
        assert server.order(runs, log, how="kill", when=0) == 0
        (folder / "small" / "else").write_bytes(bytes(4096))
        assert server.order(runs, log, how="kill", when=0, last=9) == bare.REFUSED
        check(runs, acknowledged(log))
        assert not left(runs)
    finally:
        subprocess.run(["umount", str(folder / "small")], check=True)


class Removes(neuron.Callback):
    """Removes a folder, as somebody else may."""

    every = 6

    def __init__(self, folder):
        self._folder = folder

    def on_step_end(self, trainer, logs):
        shutil.rmtree(self._folder, ignore_errors=True)


def test_a_directory_that_vanishes(folder, after):
    trainer, error = fitted(folder / "runs", [Removes(folder / "runs")])
    assert isinstance(error, CheckpointError)
    assert weights(trainer) == after[8]
    with pytest.warns(UserWarning, match="not written"):
        trainer, error = fitted(folder / "runs", [Removes(folder / "runs")], on_save_error="warn")
    assert error is None
    assert weights(trainer) == after[STEPS]
