"""Objectives: what is accepted, how models are called, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.models import prediction_like
from neuron.objectives import as_objective
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


class Heads(eqx.Module):
    """Two outputs, of one body."""

    body: eqx.nn.Linear
    classes: neuron.Dense
    odd: neuron.Dense

    def __init__(self, key):
        body, classes, odd = jax.random.split(key, 3)
        self.body = eqx.nn.Linear(2, 8, key=body)
        self.classes = neuron.Dense(8, 3, key=classes)
        self.odd = neuron.Dense(8, key=odd)

    def __call__(self, x):
        hidden = jnp.tanh(self.body(x))
        return {"kind": self.classes(hidden), "odd": self.odd(hidden)}


rng = np.random.default_rng(8)
INPUTS = rng.normal(size=(37, 2)).astype(np.float32)
KINDS = rng.integers(0, 3, 37).astype(np.int32)
TARGETS = {"kind": KINDS, "odd": (KINDS % 2).astype(np.float32)}
SEVERAL = {"kind": neuron.CrossEntropy(), "odd": neuron.BinaryCrossEntropy()}


def trainer_of(loss, **options):
    model = Heads(jax.random.key(0))
    return neuron.Trainer(model, loss, neuron.SGD(0.1), progress=False, **options)


def loader_of(batch_size=10, weight=None):
    data = (INPUTS, TARGETS) if weight is None else (INPUTS, TARGETS, weight)
    return neuron.DataLoader(data, batch_size, sampler=neuron.Shuffle(2))


def test_several_losses_are_logged_by_name_and_added_by_weight():
    trainer = trainer_of(neuron.Supervised(SEVERAL, weights={"odd": 0.5}))
    history = trainer.fit(loader_of(), epochs=3, validation=(INPUTS, TARGETS))
    assert history.names == ["kind", "learning_rate", "loss", "odd"]
    total = history["kind"] + 0.5 * history["odd"]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-6)
    for row in history.epochs:
        for start in ("", "val_"):
            total = row[start + "kind"] + 0.5 * row[start + "odd"]
            assert row[start + "loss"] == pytest.approx(total, rel=1e-6)


def test_several_losses_are_what_each_is_alone():
    """Their values over held-out rows, with class weights of one that are not the other's."""
    loss = {"kind": neuron.CrossEntropy(class_weight=[1.0, 2.0, 3.0]), "odd": SEVERAL["odd"]}
    weight = rng.random(37).astype(np.float32)
    trainer = trainer_of(loss)
    logs = trainer.evaluate(loader_of(16, weight))
    outputs = jax.vmap(trainer.model)(INPUTS)
    for name in loss:
        scores = jax.vmap(loss[name])(outputs[name], TARGETS[name])
        counts = weight * np.array([loss[name].weight(t) for t in jnp.asarray(TARGETS[name])])
        assert logs[name] == pytest.approx(np.average(scores, weights=counts), rel=1e-5)


def test_an_epochs_value_of_each_loss_is_finished_once():
    """Of a root over rows, not of the mean of roots over batches; the weights stand still."""
    loss = {"kind": neuron.CrossEntropy(), "odd": neuron.RootMeanSquaredError()}
    trainer = trainer_of(neuron.Supervised(loss, weights={"odd": 3.0}))
    trainer.set(learning_rate=0.0)
    row = trainer.fit(loader_of(), epochs=1).epochs[0]
    whole = trainer.evaluate((INPUTS, TARGETS))
    for name in ("kind", "odd", "loss"):
        assert row[name] == pytest.approx(whole[name], rel=1e-5)
    assert np.mean(trainer.history["odd"]) < row["odd"]


def test_weights_may_be_schedules():
    def late(step):
        return jnp.where(step < 4, 0.0, 2.0)

    trainer = trainer_of(neuron.Supervised(SEVERAL, weights={"odd": late}))
    before = trainer.model.odd.weight
    trainer.fit(loader_of(), steps=4)
    np.testing.assert_array_equal(trainer.model.odd.weight, before)
    history = trainer.fit(loader_of(), steps=4)
    assert not np.array_equal(trainer.model.odd.weight, before)
    factor = np.repeat([0.0, 2.0], 4)
    np.testing.assert_allclose(
        history["loss"], history["kind"] + factor * history["odd"], rtol=1e-6
    )
    first, second = history.epochs
    assert first["loss"] == pytest.approx(first["kind"], rel=1e-6)
    assert second["loss"] == pytest.approx(second["kind"] + 2 * second["odd"], rel=1e-6)
    logs = trainer.evaluate((INPUTS, TARGETS))
    assert logs["loss"] == pytest.approx(logs["kind"] + 2 * logs["odd"], rel=1e-6)


def test_the_gradient_of_several_losses_is_that_of_their_sum(x64):
    x, y = INPUTS.astype(np.float64), TARGETS | {"odd": TARGETS["odd"].astype(np.float64)}
    model = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, Heads(jax.random.key(0))
    )

    def value(model):
        out = jax.vmap(model)(x)
        kind = jnp.mean(jax.vmap(SEVERAL["kind"])(out["kind"], y["kind"]))
        return kind + 0.3 * jnp.sqrt(jnp.mean((out["odd"] - y["odd"]) ** 2))

    loss = neuron.Supervised(
        {"kind": SEVERAL["kind"], "odd": neuron.RootMeanSquaredError()}, weights={"odd": 0.3}
    )
    trainer = neuron.Trainer(model, loss, neuron.SGD(0.1), progress=False)
    trainer.fit((x, y), steps=0)
    trainer.fit(neuron.DataLoader((x, y), 37, sampler=neuron.Sequential()), steps=1)
    grads = eqx.filter_grad(value)(model)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, eqx.filter(model, eqx.is_array), grads)
    for a, b in zip(jax.tree.leaves(trainer.model), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_losses_of_what_is_no_dict_see_the_whole():
    loss = {"square": neuron.MeanSquaredError(), "absolute": neuron.MeanAbsoluteError()}
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), loss, progress=False)
    logs = trainer.evaluate((X, Y))
    assert logs["loss"] == pytest.approx(logs["square"] + logs["absolute"])


def test_penalties_are_added_and_logged():
    plain = trainer_of(neuron.Supervised(SEVERAL))
    loss = neuron.Penalized(SEVERAL, neuron.L2(0.1), bodies=neuron.L1(0.01, "body.*"))
    penalized = trainer_of(loss)
    model = penalized.model
    weights = [model.body.weight, model.classes.weight, model.odd.weight]
    l2 = 0.1 * sum(float((w**2).sum()) for w in weights)
    l1 = 0.01 * float(jnp.abs(model.body.weight).sum() + jnp.abs(model.body.bias).sum())
    logs, without = (t.evaluate((INPUTS, TARGETS)) for t in (penalized, plain))
    assert logs["l2"] == pytest.approx(l2, rel=1e-6)
    assert logs["bodies"] == pytest.approx(l1, rel=1e-6)
    assert logs["loss"] == pytest.approx(without["loss"] + l1 + l2, rel=1e-6)

    history = penalized.fit(loader_of(), epochs=2)
    total = sum(history[name] for name in ("kind", "odd", "l2", "bodies"))
    np.testing.assert_allclose(history["loss"], total, rtol=1e-6)
    for row in history.epochs:
        assert row["loss"] == pytest.approx(
            row["kind"] + row["odd"] + row["l2"] + row["bodies"], rel=1e-6
        )


def test_the_gradient_has_the_penaltys():
    model = neuron.Dense(2, key=jax.random.key(0))
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.5))
    shrunk = neuron.Trainer(model, loss, neuron.SGD(0.1), progress=False)
    decayed = neuron.Trainer(
        model, neuron.MeanSquaredError(), neuron.SGD(0.1, weight_decay=1.0), progress=False
    )
    loader = neuron.DataLoader((X, Y), 6, sampler=neuron.Sequential())
    for trainer in (shrunk, decayed):
        trainer.fit(loader, steps=3)
    np.testing.assert_allclose(shrunk.model.weight, decayed.model.weight, rtol=1e-5)


def test_a_line_search_sees_penalties():
    import optax

    model = neuron.Dense(2, key=jax.random.key(0))
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(0.5))
    x = rng.normal(size=(20, 2)).astype(np.float32)
    y = (x @ np.float32([1, 2])).astype(np.float32)
    trainer = neuron.Trainer(model, loss, optax.lbfgs(), progress=False)
    trainer.fit(neuron.DataLoader((x, y), 20, sampler=neuron.Sequential()), steps=30)
    centered, mean = x - x.mean(0), y - y.mean()
    ridge = np.linalg.solve(centered.T @ centered / 20 + 0.5 * np.eye(2), centered.T @ mean / 20)
    np.testing.assert_allclose(trainer.model.weight[0], ridge, rtol=1e-3)


class Contrastive(neuron.Objective):
    """Two views of an example are near each other, and far from those of other examples."""

    coupled = True

    def __call__(self, model, model_state, example, *, key):
        one, other = model(example.inputs), model(-2 * example.inputs)
        everyone = neuron.whole_batch(model, other)
        return neuron.Terms(jax.nn.logsumexp(everyone @ one) - other @ one), model_state


def test_a_coupled_objective_sees_the_whole_batch():
    model = neuron.Dense(2, 3, key=jax.random.key(0))
    trainer = neuron.Trainer(model, Contrastive(), neuron.SGD(0.05), progress=False)
    loader = neuron.DataLoader((INPUTS,), 9, sampler=neuron.Sequential(), drop_last=True)
    history = trainer.fit(loader, steps=1)

    def whole(model):
        one, other = jax.vmap(model)(INPUTS[:9]), jax.vmap(model)(-2 * INPUTS[:9])
        products = one @ other.T
        return jnp.mean(jax.nn.logsumexp(products, axis=1) - jnp.diag(products))

    value, grads = eqx.filter_value_and_grad(whole)(model)
    assert history["loss"][0] == pytest.approx(float(value), rel=1e-5)
    expected = model.weight - 0.05 * grads.weight
    np.testing.assert_allclose(trainer.model.weight, expected, rtol=1e-5, atol=1e-6)

    class Kept(neuron.Objective):
        coupled = True

        def __call__(self, model, model_state, example, *, key):
            rows = neuron.whole_batch(model, example.inputs)
            assert rows.shape == (9, 2)
            return neuron.Terms(jnp.sum(rows) * jnp.sum(model(example.inputs)) * 0.0), model_state

    neuron.Trainer(model, Kept(), progress=False).fit(loader, steps=1)


def test_a_coupled_objective_takes_whole_batches_only():
    model = neuron.Dense(2, 3, key=jax.random.key(0))
    trainer = neuron.Trainer(model, Contrastive(), progress=False)
    with pytest.raises(ValueError, match=r"`Trainer\.fit\(loader\)` must have whole batches only"):
        trainer.fit(neuron.DataLoader((INPUTS,), 9), steps=1)
    with pytest.raises(ValueError, match=r"got 37 rows.*drop_last=True"):
        trainer.evaluate(neuron.DataLoader((INPUTS,), 9))
    for loss in (Contrastive(), neuron.Penalized(Contrastive(), neuron.L2(0.1))):
        with pytest.raises(ValueError, match=r"`Trainer\(accumulate=\.\.\.\)` must be 1"):
            neuron.Trainer(model, loss, accumulate=2)
    logs = trainer.evaluate(neuron.DataLoader((INPUTS[:36],), 9))
    assert np.isfinite(logs["loss"])
