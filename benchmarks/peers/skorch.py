"""skorch: `NeuralNet.fit` with callbacks, validation and output off."""

import functools

from peers.torch_eager import network, parts, tensors, weights
from skorch import NeuralNet
from tasks import Fit, Task


def fit(task: Task) -> Fit:
    criterion, optimizer, _ = parts(task)
    steps = min(task.steps, 1000)
    inputs, targets = tensors(*task.in_order(steps))

    def start() -> NeuralNet:
        return NeuralNet(
            functools.partial(network, task),
            criterion,
            optimizer=optimizer,
            lr=task.learning_rate,
            max_epochs=1,
            batch_size=task.batch_size,
            train_split=None,
            callbacks="disable",
            iterator_train__shuffle=False,
            verbose=0,
        )

    return Fit(
        start,
        run=lambda net: net.fit(inputs, targets),
        weights=lambda net: weights(net.module_),
        steps=steps,
        note=f"{steps} steps; its own loader, callbacks off",
    )
