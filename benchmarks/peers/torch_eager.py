"""PyTorch, eager: `torch.nn`, `torch.optim` and the loop of its tutorials."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from tasks import Fit, Layer, Task


WORDS: dict[str, Callable[[Task, Layer], torch.nn.Module]] = {
    "dense": lambda task, layer: torch.nn.Linear(*layer[0].shape[::-1], bias=len(layer) == 2),
    "conv": lambda task, layer: torch.nn.Conv2d(*layer[0].shape[1::-1], 3, padding=1),
    "norm": lambda task, layer: torch.nn.BatchNorm1d(len(layer[0])),
    "relu": lambda task, layer: torch.nn.ReLU(),
    "dropout": lambda task, layer: torch.nn.Dropout(task.dropout),
    "pool": lambda task, layer: torch.nn.MaxPool2d(2),
    "flat": lambda task, layer: torch.nn.Flatten(),
}


def network(task: Task) -> torch.nn.Module:
    """The task's model with its starting weights; `skorch` and `lightning` train the same one."""
    model = torch.nn.Sequential(*[WORDS[word](task, layer) for word, layer in task.parts()])
    arrays = [array for layer in task.layers for array in layer]
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
    return model


class RMSE(torch.nn.Module):
    """The root of the mean squared error of one-column predictions."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.mean((outputs[:, 0] - targets) ** 2))


def parts(task: Task):
    """The class of the loss, the class of the optimizer, and the data as tensors."""
    if not task.classifies:
        # One of these operations is too small to be split.
        torch.set_num_threads(1)
        return RMSE, torch.optim.SGD, tensors(task.inputs, task.targets)
    return torch.nn.CrossEntropyLoss, torch.optim.Adam, tensors(task.inputs, task.targets)


def tensors(inputs: np.ndarray, targets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    targets = targets.astype(np.int64) if targets.dtype == np.int32 else targets
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def fit(task: Task) -> Fit:
    criterion, optimizer_class, (inputs, targets) = parts(task)
    loss, batches = criterion(), torch.from_numpy(task.indices).long()

    def start():
        model = network(task)
        return model, optimizer_class(model.parameters(), lr=task.learning_rate)

    def run(state):
        model, optimizer = state
        for rows in batches:
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return model

    return Fit(start, run, weights, task.steps, "losses not read")


def one_thread(task: Task) -> Fit:
    torch.set_num_threads(1)
    return dataclasses.replace(fit(task), note="losses not read; on one core")


def weights(model: torch.nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy() for parameter in model.parameters()]
