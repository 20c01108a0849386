"""Origin: the operation, the layer and the line where the first value arose that is not finite."""

import inspect
import pickle
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


X = np.random.default_rng(0).normal(size=(48, 2)).astype(np.float32)
Y = X.sum(1)


class Head(eqx.Module):
    linear: eqx.nn.Linear
    fault: object = eqx.field(static=True)

    def __call__(self, x):
        return self.fault(self.linear(x))


class Net(eqx.Module):
    body: eqx.nn.MLP
    heads: list

    def __init__(self, fault, key=None):
        first, second = jax.random.split(jax.random.key(0) if key is None else key)
        self.body = eqx.nn.MLP(2, 8, 8, 1, key=first)
        self.heads = [Head(eqx.nn.Linear(8, 4, key=second), fault)]

    def __call__(self, x):
        return self.heads[0](self.body(x))


def error_of(model, loader=(X, Y), steps=20, **options):
    options = {"nonfinite": "locate", "progress": False} | options
    trainer = neuron.Trainer(model, **options)
    with pytest.raises(neuron.NonFiniteLossError) as caught:
        trainer.fit(loader, steps=steps)
    return caught.value


def line_of(function, text):
    """Where a piece of a function's text stands."""
    lines, first = inspect.getsourcelines(function)
    (offset,) = [place for place, line in enumerate(lines) if text in line]
    return f"{__file__}:{first + offset}"


def log(x):
    x = jax.nn.relu(x)
    return jnp.sum(jnp.log(x))


def division(x):
    total = jnp.sum(x) * 0
    return jnp.sum(x / total)


def overflow(x):
    big = 1000 + jnp.abs(x)
    return jnp.sum(jnp.exp(big))


def masked(x):
    # The mask's infinities do no harm.
    scores = jnp.where(jnp.arange(4) < 2, x, -jnp.inf)
    kept = jax.nn.softmax(scores)
    return jnp.sum(kept) + jnp.log(jnp.sum(x) * 0)


def all_masked(x):
    scores = jnp.where(jnp.arange(4) < 0, x, -jnp.inf)
    return jnp.sum(x * jax.nn.softmax(scores))


def constant(x):
    return jnp.sum(jnp.where(x < 1e9, -jnp.inf, x))


def decomposed(x):
    negative = -jnp.eye(4) * jnp.sum(x) ** 2
    return jnp.linalg.cholesky(negative).sum()


def looped(x):
    def body(carry, _):
        carry = carry * 1e9
        return carry, jnp.cosh(carry)

    return jax.lax.scan(body, 1 + jnp.abs(x), jnp.arange(5))[1].sum()


def looped_while(x):
    def body(carry):
        place, x = carry
        return place + 1, jnp.square(x)

    return jax.lax.while_loop(
        lambda carry: carry[0] < 9, body, (0, 1e3 + jax.lax.stop_gradient(x))
    )[1].sum()


def branched(x):
    return jax.lax.cond(x[0] < 1e9, lambda x: jnp.sum(jnp.exp(1e3 + 0 * x)), jnp.sum, x)


@jax.jit
def compiled(x):
    shifted = x * 0
    return jnp.sum(jnp.log(shifted))


LOSSES = [
    (log, "log", "jnp.log(x)"),
    (division, "div", "x / total"),
    (overflow, "exp", "jnp.exp(big)"),
    (masked, "log", "jnp.log(jnp.sum(x) * 0)"),
    (all_masked, "sub", "jax.nn.softmax(scores)"),
    (constant, "select_n", "jnp.where("),
    (decomposed, "cholesky", "cholesky(negative)"),
    (branched, "exp", "jnp.exp("),
]


@pytest.mark.parametrize(
    ("fault", "operation", "text"), LOSSES, ids=lambda v: getattr(v, "__name__", v)
)
def test_the_loss_is_led_back_to_a_line(fault, operation, text):
    error = error_of(Net(fault))
    where = error.where
    assert (where.operation, where.layer, where.parameters) == (operation, "heads.0", ())
    place, code = where.line.split(": ", 1)
    assert place.split(" ")[0] == line_of(fault, text)
    assert text in code
    assert str(where) in str(error)
    assert str(error).startswith("Step 0 ")


def test_a_line_within_a_loop_is_found():
    where = error_of(Net(looped)).where
    assert (where.operation, where.layer) == ("cosh", "heads.0")
    assert "carry, jnp.cosh(carry)" in where.line
    where = error_of(Net(looped_while)).where
    assert where.operation == "square"
    assert "jnp.square(x)" in where.line


def test_a_line_within_a_function_of_its_own_is_found():
    where = error_of(Net(compiled)).where
    assert where.operation == "log"
    assert "jnp.log(shifted)" in where.line
    # A second trainer finds what JAX has traced before.
    assert "jnp.log(shifted)" in error_of(Net(compiled)).where.line


def root(x):
    return jnp.sqrt(jnp.sum((x * 0) ** 2)) + jnp.sum(x)


def double_where(x):
    """The value is right and its gradient is not: the usual mistake."""
    return jnp.sum(jnp.where(x > 1e9, jnp.log(x * 0), x))


@pytest.mark.parametrize(("fault", "text"), [(root, "jnp.sqrt("), (double_where, "jnp.log(x * 0)")])
def test_gradients_are_led_back_to_the_line_that_they_are_of(fault, text):
    error = error_of(Net(fault))
    assert np.isfinite(error.loss)
    where = error.where
    assert where.layer == "heads.0"
    assert where.line.split(" ")[0] == line_of(fault, text)
    assert set(where.parameters) == {
        f"{path}.{leaf}"
        for path in ("body.layers.0", "body.layers.1", "heads.0.linear")
        for leaf in ("weight", "bias")
    }
    assert "in the derivative of" in str(where)


def test_only_the_gradients_that_are_not_finite_are_named():
    class Two(eqx.Module):
        good: jax.Array
        bad: jax.Array

        def __call__(self, x):
            return self.good * x[0] + jnp.sqrt(self.bad)

    where = error_of(Two(jnp.ones(()), jnp.zeros(()))).where
    assert where.parameters == ("bad",)
    assert "self.good * x[0]" in where.line


def test_a_run_that_blows_up_names_its_largest_parameter():
    error = error_of(Net(jnp.sum), optimizer=neuron.SGD(1e4))
    assert error.step > 0
    found = re.fullmatch(
        r"The largest parameter is (\S+), up to (\S+): try .*", error.where.largest
    )
    params = neuron.summary(Net(jnp.sum)).rows
    assert found[1] in {row.path for row in params}
    assert float(found[2]) > 1e10


def test_a_parameter_that_an_update_made_infinite_is_named():
    model = neuron.Dense(2, key=jax.random.key(0))
    error = error_of(model, optimizer=neuron.SGD(1e38))
    assert error.step == 1
    assert "The parameter" in error.where.detail
    assert "an earlier update" in error.where.detail


def test_a_loss_of_ones_own_is_found():
    class Ratio(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.log(prediction - prediction)

    where = error_of(neuron.Dense(2, key=jax.random.key(0)), loss=Ratio()).where
    assert (where.operation, where.layer) == ("log", None)
    assert "jnp.log(prediction - prediction)" in where.line


def test_a_built_in_loss_is_found():
    y = Y.copy()
    y[7] = 3e38
    model = neuron.Dense(2, key=jax.random.key(0))
    where = error_of(model, (X, y), loss=neuron.MeanSquaredError()).where
    assert "losses/regression.py" in where.line


def loader_of(placement):
    if placement == "stream":
        batches = ((X[k : k + 8], Y[k : k + 8]) for k in range(0, 48, 8))
        return neuron.DataLoader(batches)
    return neuron.DataLoader((X, Y), 8, placement=placement, sampler=neuron.Sequential())


@pytest.mark.parametrize("placement", ["device", "host", "stream"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_very_step_and_batch(placement, accumulate):
    """The one row that fails is the 30th."""
    bad = float(X[29, 0])

    class Picky(neuron.Loss):
        def __call__(self, prediction, target):
            return (prediction - target) ** 2

    class Fails(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return self.weight @ x + jnp.log(jnp.abs(x[0] - bad))

    error = error_of(Fails(jnp.ones(2)), loader_of(placement), loss=Picky(), accumulate=accumulate)
    assert error.step == 29 // (8 * accumulate)
    assert error.where.operation == "log"
    assert "-inf" in error.where.detail


def test_state_keys_and_types_are_those_of_the_step():
    class Model(eqx.Module):
        linear: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        drop: eqx.nn.Dropout

        def __init__(self, key):
            self.linear = eqx.nn.Linear(2, 4, key=key)
            self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
            self.drop = eqx.nn.Dropout(0.5)

        def __call__(self, x, state, *, key):
            x, state = self.norm(self.linear(x), state)
            dropped = self.drop(x, key=key)
            return jnp.sum(jnp.log(jnp.abs(dropped))), state

    model, state = eqx.nn.make_with_state(Model)(jax.random.key(0))
    loader = neuron.DataLoader((X, Y), 10)
    error = error_of(model, loader, model_state=state, precision="bfloat16", average=0.9)
    assert error.where.operation == "log"
    assert "jnp.log(jnp.abs(dropped))" in error.where.line


def test_asked_for_later_it_is_the_same():
    error = error_of(Net(log), nonfinite="raise")
    assert error.where is None
    assert "`error.locate()`" in str(error)
    where = error.locate()
    assert where is error.where is error.locate()
    assert where == error_of(Net(log)).where
    assert str(where) in str(error)


def test_the_trainer_may_have_gone_on_meanwhile():
    model = neuron.Dense(2, key=jax.random.key(0))
    trainer = neuron.Trainer(model, neuron.MeanSquaredError(), progress=False)
    y = Y.copy()
    y[20] = 3e38
    with pytest.raises(neuron.NonFiniteLossError) as caught:
        trainer.fit(neuron.DataLoader((X, y), 8, sampler=neuron.Sequential()), epochs=1)
    trainer.fit((X, Y), epochs=2)
    assert caught.value.step == 2
    assert "losses/regression.py" in caught.value.locate().line


def test_an_error_goes_to_another_process_as_words():
    error = error_of(Net(log))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.step, copy.where) == (str(error), 0, error.where)
    assert pickle.loads(pickle.dumps(error_of(Net(log), nonfinite="raise"))).locate() is None


def test_a_model_that_can_not_be_watched_is_led_back_all_the_same():
    class Exact(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, x):
            assert type(self.linear) is eqx.nn.Linear
            return jnp.sum(jnp.log(self.linear(x) * 0))

    where = error_of(Exact(eqx.nn.Linear(2, 2, key=jax.random.key(0)))).where
    assert (where.operation, where.layer) == ("log", None)
    assert "jnp.log(self.linear(x) * 0)" in where.line


def test_what_is_not_trained_may_be_to_blame():
    class Biased(eqx.Module):
        linear: neuron.Dense
        mask: jax.Array
        table: jax.Array

        def __call__(self, x):
            # The mask's infinities do no harm.
            kept = jax.nn.softmax(x + self.mask)
            return self.linear(kept) + self.table

    linear, mask = neuron.Dense(2, key=jax.random.key(0)), jnp.array([0.0, -jnp.inf])
    model = Biased(linear, mask, jnp.array(jnp.nan))
    where = error_of(model, trainable="linear.*").where
    assert where.detail == "table is not finite, and is not trained"
    model = Biased(linear, mask, jnp.array(0.0))
    trainer = neuron.Trainer(model, trainable="linear.*", progress=False)
    trainer.fit((X, Y), steps=5)


def test_rows_that_a_function_makes():
    def make(step):
        x = jnp.ones((8, 2)) * jnp.where(step == 3, jnp.nan, 1.0)
        return x, x.sum(1)

    model = neuron.Dense(2, key=jax.random.key(0))
    error = error_of(model, neuron.DataLoader(make, steps_per_epoch=10))
    assert error.step == 3
    assert "constant" in error.where.detail
    assert "step == 3" in error.where.line


def test_an_array_that_the_datas_function_keeps_may_be_to_blame():
    class Make(eqx.Module):
        kept: jax.Array

        def __call__(self, step):
            return self.kept[step], jnp.ones(8)

    make = Make(jnp.ones((10, 8, 2)).at[3, 1, 1].set(jnp.nan))
    model = neuron.Dense(2, key=jax.random.key(0))
    where = error_of(model, neuron.DataLoader(make, steps_per_epoch=10)).where
    assert "is not finite, which the data's function keeps" in where.detail


def test_a_model_in_shards():
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.sharding.PartitionSpec("rows")

    def fault(x):
        part = jax.shard_map(lambda x: jnp.log(x * 0), mesh=mesh, in_specs=cut, out_specs=cut)
        return jnp.sum(part(x))

    where = error_of(Net(fault)).where
    assert (where.operation, where.layer) == ("shard_map", "heads.0")


def test_what_goes_through_no_round_of_a_loop_was_born_before():
    def fault(x):
        born = jnp.log(jnp.sum(x) * 0)
        return jax.lax.scan(lambda carry, y: (carry + y, None), born, jnp.zeros(0))[0]

    where = error_of(Net(fault)).where
    assert where.operation == "log"
    assert "jnp.log(jnp.sum(x) * 0)" in where.line


def test_a_failure_to_locate_hides_nothing(monkeypatch):
    def fails(*step):
        raise RuntimeError("of the search")

    monkeypatch.setattr("neuron.trainer.trainer.located", fails)
    error = error_of(Net(log))
    assert (error.step, error.where) == (0, None)
    assert "of the search" in error.__notes__[0]


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be 'raise', 'locate' or 'skip'; got 'find'"):
        neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), nonfinite="find")
