"""The tasks that every peer is measured on, and the clock.

This file needs NumPy alone, and scikit-learn for its digits: it is imported by each peer in a
process of its own.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


Layer = tuple[np.ndarray, ...]
# The words of a network whose arrays a task holds, in the order and shapes that PyTorch has.
WITH_ARRAYS = {
    "dense",  # weight (out, in), and a bias (out,) unless a `norm` follows
    "conv",  # weight (out, in, 3, 3) and bias (out,); stride 1, padded to the same size
    "norm",  # BatchNorm: gain and bias of each column; eps 1e-5, a tenth of the new statistics
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A network, data, the rows of each batch, and the weights to start from.

    Beside the words above, a network may have `relu`, `dropout`, `pool` (the largest of 2 x 2)
    and `flat` (channels first). One that ends in a single number is trained by SGD on the RMSE,
    any other by Adam on cross entropy.
    """

    name: str
    network: tuple[str, ...]
    inputs: np.ndarray
    targets: np.ndarray
    indices: np.ndarray
    layers: list[Layer]
    learning_rate: float
    # After how many steps a peer's weights are held against `trajectory`.
    checked: int
    dropout: float = 0.0

    @property
    def steps(self) -> int:
        return self.indices.shape[0]

    @property
    def batch_size(self) -> int:
        return self.indices.shape[1]

    @property
    def classifies(self) -> bool:
        return self.layers[-1][-1].shape[-1] > 1

    def parts(self) -> Iterator[tuple[str, Layer]]:
        """Each word of the network with its arrays; most words have none."""
        arrays = iter(self.layers)
        for word in self.network:
            yield word, next(arrays) if word in WITH_ARRAYS else ()

    def first(self, steps: int) -> "Task":
        """The same task, ended early."""
        return dataclasses.replace(self, indices=self.indices[:steps])

    def to_check(self) -> "Task":
        """The task as its weights are compared: no two libraries draw the same dropout."""
        return dataclasses.replace(self.first(self.checked), dropout=0.0)

    def in_order(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The first batches laid end to end, for peers that read rows only in their order."""
        rows = self.indices[:steps].ravel()
        return self.inputs[rows], self.targets[rows]


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a peer trains: `run(start())` is one fit, and only `run`, which blocks, is timed."""

    start: Callable[[], Any]
    run: Callable[[Any], Any]
    # The result's arrays, in the order of the task's layers.
    weights: Callable[[Any], Sequence[Any]]
    steps: int
    note: str = ""
    # The rows of each batch where a peer draws its own.
    indices: np.ndarray | None = None
    same_task: bool = True
    # How many models each step trains.
    members: int = 1


def seed() -> Task:
    """One neuron: 5,000 steps of SGD on RMSE, each on a bootstrap sample of 100 rows of 1,000."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1000, 2))
    targets = inputs @ [2.0, -3.4] + 4.2 + random.normal(scale=0.1, size=1000)
    indices = random.integers(0, 1000, size=(5000, 100), dtype=np.int32)
    layers: list[Layer] = [(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))]
    inputs, targets = inputs.astype("f4"), targets.astype("f4")
    return Task("seed", ("dense",), inputs, targets, indices, layers, 0.01, checked=len(indices))


def mlp() -> Task:
    """784-512-512-10 with relu: 256 steps (4 epochs) of Adam on cross entropy, 128 rows each.

    Relus that flip blow rounding up, until any two programs in float32 lie 0.02 apart; so the
    weights are compared after the first steps, while an error of the task would still show.
    """
    random = np.random.default_rng(0)
    inputs = random.normal(size=(8192, 784)).astype("f4")
    targets = (inputs @ random.normal(size=(784, 10))).argmax(axis=1).astype(np.int32)
    indices = _epochs(random, rows=8192, batch_size=128, count=4)
    sizes = itertools.pairwise([784, 512, 512, 10])
    layers = [(_weight(random, (m, n)), np.zeros(m, "f4")) for n, m in sizes]
    network = ("dense", "relu", "dense", "relu", "dense")
    return Task("mlp", network, inputs, targets, indices, layers, 1e-3, checked=8)


def norm() -> Task:
    """The same, with BatchNorm before each relu and dropout of 0.3 behind it.

    What goes into a BatchNorm has no bias: its gradient would be rounding, which Adam blows up.
    """
    plain = mlp()
    (first, _), (second, _), last = plain.layers
    scale = np.ones(512, "f4"), np.zeros(512, "f4")
    layers: list[Layer] = [(first,), scale, (second,), scale, last]
    network = ("dense", "norm", "relu", "dropout") * 2 + ("dense",)
    return dataclasses.replace(plain, name="norm", network=network, layers=layers, dropout=0.3)


def cnn() -> Task:
    """Two 3 x 3 convolutions, of 16 and 32 channels, and a dense layer, on scikit-learn's digits of
    8 x 8: 224 steps (8 epochs) of Adam on cross entropy, 64 of 1,792 rows each."""
    from sklearn.datasets import load_digits

    random = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    rows = 28 * 64
    inputs = (images[:rows] / 16).reshape(rows, 1, 8, 8).astype("f4")
    indices = _epochs(random, rows=rows, batch_size=64, count=8)
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (10, 32 * 4 * 4)]
    layers = [(_weight(random, shape), np.zeros(shape[0], "f4")) for shape in shapes]
    network = ("conv", "relu", "conv", "relu", "pool", "flat", "dense")
    targets = labels[:rows].astype(np.int32)
    return Task("cnn", network, inputs, targets, indices, layers, 1e-3, checked=8)


def sources() -> Task:
    """The MLP's task, with its rows in other places than the device."""
    return dataclasses.replace(mlp(), name="sources")


TASKS = {"seed": seed, "mlp": mlp, "norm": norm, "cnn": cnn, "sources": sources}


def _epochs(random: np.random.Generator, rows: int, batch_size: int, count: int) -> np.ndarray:
    """The batches of some epochs, each a permutation of all rows."""
    epochs = [random.permutation(rows).reshape(-1, batch_size) for _ in range(count)]
    return np.concatenate(epochs).astype(np.int32)


def _weight(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of variance one over the number of inputs."""
    return random.normal(scale=np.prod(shape[1:]) ** -0.5, size=shape).astype("f4")


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
