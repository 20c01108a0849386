"""Peers in processes of their own that take turns: the side of `row.py` that asks."""

import functools
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tasks import TASKS
from trajectory import trajectory


HERE = pathlib.Path(__file__).parent


class Row:
    """A peer in its process: ready, `missing`, or `failed`."""

    def __init__(
        self,
        task: str,
        name: str,
        peer: str,
        folder: str,
        steps: list[str],
        verdict: Callable[[str, str], str] | None = None,
    ):
        self.name = name
        self.seconds: list[list[float]] = []
        self.note, self.verdict = "", ""
        arrays = os.path.join(folder, f"{peer}.npz")
        self._errors = open(os.path.join(folder, f"{peer}.txt"), "w+")  # noqa: SIM115
        command = [sys.executable, str(HERE / "row.py"), task, peer, arrays, *steps]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )
        self.ready = self._answer()
        if "steps" in self.ready:
            self.note = self.ready["note"]
            self.verdict = (verdict or _verdict)(task, arrays) if self.ready["same_task"] else "-"

    def turn(self) -> None:
        """A tenth of a second of fits, or one."""
        if "steps" in self.ready:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            answer = self._answer()
            if isinstance(answer, dict):
                self.ready, self.seconds = answer, []
            else:
                self.seconds.append(answer)

    def us(self, figure: Callable = statistics.median) -> float:
        """The median over all turns, in µs per step."""
        fits = itertools.chain.from_iterable(self.seconds)
        return figure(fits) / self.ready["steps"] * 1e6

    def close(self) -> None:
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> Any:
        # What a peer prints on the way is not an answer.
        for line in self._process.stdout:
            if line[0] in "[{":
                return json.loads(line)
        self._errors.seek(0)
        return {"failed": (self._errors.read().strip().splitlines() or ["no message"])[-1]}


def _verdict(task: str, arrays: str) -> str:
    with np.load(arrays) as saved:
        right = _right_weights(task, saved["batches"].shape, saved["batches"].tobytes())
        return same(saved["weights"], right)


def same(weights: np.ndarray, right: np.ndarray) -> str:
    """Whether no weight is further from the right one than 1e-3, and the largest difference."""
    error = np.abs(weights - right).max()
    return f"{'yes' if error < 1e-3 else 'NO'}, {error:.0e}"


@functools.lru_cache(maxsize=8)
def _right_weights(task: str, shape: tuple[int, int], batches: bytes) -> np.ndarray:
    indices = np.frombuffer(batches, np.int32).reshape(shape)
    return np.concatenate([w.ravel() for w in trajectory(TASKS[task](), indices)])


def take_turns(label: str, rows: Sequence[Row], turns: int) -> None:
    """One computes at a time; then the processes end."""
    for turn in range(turns):
        print(f"{label}: turn {turn + 1} of {turns}", file=sys.stderr)
        for row in rows:
            row.turn()
    for row in rows:
        row.close()


def figure(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
