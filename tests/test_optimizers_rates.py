"""Learning rates by path: each group is compared with optax, and changes without a recompile."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import tree_allclose

import neuron
from neuron.optimizers import is_rate


rng = np.random.default_rng(4)
X = rng.normal(size=(40, 2)).astype(np.float32)
Y = np.sin(X).sum(1).astype(np.float32)


def decaying(count):
    return 0.05 / (1 + 0.01 * count)


def params_and_loss():
    """Parameters of a small network, and a loss of them that is not convex."""
    shapes = {"encoder": {"w": (4, 2), "b": (4,)}, "head": {"w": (4,), "b": ()}}
    params = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape)),
        shapes,
        is_leaf=lambda s: type(s) is tuple,
    )

    def loss(params):
        codes = jnp.tanh(X @ params["encoder"]["w"].T + params["encoder"]["b"][None])
        return jnp.mean((codes @ params["head"]["w"] + params["head"]["b"] - Y) ** 2)

    return params, loss


def labels(params):
    groups = {"encoder": {"w": "slow", "b": "bias"}, "head": {"w": "fast", "b": "bias"}}
    assert jax.tree.structure(groups) == jax.tree.structure(params)
    return groups


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (neuron.SGD, optax.sgd),
        (lambda rate: neuron.SGD(rate, momentum=0.9), lambda rate: optax.sgd(rate, momentum=0.9)),
        (neuron.Adam, optax.adam),
        (
            lambda rate: neuron.AdamW(rate, weight_decay=0.1, decay="*"),
            lambda rate: optax.adamw(rate, weight_decay=0.1),
        ),
    ],
)
def test_takes_the_steps_of_multi_transform(x64, ours, theirs):
    params, loss = params_and_loss()
    # "*" has what is left; the order is not the sorted one.
    grouped = ours({"encoder.w": 0.003, "*.b": decaying, "*": 0.02})
    rates = {"slow": 0.003, "bias": decaying, "fast": 0.02}
    reference = optax.multi_transform({name: theirs(r) for name, r in rates.items()}, labels)

    def path(optimizer):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            params = eqx.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, optimizer.init(params)), None, 500)[1]

    taken, expected = jax.jit(lambda: (path(grouped), path(reference)))()
    assert loss(jax.tree.map(lambda leaf: leaf[-1], taken)) < loss(params) / 2
    assert tree_allclose(taken, expected, rtol=0, atol=1e-12)


class Network(eqx.Module):
    encoder: neuron.Dense
    head: neuron.Dense

    def __init__(self):
        first, second = jax.random.split(jax.random.key(0))
        self.encoder = neuron.Dense(2, 4, activation=jnp.tanh, key=first)
        self.head = neuron.Dense(4, key=second)

    def __call__(self, x):
        return self.head(self.encoder(x))


def loader():
    return neuron.DataLoader((X, Y), 10)


def train(rate, kind=neuron.Adam, **options):
    trainer = neuron.Trainer(Network(), optimizer=kind(rate), progress=False, **options)
    trainer.fit(loader(), steps=6)
    return trainer


def test_each_group_is_logged_by_its_pattern():
    trainer = train({"encoder.*": 1e-4, "*": decaying})
    slow, fast = "learning_rate[encoder.*]", "learning_rate[*]"
    assert set(trainer.history.names) == {"loss", slow, fast}
    np.testing.assert_array_equal(trainer.history[slow], np.full(6, np.float32(1e-4)))
    np.testing.assert_allclose(trainer.history[fast], [decaying(t) for t in range(6)], rtol=1e-6)
    # An epoch's row has the last step's.
    assert trainer.history.epochs[0][fast] == trainer.history[fast][3]
    assert is_rate(slow)
    assert is_rate("learning_rate")
    assert not is_rate("learning_rates")


def test_groups_change_without_a_trace_and_count():
    trainer = train({"encoder.*": 0.1, "*": 0.2})
    traced = neuron.run.loop.loop._cache_size()
    for new, numbers in (
        ({"encoder.*": 0}, {"encoder.*": 0.0, "*": 0.2}),
        ({"*": 0.3, "encoder.*": 0.4}, {"encoder.*": 0.4, "*": 0.3}),
        ({}, {"encoder.*": 0.4, "*": 0.3}),
    ):
        trainer.set(learning_rate=new)
        assert trainer.optimizer.numbers()["learning_rate"] == numbers
        before = trainer.model
        trainer.fit(loader(), steps=1)
        assert (before.encoder.weight != trainer.model.encoder.weight).any() == (
            numbers["encoder.*"] > 0
        )
        assert (before.head.weight != trainer.model.head.weight).any()
    # Another trainer of the same groups as well.
    train({"encoder.*": 0.7, "*": 0.8})
    assert neuron.run.loop.loop._cache_size() == traced


def test_one_rate_in_groups_is_that_rate():
    grouped, plain = train({"encoder.*": 0.1, "*": 0.1}), train(0.1)
    for a, b in zip(*(jax.tree.leaves(t.model) for t in (grouped, plain)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_first_pattern_counts_and_functions_stay():
    optimizer = neuron.SGD({"a": decaying, "*": 0.5, "b*": 0.25})
    assert optimizer.numbers()["learning_rate"] == {"*": 0.5, "b*": 0.25}
    # A dict of parameters is sorted by JAX; the patterns are not.
    optimizer = neuron.SGD({"b": 0.5, "a": decaying})
    one = {"a": jnp.ones(()), "b": jnp.ones(())}
    updates, _ = optimizer.update(one, optimizer.init(one), one)
    assert (float(updates["b"]), float(updates["a"])) == (-0.5, -np.float32(0.05))
    assert neuron.SGD({"*": decaying}).numbers() == {"weight_decay": 0.0}
    assert repr(optimizer).startswith("SGD(learning_rate={'b': 0.5, 'a': decaying}, ")


def test_a_group_may_be_frozen_now_and_trained_later():
    trainer = train({"encoder.*": 0.1, "*": 0.1}, trainable="head.*")
    before = np.asarray(trainer.model.encoder.weight)
    np.testing.assert_array_equal(before, Network().encoder.weight)
    trainer.train_only(None)
    trainer.fit(loader(), steps=1)
    assert (np.asarray(trainer.model.encoder.weight) != before).all()


def test_a_rest_with_nothing_left_is_no_mistake():
    train({"encoder.*": 0.1, "head.*": 0.1, "*": 0.1})


def test_groups_inside_of_clipped():
    trainer = train(
        {"head.*": 0.1, "*": 0.2}, lambda rate: neuron.Clipped(neuron.SGD(rate), norm=1)
    )
    trainer.set(learning_rate={"head.*": 0.3}, norm=2)
    assert trainer.optimizer.numbers() == {
        "learning_rate": {"head.*": 0.3, "*": 0.2},
        "weight_decay": 0.0,
        "norm": 2.0,
    }


def make(rate, **options):
    return neuron.Trainer(Network(), optimizer=neuron.Adam(rate), **options)


@pytest.mark.parametrize(
    ("call", "kind", "point"),
    [
        (lambda: make({"decoder.*": 1, "*": 1}), ValueError, r"'decoder.\*' is none of \['encoder.w"),
        (lambda: make({"encoder.*": 1}), ValueError, r"\['encoder.\*'\], and 'head.weight' matches"),
        (lambda: make({"encoder.*": 1}, trainable="head.*"), ValueError, "'head.weight' matches none"),
        (lambda: make({"*": 1, "head.*": 1}), ValueError, r"'head.\*' comes behind"),
        (lambda: make({"*": -1}), ValueError, r"Adam\(learning_rate={'\*': ...}\)` must be at least 0"),
        (lambda: make({"*": None}), TypeError, "one real number; got None"),
        (lambda: make({"*": {"*": 1}}), TypeError, "one real number; got {"),
        (lambda: make({}), ValueError, "patterns as its keys, at least one; got {}"),
        (lambda: make({0: 1}), ValueError, "patterns as its keys, at least one; got {0: 1}"),
        (
            lambda: make({"head.*": 1, "*": decaying}).set(learning_rate={"tail": 1}),
            ValueError,
            r"groups whose rate is a number; got 'tail', there are \['head.\*'\]",
        ),
        (
            lambda: make({"head.*": 1, "*": 2}).set(learning_rate=1),
            TypeError,
            r"set\(learning_rate=...\)` must be a dict .* {'head.\*': 0.001}; got 1, there are \['h.*\*'\]",
        ),
        (lambda: make({"*": 1}).set(learning_rate={"*": -1}), ValueError, "at least 0; got -1"),
        (lambda: make({"*": 1}).set(learning_rate={"*": decaying}), TypeError, "one real number"),
        (lambda: make({"*": decaying}).set(learning_rate=1), ValueError, r"there are \['b1', 'b2'"),
        (lambda: make(0.1).set(learning_rate={"*": 1}), TypeError, "one real number; got {"),
    ],
)  # fmt: skip
def test_refused(unchecked, call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind
