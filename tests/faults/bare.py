"""A process without JAX that saves checkpoints, and is ended or refused by the system as it is told.

As a program it is a server: a line of JSON names a folder and what is to happen there, a child is
forked that saves, and how the child ended comes back as a line. As a module it has what a save
holds, and the checks of what it left behind.
"""

import json
import os
import pathlib
import resource
import signal
import sys
import traceback
import types


ROOT = pathlib.Path(__file__).parents[2]
LAST = 3
KEPT = 2
BEST = "best.safetensors"
# What a save calls, by the name in `os`; `fcntl.lockf` beside.
CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "mkdir", "listdir", "scandir")
REFUSED, WRONG = 3, 4


def facts(step):
    """Those of a run that has taken so many steps, as small as they can be."""
    counts = {"step": step, "steps_per_epoch": 5, "fits": 0, "taken": step}
    empty = {"configuration": {}, "position": None, "history": {}, "callbacks": {}}
    ended = {"ending": False, "stopped": None}
    return {"kind": "run", "numbers": {}, "keys": {}, **counts, **empty, **ended}


def content(step, size=300):
    """The bytes of a checkpoint; its one array repeats the step."""
    import numpy as np

    from neuron.checkpoint.format import encode

    return encode({"numbers": np.full(size, step, np.float32)}, facts(step))


def save_all(folder, acknowledge, last=LAST):
    """What a fit with a `Checkpoint` does on the disk, from where the one before was ended."""
    from neuron.checkpoint.directory import Directory
    from neuron.checkpoint.files import write

    directory = Directory(folder)
    with directory.locked():
        for step in range(max(directory.steps(), default=0) + 1, last + 1):
            write(directory.path / BEST, content(step))
            acknowledge(f"best {step}")
            write(directory.file(step), content(step))
            acknowledge(f"step {step}")
            directory.prune(KEPT, step)


def without_jax():
    """Lets the files of checkpoints be imported without their package, and so without JAX."""
    names = {"neuron": "neuron", "neuron.checkpoint": "neuron/checkpoint"}
    for name, folder in names.items():
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT / folder)]
        sys.modules[name] = package
    runs = types.ModuleType("neuron.checkpoint.runs")
    runs.Saved = type("Saved", (), {})
    sys.modules[runs.__name__] = runs
    content(0)
    # Imported where it is needed, which a system that refuses every file would not allow.
    import fcntl  # noqa: F401

    import neuron.checkpoint.directory  # noqa: F401

    assert "jax" not in sys.modules


def at_call(number, act, *, limit=None):
    """Calls something just before the so manieth call into the system.

    With a limit, `os.write` takes so many bytes at most, as the system may.
    """
    seen = 0

    def watched(call):
        def calls(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == number:
                act()
            if call is write and limit is not None:
                arguments = (arguments[0], arguments[1][:limit])
            return call(*arguments, **options)

        return calls

    write = os.write
    for name in CALLS:
        setattr(os, name, watched(getattr(os, name)))


def child(order):
    """Saves as it was ordered, and never returns."""
    acknowledged = order["acknowledged"]
    # Not by `write`, which may be what the system is made to refuse.
    acknowledge = lambda text: os.pwrite(acknowledged, f"{text}\n".encode(), 0)
    code = WRONG
    try:
        limits = {name: order.get(name) for name in ("RLIMIT_FSIZE", "RLIMIT_NOFILE")}
        for name, limit in limits.items():
            if limit is not None:
                hard = resource.getrlimit(getattr(resource, name))[1]
                resource.setrlimit(getattr(resource, name), (limit, hard))
        if order["how"] == "kill":
            end = lambda: os.kill(os.getpid(), signal.SIGKILL)
            at_call(order["when"], end, limit=order.get("limit"))
        else:
            # Not by `read`, for the same reason.
            os.readv(order["gate"], [bytearray(1)])
        code = ended(order, acknowledge)
    finally:
        os._exit(code)


def ended(order, acknowledge):
    """How it ended, as an exit code."""
    from neuron.checkpoint.files import read
    from neuron.checkpoint.format import decode
    from neuron.errors import CheckpointError

    try:
        if order.get("reads"):
            decode(read(pathlib.Path(order["folder"])), "it")
        else:
            save_all(order["folder"], acknowledge, order.get("last", LAST))
    except CheckpointError:
        return REFUSED
    except BaseException:
        traceback.print_exc()
        return WRONG
    return 0


def serve():
    without_jax()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        opens, order["gate"] = None, None
        if order["how"] == "wait":
            order["gate"], opens = os.pipe()
        # Before the child is there: strace may be faster than it.
        order["acknowledged"] = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        process = os.fork()
        if process == 0:
            child(order)
        os.close(order["acknowledged"])
        if opens is not None:
            print(process, flush=True)
            # The parent has attached to it.
            sys.stdin.readline()
            os.write(opens, b"x")
            os.close(opens)
            os.close(order["gate"])
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
