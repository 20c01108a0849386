"""scikit-learn's `SGDRegressor`: a Cython loop that updates at each row, on the squared error."""

from sklearn.linear_model import SGDRegressor
from tasks import Fit, Task


def fit(task: Task) -> Fit:
    inputs, targets = task.in_order(task.steps)

    def start() -> SGDRegressor:
        return SGDRegressor(
            penalty=None,
            learning_rate="constant",
            eta0=task.learning_rate,
            shuffle=False,
            max_iter=1,
            tol=None,
        )

    return Fit(
        start,
        run=lambda model: model.fit(inputs, targets),
        weights=lambda model: [model.coef_, model.intercept_],
        steps=task.steps,
        note="different task: no batches, no RMSE; the same rows once, a step is 100 of them",
        same_task=False,
    )
