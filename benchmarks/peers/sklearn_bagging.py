"""scikit-learn's `BaggingRegressor` of `SGDRegressor`s, which draws the counts of each member and
trains one after the other."""

import numpy as np
from many import Many
from sklearn.ensemble import BaggingRegressor
from sklearn.linear_model import SGDRegressor
from tasks import Fit


def fit(many: Many) -> Fit:
    task, members = many.task, min(many.members, many.alone)
    epochs = -(-many.steps * task.batch_size // len(task.inputs))

    def start() -> BaggingRegressor:
        # What `sklearn_sgd` trains, in as many passes as the steps are.
        one = SGDRegressor(
            penalty=None,
            learning_rate="constant",
            eta0=task.learning_rate,
            max_iter=epochs,
            tol=None,
        )
        return BaggingRegressor(one, n_estimators=members, random_state=0)

    return Fit(
        start,
        run=lambda bagging: bagging.fit(task.inputs, task.targets),
        weights=lambda bagging: [np.stack([e.coef_ for e in bagging.estimators_])],
        steps=epochs * len(task.inputs) // task.batch_size,
        note="different task: an update at each row, no RMSE; a step is 100 rows",
        same_task=False,
        members=members,
    )
