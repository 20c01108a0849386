"""Whatever is in a file, reading it is a `CheckpointError`: no other error, no warning, no code."""

import os
import pathlib
import random
import shutil
import socket
import sys
import threading
import tracemalloc

import jax
import mutations
import numpy as np
import pytest

import neuron
from neuron.checkpoint import Directory
from neuron.checkpoint.directory import load_run
from neuron.errors import CheckpointError


pytestmark = pytest.mark.usefixtures("unchecked")


# What a reader has no reason to do; an audit hook sees it, also where C code does it.
FORBIDDEN = (
    *("exec", "compile", "import", "code.__new__", "marshal", "pickle", "ctypes", "subprocess"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename"),
    *(
        "os.mkdir",
        "os.rmdir",
        "os.truncate",
        "os.chmod",
        "os.link",
        "os.symlink",
        "socket",
        "shutil",
    ),
)
_seen, _watched = [], threading.local()


def _hook(event, arguments):
    if not getattr(_watched, "on", False):
        return
    writes = event == "open" and (
        any(c in str(arguments[1] or "") for c in "wax+")
        or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    )
    if (writes or event.startswith(FORBIDDEN)) and not _by_the_checks(sys._getframe()):
        _seen.append((event, arguments))


def _by_the_checks(frame):
    """Whether annotations are being made into checks, as happens in tests alone."""
    while frame is not None:
        if "jaxtyping" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_hook)


def outcome(reader, path):
    """`None` for a `CheckpointError`, the error for another one, and otherwise what was read."""
    _watched.on = True
    try:
        return reader(path)
    except CheckpointError:
        return None
    except BaseException as error:
        return error
    finally:
        _watched.on = False


class Files:
    """A model and a run in small files, and what reads them."""

    def __init__(self, folder):
        self.folder = folder
        self._like = {"weight": np.arange(3, dtype=np.float32), "rate": 0.5}
        neuron.save(folder / "model.safetensors", self._like)
        self.model = (folder / "model.safetensors").read_bytes()
        callbacks = [neuron.EarlyStopping(), neuron.ReduceLROnPlateau()]
        self.trainer = neuron.Trainer(
            neuron.Dense(2, key=jax.random.key(0)),
            optimizer=neuron.SGD(0.01, momentum=0.9),
            callbacks=callbacks,
            metrics={"mae": neuron.MeanAbsoluteError()},
            progress=False,
        )
        x = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)
        self.trainer.fit(neuron.DataLoader((x, x.sum(1)), batch_size=2), steps=3)
        self.trainer.save(folder / "run.safetensors")
        self.run = (folder / "run.safetensors").read_bytes()
        self._bits = self.bits()
        self.trainer.restore(folder / "run.safetensors")

    def bits(self):
        leaves = jax.tree.leaves((self.trainer.state, self.trainer.optimizer))
        return [np.asarray(leaf).tobytes() for leaf in leaves]

    def load(self, path):
        return neuron.load(path, like=self._like)

    def load_loosely(self, path):
        return neuron.load(path, like=self.trainer.model)

    def restore(self, path):
        before = self.bits()
        try:
            self.trainer.restore(path)
        except CheckpointError:
            assert self.bits() == before, "a refused file has changed the trainer"
            raise
        # What it holds now can be looked at.
        history = self.trainer.history
        return repr(history), history.epochs, self.trainer.step, self.trainer.model, len(history)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    there = pathlib.Path("/dev/shm")
    made = tmp_path_factory.mktemp("files")
    if os.access(there, os.W_OK):
        made = there / f"neuron-{os.getpid()}"
        made.mkdir()
    yield Files(made)
    shutil.rmtree(made)


def judged(path, readers, what, *, may_load=False):
    """Every reader refuses a file; or, where that may be, it is a checkpoint after all."""
    _seen.clear()
    for reader in readers:
        found = outcome(reader, path)
        if isinstance(found, BaseException):
            raise AssertionError(f"{what}, {reader.__name__}: {found!r}") from found
        assert may_load or found is None, (what, reader.__name__)
    assert not _seen, (what, _seen)


def each_judged(contents, file, readers, *, may_load=False):
    """How many there were."""
    number = 0
    for what, content in contents:
        file.write_bytes(content)
        judged(file, readers, what, may_load=may_load)
        number += 1
    return number


def flipped(content, bits):
    for bit in bits:
        made = bytearray(content)
        made[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(made)


def _without_digest(content):
    header, facts, data = mutations.parts(content)
    return header, {**facts, "sha256": None}, data


def test_what_is_whole_is_read(files):
    # The digest that is worked out here is the one in the file.
    for content in (files.model, files.run):
        assert mutations.sealed(content) == content
        again = mutations.joined(*mutations.parts(content))
        assert mutations.sealed(again) == again
        assert _without_digest(again) == _without_digest(content)
    assert outcome(files.load, files.folder / "model.safetensors")["rate"] == 0.5
    assert outcome(files.restore, files.folder / "run.safetensors")[2] == 3
    assert not _seen


def test_the_hook_sees_what_is_done(files):
    def acts(path):
        eval("1 + 1")
        open(path, "ab").close()

    with pytest.raises(AssertionError, match="compile"):
        judged(files.folder / "x", [acts], "acts", may_load=True)
    assert {event for event, _ in _seen} >= {"compile", "exec", "open"}


def test_every_bit_and_every_length(files, soak):
    file = files.folder / "x"
    bits = 8 * len(files.model)
    count = each_judged(flipped(files.model, range(bits)), file, [files.load])
    cut = lambda content: ((f"{n} bytes", content[:n]) for n in range(len(content)))
    count += each_judged(cut(files.model), file, [files.load])
    run_bits = 8 * len(files.run)
    some = range(run_bits) if soak.long else soak.draws.sample(range(run_bits), 1500)
    count += each_judged(flipped(files.run, some), file, [files.restore, files.load_loosely])
    lengths = list(cut(files.run))
    some = lengths if soak.long else soak.draws.sample(lengths, 200)
    count += each_judged(some, file, [files.restore])
    more = [(f"{n} bytes more", files.run + bytes(n)) for n in (1, 2, 7, 8, 64, 4096)]
    more += [("it twice", 2 * files.run), ("it behind a byte", b"\0" + files.run)]
    count += each_judged(more, file, [files.restore, files.load_loosely])
    soak.tell(f"{count} files with a bit flipped, cut off or appended to, 0 read, 0 other errors")


def test_hostile_headers(files):
    file = files.folder / "x"
    for content, readers in (
        (files.model, [files.load]),
        (files.run, [files.restore, files.load_loosely]),
    ):
        assert each_judged(mutations.hostile(content), file, readers, may_load=True) > 60


MUST_FAIL = (
    "length of",
    "offsets",
    "twice",
    "two digests",
    "nested",
    "format",
    "gap",
    "data behind",
    "less",
    "no facts",
    "a constant",
)


def test_hostile_headers_are_refused(files):
    file = files.folder / "x"
    for content, readers in ((files.model, [files.load]), (files.run, [files.restore])):
        wrong = ((w, c) for w, c in mutations.hostile(content) if any(m in w for m in MUST_FAIL))
        assert each_judged(wrong, file, readers) > 30


def test_files_of_other_formats(files, capsys):
    readers = [files.load, files.restore, files.load_loosely]
    assert each_judged(mutations.of_other_formats(files.folder), files.folder / "x", readers) > 15
    assert capsys.readouterr().out == ""


def test_random_mutations(files, soak):
    file, draws = files.folder / "x", soak.draws
    number = soak.number(3000, 100_000)

    def mutated(content, count):
        for _ in range(count):
            made, what = mutations.random_one(content, draws)
            if made != content:
                yield what, made

    kinds = ((files.model, [files.load]), (files.run, [files.restore, files.load_loosely]))
    for content, readers in kinds:
        each_judged(mutated(content, number // 2), file, readers, may_load=True)
    soak.tell(f"{number} mutations, 0 other errors than CheckpointError, no code run")


def test_what_is_no_file(files, monkeypatch):
    monkeypatch.chdir(files.folder)
    whole = files.folder / "run.safetensors"
    readers = [files.load, files.restore, files.load_loosely]
    os.symlink(whole, files.folder / "link")
    os.symlink(files.folder / "nowhere", files.folder / "dangling")
    os.symlink(files.folder / "loop", files.folder / "loop")
    os.mkfifo(files.folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (files.folder / "folder").mkdir()
    paths = ["link", "dangling", "loop", "pipe", "socket", "folder", "missing", "run.safetensors/x"]
    paths += [
        "/dev/zero",
        "/dev/null",
        "x" * 300,
        "a/" * 3000,
        "nul\0nul",
        "",
        "\ud800",
        "/proc/self/mem",
    ]
    for path in paths:
        judged(path, readers, path)
    (files.folder / "folder").rmdir()


def test_a_file_that_is_larger_than_memory(files):
    if pathlib.Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "0":
        pytest.skip("the system would promise memory that it does not have")
    file = files.folder / "x"
    with open(file, "wb") as sparse:
        sparse.write(files.run)
        sparse.truncate(1 << 42)
    judged(file, [files.load, files.restore], "4 TB")
    file.unlink()


def test_memory_is_a_small_multiple_of_the_file(files, soak):
    file, worst = files.folder / "x", (0.0, "")
    large = [(w, c) for w, c in mutations.hostile(files.model) if len(c) > 100_000 or "length" in w]
    large += [
        (
            "its data",
            mutations.joined(
                {"x": {"dtype": "U8", "shape": [10**6], "data_offsets": [0, 10**6]}},
                {"sha256": "0" * 64, "format": 1},
                bytes(10**6),
            ),
        )
    ]
    assert len(large) > 10
    for what, content in large:
        file.write_bytes(content)
        tracemalloc.start()
        outcome(files.load, file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        worst = max(worst, ((peak - 200_000) / len(content), what))
    # Objects of Python are what a million of `[]` become.
    assert worst[0] < 40, worst
    soak.tell(f"at most {worst[0]:.1f} times the file's size in memory ({worst[1]})")


def test_a_directory_with_bad_files(files, soak):
    folder = files.folder / "runs"
    folder.mkdir()
    directory, draws = Directory(folder), random.Random(soak.seed)
    directory.file(1).write_bytes(files.run)
    for number in range(soak.number(100, 2000)):
        content, what = mutations.random_one(files.run, draws)
        directory.file(2).write_bytes(content)
        try:
            load_run(directory.file(2))
        except CheckpointError:
            pass
        else:
            continue
        with pytest.warns(UserWarning, match="step-000000000002") as warned:
            found = directory.newest()
        assert found.shown == str(directory.file(1)), (number, what)
        assert len(warned) == 1
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
