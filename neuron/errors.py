"""Errors of a run. Bad arguments are plain `ValueError` and `TypeError`."""


class NonFiniteLossError(ArithmeticError):
    """Loss or gradients were NaN or infinite, so the step was not taken.

    `step` is the number of steps taken before it: the trainer stands there, unharmed.
    """

    def __init__(self, step: int, loss: float):
        self.step = step
        self.loss = loss
        super().__init__(
            f"Step {step} (from 0) has a loss of {loss:g} or gradients that are not finite, "
            "and was not taken. Try a smaller learning rate, or `Trainer(nonfinite='skip')` to go "
            "on without such steps."
        )


class CheckpointError(Exception):
    """A file of a model or of a run could not be written, or is not what was asked for.

    Damaged files, files of another kind, and files that do not fit the model or the trainer are
    refused with it, whatever is wrong with them.
    """
