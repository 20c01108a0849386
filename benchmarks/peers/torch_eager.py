"""PyTorch, eager: `torch.nn`, `torch.optim` and the loop of its tutorials."""

import numpy as np
import torch
from tasks import Fit, Layer, Task


def network(layers: list[Layer]) -> torch.nn.Module:
    """The task's model with its starting weights; `skorch` and `lightning` train the same one."""
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(*weight.shape[::-1])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


class RMSE(torch.nn.Module):
    """The root of the mean squared error of one-column predictions."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.mean((outputs[:, 0] - targets) ** 2))


def parts(task: Task):
    """The class of the loss, the class of the optimizer, and the data as tensors."""
    if task.name == "seed":
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
        model = network(task.layers)
        return model, optimizer_class(model.parameters(), lr=task.learning_rate)

    def run(state):
        model, optimizer = state
        for rows in batches:
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return model

    return Fit(start, run, weights, task.steps, "losses not read")


def weights(model: torch.nn.Module) -> list[np.ndarray]:
    return [parameter.detach().numpy() for parameter in model.parameters()]
