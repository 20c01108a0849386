"""Objectives: what is accepted, how models are called, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.objectives import as_objective, prediction_like
from neuron.types import Batch


X, Y = np.ones((6, 2), np.float32), np.ones(6, np.float32)


class Keyless(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return self.weight @ x


class Keyed(Keyless):
    def __call__(self, x, *, key):
        return self.weight @ x + jax.random.normal(key)


class Anything(Keyless):
    def __call__(self, x, **options):
        return self.weight @ x + (0.0 if options.get("key") is None else 1.0)


def test_a_loss_is_supervised_training():
    loss = neuron.Huber(2.0)
    objective = as_objective(loss)
    assert objective == neuron.Supervised(loss)
    assert as_objective(objective) is objective
    assert objective.finish(jnp.array(3.0)) == 3.0
    example = Batch(jnp.ones(2), jnp.zeros(()))
    terms, state = objective(Keyless(jnp.ones(2)), None, example, key=jax.random.key(0))
    assert (float(terms.value), float(terms.weight), terms.logs, state) == (2.0, 1.0, {}, None)


def test_a_key_is_handed_over_where_it_is_taken():
    key, weight = jax.random.key(3), jnp.ones(2)
    values = [
        neuron.apply(kind(weight), None, jnp.ones(2), key=key)[0]
        for kind in (Keyless, Keyed, Anything)
    ]
    np.testing.assert_allclose(values, [2.0, 2.0 + jax.random.normal(key), 3.0])


def test_a_prediction_is_shaped_without_computing():
    like = prediction_like(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), None, X)
    assert (like.shape, like.dtype) == ((3,), np.float32)
    with pytest.raises(ValueError, match=r"x of float32\[5\] here"):
        prediction_like(Keyless(jnp.ones(2)), None, np.ones((6, 5), np.float32))


def test_check_looks_at_shapes_and_values():
    model = Keyless(jnp.ones(2))
    objective = as_objective(neuron.BinaryCrossEntropy())
    objective.check(model, None, Batch(X, Y))
    with pytest.raises(ValueError, match="same shape"):
        objective.check(model, None, Batch(X, X))
    with pytest.raises(ValueError, match="in row 5"):
        objective.check(model, None, Batch(X, np.array([0, 1, 0, 1, 0.5, 2], np.float32)))
    with pytest.raises(ValueError, match="without targets"):
        objective.check(model, None, Batch(X))


def test_a_score_that_is_no_scalar_is_refused():
    class Each(neuron.Loss):
        def __call__(self, prediction, target):
            return (prediction - target) ** 2

    model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"by a scalar; got shape \(3,\)"):
        as_objective(Each()).check(model, None, Batch(X, np.ones((6, 3), np.float32)))


def test_booleans_are_classes():
    trainer = neuron.Trainer(
        neuron.Dense(2, 2, key=jax.random.key(0)), neuron.CrossEntropy(), progress=False
    )
    classes = np.arange(6) % 2 == 0
    ours = trainer.evaluate((X, classes))
    assert ours == trainer.evaluate((X, classes.astype(np.int32)))
    trainer.fit((X, classes), steps=2)
