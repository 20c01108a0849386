"""Loggers of files are killed: at random instants, and before each call to the system."""

import os
import pathlib
import subprocess
import sys


ROOT = pathlib.Path(__file__).parents[1]


# Logs without an end in a child that is killed at a random instant, many times over; each child
# goes on from a step that the last one may have passed. A column comes at step 700 of 1000 each,
# and once the child dies between the rewritten table and its new name.
KILLS = """
import itertools, os, pathlib, random, signal, sys, time
import numpy as np
import neuron

rounds, folder, draws = int(sys.argv[1]), pathlib.Path(sys.argv[2]), random.Random(int(sys.argv[3]))
KINDS = {"log.csv": neuron.CSVLogger, "log.jsonl": neuron.JSONLLogger}

class At:
    def __init__(self, step):
        self.step = step

def values(step):
    yield {"step_loss": 1 / step} | ({f"late_{step // 1000}": 0.5} if step % 1000 > 700 else {})
    if step % 50 == 0:
        yield {"epoch": step // 50, "loss": 2 / step, "m": np.arange(step % 7)}

def log(folder, begin, end):
    loggers = [kind(folder / name) for name, kind in KINDS.items()]
    for logger in loggers:
        logger.on_fit_begin(At(begin))
    for step in itertools.count(begin + 1) if end is None else range(begin + 1, end + 1):
        for each in values(step):
            for logger in loggers:
                logger.log(each, step)
    for logger in loggers:
        logger.on_fit_end(At(end))

def last_step(path):
    # Of a whole line, with nothing of ours.
    text = path.read_text() if path.exists() else ""
    lines = text[: text.rfind("\\n") + 1].splitlines()
    if not lines or lines[-1].startswith("step,"):
        return 0
    first = lines[-1].split(",")[0]
    return int(first.removeprefix('{"step": '))

begin = torn = 0
for number in range(rounds):
    child = os.fork()
    if not child:
        if number % 4 == 3:
            os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        log(folder, begin, None)
    time.sleep(draws.uniform(0.002, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    paths = [folder / name for name in KINDS]
    torn += sum(p.exists() and not p.read_bytes().endswith(b"\\n") for p in paths)
    reached = min(map(last_step, paths))
    assert reached >= begin, (reached, begin)
    # A step may have two lines, of which the last one seen is the first.
    begin = max(begin, reached - 1 - draws.randrange(40))
log(folder, begin, begin + 100)
(folder / "whole").mkdir()
log(folder / "whole", 0, begin + 100)
for name in KINDS:
    assert (folder / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
print(begin, torn, sorted(os.listdir(folder)))
"""


def test_kills_at_random_instants_leave_the_file_of_a_run_that_was_never_killed(tmp_path):
    seed = os.environ.get("SEED", str(int.from_bytes(os.urandom(4))))
    print(f"SEED={seed}")
    command = [sys.executable, "-W", "ignore", "-c", KILLS, "25", tmp_path, seed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reached = int(done.stdout.split()[0])
    assert reached > 0
    # What a child that died while it rewrote had left is gone; a first one that died at once may
    # have been moved aside.
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


# Dies just before the first, the second, ... of the calls to the system that a logger makes, until one
# comes through; after each death the next process must find all that it needs.
SWEEP = """
import os, pathlib, shutil, signal, sys
import neuron

folder, KINDS = pathlib.Path(sys.argv[1]), {"log.csv": neuron.CSVLogger, "log.jsonl": neuron.JSONLLogger}
CALLS = "open", "close", "write", "fsync", "ftruncate", "rename", "replace", "unlink"

class At:
    def __init__(self, step):
        self.step = step

def log(path, begin, steps):
    logger = KINDS[path.name](path)
    logger.on_fit_begin(At(begin))
    for step in steps:
        logger.log({"loss": 1 / step} | ({"late": 0.5} if step > 2 else {}), step)
    logger.state_dict()
    logger.on_fit_end(At(0))

def dying_before(call_number, *arguments):
    child = os.fork()
    if not child:
        left = [call_number]
        def dying(call):
            def called(*args, **options):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)
            return called
        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        log(*arguments)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

deaths = 0
for name in KINDS:
    (folder / "whole").mkdir(exist_ok=True)
    log(folder / "whole" / name, 0, range(1, 4))
    whole = (folder / "whole" / name).read_bytes()
    half = b"".join(whole.splitlines(True)[:-1]) + b"half a li"
    # Goes on from step 1: rows of later steps, half a line, and a column that comes at step 3.
    for before in (half, b""):
        for number in range(1, 1000):
            path = folder / "goes on" / name
            path.parent.mkdir()
            path.write_bytes(before)
            begin = 1 if before else 0
            died = dying_before(number, path, begin, range(begin + 1, 4))
            # A first run without a checkpoint moves aside what it left.
            log(path, begin, range(begin + 1, 4))
            assert path.read_bytes() == whole, (name, number, path.read_bytes())
            shutil.rmtree(path.parent)
            deaths += died
            if not died:
                break
    # A run from step 0 where there is another one's file.
    for number in range(1, 1000):
        path = folder / "another" / name
        path.parent.mkdir()
        path.write_bytes(b"of another run")
        died = dying_before(number, path, 0, range(1, 4))
        others = [p for p in path.parent.iterdir() if p.read_bytes() == b"of another run"]
        assert len(others) == 1, (name, number)
        log(path, 0, range(1, 4))
        assert path.read_bytes() == whole
        shutil.rmtree(path.parent)
        deaths += died
        if not died:
            break
print(deaths)
"""


def test_a_death_before_any_call_to_the_system_loses_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SWEEP, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Each call has its turn.
    assert int(done.stdout) > 60
