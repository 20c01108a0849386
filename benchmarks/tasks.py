"""The two tasks that every peer is measured on, the answer it must reach, and the clock.

This file needs NumPy alone: it is imported by each peer in a process of its own.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


Layer = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, the rows of each batch, and the weights to start from.

    `layers` holds (weight, bias) pairs of shapes `(out, in)` and `(out,)`, with a relu between
    two layers.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    indices: np.ndarray
    layers: list[Layer]
    learning_rate: float
    # After how many steps a peer's weights are held against `trajectory`.
    checked: int

    @property
    def steps(self) -> int:
        return self.indices.shape[0]

    @property
    def batch_size(self) -> int:
        return self.indices.shape[1]

    def first(self, steps: int) -> "Task":
        """The same task, ended early."""
        return dataclasses.replace(self, indices=self.indices[:steps])

    def in_order(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The first batches laid end to end, for peers that read rows only in their order."""
        rows = self.indices[:steps].ravel()
        return self.inputs[rows], self.targets[rows]


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a peer trains: `run(start())` is one fit, and only `run`, which blocks, is timed."""

    start: Callable[[], Any]
    run: Callable[[Any], Any]
    # The result's weights and biases, layer by layer.
    weights: Callable[[Any], Sequence[Any]]
    steps: int
    note: str = ""
    # The rows of each batch where a peer draws its own.
    indices: np.ndarray | None = None
    same_task: bool = True


def seed() -> Task:
    """One neuron: 5,000 steps of SGD on RMSE, each on a bootstrap sample of 100 rows of 1,000."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1000, 2))
    targets = inputs @ [2.0, -3.4] + 4.2 + random.normal(scale=0.1, size=1000)
    indices = random.integers(0, 1000, size=(5000, 100), dtype=np.int32)
    layers = [(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))]
    inputs, targets = inputs.astype("f4"), targets.astype("f4")
    return Task("seed", inputs, targets, indices, layers, 0.01, checked=len(indices))


def mlp() -> Task:
    """784-512-512-10 with relu: 256 steps (4 epochs) of Adam on cross entropy, 128 rows each.

    Relus that flip blow rounding up, until any two programs in float32 lie 0.02 apart; so the
    weights are compared after the first steps, while an error of the task would still show.
    """
    random = np.random.default_rng(0)
    inputs = random.normal(size=(8192, 784)).astype("f4")
    targets = (inputs @ random.normal(size=(784, 10))).argmax(axis=1).astype(np.int32)
    epochs = [random.permutation(len(inputs)).reshape(-1, 128) for _ in range(4)]
    indices = np.concatenate(epochs).astype(np.int32)
    sizes = [784, 512, 512, 10]
    layers = [
        (random.normal(scale=n**-0.5, size=(m, n)).astype("f4"), np.zeros(m, "f4"))
        for n, m in itertools.pairwise(sizes)
    ]
    return Task("mlp", inputs, targets, indices, layers, 1e-3, checked=8)


TASKS = {"seed": seed, "mlp": mlp}


def trajectory(task: Task, indices: np.ndarray) -> list[np.ndarray]:
    """The weights after these batches: NumPy, float64, gradients by hand."""
    weights = [array.astype(np.float64) for layer in task.layers for array in layer]
    inputs, targets = task.inputs.astype(np.float64), task.targets
    slope = _slope_of_rmse if task.name == "seed" else _slope_of_cross_entropy
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    for step, rows in enumerate(indices, start=1):
        grads = _gradients(weights, inputs[rows], lambda out, rows=rows: slope(out, targets[rows]))
        if task.name == "seed":
            weights = [w - task.learning_rate * g for w, g in zip(weights, grads, strict=True)]
            continue
        # Kingma & Ba, 2015, algorithm 1.
        for w, m, v, g in zip(weights, first, second, grads, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
            w -= task.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)
    return weights


def _gradients(weights: list[np.ndarray], inputs: np.ndarray, slope: Callable) -> list[np.ndarray]:
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    layer_inputs, values = [], inputs
    for place, (weight, bias) in enumerate(layers):
        values = np.maximum(values, 0) if place else values
        layer_inputs.append(values)
        values = values @ weight.T + bias
    grads, delta = [], slope(values)
    for (weight, _), values in zip(layers[::-1], layer_inputs[::-1], strict=True):
        grads += [delta.sum(axis=0), delta.T @ values]
        delta = (delta @ weight) * (values > 0)
    return grads[::-1]


def _slope_of_rmse(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    residual = outputs[:, 0] - targets
    return (residual / (len(residual) * np.sqrt(np.mean(residual**2))))[:, None]


def _slope_of_cross_entropy(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    exp = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    slope = exp / exp.sum(axis=1, keepdims=True)
    slope[np.arange(len(targets)), targets] -= 1
    return slope / len(targets)


def clock(fit: Fit) -> list[float]:
    """The seconds of each fit of one turn: one, or as many as fill a tenth of a second."""
    seconds: list[float] = []
    while sum(seconds) < 0.1:
        state = fit.start()
        began = time.perf_counter()
        fit.run(state)
        seconds.append(time.perf_counter() - began)
    return seconds


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads as plain text and as Markdown; the columns between name and note are
    numbers, to the right."""
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if 0 < place < len(cells) - 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])
