"""Mixed precision: the model computes in bfloat16, its weights and its losses stay as they are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(6)
X = rng.normal(size=(64, 4)).astype(np.float32)
Y = np.tanh(X @ np.float32([1, -1, 0.5, 2]))
seen: list[tuple[str, str]] = []


class Noting(eqx.Module):
    """Notes in which type it is called."""

    inner: eqx.nn.MLP
    places: jax.Array

    def __call__(self, x):
        seen.append((str(x.dtype), str(self.inner.layers[0].weight.dtype)))
        assert self.places.dtype == jnp.int32
        return self.inner(x[self.places])


def model():
    return Noting(eqx.nn.MLP(4, "scalar", 16, 1, key=jax.random.key(0)), jnp.arange(4))


def trained(**options):
    trainer = neuron.Trainer(model(), optimizer=neuron.Adam(1e-2), progress=False, **options)
    trainer.fit(neuron.DataLoader((X, Y), 16), epochs=60)
    return trainer


def test_the_model_computes_in_it_and_nothing_else_does():
    seen.clear()
    trainer = trained(precision="bfloat16", average=0.9)
    trainer.evaluate((X, Y))
    prediction = trainer.predict(X)
    # Shapes are looked at once in the weights' own type.
    assert set(seen) == {("float32", "float32"), ("bfloat16", "bfloat16")}
    floats = [a for a in jax.tree.leaves(trainer.state) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert {str(a.dtype) for a in floats} == {"float32"}
    assert prediction.dtype == trainer.history["loss"].dtype == np.float32


def test_it_learns_as_well():
    half, single = trained(precision="bfloat16"), trained()
    losses = [t.evaluate((X, Y))["loss"] for t in (half, single)]
    assert losses[0] < 1.3 * losses[1] + 2e-3
    assert losses[0] != losses[1]
    np.testing.assert_allclose(half.predict(X), single.predict(X), atol=0.15)


def test_predictions_are_rounded_as_bfloat16_is():
    trainer = neuron.Trainer(model(), precision="bfloat16", progress=False)
    cast = lambda tree: jax.tree.map(
        lambda a: a.astype(jnp.bfloat16) if eqx.is_inexact_array(a) else a, tree
    )
    expected = jax.vmap(cast(trainer.model))(jnp.asarray(X, jnp.bfloat16)).astype(np.float32)
    np.testing.assert_allclose(trainer.predict(X), expected, rtol=2e-2, atol=1e-2)


def test_statistics_of_the_batch_stay_in_single_precision():
    class Normed(eqx.Module):
        norm: eqx.nn.BatchNorm
        out: neuron.Dense

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.out(x), state

    def made(key):
        return Normed(eqx.nn.BatchNorm(4, "batch", mode="batch"), neuron.Dense(4, key=key))

    normed, state = eqx.nn.make_with_state(made)(jax.random.key(0))
    trainer = neuron.Trainer(normed, model_state=state, precision="bfloat16", progress=False)
    trainer.fit(neuron.DataLoader((X, Y), 24), epochs=3, validation=(X, Y))
    mean, variance = trainer.model_state.get(trainer.model.norm.batch_state_index)
    assert mean.dtype == variance.dtype == jnp.float32
    assert trainer.predict(X).dtype == jnp.float32


def test_float32_computes_double_weights_in_single_precision(x64):
    trainer = neuron.Trainer(
        neuron.Dense(4, key=jax.random.key(0)), precision="float32", progress=False
    )
    x = X.astype(np.float64)
    assert trainer.model.weight.dtype == jnp.float64
    single = jnp.asarray(x, jnp.float32) @ trainer.model.weight[0].astype(jnp.float32)
    np.testing.assert_allclose(trainer.predict(x), single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", ["float16", "half", "bf16"])
def test_another_precision_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`Trainer\(precision=\.\.\.\)` must be 'bfloat16'"):
        neuron.Trainer(neuron.Dense(4, key=jax.random.key(0)), precision=wrong)
