"""A run as a function of its numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(7)
X = rng.normal(size=(50, 3))
Y = X @ np.array([1, -2, 0.5]) + 0.1 * rng.normal(size=50)
X_VAL = rng.normal(size=(20, 3))
Y_VAL = X_VAL @ np.array([1, -2, 0.5])


class Scalar(eqx.Module):
    """One number, whatever the input."""

    weight: jax.Array

    def __call__(self, x):
        return self.weight


class Parabola(neuron.Objective):
    """`a w^2 / 2`, where the row is `a`."""

    def __call__(self, model, model_state, example, *, key):
        return neuron.Terms(example.inputs * model.weight**2 / 2), model_state


def loader(batch_size=8, **options):
    dtype = jnp.result_type(float)
    return neuron.DataLoader(
        (X.astype(dtype), Y.astype(dtype)),
        batch_size,
        **{"sampler": neuron.Shuffle(3), "drop_last": True} | options,
    )


def trainer_of(model=None, loss=neuron.MeanSquaredError(), optimizer=neuron.SGD(0.05), **options):
    model = neuron.Dense(3, key=jax.random.key(1)) if model is None else model
    return neuron.Trainer(model, loss, optimizer, progress=False, **options)


def held_out(run):
    """A loss of the trained model on other rows, as a function of the run's numbers."""

    def value(hyperparameters):
        model = run(hyperparameters)
        model = model[0] if isinstance(model, tuple) else model
        # Of the weights as such, so that a layer that needs a state has its part too.
        weights = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        return sum(jnp.sum(jnp.sin(3 * weight)) for weight in weights)

    return value


def check_derivatives(run, values, step=1e-5, rtol=1e-5, forward=False):
    """Slopes against central differences, and against those of the forward direction."""
    at = jax.jit(jax.value_and_grad(held_out(run)))
    slopes = at(values)[1]
    for name, now in values.items():
        above, below = (at({**values, name: now + s})[0] for s in (step, -step))
        assert abs(above - below) > 1e-4 * step
        np.testing.assert_allclose(slopes[name], (above - below) / (2 * step), rtol=rtol)
    if forward:
        ones = jax.tree.map(jnp.ones_like, values)
        _, slope = jax.jit(lambda values: jax.jvp(held_out(run), (values,), (ones,)))(values)
        np.testing.assert_allclose(slope, sum(slopes.values()), rtol=1e-8)


def numbers(**named):
    return {name.replace("__", "."): jnp.asarray(value) for name, value in named.items()}


def test_gradient_descent_on_a_parabola_has_a_closed_form(x64):
    a, rate, steps, w = 0.7, 0.3, 16, 1.9
    model = Scalar(jnp.asarray(w))
    trainer = trainer_of(model, Parabola(), neuron.SGD(rate))
    run = neuron.unrolled(trainer, neuron.DataLoader((np.array([a]),), 1), steps=steps)
    after = lambda rate, start: (
        run({"optimizer.learning_rate": rate}, Scalar(jnp.asarray(start))).weight
    )
    np.testing.assert_allclose(after(rate, w), (1 - rate * a) ** steps * w, rtol=1e-12)
    slope = -steps * a * (1 - rate * a) ** (steps - 1) * w
    np.testing.assert_allclose(jax.grad(after)(rate, w), slope, rtol=1e-12)
    # And the slope in the weight that the run starts from.
    np.testing.assert_allclose(jax.grad(after, 1)(rate, w), (1 - rate * a) ** steps, rtol=1e-12)
    bend = steps * (steps - 1) * a**2 * (1 - rate * a) ** (steps - 2) * w
    np.testing.assert_allclose(jax.grad(jax.grad(after))(rate, w), bend, rtol=1e-12)


def test_a_penalty_has_a_closed_form(x64):
    a, rate, steps, w, strength = 0.7, 0.3, 10, 1.9, 0.2
    loss = neuron.Penalized(Parabola(), neuron.L2(strength, "weight"))
    trainer = trainer_of(Scalar(jnp.asarray(w)), loss, neuron.SGD(rate))
    run = neuron.unrolled(trainer, neuron.DataLoader((np.array([a]),), 1), steps=steps)
    keeps = 1 - rate * (a + 2 * strength)
    after = lambda s: run({"loss.penalties.l2.strength": s}).weight
    np.testing.assert_allclose(after(strength), keeps**steps * w, rtol=1e-12)
    slope = -2 * rate * steps * keeps ** (steps - 1) * w
    np.testing.assert_allclose(jax.grad(after)(strength), slope, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (
            {"optimizer": neuron.SGD(0.05, momentum=0.5, nesterov=True, weight_decay=0.1)},
            {"learning_rate": 0.05, "momentum": 0.5, "weight_decay": 0.1},
        ),
        ({"optimizer": neuron.Adam(0.05)}, {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95}),
        (
            {"optimizer": neuron.AdamW({"weight": 0.05, "*": 0.1}, weight_decay=0.2)},
            {"learning_rate[weight]": 0.05, "learning_rate[*]": 0.1, "weight_decay": 0.2},
        ),
        (
            {"optimizer": neuron.Clipped(neuron.SGD(0.1), norm=0.7)},
            {"learning_rate": 0.1, "norm": 0.7},
        ),
    ],
)
def test_an_optimizers_numbers_have_slopes(x64, options, values):
    run = neuron.unrolled(trainer_of(**options), loader(), steps=16)
    check_derivatives(run, {f"optimizer.{n}": jnp.asarray(v) for n, v in values.items()})


@pytest.mark.parametrize(
    ("loss", "values"),
    [
        (neuron.RootMeanSquaredError(), {}),
        (neuron.Huber(), {"loss.delta": 0.4}),
        (neuron.Quantile(0.3), {"loss.level": 0.3}),
        (
            neuron.Penalized(
                neuron.MeanSquaredError(), neuron.L2(0.1), own=neuron.L1(0.2, "weight")
            ),
            {"loss.penalties.l2.strength": 0.1, "loss.penalties.own.strength": 0.2},
        ),
        (
            neuron.Supervised({"a": neuron.Huber(), "b": neuron.LogCosh()}, weights={"b": 2.0}),
            {"loss.a.delta": 0.5, "loss.weights.b": 2.0},
        ),
    ],
)
def test_a_losss_numbers_have_slopes(x64, loss, values):
    targets = {"a": Y, "b": Y} if "loss.a.delta" in values else Y
    data = neuron.DataLoader((X, targets), 8, sampler=neuron.Bootstrap(1))
    run = neuron.unrolled(trainer_of(loss=loss), data, steps=16)
    values = {"optimizer.learning_rate": 0.05, **values}
    check_derivatives(run, {name: jnp.asarray(v) for name, v in values.items()}, rtol=1e-4)


def test_the_average_of_weights_has_a_slope(x64):
    run = neuron.unrolled(trainer_of(average=0.9), loader(), steps=12)
    check_derivatives(run, numbers(average=0.9, optimizer__learning_rate=0.05), forward=True)


def test_weights_of_rows_are_numbers_too(x64):
    weight = rng.uniform(0.5, 2, size=len(X))
    run = neuron.unrolled(trainer_of(), loader(), steps=12)
    weighted = neuron.DataLoader((X, Y, weight), 8, sampler=neuron.Shuffle(3), drop_last=True)
    expected = trainer_of()
    expected.fit(weighted, steps=12)
    np.testing.assert_allclose(
        run({"data.weight": weight}).weight, expected.model.weight, rtol=1e-12
    )
    at = jax.jit(jax.value_and_grad(lambda w: held_out(run)({"data.weight": w})))
    slope = at(weight)[1]
    for row in (0, 31):
        step = 1e-5 * (np.arange(len(X)) == row)
        above, below = (at(weight + s)[0] for s in (step, -step))
        np.testing.assert_allclose(slope[row], (above - below) / 2e-5, rtol=1e-5, atol=1e-9)


def stateful(key):
    a, b = jax.random.split(key)
    layers = [eqx.nn.Linear(3, 5, key=a), eqx.nn.BatchNorm(5, "batch", mode="batch")]
    return eqx.nn.Sequential([*layers, eqx.nn.Linear(5, "scalar", key=b)])


def dropping(key):
    a, b = jax.random.split(key)
    layers = [eqx.nn.Linear(3, 8, key=a), eqx.nn.Lambda(jnp.tanh), eqx.nn.Dropout(0.5)]
    return eqx.nn.Sequential([*layers, eqx.nn.Linear(8, "scalar", key=b)])


CASES = {
    "plain": (lambda: trainer_of(), loader),
    "short": (lambda: trainer_of(), lambda: loader(drop_last=False)),
    "accumulate": (
        lambda: trainer_of(accumulate=3, loss=neuron.RootMeanSquaredError()),
        lambda: loader(drop_last=False),
    ),
    "average": (lambda: trainer_of(average=0.9, optimizer=neuron.Adam(0.1)), loader),
    "dropout": (lambda: trainer_of(dropping(jax.random.key(0))), loader),
    "state": (
        lambda: trainer_of(
            (made := eqx.nn.make_with_state(stateful)(jax.random.key(0)))[0], model_state=made[1]
        ),
        lambda: loader(9, drop_last=False),
    ),
    "frozen": (lambda: trainer_of(trainable="weight"), loader),
    "metrics": (lambda: trainer_of(metrics={"r2": neuron.R2(), "mae": lambda y, p: 0.0}), loader),
    "bootstrap": (lambda: trainer_of(), lambda: loader(sampler=neuron.Bootstrap(2))),
    "transform": (
        lambda: trainer_of(),
        lambda: loader(transform=lambda b, key: neuron.Batch(b.inputs + jax.random.normal(key), b.targets)),
    ),
    "function": (
        lambda: trainer_of(),
        lambda: neuron.DataLoader(drawn, steps_per_epoch=7),
    ),
}  # fmt: skip


def drawn(step, key):
    x = jax.random.normal(key, (8, 3))
    return x, x.sum(axis=1)


@pytest.mark.parametrize("case", CASES)
def test_it_takes_the_steps_of_a_fit(x64, case):
    trainer, data = (make() for make in CASES[case])
    # From the middle of an epoch, over the ends of some.
    trainer.fit(data, steps=4)
    before = trainer.snapshot()
    run = neuron.unrolled(trainer, data, steps=20)
    model = run({})
    other = trainer.copy()
    other.fit(data, steps=20)
    expected = other.model if other.model_state is None else (other.model, other.model_state)
    arrays = lambda tree: jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    for ours, theirs in zip(arrays(model), arrays(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    # The trainer has not moved.
    assert trainer.step == 4
    for now, then in zip(arrays(trainer.state), arrays(before), strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("steps", [0, 1, 16, 17])
def test_any_number_of_steps(x64, steps):
    trainer = trainer_of()
    model = neuron.unrolled(trainer, loader(), steps=steps)({})
    trainer.fit(loader(), steps=steps)
    np.testing.assert_allclose(model.weight, trainer.model.weight, rtol=1e-12)


@pytest.mark.parametrize("case", ["accumulate", "state", "function"])
def test_slopes_of_less_plain_runs(x64, case):
    trainer, data = (make() for make in CASES[case])
    run = neuron.unrolled(trainer, data, steps=9)
    check_derivatives(run, numbers(optimizer__learning_rate=0.05), rtol=1e-4)


def test_in_single_precision_the_weights_are_those_of_a_fit():
    trainer = trainer_of(loss=neuron.RootMeanSquaredError())
    model = neuron.unrolled(trainer, loader(), steps=100)({})
    trainer.fit(loader(), steps=100)
    assert model.weight.dtype == jnp.float32
    np.testing.assert_allclose(model.weight, trainer.model.weight, rtol=1e-5)


def test_many_runs_side_by_side(x64):
    run = neuron.unrolled(trainer_of(), loader(drop_last=False), steps=20)
    value = held_out(run)
    rates = jnp.logspace(-3, -1, 3)
    one = jax.jit(jax.value_and_grad(lambda rate: value({"optimizer.learning_rate": rate})))
    many = jax.jit(jax.vmap(one))(rates)
    alone = [one(rate) for rate in rates]
    for ours, theirs in zip(many, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_users_code_is_traced_once():
    traces = []

    class Counted(neuron.Loss):
        def __call__(self, prediction, target):
            traces.append(0)
            return (prediction - target) ** 2

    trainer = trainer_of(loss=Counted())
    data = loader()
    neuron.unrolled(trainer, data, steps=9)({})
    before = len(traces)
    value = held_out(neuron.unrolled(trainer_of(loss=Counted()), data, steps=16))
    one = lambda rate: value({"optimizer.learning_rate": rate})
    one(0.1), jax.jit(jax.grad(one))(0.1), jax.jit(jax.vmap(one))(jnp.ones(2))
    assert len(traces) == before


def test_a_jitted_run_is_compiled_once():
    run = neuron.unrolled(trainer_of(), loader(), steps=10)
    value = eqx.debug.assert_max_traces(held_out(run), max_traces=1)
    step = jax.jit(jax.grad(value))
    for rate in (0.1, 0.2, np.float32(0.3)):
        step({"optimizer.learning_rate": jnp.float32(rate)})


def test_memory_grows_with_the_root_of_the_steps():
    model = eqx.nn.MLP(3, "scalar", 64, 2, key=jax.random.key(0))

    def bytes_of(steps):
        run = neuron.unrolled(trainer_of(model, optimizer=neuron.Adam()), loader(), steps=steps)
        value = held_out(run)
        one = jax.jit(jax.grad(lambda rate: value({"optimizer.learning_rate": rate})))
        analysis = one.lower(jnp.float32(1e-3)).compile().memory_analysis()
        if analysis is None:
            pytest.skip("this backend does not say how much memory a program needs")
        return analysis.temp_size_in_bytes

    few, many = bytes_of(100), bytes_of(1600)
    # 16 times the steps; the states of each level are weights and two moments.
    assert many < 5 * few
    states = 3 * 4 * sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    assert many < 1.5 * 2 * 40 * states


def test_units_that_get_no_gradient_leave_slopes_finite():
    # Of a ReLU that is off, Adam's second moment is 0, whose root has no slope.
    model = eqx.nn.MLP(3, "scalar", 16, 1, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.full(16, -9.0).at[0].set(1.0))
    value = held_out(neuron.unrolled(trainer_of(model, optimizer=neuron.Adam()), loader(), steps=9))
    slope = jax.jit(jax.grad(lambda rate: value({"optimizer.learning_rate": rate})))(1e-2)
    assert np.isfinite(slope)
    assert slope != 0


def test_an_exact_fit_leaves_slopes_finite():
    x = X.astype(np.float32)
    model = neuron.Dense(3, key=jax.random.key(1))
    data = neuron.DataLoader((x, np.asarray(jax.vmap(model)(x))), 8)
    optimizer = neuron.Clipped(neuron.SGD(0.1), norm=1.0)
    trainer = trainer_of(model, neuron.RootMeanSquaredError(), optimizer)
    value = held_out(neuron.unrolled(trainer, data, steps=4))
    slope = jax.jit(jax.grad(lambda rate: value({"optimizer.learning_rate": rate})))(0.1)
    assert np.isfinite(slope)


def test_a_run_that_breaks_down_is_nan_and_so_are_its_slopes():
    run = neuron.unrolled(trainer_of(), loader(), steps=64)
    one = lambda rate: jnp.sum(run({"optimizer.learning_rate": rate}).weight)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(one)))(jnp.float32([0.05, 1e30, 0.1]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    np.testing.assert_array_equal(np.isnan(slope), [False, True, False])
    _, forward = jax.jvp(one, (jnp.float32(1e30),), (jnp.float32(1),))
    assert np.isnan(forward)


def test_one_that_breaks_down_at_its_first_step_is_nan_too():
    class Never(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.log(-(prediction**2) - 1)

    run = neuron.unrolled(trainer_of(loss=Never()), loader(), steps=5)
    one = lambda rate: jnp.sum(run({"optimizer.learning_rate": rate}).weight)
    assert all(np.isnan(each) for each in jax.value_and_grad(one)(0.1))


def test_batches_without_weight_are_no_steps(x64):
    weight = np.ones(len(X))
    weight[8:16] = 0
    data = neuron.DataLoader((X, Y, weight), 8, sampler=neuron.Sequential())
    trainer = trainer_of()
    run = neuron.unrolled(trainer, data, steps=12)
    trainer.fit(data, steps=12)
    np.testing.assert_allclose(run({}).weight, trainer.model.weight, rtol=1e-12)
    check_derivatives(run, numbers(optimizer__learning_rate=0.05))
    one = lambda rate: held_out(run)({"optimizer.learning_rate": rate})
    alone = jax.jit(jax.grad(one))
    side_by_side = jax.jit(jax.vmap(alone))(jnp.asarray([0.05, 0.07]))
    np.testing.assert_allclose(side_by_side[0], alone(0.05), rtol=1e-9)


def test_optax_is_differentiated_as_well(x64):
    optax = pytest.importorskip("optax")
    weight = rng.uniform(0.5, 2, size=len(X))
    ours, theirs = (
        neuron.unrolled(trainer_of(optimizer=optimizer), loader(), steps=9)
        for optimizer in (neuron.Adam(0.1), optax.adam(0.1))
    )
    slopes = [
        jax.jit(jax.grad(lambda w, run=run: held_out(run)({"data.weight": w})))(weight)
        for run in (ours, theirs)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"learning_rate": 0.1}, ValueError, "got 'learning_rate', there are .*data.weight"),
        ({"optimizer.learning_rate": -1.0}, ValueError, "at least 0; got -1"),
        ({"optimizer.learning_rate": jnp.ones(3)}, ValueError, r"shape \(3,\). Use `jax.vmap`"),
        ({"data.weight": jnp.ones(3)}, ValueError, r"of shape \(50,\); got shape \(3,\)"),
    ],
)
def test_numbers_that_can_not_be_meant_are_refused(values, error, words):
    run = neuron.unrolled(trainer_of(), loader(), steps=3)
    with pytest.raises(error, match=words):
        run(values)


def test_another_structure_is_refused():
    run = neuron.unrolled(trainer_of(), loader(), steps=3)
    with pytest.raises(ValueError, match="must have the structure of the trainer's own"):
        run({}, neuron.Dense(3, use_bias=False, key=jax.random.key(0)))


def test_data_elsewhere_and_skipped_steps_are_refused():
    batches = ((np.ones((8, 3), np.float32), np.ones(8, np.float32)) for _ in range(4))
    with pytest.raises(ValueError, match="A stream is read once"):
        neuron.unrolled(trainer_of(), neuron.DataLoader(batches), steps=3)
    with pytest.raises(ValueError, match="placement='device'"):
        neuron.unrolled(trainer_of(), loader(placement="host"), steps=3)
    with pytest.raises(ValueError, match="got Trainer\\(nonfinite='skip'\\)"):
        neuron.unrolled(trainer_of(nonfinite="skip"), loader(), steps=3)
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        neuron.unrolled(trainer_of(), loader(), steps=-1)
    function = neuron.DataLoader(drawn, steps_per_epoch=7)
    with pytest.raises(ValueError, match=r"got 'data\.weight'"):
        neuron.unrolled(trainer_of(), function, steps=3)({"data.weight": np.ones(8)})
