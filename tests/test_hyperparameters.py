"""The numbers of a run, by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.hyperparameters import numbers, with_numbers


def trainer_of(loss=neuron.MeanSquaredError(), optimizer=neuron.SGD(0.1), **options):
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, loss, optimizer, progress=False, **options)


def changed(trainer, values):
    parts = trainer._parts
    return with_numbers(trainer.optimizer, parts.scoring.objective, parts.average, values)


def test_the_optimizers_numbers_have_the_names_that_set_has():
    for optimizer in (
        neuron.SGD(0.1),
        neuron.SGD(0.1, momentum=0.5),
        neuron.Adam(),
        neuron.AdamW(),
    ):
        for wrapped in (optimizer, neuron.Clipped(optimizer, norm=2.0, value=1.0)):
            found = numbers(trainer_of(optimizer=wrapped))
            assert found == {f"optimizer.{n}": v for n, v in wrapped.numbers().items()}


def test_a_rate_of_a_group_has_the_name_that_it_is_logged_under():
    optimizer = neuron.SGD({"bias": 0.1, "wei*": lambda count: 0.1, "*": 0.01})
    found = numbers(trainer_of(optimizer=optimizer))
    assert found == {
        "optimizer.learning_rate[bias]": 0.1,
        "optimizer.learning_rate[*]": 0.01,
        "optimizer.weight_decay": 0.0,
    }
    new, _, _ = changed(trainer_of(optimizer=optimizer), {"optimizer.learning_rate[*]": 0.5})
    assert new.numbers()["learning_rate"] == {"bias": pytest.approx(0.1), "*": 0.5}


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (neuron.MeanSquaredError(), set()),
        (neuron.Huber(), {"loss.delta"}),
        (neuron.Quantile(0.25), {"loss.level"}),
        (
            neuron.Supervised({"a": neuron.Huber(), "b": neuron.Quantile(0.5)}, weights={"b": 2}),
            {"loss.a.delta", "loss.b.level", "loss.weights.b"},
        ),
        (
            neuron.Penalized(neuron.Huber(), neuron.L2(1e-4), own=neuron.L1(0.5)),
            {"loss.delta", "loss.penalties.l2.strength", "loss.penalties.own.strength"},
        ),
    ],
)
def test_a_losss_numbers(loss, names):
    found = numbers(trainer_of(loss))
    assert {name for name in found if not name.startswith("optimizer.")} == names
    # Each one is set by its name, and nothing else is.
    for name in names:
        _, objective, _ = changed(trainer_of(loss), {name: 0.75})
        now = dict(zip(sorted(names), _values(objective, sorted(names)), strict=True))
        assert now == pytest.approx({n: found[n] for n in names} | {name: 0.75})


def _values(objective, names):
    found = numbers(neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), objective))
    return [found[name] for name in names]


def test_what_is_no_number_is_none():
    loss = neuron.CrossEntropy(class_weight=[1.0, 2.0])
    assert set(numbers(trainer_of(loss))) >= {"loss.label_smoothing"}
    assert "loss.class_weight" not in numbers(trainer_of(loss))
    assert "average" not in numbers(trainer_of())
    assert numbers(trainer_of(average=0.5))["average"] == 0.5


def test_other_numbers_keep_type_and_structure():
    trainer = trainer_of(neuron.Huber(), neuron.Adam(), average=0.5)
    rates = np.logspace(-3, 0, 4)
    optimizer, objective, average = changed(
        trainer, {"optimizer.learning_rate": rates, "loss.delta": 2, "average": 0.9}
    )
    assert optimizer.learning_rate.shape == (4,)
    assert optimizer.learning_rate.dtype == jnp.float32
    assert objective.loss.delta.dtype == trainer._parts.scoring.objective.loss.delta.dtype
    assert float(objective.loss.delta) == 2
    assert float(average) == pytest.approx(0.9)
    assert jax.tree.structure(optimizer) == jax.tree.structure(trainer.optimizer)
    # The trainer's own stay.
    assert numbers(trainer)["loss.delta"] == 1


def test_numbers_that_are_traced_are_taken_as_they_are():
    trainer = trainer_of(neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(1e-4)))

    @jax.jit
    def squared(rate, strength):
        names = {"optimizer.learning_rate": rate, "loss.penalties.l2.strength": strength}
        optimizer, objective, _ = changed(trainer, names)
        return optimizer.learning_rate**2, objective.terms["l2"].strength ** 2

    np.testing.assert_allclose(squared(-3.0, 2.0), (9, 4))


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"optimizer.rate": 1.0}, ValueError, "got 'optimizer.rate', there are .*'average'"),
        ({"optimizer.learning_rate": -1.0}, ValueError, "at least 0; got -1"),
        ({"optimizer.learning_rate": np.nan}, ValueError, "must be finite; got nan"),
        ({"optimizer.norm": jnp.zeros(())}, ValueError, "above 0; got 0"),
        ({"loss.delta": -1.0}, ValueError, r"`Huber\(delta=...\)` must be above 0; got -1"),
        ({"loss.delta": "2"}, TypeError, "'loss.delta'.* must be one real number; got '2'"),
        ({"loss.penalties.l2.strength": -1}, ValueError, r"`L2\(strength=...\)` must be at least"),
        ({"average": 1.0}, ValueError, r"in \[0, 1\); got 1"),
    ],
)
def test_what_can_not_be_meant_is_refused(values, error, words, unchecked):
    trainer = trainer_of(
        neuron.Penalized(neuron.Huber(), neuron.L2(0.1)),
        neuron.Clipped(neuron.SGD(0.1), norm=1.0),
        average=0.9,
    )
    with pytest.raises(error, match=words):
        changed(trainer, values)


def test_a_group_and_the_weight_of_a_loss_have_their_ranges():
    trainer = trainer_of(
        neuron.Supervised({"a": neuron.Huber()}, weights={"a": 1.0}), neuron.SGD({"*": 0.1})
    )
    for name in ("optimizer.learning_rate[*]", "loss.weights.a"):
        with pytest.raises(ValueError, match="at least 0; got -1"):
            changed(trainer, {name: -1.0})


def test_a_loss_of_ones_own_has_its_numbers_by_their_fields():
    class Power(neuron.Loss):
        exponent: jax.Array

        def __init__(self, name_of_the_argument):
            self.exponent = jnp.asarray(name_of_the_argument, jnp.float32)

        def __call__(self, prediction, target):
            return jnp.abs(prediction - target) ** self.exponent

    assert numbers(trainer_of(Power(3.0)))["loss.exponent"] == 3
    # What is not made of its fields has no rule that could be asked.
    _, objective, _ = changed(trainer_of(Power(3.0)), {"loss.exponent": -2.0})
    assert float(objective.loss.exponent) == -2
