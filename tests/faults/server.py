"""The other side of `bare.py`: orders a child, attaches strace to it, and checks what it left."""

import collections
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import warnings

import bare
import numpy as np

from neuron.checkpoint import Directory
from neuron.checkpoint.directory import load_run


class Server:
    """A process that forks children which save."""

    def __enter__(self):
        command = [sys.executable, str(pathlib.Path(bare.__file__))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, **pipes)
        assert self._line() == "ready"
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def order(self, folder, log, **how):
        """How a child ended: its exit code, or the signal as a negative number."""
        self._say(json.dumps({"folder": str(folder), "log": str(log), **how}))
        return int(self._line())

    def traced(self, folder, log, expression, **order):
        """The same with strace attached, from the child's first call on; and what strace wrote."""
        self._say(json.dumps({"folder": str(folder), "log": str(log), "how": "wait", **order}))
        process, out = self._line(), pathlib.Path(log).with_suffix(".strace")
        command = ["strace", "-f", "-p", process, "-o", str(out), "-e", expression]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            said = strace.stderr.readline()
            self._say("go")
            code = int(self._line())
            said += strace.stderr.read()
        if "attached" not in said:
            raise PermissionError(said)
        return code, out.read_text()

    def _say(self, text):
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def _line(self):
        return self._process.stdout.readline().strip()


def can_trace():
    """Whether strace is there, and may attach."""
    try:
        command = ["strace", "-o", "/dev/null", "true"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def calls_of(trace):
    """How often strace saw each call, but for the first one, `readv`, which waits for strace, and
    the last one."""
    names = re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE)
    return collections.Counter(name for name in names if name not in ("readv", "exit_group"))


def acknowledged(log):
    """The last step that was said to be saved, in a file of its own and among the best."""
    last = {"step": 0, "best": 0}
    with contextlib.suppress(FileNotFoundError):
        for line in pathlib.Path(log).read_text().splitlines():
            kind, step = line.split()
            last[kind] = int(step)
    return last


def step_of(path):
    """The step of a checkpoint that is whole."""
    saved = load_run(path)
    assert np.array_equal(saved._arrays["numbers"], np.full(300, saved.step, np.float32))
    return saved.step


def check(folder, last):
    """Nothing that has a checkpoint's name is unreadable, and nothing acknowledged is lost."""
    folder = pathlib.Path(folder)
    with warnings.catch_warnings():
        # One that had to be skipped would be warned about.
        warnings.simplefilter("error")
        newest = Directory(folder).newest()
    assert (0 if newest is None else newest.step) >= last["step"]
    steps = [step_of(file) for file in folder.glob("step-*.safetensors")]
    assert set(steps) >= {step for step in (last["step"], last["step"] - 1) if step > 0}
    assert (step_of(folder / bare.BEST) if (folder / bare.BEST).exists() else 0) >= last["best"]


def left(folder):
    """Temporary files."""
    return [file.name for file in pathlib.Path(folder).glob(".*.tmp")]
