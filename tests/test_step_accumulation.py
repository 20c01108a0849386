"""Accumulation: k microbatches are one batch of k times the size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuron


rng = np.random.default_rng(11)
ROWS = 45
X = rng.normal(size=(ROWS, 3))
Y = np.sin(X).sum(1)
W = rng.integers(0, 3, ROWS).astype(np.float64)


class Heads(eqx.Module):
    """Two outputs, for two losses."""

    body: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self):
        first, second = jax.random.split(jax.random.key(3))
        self.body = eqx.nn.Linear(3, 5, key=first)
        self.head = eqx.nn.Linear(5, 2, key=second)

    def __call__(self, x):
        a, b = self.head(jnp.tanh(self.body(x)))
        return {"a": a, "b": b}


class Noisy(eqx.Module):
    inner: neuron.Dense

    def __call__(self, x, *, key):
        return self.inner(x) + jax.random.normal(key, dtype=x.dtype)


def two_ways(accumulate, batch_size, model, data, steps=12, **options):
    """The same run, in microbatches and in whole batches."""
    runs = []
    for k, size in ((accumulate, batch_size), (1, accumulate * batch_size)):
        trainer = neuron.Trainer(model, accumulate=k, progress=False, **options)
        trainer.fit(neuron.DataLoader(data, size, sampler=neuron.Shuffle(4)), steps=steps)
        runs.append(trainer)
    return runs


def assert_same_run(one, other, rtol=1e-9):
    assert (one.step, one.epoch) == (other.step, other.epoch)
    for name in other.history.names:
        np.testing.assert_allclose(one.history[name], other.history[name], rtol, atol=1e-12)
    for a, b in zip(jax.tree.leaves(one.model), jax.tree.leaves(other.model), strict=True):
        np.testing.assert_allclose(a, b, rtol, atol=1e-12)


@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize(
    "loss", [neuron.MeanSquaredError(), neuron.RootMeanSquaredError(), neuron.Huber(0.2)]
)
def test_microbatches_are_one_batch(loss, weight, x64):
    """The last batch of an epoch lacks rows: 45 are two of 20 and one of 5, which is padded."""
    model = neuron.Dense(3, key=jax.random.key(0))
    data = (X, Y) if weight is None else (X, Y, weight)
    assert_same_run(
        *two_ways(4, 5, model, data, loss=loss, optimizer=neuron.SGD(0.1, momentum=0.5))
    )


def test_each_of_several_losses_is_finished_once(x64):
    """Their slopes are known only when all microbatches are there."""
    loss = neuron.Supervised(
        {"a": neuron.RootMeanSquaredError(), "b": neuron.Huber(0.1)}, weights={"b": 3.0}
    )
    data = (X, {"a": Y, "b": Y**2}, W)
    assert_same_run(*two_ways(3, 7, Heads(), data, loss=loss, optimizer=neuron.SGD(0.1)))


def test_class_weights_count_over_all_microbatches(x64):
    classes = rng.integers(0, 3, ROWS)
    loss = neuron.CrossEntropy(class_weight=[1.0, 5.0, 0.2])
    model = eqx.nn.Linear(3, 3, key=jax.random.key(1))
    assert_same_run(*two_ways(4, 3, model, (X, classes), loss=loss))


def test_an_example_has_the_key_of_its_place_in_the_whole_batch(x64):
    model = Noisy(neuron.Dense(3, key=jax.random.key(0)))
    assert_same_run(*two_ways(2, 10, model, (X, Y), optimizer=neuron.SGD(0.01)))


def test_a_line_search_sees_the_whole_batch(x64):
    model = neuron.Dense(3, key=jax.random.key(0))
    runs = two_ways(3, 5, model, (X, Y), optimizer=optax.lbfgs(), steps=5)
    assert_same_run(*runs, rtol=1e-6)


def test_metrics_and_penalties_are_those_of_the_whole_batch(x64):
    model = neuron.Dense(3, key=jax.random.key(0))
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.1))
    metrics = {"mae": neuron.MeanAbsoluteError(), "worst": worst}
    runs = two_ways(4, 5, model, (X, Y), loss=loss, metrics=metrics, steps=6)
    assert_same_run(*runs)
    for a, b in zip(*(run.history.epochs for run in runs), strict=True):
        assert a["worst"] == pytest.approx(b["worst"], rel=1e-9)


def worst(targets, predictions):
    return np.abs(targets - predictions).max()


def test_layers_with_statistics_see_one_microbatch_after_the_other():
    """And a short last step at its true size: 45 rows in steps of 20 leave 5, of microbatches of 2
    two whole ones and one of 1, which is refused."""

    class Normed(eqx.Module):
        norm: eqx.nn.BatchNorm
        out: neuron.Dense

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.out(x), state

    def made(key):
        return Normed(eqx.nn.BatchNorm(3, "batch", mode="batch"), neuron.Dense(3, key=key))

    model, state = eqx.nn.make_with_state(made)(jax.random.key(0))
    x, y = X.astype(np.float32), Y.astype(np.float32)
    trainer = neuron.Trainer(
        model, model_state=state, accumulate=4, optimizer=neuron.SGD(0.0), progress=False
    )
    trainer.fit(neuron.DataLoader((x, y), 5, sampler=neuron.Sequential()), epochs=1)
    assert trainer.step == 3
    mean = np.zeros(3)
    for start in range(0, ROWS, 5):
        mean = 0.99 * mean + 0.01 * x[start : start + 5].mean(0)
    hidden, _ = trainer.model_state.get(trainer.model.norm.batch_state_index)
    np.testing.assert_allclose(hidden, mean, rtol=1e-4, atol=1e-6)

    refused = neuron.Trainer(model, model_state=state, accumulate=10, progress=False)
    with pytest.raises(ValueError, match="at least 2 rows"):
        refused.fit(neuron.DataLoader((x, y), 2), steps=1)


def test_the_model_is_compiled_for_a_microbatch():
    """Memory is what accumulation is for: no array of the program has the whole batch's rows of
    hidden numbers."""
    model = eqx.nn.MLP(3, "scalar", 64, 1, key=jax.random.key(0))
    x, y = X.astype(np.float32), Y.astype(np.float32)
    sizes = []

    class Watch(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            sizes.append(jax.lax.axis_size("batch"))
            return neuron.Terms((model(example.inputs) - example.targets) ** 2), model_state

    trainer = neuron.Trainer(model, Watch(), accumulate=5, progress=False)
    trainer.fit(neuron.DataLoader((x, y), 8, sampler=neuron.Shuffle(0)), steps=3)
    assert set(sizes) == {8}


def test_another_number_of_microbatches_is_refused(unchecked):
    model = neuron.Dense(3, key=jax.random.key(0))
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"Trainer\(accumulate=\.\.\.\)"):
            neuron.Trainer(model, accumulate=wrong)
