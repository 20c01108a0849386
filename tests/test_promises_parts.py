"""One compile, for parts of one's own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


X = np.random.default_rng(0).normal(size=(70, 5)).astype(np.float32)
SIZE = np.abs(X).sum(axis=1)
traces: list[str] = []


def as_array():
    return eqx.field(converter=lambda value: jnp.asarray(value, jnp.float32))


# As Equinox has it: an array is handed to a program, any other leaf is compiled into it.
EACH_WAY = {"array": as_array, "float": eqx.field}


class Counted(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        traces.append("model")
        return self.weight @ x


def fit(sampler=None, **options):
    options = {"optimizer": neuron.SGD(0.1)} | options
    trainer = neuron.Trainer(Counted(jnp.ones(5)), progress=False, **options)
    sampler = neuron.Sequential() if sampler is None else sampler
    trainer.fit(neuron.DataLoader((X, SIZE), 10, sampler=sampler), steps=3)
    return np.asarray(trainer.model.weight)


def a_loss(field):
    class Scaled(neuron.Loss):
        scale: Any = field()

        def __call__(self, prediction, target):
            return self.scale * (prediction - target) ** 2

    return lambda scale: fit(loss=Scaled(scale))


def an_objective(field):
    class Scaled(neuron.Objective):
        scale: Any = field()

        def __call__(self, model, model_state, example, *, key):
            return neuron.Terms(self.scale * model(example.inputs) ** 2), model_state

    return lambda scale: fit(loss=Scaled(scale))


def a_penalty(field):
    class Scaled(neuron.Penalty):
        scale: Any = field()

        def __call__(self, model):
            return self.scale * jnp.sum(model.weight**4)

    mse = neuron.MeanSquaredError()
    return lambda scale: fit(loss=neuron.Penalized(mse, Scaled(scale)))


def a_metric(field):
    class Within(neuron.Metric):
        scale: Any = field()

        def observe(self, prediction, target):
            return jnp.abs(prediction - target) < 4 * self.scale, 1

        def compute(self, total):
            return total[0] / total[1]

    def measured(scale):
        trainer = neuron.Trainer(Counted(jnp.ones(5)), metrics={"within": Within(scale)})
        return trainer.evaluate(neuron.DataLoader((X, SIZE), 10))["within"]

    return measured


def an_optimizer(field):
    class Signs(neuron.Optimizer):
        scale: Any = field()

        def init(self, params):
            return None

        def update(self, grads, state, params):
            return jax.tree.map(lambda g: -self.scale * jnp.sign(g), grads), state

    return lambda scale: fit(optimizer=Signs(scale))


def a_sampler(field):
    class Spread(neuron.Sampler):
        scale: Any = field()

        def indices(self, epoch, position, batch_size, size):
            return jnp.floor(5 * self.scale * jnp.arange(batch_size)).astype(jnp.int32)

    return lambda scale: fit(sampler=Spread(scale))


PARTS = [a_loss, an_objective, a_penalty, a_metric, an_optimizer, a_sampler]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_an_array_of_ones_own_changes_without_a_trace_and_a_float_costs_one(part):
    found = {}
    for way, field in EACH_WAY.items():
        use = part(field)
        use(0.5)
        traces.clear()
        use(0.5)
        assert not traces
        found[way] = use(0.25)
        assert bool(traces) == (way == "float")
        assert not np.array_equal(use(0.5), found[way])
    np.testing.assert_allclose(found["array"], found["float"], rtol=1e-6)
