"""Loggers of files: what is in them, and that neither a kill nor a full disk leaves half a line."""

import csv
import errno
import itertools
import json
import os
import pathlib
import resource

import jax
import numpy as np
import pytest

import neuron
from neuron.run import Run


rng = np.random.default_rng(3)
X = rng.normal(size=(40, 2)).astype(np.float32)
Y = (X @ np.array([3.0, 4.0]) + 5 + 0.3 * rng.normal(size=40)).astype(np.float32)
LOGGERS = {"log.csv": neuron.CSVLogger, "log.jsonl": neuron.JSONLLogger}
both = pytest.mark.parametrize("name", LOGGERS)


def trainer(*callbacks, **options):
    model = neuron.Dense(2, key=jax.random.key(1))
    options = {"progress": False, "optimizer": neuron.SGD(0.05)} | options
    return neuron.Trainer(model, callbacks=callbacks, **options)


def loader():
    return neuron.DataLoader((X, Y), 10, sampler=neuron.Shuffle(seed=4))


def rows(path):
    """A log as dicts; a cell of CSV that is empty is none."""
    path = pathlib.Path(path)
    text = path.read_text()
    assert text.endswith("\n")
    if path.suffix == ".jsonl":
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    table = csv.DictReader(text.splitlines(), strict=True)
    return [{n: json.loads(v) for n, v in row.items() if v} for row in table]


class At:
    """As much of a trainer as a logger looks at."""

    def __init__(self, step):
        self.step = step


def written(logger, *lines, begin=0):
    logger.on_fit_begin(At(begin))
    for values, step in lines:
        logger.log(values, step)
    logger.on_fit_end(At(step))


@both
def test_each_epoch_is_a_row(tmp_path, name):
    fitted = trainer(LOGGERS[name](tmp_path / "new" / name))
    fitted.fit(loader(), epochs=3, validation=(X, Y))
    expected = [{n: v for n, v in row.items() if n != "seconds"} for row in fitted.history.epochs]
    assert rows(tmp_path / "new" / name) == expected
    assert set(expected[0]) == {"epoch", "step", "loss", "val_loss", "learning_rate"}


@both
def test_seconds_are_written_on_request(tmp_path, name):
    fitted = trainer(LOGGERS[name](tmp_path / name, seconds=True))
    fitted.fit(loader(), epochs=2)
    assert rows(tmp_path / name) == fitted.history.epochs


@both
def test_steps_have_rows_where_somebody_asks(tmp_path, name):
    fitted = trainer(LOGGERS[name](tmp_path / name, every=3))
    fitted.fit(loader(), steps=9)
    of_steps = [row for row in rows(tmp_path / name) if "epoch" not in row]
    assert [row["step"] for row in of_steps] == [3, 6, 9]
    assert [row["step_loss"] for row in of_steps] == fitted.history["loss"][2::3].tolist()
    assert [row["step"] for row in rows(tmp_path / name)] == [3, 4, 6, 8, 9]


def test_epochs_alone_cut_a_run_nowhere_else(tmp_path, monkeypatch):
    asked, take = [], Run.take
    monkeypatch.setattr(Run, "take", lambda run, steps: (asked.append(steps), take(run, steps))[1])
    monkeypatch.setattr("neuron.driving.Slices.steps", lambda slices: _started(slices))
    trainer(neuron.JSONLLogger(tmp_path / "log")).fit(loader(), epochs=2)
    assert asked == [4, 4]


def _started(slices):
    slices._started = 0.0
    return 10_000


def test_logging_changes_no_bit(tmp_path):
    plain, logged = trainer(), trainer(neuron.CSVLogger(tmp_path / "log.csv", every=1))
    for each in (plain, logged):
        each.fit(loader(), epochs=3)
    assert (plain.history["loss"] == logged.history["loss"]).all()


def test_a_logger_of_ones_own_writes_one_method():
    class Memory(neuron.Logger):
        def __init__(self, every=None):
            self.every, self.rows = every, []

        def log(self, values, step):
            self.rows.append((step, sorted(values)))

    epochs, steps = Memory(), Memory(every=4)
    trainer(epochs, steps).fit(loader(), epochs=2, validation=(X, Y))
    row = ["epoch", "learning_rate", "loss", "seconds", "val_loss"]
    of_step = ["step_learning_rate", "step_loss"]
    assert epochs.rows == [(4, row), (8, row)]
    assert steps.rows == [(4, of_step), (4, row), (8, of_step), (8, row)]
    with pytest.raises(TypeError, match="abstract"):
        neuron.Logger()


def test_a_name_that_comes_later_is_a_column_behind_the_others(tmp_path):
    path = tmp_path / "log.csv"
    matrix = np.array([[1, 2], [3, 4]])
    written(
        neuron.CSVLogger(path),
        ({"epoch": 1, "loss": 0.5}, 10),
        ({"epoch": 2, "loss": 0.25, "val_loss": 1.0, "m": matrix}, 20),
        ({"epoch": 3, "loss": 0.125, "m": matrix, 'b "quoted", name': 7.0}, 30),
        ({"epoch": 4}, 40),
    )
    assert path.read_text() == (
        'step,epoch,loss,val_loss,m,"b ""quoted"", name"\n'
        "10,1,0.5,,,\n"
        '20,2,0.25,1.0,"[[1, 2], [3, 4]]",\n'
        '30,3,0.125,,"[[1, 2], [3, 4]]",7.0\n'
        "40,4,,,,\n"
    )
    assert os.listdir(tmp_path) == ["log.csv"]


@both
def test_arrays_of_a_fit_are_there(tmp_path, name):
    classes = (Y > 5).astype(np.int32)
    model = neuron.Dense(2, 2, key=jax.random.key(1))
    counted = neuron.Trainer(
        model,
        neuron.CrossEntropy(),
        metrics={"confusion": neuron.ConfusionMatrix()},
        callbacks=[LOGGERS[name](tmp_path / name)],
        progress=False,
    )
    counted.fit((X, classes), epochs=2, validation=(X, classes))
    for row, expected in zip(rows(tmp_path / name), counted.history.epochs, strict=True):
        for matrix in ("confusion", "val_confusion"):
            assert row[matrix] == expected[matrix].tolist()


@both
def test_numbers_are_written_to_the_bit_and_what_is_not_finite_as_a_word(tmp_path, name):
    values = {"a": 0.1, "b": float(np.float32(0.1)), "c": 5e-324, "d": np.float32(1 / 3), "e": 7}
    odd = {"f": np.nan, "g": np.inf, "h": -np.inf}
    written(LOGGERS[name](tmp_path / name), ({**values, **odd, "i": np.array([1, np.nan])}, 1))
    text = (tmp_path / name).read_text()
    if name.endswith("jsonl"):
        (row,) = rows(tmp_path / name)
    else:
        (row,) = csv.DictReader(text.splitlines())
        row["i"] = json.loads(row["i"])
    assert all(float(row[name]) == float(value) for name, value in values.items())
    assert [row[name] for name in odd] == ["nan", "inf", "-inf"]
    assert row["i"] == [1.0, "nan"]


@both
def test_a_new_run_moves_an_earlier_one_aside(tmp_path, name):
    path = tmp_path / name
    stem, suffix = name.split(".")
    for loss in (1.0, 2.0, 3.0):
        written(LOGGERS[name](path), ({"loss": loss}, 1))
    kept = [tmp_path / f"{stem}.{number}.{suffix}" for number in (1, 2)]
    assert [rows(each)[0]["loss"] for each in (*kept, path)] == [1, 2, 3]
    written(LOGGERS[name](path, overwrite=True), ({"loss": 4.0}, 1))
    assert len(os.listdir(tmp_path)) == 3
    assert rows(path)[0]["loss"] == 4


@both
def test_further_fits_go_on_in_the_same_file(tmp_path, name):
    whole, again = tmp_path / "whole" / name, tmp_path / "again" / name
    trainer(LOGGERS[name](whole)).fit(loader(), epochs=3)
    further = trainer(LOGGERS[name](again))
    for _ in range(3):
        further.fit(loader(), epochs=1)
    assert again.read_bytes() == whole.read_bytes()


def unstopped(folder, name):
    """The log of a run of 16 steps, and the log of its first 8 in a folder of its own."""
    paths = folder / "whole" / name, folder / "resumed" / name
    for path, epochs in zip(paths, (4, 2), strict=True):
        trainer(LOGGERS[name](path, every=3)).fit(loader(), epochs=epochs, validation=(X, Y))
    return paths


# What a kill may leave behind the eight steps that a checkpoint knows of.
LEFT = {
    "nothing": lambda whole, half: half,
    "later rows": lambda whole, half: whole,
    "one byte": lambda whole, half: whole[: len(half) + 1],
    "half a line": lambda whole, half: whole[: len(half) + 9],
    "a line without its break": lambda whole, half: whole[: whole.index(b"\n", len(half))],
    "later rows and half a line": lambda whole, half: whole[:-4],
    "half of what it knows of": lambda whole, half: half[:-4],
    "zeros of a lost page": lambda whole, half: half + bytes(100),
}


@both
@pytest.mark.parametrize("left", LEFT)
def test_a_resumed_run_has_the_file_of_one_that_was_never_stopped(tmp_path, name, left):
    whole, resumed = unstopped(tmp_path, name)
    resumed.write_bytes(LEFT[left](whole.read_bytes(), resumed.read_bytes()))
    lost = left == "half of what it knows of"

    before = trainer()
    before.fit(loader(), epochs=2, validation=(X, Y))
    after = trainer(LOGGERS[name](resumed, every=3))
    after.state = before.state
    after.fit(loader(), epochs=2, validation=(X, Y))
    if lost:
        assert [row["step"] for row in rows(resumed)] == [3, 4, 6, 9, 12, 12, 15, 16]
    else:
        assert resumed.read_bytes() == whole.read_bytes()
    assert os.listdir(resumed.parent) == [name]


def test_columns_of_rows_that_are_dropped_stay(tmp_path):
    # They come again, and in their old place.
    lines = [({"loss": 1.0}, 1), ({"loss": 2.0, "late": 5.0}, 2), ({"later": 7.0}, 3)]
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    written(neuron.CSVLogger(whole), *lines)
    resumed.write_bytes(whole.read_bytes())
    written(neuron.CSVLogger(resumed), *lines[1:], begin=1)
    assert resumed.read_bytes() == whole.read_bytes()


@both
def test_a_run_that_goes_on_without_its_file_begins_one(tmp_path, name):
    path = tmp_path / name
    written(LOGGERS[name](path), ({"loss": 1.0}, 9), begin=8)
    assert rows(path) == [{"step": 9, "loss": 1.0}]
    path.write_bytes(b"")
    written(LOGGERS[name](path), ({"loss": 1.0}, 9), begin=8)
    assert rows(path) == [{"step": 9, "loss": 1.0}]


@both
def test_the_file_is_closed_however_a_fit_ends(tmp_path, name):
    class Raising(neuron.Callback):
        def __init__(self, error):
            self.error = error

        def on_epoch_end(self, trainer, logs):
            raise self.error

    path = tmp_path / name
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            trainer(LOGGERS[name](path), Raising(error)).fit(loader(), epochs=2)
        assert len(rows(path)) == 1
        # Only one at a time may have it.
        written(LOGGERS[name](path), ({"loss": 1.0}, 1))


@both
def test_a_callback_that_refuses_to_begin_leaves_nothing_open(tmp_path, name):
    class Refusing(neuron.Callback):
        def on_fit_begin(self, trainer):
            raise KeyError

    logger = LOGGERS[name](tmp_path / name)
    with pytest.raises(KeyError):
        trainer(Refusing(), logger).fit(loader(), epochs=1)
    assert not (tmp_path / name).exists()


@pytest.fixture
def disk():
    """Files may have so many bytes, and the system says so in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@both
def test_a_full_disk_names_the_file_and_leaves_whole_lines(tmp_path, disk, name):
    path = tmp_path / name
    logger = LOGGERS[name](path)
    logger.on_fit_begin(At(0))
    disk(1000)

    def endless():
        for step in itertools.count(1):
            logger.log({"loss": 1 / step}, step)

    with pytest.raises(OSError, match=rf"`{type(logger).__name__}\(.*{name}") as caught:
        endless()
    disk(None)
    assert caught.value.errno == errno.EFBIG
    count = len(rows(path))
    assert 1000 - 60 < path.stat().st_size <= 1000
    # The line that had no place comes once there is one.
    logger.log({"loss": 1 / (count + 1)}, count + 1)
    assert [row["step"] for row in rows(path)] == list(range(1, count + 2))
    logger.on_fit_end(At(0))


@both
def test_a_first_line_without_a_place_takes_nothing(tmp_path, disk, name):
    path = tmp_path / name
    logger = LOGGERS[name](path)
    logger.on_fit_begin(At(0))
    disk(12)
    with pytest.raises(OSError):
        logger.log({"loss": 1.0}, 1)
    disk(None)
    assert path.read_bytes() == b""
    logger.log({"loss": 1.0}, 1)
    logger.on_fit_end(At(1))
    assert rows(path) == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_table_that_can_not_be_rewritten_is_left_as_it_was(tmp_path, monkeypatch, call):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "log.csv"
    logger = neuron.CSVLogger(path)
    logger.on_fit_begin(At(0))
    logger.log({"loss": 1.0}, 1)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match=r"`CSVLogger\(.*No space left"):
            logger.log({"loss": 1.0, "late": 2.0}, 2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["log.csv"]
    logger.log({"loss": 1.0, "late": 2.0}, 2)
    logger.on_fit_end(At(2))
    assert rows(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0, "late": 2.0}]


def test_a_row_that_found_no_place_behind_its_new_column_comes_later(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "log.csv"
    logger = neuron.CSVLogger(path)
    logger.on_fit_begin(At(0))
    logger.log({"loss": 1.0}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            logger.log({"loss": 1.0, "late": 2.0}, 2)
    logger.log({"loss": 1.0, "late": 2.0}, 2)
    logger.on_fit_end(At(2))
    assert path.read_text() == "step,loss,late\n1,1.0,\n2,1.0,2.0\n"


@both
@pytest.mark.parametrize("begin", [0, 1])
def test_what_a_killed_process_was_putting_together_is_deleted(tmp_path, name, begin):
    (tmp_path / f".{name}.tmp").write_text("step,lo")
    written(LOGGERS[name](tmp_path / name), ({"loss": 1.0}, 2), begin=begin)
    assert os.listdir(tmp_path) == [name]


def folder(path):
    path.mkdir()


def below_a_file(path):
    path.parent.joinpath("file").write_text("")
    return path.parent / "file" / "log"


def fifo(path):
    os.mkfifo(path)


def text(content):
    return lambda path: path.write_bytes(content) and None


# (what lies there, the step at which a run begins, the error, what it says)
FILES = [
    (folder, 0, IsADirectoryError, "Is a directory"),
    (below_a_file, 0, OSError, "(Not a directory|File exists)"),
    (fifo, 0, OSError, "must be a regular file"),
    (text(b"hello\n"), 5, ValueError, "line 1 of this one is none of its"),
    (text(b'{"loss": 1}\n'), 5, ValueError, "line 1 of this one is none of its"),
    (text(b"[1]\n"), 5, ValueError, "line 1 of this one is none of its"),
    (text(b"\xff\xfe\n"), 5, ValueError, "line 1 of this one is none of its"),
]


@both
@pytest.mark.parametrize(("lies", "step", "error", "words"), FILES)
def test_a_file_that_can_not_be_is_refused_before_the_first_step(
    tmp_path, name, lies, step, error, words
):
    path = lies(tmp_path / name) or tmp_path / name
    logger = LOGGERS[name](path)
    with pytest.raises(error, match=words) as caught:
        logger.on_fit_begin(At(step))
    assert f"`{LOGGERS[name].__name__}('{path}')`" in str(caught.value)
    logger.on_fit_end(At(step))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("log.csv", ["step,loss", "1,1.0", "x,1.0", "3,1.0"]),
        ("log.csv", ["step,loss", "1,1.0", "", "3,1.0"]),
        ("log.jsonl", ['{"step": 1}', '{"step": 2}', '{"step": ', '{"step": 3}']),
        ("log.jsonl", ['{"step": 1}', '{"step": 2}', "[" * 100_000, '{"step": 3}']),
    ],
)
def test_a_line_in_the_middle_that_is_none_is_refused(tmp_path, name, lines):
    text = "".join(f"{line}\n" for line in lines)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="line 3 of this one"):
        written(LOGGERS[name](tmp_path / name), ({"loss": 1.0}, 6), begin=5)
    assert (tmp_path / name).read_text() == text


@both
def test_a_line_may_be_long(tmp_path, name):
    # The reader of the standard library takes no cell of more than 131,072 characters.
    path = tmp_path / name
    matrix = np.arange(40_000).reshape(200, 200)
    for begin in (0, 1):
        written(LOGGERS[name](path), ({"m": matrix}, begin + 1), begin=begin)
    lines = path.read_text().splitlines()[-2:]
    assert all(len(line) > 200_000 for line in lines)
    assert lines[0].replace("1", "2", 1) == lines[1]


ARGUMENTS = [
    ({"path": 7}, TypeError, r"`{}\(path\)` must be a path; got 7"),
    ({"path": b"log"}, TypeError, r"`{}\(path\)` must be a path; got b'log'"),
    ({"every": 0}, ValueError, r"`{}\(every=...\)` must be at least 1; got 0"),
    ({"every": -3}, ValueError, r"`{}\(every=...\)` must be at least 1; got -3"),
    ({"every": 1.5}, TypeError, r"`{}\(every=...\)` must be a whole number; got 1.5"),
    ({"every": True}, TypeError, r"`{}\(every=...\)` must be a whole number; got True"),
    ({"every": "epoch"}, TypeError, r"`{}\(every=...\)` must be a whole number; got 'epoch'"),
    ({"overwrite": "no"}, TypeError, r"`{}\(overwrite=...\)` must be True or False; got 'no'"),
]


@both
@pytest.mark.parametrize(("arguments", "error", "words"), ARGUMENTS)
@pytest.mark.usefixtures("unchecked")
def test_arguments_are_refused(name, arguments, error, words):
    kind = LOGGERS[name]
    with pytest.raises(error, match=words.format(kind.__name__)):
        kind(**({"path": "log"} | arguments))


@both
def test_two_loggers_of_one_file_are_refused(tmp_path, name):
    path = tmp_path / name
    link = tmp_path / "link"
    link.symlink_to(path)
    for other in (path, link):
        pair = LOGGERS[name](path), LOGGERS[name](other)
        with pytest.raises(BlockingIOError, match="another logger or another process"):
            trainer(*pair).fit(loader(), epochs=1)
    logger = LOGGERS[name](path)
    with pytest.raises(BlockingIOError):
        trainer(logger, logger).fit(loader(), epochs=1)
    trainer(logger).fit(loader(), epochs=1)
    assert len(rows(path)) == 1


def test_a_table_that_was_rewritten_is_still_locked(tmp_path):
    first, second = (neuron.CSVLogger(tmp_path / "log.csv") for _ in range(2))
    first.on_fit_begin(At(0))
    for step, values in enumerate(({"a": 1.0}, {"a": 1.0, "b": 2.0}), 1):
        first.log(values, step)
    with pytest.raises(BlockingIOError):
        second.on_fit_begin(At(0))
    first.on_fit_end(At(2))
    second.on_fit_begin(At(2))
    second.on_fit_end(At(2))


@both
def test_a_file_that_is_taken_away_is_an_error(tmp_path, name):
    logger = LOGGERS[name](tmp_path / name)
    logger.on_fit_begin(At(0))
    logger.log({"loss": 1.0}, 1)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match="moved or deleted"):
        logger.log({"loss": 1.0}, 2)
    logger.on_fit_end(At(2))
    with pytest.raises(OSError, match="while a fit runs"):
        logger.log({"loss": 1.0}, 3)


def test_names_with_line_breaks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="line breaks"):
        written(neuron.CSVLogger(tmp_path / "log.csv"), ({"a\nb": 1.0}, 1))


@both
def test_a_link_stays_one(tmp_path, name):
    (tmp_path / "disk").mkdir()
    link, path = tmp_path / name, tmp_path / "disk" / name
    link.symlink_to(path)
    logged = [({"a": 1.0}, 1), ({"a": 1.0, "b": 2.0}, 2)]
    written(LOGGERS[name](link), *logged)
    assert link.is_symlink()
    assert len(rows(path)) == 2


def test_a_checkpoint_waits_until_its_lines_are_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file))
    )
    for name, kind in LOGGERS.items():
        logger = kind(tmp_path / name)
        assert logger.state_dict() == {}
        logger.on_fit_begin(At(0))
        logger.log({"loss": 1.0}, 1)
        assert synced == []
        assert logger.state_dict() == {}
        assert synced == [(tmp_path / name).stat().st_ino, tmp_path.stat().st_ino]
        logger.on_fit_end(At(1))
        synced.clear()


@both
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_file_systems_without_locks_serve(tmp_path, monkeypatch, name, number):
    def refuse(*arguments):
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    written(LOGGERS[name](tmp_path / name), ({"loss": 1.0}, 1))
    assert len(rows(tmp_path / name)) == 1


def test_steps_of_a_file_never_fall(tmp_path):
    fitted = trainer(neuron.JSONLLogger(tmp_path / "log", every=2))
    fitted.fit(loader(), epochs=3)
    fitted.fit((X, Y), epochs=2)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log").read_text().splitlines()]
    assert all(a <= b for a, b in itertools.pairwise(steps))
