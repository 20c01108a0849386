"""Errors of a run. Bad arguments are plain `ValueError` and `TypeError`."""


class Terminated(SystemExit):
    """SIGTERM came while a fit ran: it ends at a point where the run is whole.

    As a `SystemExit` it passes `except Exception`, lets every `finally` run, and ends the process
    with the exit code 143, which is what SIGTERM makes.
    """

    def __init__(self):
        super().__init__(128 + 15)


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
