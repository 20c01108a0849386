"""Clipping, and optax's optimizers in full: what needs the loss, and ours inside of theirs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuron


rng = np.random.default_rng(8)
X = rng.normal(size=(60, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 3.0]) + 0.5).astype(np.float32)


def fit(optimizer, steps=50, **options):
    trainer = neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)), optimizer=optimizer, progress=False, **options
    )
    trainer.fit(neuron.DataLoader((X, Y), 20, sampler=neuron.Sequential()), steps=steps)
    return trainer


def same_weights(a, b, **tolerance):
    for ours, theirs in zip(*(jax.tree.leaves(t.model) for t in (a, b)), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize(
    ("bounds", "theirs"),
    [
        ({"norm": 0.7}, optax.clip_by_global_norm(0.7)),
        ({"norm": 1e9}, optax.clip_by_global_norm(1e9)),
        ({"value": 0.3}, optax.clip(0.3)),
        ({"value": 0.3, "norm": 0.4}, optax.chain(optax.clip(0.3), optax.clip_by_global_norm(0.4))),
    ],
)
def test_clips_as_optax_does(bounds, theirs):
    ours = fit(neuron.Clipped(neuron.SGD(0.1, momentum=0.9), **bounds))
    reference = fit(optax.chain(theirs, optax.sgd(0.1, momentum=0.9)))
    same_weights(ours, reference, rtol=1e-5, atol=1e-6)


def test_the_norm_before_clipping_is_recorded():
    trainer = fit(neuron.Clipped(neuron.SGD(0.0), norm=0.01), steps=3)
    model = neuron.Dense(3, key=jax.random.key(0))
    for step, start in enumerate(range(0, 60, 20)):
        rows = slice(start, start + 20)
        loss = lambda m, rows=rows: jnp.mean((jax.vmap(m)(X[rows]) - Y[rows]) ** 2)
        grads = jax.tree.leaves(eqx.filter_grad(loss)(model))
        exact = np.linalg.norm(np.concatenate([np.ravel(g) for g in grads]))
        np.testing.assert_allclose(trainer.history["grad_norm"][step], exact, rtol=1e-5)


def test_a_zero_gradient_stays_zero():
    clipped = neuron.Clipped(neuron.SGD(1.0), norm=1.0)
    zero = {"w": jnp.zeros(3)}
    updates, _ = clipped.update(zero, clipped.init(zero), zero)
    np.testing.assert_array_equal(updates["w"], np.zeros(3))


def test_every_number_is_changed_without_a_trace():
    trainer = fit(neuron.Clipped(neuron.AdamW(0.1), norm=1.0, value=2.0))
    traced = neuron.run.loop.loop._cache_size()
    numbers = {
        "learning_rate": 0.2,
        "b1": 0.5,
        "b2": 0.6,
        "eps": 1e-3,
        "weight_decay": 0.1,
        "norm": 0.5,
        "value": 0.25,
    }
    for name, number in numbers.items():
        trainer.set(**{name: number})
        trainer.fit(neuron.DataLoader((X, Y), 20, sampler=neuron.Sequential()), steps=2)
        shown = f"{name}={number:g}"
        assert shown in repr(trainer.optimizer)
    assert neuron.run.loop.loop._cache_size() == traced


def test_numbers_are_its_own_and_those_inside():
    outer = neuron.Clipped(neuron.Clipped(neuron.SGD(0.1), norm=1.0, value=2.0), value=3.0)
    numbers = {"learning_rate": 0.1, "weight_decay": 0.0, "norm": 1.0, "value": 3.0}
    assert outer.numbers() == numbers
    changed = outer.with_numbers(norm=4, value=5)
    assert changed.numbers() == numbers | {"norm": 4.0, "value": 5.0}
    assert changed.norm is None  # the bound is the inner one's
    assert neuron.Clipped(optax.sgd(0.1), norm=1.0).numbers() == {"norm": 1.0}


def test_lbfgs_gets_what_it_asks_for():
    trainer = neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)),
        neuron.RootMeanSquaredError(),
        optax.lbfgs(),
        progress=False,
    )
    whole = neuron.DataLoader((X, Y), 60, sampler=neuron.Sequential())
    trainer.fit(whole, steps=15)
    np.testing.assert_allclose(trainer.model.weight, [[1, -2, 3]], atol=1e-3)
    np.testing.assert_allclose(trainer.model.bias, [0.5], atol=1e-3)
    traced = neuron.run.loop.loop._cache_size()
    trainer.fit(whole, steps=3)
    assert neuron.run.loop.loop._cache_size() == traced


def test_lbfgs_inside_clipped_gets_it_too():
    trainer = fit(neuron.Clipped(optax.lbfgs(), norm=1e6), steps=30)
    np.testing.assert_allclose(trainer.model.weight, [[1, -2, 3]], atol=0.05)


def test_multi_steps_is_a_batch_of_twice_the_size():
    optimizer = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=3)
    trainer = fit(optimizer, steps=30)
    whole = neuron.Trainer(
        neuron.Dense(3, key=jax.random.key(0)), optimizer=neuron.SGD(0.1), progress=False
    )
    whole.fit(neuron.DataLoader((X, Y), 60, sampler=neuron.Sequential()), steps=10)
    same_weights(trainer, whole, rtol=1e-5, atol=1e-6)


def test_injected_hyperparameters_train():
    injected = fit(optax.inject_hyperparams(optax.adam)(learning_rate=0.05))
    same_weights(injected, fit(optax.adam(0.05)), rtol=1e-5, atol=1e-6)


falling = optax.linear_schedule(0.1, 0.0, 10)
sgd = optax.inject_hyperparams(optax.sgd)
lbfgs = optax.inject_hyperparams(
    optax.lbfgs, static_args=("memory_size", "scale_init_precond", "linesearch")
)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (sgd(0.05), lambda step: 0.05),
        (sgd(falling), falling),
        (sgd(falling, momentum=0.9), falling),
        (sgd(0.05, momentum=falling), lambda step: 0.05),
        (optax.chain(optax.clip(1.0), optax.chain(sgd(falling))), falling),
        (neuron.Clipped(sgd(falling), norm=1.0), falling),
        (optax.MultiSteps(sgd(falling), 2), lambda step: falling(max(0, (step - 1) // 2))),
        (lbfgs(learning_rate=falling, linesearch=None), falling),
        (lbfgs(learning_rate=falling), falling),
    ],
)
def test_an_injected_learning_rate_is_recorded(optimizer, expected):
    history = fit(optimizer, steps=6).history
    assert set(history.names) <= {"loss", "learning_rate", "grad_norm"}
    rates = [expected(step) for step in range(6)]
    np.testing.assert_allclose(history["learning_rate"], rates, atol=1e-7)


def test_the_recorded_rate_is_the_one_that_is_used():
    injected, reference = fit(sgd(falling), steps=7), fit(neuron.SGD(falling), steps=7)
    for name in ("loss", "learning_rate"):
        ours, theirs = (t.history[name] for t in (injected, reference))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


class LossRate:
    """A rate that is the loss of the step before, as optax's stateful schedules may be."""

    def init(self):
        return jnp.zeros(())

    def update(self, state, value, **known):
        return jnp.asarray(value, state.dtype)

    def __call__(self, state, **known):
        return jnp.minimum(state, 0.01)


def test_no_rate_is_recorded_where_there_is_not_one_that_is_known():
    two = optax.multi_transform({"a": sgd(0.1), "b": sgd(0.2)}, lambda params: "a")
    no_rate = optax.inject_hyperparams(optax.clip)(1.0)
    for optimizer in (two, optax.sgd(0.1), no_rate, sgd(LossRate())):
        assert fit(optimizer, steps=1).history.names == ["loss"]


def test_ours_stand_inside_of_theirs():
    chain = optax.chain(optax.clip_by_global_norm(0.5), neuron.Adam(0.05))
    same_weights(fit(chain), fit(neuron.Clipped(neuron.Adam(0.05), norm=0.5)), rtol=1e-5, atol=1e-6)
    mask = lambda params: jax.tree.map(lambda p: p.ndim == 2, params)
    trainer = fit(optax.masked(neuron.SGD(0.0), mask), steps=1)
    before = neuron.Dense(3, key=jax.random.key(0))
    np.testing.assert_array_equal(trainer.model.weight, before.weight)
    assert not np.array_equal(trainer.model.bias, before.bias)  # as masked leaves what it masks out


@pytest.mark.parametrize(
    ("call", "kind", "point"),
    [
        (lambda: neuron.Clipped(neuron.SGD()), ValueError, "got neither"),
        (
            lambda: neuron.Clipped(neuron.SGD(), norm=0),
            ValueError,
            r"Clipped\(norm=...\)` must be above 0",
        ),
        (
            lambda: neuron.Clipped(neuron.SGD(), value=-1),
            ValueError,
            r"Clipped\(value=...\)` must be above 0",
        ),
        (lambda: neuron.Clipped("sgd", norm=1.0), TypeError, "got 'sgd'"),
        (
            lambda: neuron.Clipped(neuron.SGD(), norm=1.0).with_numbers(value=1.0),
            ValueError,
            r"number of Clipped\(.*\['learning_rate', 'weight_decay', 'norm'\]",
        ),
        (
            lambda: neuron.Clipped(neuron.SGD(), norm=1.0).with_numbers(b1=1.0),
            ValueError,
            r"set\(b1=...\)` .*\['learning_rate', 'weight_decay', 'norm'\]",
        ),
    ],
)
def test_refused(call, kind, point):
    with pytest.raises(kind, match=point):
        call()
