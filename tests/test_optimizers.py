"""Optimizers. Each is compared with optax, 1,000 steps in double precision."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from helpers import tree_allclose

import neuron
from neuron.optimizers import as_optimizer


def decaying(count):
    return 0.05 / (1 + 0.01 * count)


warm_up = optax.warmup_cosine_decay_schedule(0.0, 0.02, 100, 1000, 0.001)


def but_the_bias(params):
    return eqx.tree_at(lambda net: net.bias, jax.tree.map(lambda _: True, params), False)


# Where a step's size depends on the last few gradients alone, Adam at its minimum is chaotic: any two
# programs part. So b2 is never small here.
TWINS = [
    (neuron.SGD(0.05), optax.sgd(0.05)),
    (neuron.SGD(0.05, momentum=0.9), optax.sgd(0.05, momentum=0.9)),
    (
        neuron.SGD(0.05, momentum=0.9, nesterov=True),
        optax.sgd(0.05, momentum=0.9, nesterov=True),
    ),
    (
        neuron.SGD(0.05, weight_decay=0.01, decay="*"),
        optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.05)),
    ),
    (
        neuron.SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.01, decay="*"),
        optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.05, momentum=0.8, nesterov=True)),
    ),
    (neuron.SGD(decaying, momentum=0.9), optax.sgd(decaying, momentum=0.9)),
    (neuron.Adam(0.01), optax.adam(0.01)),
    (
        neuron.Adam(0.02, b1=0.7, b2=0.99, eps=0.1),
        optax.adam(0.02, b1=0.7, b2=0.99, eps=0.1),
    ),
    (neuron.Adam(warm_up), optax.adam(warm_up)),
    (neuron.AdamW(0.01, decay="*"), optax.adamw(0.01)),
    (
        neuron.AdamW(0.02, b1=0.7, b2=0.99, eps=0.1, weight_decay=0.1, decay="*"),
        optax.adamw(0.02, b1=0.7, b2=0.99, eps=0.1, weight_decay=0.1),
    ),
    (
        neuron.AdamW(decaying, weight_decay=0.1, decay="*"),
        optax.adamw(decaying, weight_decay=0.1),
    ),
    (
        neuron.AdamW(0.02, weight_decay=0.1),
        optax.adamw(0.02, weight_decay=0.1, mask=but_the_bias),
    ),
]
OPTIMIZERS = [
    neuron.SGD(0.1),
    neuron.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    neuron.Adam(0.1),
    neuron.AdamW(0.1),
]
each = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
NUMBERS = [
    (neuron.SGD(0.1, momentum=0.9), {"learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.3}),
    (neuron.Adam(0.1), {"learning_rate": 0.2, "b1": 0.3, "b2": 0.4, "eps": 0.5}),
    (
        neuron.AdamW(0.1),
        {"learning_rate": 0.2, "b1": 0.3, "b2": 0.4, "eps": 0.5, "weight_decay": 0.6},
    ),
]


class Net(eqx.Module):
    """Four bent neurons and a straight one; the activation is no parameter."""

    hidden: jax.Array
    bias: jax.Array
    out: jax.Array
    act: object

    def __call__(self, x):
        return self.out @ self.act(self.hidden @ x + self.bias)


def problem():
    """Parameters, and a loss of them that is not convex."""
    rng = np.random.default_rng(3)
    net = Net(
        *map(jnp.asarray, (rng.normal(size=(4, 3)), np.zeros(4), rng.normal(size=4))), jnp.tanh
    )
    params, frozen = eqx.partition(net, eqx.is_array)
    x = jnp.asarray(rng.normal(size=(20, 3)))
    y = jnp.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]

    def loss(params):
        return jnp.mean((jax.vmap(eqx.combine(params, frozen))(x) - y) ** 2)

    return params, loss


def descend(optimizer, params, loss, steps):
    """The parameters after each step."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = eqx.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), None, steps)[1]


def same(a, b):
    return tree_allclose(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    TWINS,
    ids=lambda one: repr(one) if isinstance(one, neuron.Optimizer) else "optax",
)
def test_takes_the_steps_of_optax(x64, ours, theirs):
    params, loss = problem()
    first = loss(params)

    @jax.jit
    def both(params):
        return [descend(one, params, loss, 1000) for one in (ours, theirs)]

    path, expected = both(params)
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    assert loss(last) < first / 2
    assert tree_allclose(path, expected, rtol=0, atol=1e-12)


def test_steps_are_the_formulas_on_paper(x64, getkey):
    # Sutskever et al., 2013; Kingma & Ba, 2015, algorithm 1; Loshchilov & Hutter, 2019, algorithm 2.
    grads = np.asarray(jr.normal(getkey(), (3, 4)))
    p = np.asarray(jr.normal(getkey(), (4,)))
    sgd = neuron.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    adam = neuron.Adam(0.1, b1=0.8, b2=0.9, eps=1e-4)
    adamw = neuron.AdamW(0.1, b1=0.8, b2=0.9, eps=1e-4, weight_decay=0.01)
    states = [one.init(jnp.asarray(p)) for one in (sgd, adam, adamw)]
    v = m = s = np.zeros(4)
    for t, g in enumerate(grads, start=1):
        decayed = g + 0.01 * p
        v = 0.9 * v + decayed
        m, s = 0.8 * m + 0.2 * g, 0.9 * s + 0.1 * g**2
        direction = m / (1 - 0.8**t) / (np.sqrt(s / (1 - 0.9**t)) + 1e-4)
        expected = [-0.1 * (decayed + 0.9 * v), -0.1 * direction, -0.1 * (direction + 0.01 * p)]
        for place, one in enumerate((sgd, adam, adamw)):
            updates, states[place] = one.update(jnp.asarray(g), states[place], jnp.asarray(p))
            np.testing.assert_allclose(updates, expected[place], rtol=1e-12)
            assert states[place].count == t


@each
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
@pytest.mark.parametrize("double", [False, True])
def test_keeps_the_types_of_the_parameters(request, optimizer, dtype, double):
    if double:
        request.getfixturevalue("x64")
    params = {"a": jnp.ones(2, dtype), "b": jnp.ones((), jnp.float32)}
    state = optimizer.init(params)
    updates, after = jax.eval_shape(optimizer.update, params, state, params)
    kinds = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert kinds(updates) == kinds(params)
    assert kinds(after) == kinds(state)


@each
def test_parameters_may_be_missing(optimizer):
    # As they are where `eqx.partition` put what is not trained on the other side.
    params = [jnp.ones(2), None, {"w": jnp.ones(())}]
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


@each
def test_one_leaf_does_not_see_another(optimizer):
    a, b = jnp.array([1.0, -2.0]), jnp.array(3.0)
    alone = optimizer.update(a, optimizer.init(a), a)[0]
    together = optimizer.update([a, b], optimizer.init([a, b]), [a, b])[0][0]
    assert same(together, alone)


def test_a_count_that_is_full_stays(x64):
    full = jnp.array(np.iinfo(np.int32).max, jnp.int32)
    params = jnp.ones(2)
    for optimizer in (neuron.SGD(0.1), neuron.Adam(0.1), neuron.AdamW(0.1)):
        state = eqx.tree_at(lambda s: s.count, optimizer.init(params), full)
        updates, state = optimizer.update(params, state, params)
        assert state.count == full
        assert jnp.isfinite(updates).all()
        assert (updates < 0).all()


def test_the_logged_rate_is_the_one_that_is_used():
    schedule = lambda count: 1.0 / (2 + count)
    params = jnp.zeros(1)
    for optimizer in (neuron.SGD(schedule), neuron.Adam(schedule, eps=0.0)):
        state = optimizer.init(params)
        for count in range(3):
            rate = optimizer.logs(jnp.ones(1), state, params)["learning_rate"]
            updates, state = optimizer.update(jnp.ones(1), state, params)
            # A constant gradient of one is Adam's direction as well.
            assert rate == np.float32(1 / (2 + count))
            assert np.isclose(-updates[0], rate, rtol=1e-4)
    decay = neuron.AdamW(schedule)
    assert decay.logs(params, decay.init(params), params)["learning_rate"] == 0.5


@each
def test_a_rate_of_zero_moves_nothing(optimizer):
    params = jnp.ones(3)
    still = optimizer.with_numbers(learning_rate=0)
    assert not still.update(params, still.init(params), params)[0].any()


@pytest.mark.parametrize(
    ("optimizer", "name", "value"),
    [(optimizer, name, value) for optimizer, new in NUMBERS for name, value in new.items()],
)
def test_each_number_can_be_changed(optimizer, name, value):
    changed = optimizer.with_numbers(**{name: value})
    assert type(changed) is type(optimizer)
    assert jax.tree.structure(changed) == jax.tree.structure(optimizer)
    for field in jax.tree_util.tree_leaves_with_path(changed):
        path, number = field[0][0].name, field[1]
        assert number == (value if path == name else getattr(optimizer, path))
    # The number matters: after three steps of changing gradients the updates differ.
    assert not tree_allclose(third_update(changed), third_update(optimizer))


def third_update(optimizer):
    params = jnp.ones(2)
    state = optimizer.init(params)
    for grads in jnp.array([[1.0, -2.0], [3.0, 1.0], [-1.0, 5.0]]):
        updates, state = optimizer.update(grads, state, params)
    return updates


@pytest.mark.parametrize(("optimizer", "numbers"), NUMBERS)
def test_numbers_tells_what_can_be_changed(optimizer, numbers):
    assert optimizer.with_numbers(**numbers).numbers() == numbers
    assert all(type(value) is float for value in optimizer.numbers().values())


def test_what_is_no_number_is_not_told():
    class Odd(SignDescent):
        key: jax.Array
        table: jax.Array
        on: jax.Array

    odd = Odd(jnp.array(0.5), jr.key(0), jnp.ones(2), jnp.array(True))
    assert odd.numbers() == {"learning_rate": 0.5}
    assert neuron.SGD(decaying).numbers() == {"weight_decay": 0.0}
    assert as_optimizer(optax.sgd(0.1)).numbers() == {}


def test_a_traced_number_stays_traced():
    half = lambda rate: neuron.SGD(rate).with_numbers(weight_decay=0.5).numbers()["learning_rate"]
    assert jax.vmap(half)(jnp.array([0.1, 0.2])).tolist() == jnp.array([0.1, 0.2]).tolist()


@pytest.mark.parametrize(("optimizer", "numbers"), NUMBERS)
def test_changed_numbers_are_those_of_a_new_optimizer(optimizer, numbers):
    assert same(optimizer.with_numbers(**numbers), type(optimizer)(**numbers))
    assert same(optimizer.with_numbers(), optimizer)


def test_changed_numbers_need_no_trace():
    traces = []

    @jax.jit
    def update(optimizer, grads):
        traces.append(optimizer)
        return optimizer.update(grads, optimizer.init(grads), grads)[0]

    optimizer = neuron.SGD(0.1)
    for rate in (0.5, 1, np.float64(0.25), jnp.float32(0.75)):
        updates = update(optimizer.with_numbers(learning_rate=rate), jnp.ones(2))
        assert updates.tolist() == [-rate, -rate]
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("optimizer", "name", "known"),
    [
        (neuron.SGD(0.1), "rate", ["learning_rate", "weight_decay"]),
        (neuron.SGD(0.1), "momentum", ["learning_rate", "weight_decay"]),
        (neuron.SGD(0.1, momentum=0.9), "nesterov", ["learning_rate", "momentum", "weight_decay"]),
        (neuron.SGD(decaying), "learning_rate", ["weight_decay"]),
        (neuron.Adam(), "weight_decay", ["learning_rate", "b1", "b2", "eps"]),
        (as_optimizer(optax.sgd(0.1)), "learning_rate", []),
    ],
)
def test_names_that_are_no_numbers_are_refused(optimizer, name, known):
    with pytest.raises(ValueError, match=rf"`set\({name}=...\)` must name a number") as caught:
        optimizer.with_numbers(**{name: 0.1})
    assert str(known) in str(caught.value)


@pytest.mark.parametrize("value", [None, decaying])
def test_a_number_can_not_become_something_else(unchecked, value):
    # It would be another structure, which a run under way can not take.
    optimizer = neuron.SGD(0.1, momentum=0.9)
    for name in ("learning_rate", "momentum"):
        with pytest.raises((TypeError, ValueError), match=name):
            optimizer.with_numbers(**{name: value})


BAD = [
    (neuron.SGD, "learning_rate", -0.1),
    (neuron.SGD, "momentum", 1),
    (neuron.SGD, "momentum", -0.1),
    (neuron.SGD, "weight_decay", -1e-9),
    (neuron.Adam, "learning_rate", -0.1),
    (neuron.Adam, "b1", 1.0),
    (neuron.Adam, "b1", -0.1),
    (neuron.Adam, "b2", 1.0),
    (neuron.Adam, "b2", -0.1),
    (neuron.Adam, "eps", -1e-9),
    (neuron.AdamW, "learning_rate", -0.1),
    (neuron.AdamW, "b1", 1.0),
    (neuron.AdamW, "b2", 1.0),
    (neuron.AdamW, "eps", -1e-9),
    (neuron.AdamW, "weight_decay", -1.0),
]


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_numbers_out_of_range_are_refused(kind, name, value):
    call = rf"`{kind.__name__}\({name}=...\)` must be "
    with pytest.raises(ValueError, match=call + rf".*; got {value:g}\."):
        kind(**{name: value})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=call + rf".*; got {value}\."):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), dict.fromkeys((k, n) for k, n, _ in BAD))
def test_what_is_no_number_is_refused(unchecked, kind, name):
    for value in ("0.1", True, [0.1], np.array([0.1]), 0.1j):
        with pytest.raises(TypeError, match=rf"`{kind.__name__}\({name}=...\)` must be one real"):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), dict.fromkeys((k, n) for k, n, _ in BAD))
def test_numbers_on_the_edge_are_taken(kind, name):
    assert getattr(kind(**{name: 0}), name) == 0


def test_changed_numbers_are_checked_too():
    with pytest.raises(ValueError, match=r"`Adam\(b1=...\)` must be in \[0, 1\); got 1\."):
        neuron.Adam().with_numbers(b1=1.0)


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match=r"`SGD\(nesterov=True\)` needs a momentum"):
        neuron.SGD(0.1, nesterov=True)
    neuron.SGD(0.1, nesterov=True, momentum=0)


def test_only_momentum_keeps_a_velocity():
    params = jnp.ones(3)
    assert neuron.SGD(0.1).init(params).velocity is None
    assert not neuron.SGD(0.1, momentum=0.9).init(params).velocity.any()


def test_prints_its_numbers():
    assert repr(neuron.Adam(0.1)) == "Adam(learning_rate=0.1, b1=0.9, b2=0.999, eps=1e-08)"
    assert repr(neuron.SGD(decaying)).startswith("SGD(learning_rate=decaying, weight_decay=0")


def test_a_learning_rate_can_be_differentiated_and_vmapped(x64):
    params, loss = problem()

    def final(rate):
        path = descend(neuron.SGD(rate, momentum=0.9), params, loss, 10)
        return loss(jax.tree.map(lambda leaf: leaf[-1], path))

    final = jax.jit(final)
    slope, h = jax.grad(final)(0.03), 1e-6
    assert np.isclose(slope, (final(0.03 + h) - final(0.03 - h)) / (2 * h), rtol=1e-6)
    rates = jnp.array([0.01, 0.02])
    assert tree_allclose(jax.vmap(final)(rates), jnp.stack([final(r) for r in rates]), rtol=1e-12)


def test_optax_serves_in_an_optimizers_place():
    optimizer = neuron.Adam()
    assert as_optimizer(optimizer) is optimizer
    theirs = optax.adam(0.1)
    wrapped, params = as_optimizer(theirs), jnp.ones(2)
    assert isinstance(wrapped, neuron.Optimizer)
    assert wrapped.logs(params, wrapped.init(params), params) == {}
    assert same(
        wrapped.update(params, wrapped.init(params), params),
        theirs.update(params, theirs.init(params), params),
    )


@pytest.mark.parametrize("other", [None, 0.1, "adam", neuron.Adam, decaying, optax.sgd])
def test_other_things_are_no_optimizers(other):
    with pytest.raises(TypeError, match=r"`Trainer\(optimizer=...\)` must be a neuron.Optimizer"):
        as_optimizer(other)


class SignDescent(neuron.Optimizer):
    learning_rate: jax.Array

    def init(self, params):
        return None

    def update(self, grads, state, params):
        return jax.tree.map(lambda g: -self.learning_rate * jnp.sign(g), grads), state


def test_an_optimizer_of_your_own_is_two_methods():
    optimizer = SignDescent(jnp.array(0.5))
    updates, state = optimizer.update(jnp.array([3.0, -2.0]), optimizer.init(None), None)
    assert updates.tolist() == [-0.5, 0.5]
    assert optimizer.logs(updates, state, None) == {}
    with pytest.raises(TypeError, match="abstract"):
        neuron.Optimizer()


def test_numbers_of_your_own_optimizer_stay_leaves():
    optimizer = SignDescent(jnp.array(0.5))
    changed = optimizer.with_numbers(learning_rate=0.25)
    assert changed.update(jnp.ones(2), None, None)[0].tolist() == [-0.25, -0.25]
    assert not any(isinstance(leaf, float) for leaf in jax.tree.leaves(changed))
