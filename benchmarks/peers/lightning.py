"""Lightning: `Trainer(barebones=True)`, the mode that it documents for measuring its overhead."""

import logging
import warnings

import lightning
import torch
from peers.torch_eager import network, parts, weights
from tasks import Fit, Task


class Module(lightning.LightningModule):
    """The task's model, loss and optimizer, as Lightning wants them."""

    def __init__(self, task: Task, loss, optimizer):
        super().__init__()
        self.network = network(task)
        self.loss, self.optimizer, self.learning_rate = loss, optimizer, task.learning_rate

    def training_step(self, batch, _):
        inputs, targets = batch
        return self.loss(self.network(inputs), targets)

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), lr=self.learning_rate)


def fit(task: Task) -> Fit:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    criterion, optimizer, data = parts(task)
    steps = min(task.steps, 1000)
    # Without automatic batching a whole batch is gathered at once, and nothing is collated.
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*data),
        sampler=torch.from_numpy(task.indices[:steps]).long(),
        batch_size=None,
    )

    def start():
        trainer = lightning.Trainer(barebones=True, accelerator="cpu", devices=1, max_epochs=1)
        return trainer, Module(task, criterion(), optimizer)

    def run(state):
        trainer, module = state
        trainer.fit(module, loader)
        return module

    return Fit(start, run, weights, steps, f"{steps} steps; barebones, batches gathered whole")
