"""The answer that every peer must reach: NumPy, in double precision, with gradients by hand.

Each word of a network is a function of its arrays and inputs. It gives its outputs, and what turns
the slope of the loss at these into the slope at the inputs and the gradients of the arrays. Dense
layers may have a first axis for the members of a population; so may inputs, targets and weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tasks import Task


Gradients = list[np.ndarray]
Back = Callable[[np.ndarray], tuple[np.ndarray, Gradients]]


def trajectory(task: Task, indices: np.ndarray, counts: np.ndarray | None = None) -> Gradients:
    """The weights after these batches, in which a row counts as often as `counts` says."""
    weights = [array.astype(np.float64) for layer in task.layers for array in layer]
    inputs, targets = task.inputs.astype(np.float64), task.targets
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    for step, rows in enumerate(indices, start=1):
        often = np.ones(rows.shape) if counts is None else counts[..., rows].astype(np.float64)
        grads = _gradients(task, weights, inputs[rows], targets[rows], often)
        for w, m, v, g in zip(weights, first, second, grads, strict=True):
            if not task.classifies:
                w -= task.learning_rate * g
                continue
            # Kingma & Ba, 2015, algorithm 1.
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
            w -= task.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)
    return weights


def _gradients(
    task: Task, weights: Gradients, x: np.ndarray, targets: np.ndarray, often: np.ndarray
) -> Gradients:
    arrays, backs = iter(weights), []
    for word, layer in task.parts():
        x, back = WORDS[word](*[next(arrays) for _ in layer], x=x)
        backs.append(back)
    slope = _slope_of_cross_entropy if task.classifies else _slope_of_rmse
    delta, grads = slope(x, targets, often), []
    for back in reversed(backs):
        delta, own = back(delta)
        grads = own + grads
    return grads


def _dense(weight: np.ndarray, *bias: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, Back]:
    def back(delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return delta @ weight, [delta.mT @ x, *[delta.sum(axis=-2) for _ in bias]]

    return x @ weight.mT + sum(b[..., None, :] for b in bias), back


def _conv(weight: np.ndarray, bias: np.ndarray, *, x: np.ndarray) -> tuple[np.ndarray, Back]:
    windows = _windows(x)

    def back(delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        # What a pixel gave to its neighbors comes back through the kernel turned around.
        turned = weight[:, :, ::-1, ::-1]
        slope = np.einsum("nohwij,ocij->nchw", _windows(delta), turned, optimize=True)
        grad = np.einsum("nchwij,nohw->ocij", windows, delta, optimize=True)
        return slope, [grad, delta.sum(axis=(0, 2, 3))]

    out = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return out + bias[:, None, None], back


def _windows(images: np.ndarray) -> np.ndarray:
    """Each pixel's 3 x 3 neighborhood, with zeros around the image."""
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    return sliding_window_view(padded, (3, 3), axis=(2, 3))


def _norm(gain: np.ndarray, bias: np.ndarray, *, x: np.ndarray) -> tuple[np.ndarray, Back]:
    deviation = np.sqrt(x.var(axis=0) + 1e-5)
    z = (x - x.mean(axis=0)) / deviation

    def back(delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        grads = [(delta * z).sum(axis=0), delta.sum(axis=0)]
        # The mean and the deviation move with each row.
        slope = delta - delta.mean(axis=0) - z * (delta * z).mean(axis=0)
        return gain / deviation * slope, grads

    return gain * z + bias, back


def _relu(*, x: np.ndarray) -> tuple[np.ndarray, Back]:
    return np.maximum(x, 0), lambda delta: (delta * (x > 0), [])


def _pool(*, x: np.ndarray) -> tuple[np.ndarray, Back]:
    rows, channels, height, width = x.shape
    blocks = x.reshape(rows, channels, height // 2, 2, width // 2, 2).swapaxes(3, 4)
    blocks = blocks.reshape(*blocks.shape[:4], 4)
    # The first of equal ones counts, as everybody has it; around a digit many are equal.
    chosen = np.eye(4)[blocks.argmax(axis=-1)]

    def back(delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        slopes = (chosen * delta[..., None]).reshape(*delta.shape, 2, 2)
        return slopes.swapaxes(3, 4).reshape(x.shape), []

    return blocks.max(axis=-1), back


def _flat(*, x: np.ndarray) -> tuple[np.ndarray, Back]:
    return x.reshape(len(x), -1), lambda delta: (delta.reshape(x.shape), [])


def _dropout(*, x: np.ndarray) -> tuple[np.ndarray, Back]:
    return x, lambda delta: (delta, [])  # weights are compared without


WORDS: dict[str, Callable[..., Any]] = {
    "dense": _dense,
    "conv": _conv,
    "norm": _norm,
    "relu": _relu,
    "pool": _pool,
    "flat": _flat,
    "dropout": _dropout,
}


def _slope_of_rmse(outputs: np.ndarray, targets: np.ndarray, often: np.ndarray) -> np.ndarray:
    residual, share = outputs[..., 0] - targets, often / often.sum(axis=-1, keepdims=True)
    root = np.sqrt(np.sum(share * residual**2, axis=-1, keepdims=True))
    return (share * residual / root)[..., None]


def _slope_of_cross_entropy(
    outputs: np.ndarray, targets: np.ndarray, often: np.ndarray
) -> np.ndarray:
    exp = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    right = np.arange(outputs.shape[-1]) == targets[..., None]
    share = often / often.sum(axis=-1, keepdims=True)
    return share[..., None] * (exp / exp.sum(axis=-1, keepdims=True) - right)
