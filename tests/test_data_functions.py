"""Functions of the step, and of each example: data that is made inside the program, or on the way to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import line

import neuron


x, y = line(96)


def model():
    return neuron.Dense(2, key=jax.random.key(0))


def fitted(loader, *fits, **options):
    trainer = neuron.Trainer(model(), progress=False, **options)
    for fit in fits:
        trainer.fit(loader, **fit)
    return trainer


def assert_same(one, other):
    np.testing.assert_array_equal(one.history["loss"], other.history["loss"])
    for a, b in zip(*(jax.tree.leaves(t.state) for t in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


# Of the step.


def rising(step):
    rows = jnp.outer(jnp.arange(16) / 16, jnp.array([1.0, -1.0]))
    inputs = rows + (step % 6) / 6
    return inputs, inputs.sum(axis=1)


def noisy(step, *, key):
    inputs = jax.random.normal(key, (16, 2))
    return inputs, inputs.sum(axis=1) + step


class Made(eqx.Module):
    """A function with an array, which may change without another program."""

    slope: jax.Array
    traces: list = eqx.field(static=True, default=None)

    def __call__(self, step, *, key):
        inputs = jax.random.normal(key, (16, 2))
        return inputs, inputs @ self.slope


def rows_of(function, steps):
    """The batches of a function without a key, as rows."""
    made = [jax.tree.map(np.asarray, function(jnp.int32(step))) for step in range(steps)]
    return tuple(np.concatenate(part) for part in zip(*made, strict=True))


def test_a_function_trains_as_its_rows_do():
    made = fitted(neuron.DataLoader(rising, steps_per_epoch=6), {"epochs": 3})
    rows = neuron.DataLoader(rows_of(rising, 6), 16, sampler=neuron.Sequential())
    written_out = fitted(rows, {"epochs": 3})
    np.testing.assert_allclose(made.history["loss"], written_out.history["loss"], rtol=1e-5)
    assert (made.epoch, made.step) == (3, 18)
    assert made.evaluate(neuron.DataLoader(rising, steps_per_epoch=6)) == pytest.approx(
        made.evaluate(rows), rel=1e-5
    )


@pytest.mark.parametrize("function", [rising, noisy, Made(jnp.array([3.0, 4.0]))])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_cut_changes_no_bit(function, accumulate):
    loader = neuron.DataLoader(function, steps_per_epoch=6)
    held = {"epochs": 2, "validation": (x, y)}
    whole = fitted(loader, {"steps": 9}, held, accumulate=accumulate)
    cut = fitted(loader, {"steps": 2}, {"steps": 7}, held, accumulate=accumulate)
    assert_same(whole, cut)


def test_several_batches_are_those_of_as_many_steps():
    loader = neuron.DataLoader(rising, steps_per_epoch=6)
    rows = neuron.DataLoader(rows_of(rising, 6), 48, sampler=neuron.Sequential())
    made, written_out = fitted(loader, {"steps": 2}, accumulate=3), fitted(rows, {"steps": 2})
    np.testing.assert_allclose(made.history["loss"], written_out.history["loss"], rtol=1e-5)


def test_keys_belong_to_the_step_and_to_the_trainers_seed():
    seen = [
        fitted(neuron.DataLoader(noisy, steps_per_epoch=5), {"steps": 10}, seed=seed).history[
            "loss"
        ]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).all()


def test_a_run_is_one_program_and_arrays_of_the_function_may_change():
    traces = []

    class Traced(eqx.Module):
        slope: jax.Array

        def __call__(self, step):
            traces.append(step)
            inputs, _ = rising(step)
            return inputs, inputs @ self.slope

    first = fitted(
        neuron.DataLoader(Traced(jnp.array([3.0, 4.0])), steps_per_epoch=5), {"steps": 1}
    )
    counted = len(traces)
    loader = neuron.DataLoader(Traced(jnp.array([1.0, 1.0])), steps_per_epoch=5)
    first.fit(loader, steps=500)
    first.fit(loader, epochs=3)
    # One more, to look at the new function's first batch.
    assert len(traces) == counted + 1


def test_a_function_is_evaluated_on_an_epoch(capsys):
    loader = neuron.DataLoader(noisy, steps_per_epoch=7)
    trainer = fitted(loader, {"steps": 1})
    assert (len(loader), loader.batch_size, loader.rows) == (7, 16, 112)
    assert trainer.predict(loader).shape == (112,)
    assert trainer.evaluate(loader) == trainer.evaluate(loader)
    assert "7 steps an epoch" in repr(loader)


# Of each example.


def shifted(example):
    return neuron.Batch(example.inputs + 1, example.targets)


def jittered(example, *, key):
    noise = 0.1 * jax.random.normal(key, example.inputs.shape)
    return example.inputs + noise, example.targets


def narrowed(example):
    """From three columns to the two that the model takes."""
    return example.inputs[:2], example.inputs[2]


def test_a_transform_is_done_to_each_example():
    plain = fitted(neuron.DataLoader((x + 1, y), 16), {"epochs": 2})
    one = fitted(neuron.DataLoader((x, y), 16, transform=shifted), {"epochs": 2})
    np.testing.assert_allclose(one.history["loss"], plain.history["loss"], rtol=1e-5)


@pytest.mark.parametrize("function", [shifted, jittered])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_transform_is_the_same_wherever_rows_live(function, accumulate):
    runs = [
        fitted(
            neuron.DataLoader((x, y), 16, transform=function, placement=placement),
            *fits,
            accumulate=accumulate,
        )
        for placement, fits in (
            ("device", [{"steps": 9}]),
            ("host", [{"steps": 9}]),
            ("host", [{"steps": 4}, {"steps": 5}]),
        )
    ]
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])


def test_a_stream_and_a_function_are_transformed_as_rows_are():
    rows = neuron.DataLoader((x, y), 16, sampler=neuron.Sequential(), transform=jittered)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16)]
    again = type("Again", (), {"__iter__": lambda self: iter(batches)})()
    stream = neuron.DataLoader(again, transform=jittered)
    assert_same(fitted(rows, {"steps": 9}), fitted(stream, {"steps": 9}))
    made = neuron.DataLoader(rising, steps_per_epoch=6, transform=shifted)
    assert np.isfinite(fitted(made, {"steps": 9}).history["loss"]).all()


def test_a_transform_may_change_shapes_and_is_part_of_evaluation_and_prediction():
    columns = np.concatenate([x, y[:, None]], axis=1)
    loader = neuron.DataLoader((columns,), 16, transform=narrowed)
    trainer = fitted(loader, {"epochs": 2, "validation": loader})
    plain = fitted(neuron.DataLoader((x, y), 16), {"epochs": 2, "validation": (x, y)})
    np.testing.assert_allclose(trainer.history["loss"], plain.history["loss"], rtol=1e-5)
    assert trainer.evaluate(loader) == pytest.approx(plain.evaluate((x, y)), rel=1e-4)
    np.testing.assert_allclose(trainer.predict(loader), plain.predict(x), rtol=1e-4)


def test_a_transform_keeps_the_weight_of_a_row():
    weight = np.linspace(0, 2, 96, dtype=np.float32)
    same = lambda example: example
    one = fitted(neuron.DataLoader((x, y, weight), 16, transform=same), {"epochs": 2})
    plain = fitted(neuron.DataLoader((x, y, weight), 16), {"epochs": 2})
    assert_same(one, plain)
    loader = neuron.DataLoader((x, y, weight), 16, transform=same)
    np.testing.assert_array_equal(one.predict(loader), plain.predict(x, batch_size=256))
    assert one.evaluate(loader) == plain.evaluate(neuron.DataLoader((x, y, weight), 16))


def test_the_key_of_a_transform_is_none_of_the_models():
    """Each gives away what it drew: the target is the transform's draw, the prediction the model's."""
    seen = []

    class Drawing(eqx.Module):
        weight: jax.Array

        def __call__(self, inputs, *, key):
            return jnp.stack(
                [jax.random.uniform(k) for k in (key, *jax.random.split(key, 4))]
            ).sum() * 0 + (self.weight * 0 + jax.random.uniform(key))

    class Apart(neuron.Loss):
        def __call__(self, prediction, target):
            jax.debug.callback(lambda *draws: seen.append(draws), prediction, target)
            return prediction * 0 + target * 0

    drawn = lambda example, *, key: (example.inputs, jax.random.uniform(key))
    trainer = neuron.Trainer(Drawing(jnp.ones(())), Apart(), progress=False)
    trainer.fit(neuron.DataLoader((x,), 16, transform=drawn), steps=2)
    jax.effects_barrier()
    draws = np.array(seen[-32:], np.float32)
    assert len(np.unique(draws)) == draws.size


# Of the rows of a batch, on the host.


def test_a_host_transform_is_done_to_each_batch():
    sizes = []

    def of_batch(rows):
        sizes.append(len(rows.inputs))
        return rows.inputs + 1, rows.targets

    def of_examples(rows):
        return of_batch(neuron.Batch(*rows))

    pairs = [(a, b) for a, b in zip(x, y, strict=True)]
    for data, transform in (((x, y), of_batch), (pairs, of_examples)):
        loader = neuron.DataLoader(data, 16, host_transform=transform)
        plain = fitted(neuron.DataLoader((x + 1, y), 16), {"epochs": 2})
        assert_same(fitted(loader, {"epochs": 2}), plain)
    assert set(sizes) == {16}


def test_a_host_transform_of_arrays_by_name_and_of_other_shapes():
    def image(rows):
        return {
            "inputs": rows["inputs"].reshape(len(rows["inputs"]), 2),
            "targets": rows["targets"],
        }

    class Named(neuron.Source):
        def __len__(self):
            return 96

        def read(self, rows):
            return {"inputs": x[rows].reshape(-1, 2, 1), "targets": y[rows]}

    loader = neuron.DataLoader(Named(), 16, host_transform=image)
    assert_same(fitted(loader, {"epochs": 2}), fitted(neuron.DataLoader((x, y), 16), {"epochs": 2}))


def test_a_stream_of_anything_becomes_rows_on_the_host():
    words = [["1 2 3", "2 3 5"], ["0 1 1", "1 1 2"]]

    class Lines(neuron.Stream):
        def batches(self, epoch):
            return iter(words)

        def length(self):
            return 2

    def parsed(lines):
        numbers = np.array([line.split() for line in lines], np.float32)
        return numbers[:, :2], numbers[:, 2]

    trainer = fitted(neuron.DataLoader(Lines(), host_transform=parsed), {"epochs": 2})
    assert len(trainer.history) == 4


@pytest.mark.parametrize(
    "transform",
    [lambda rows: jax.tree.map(lambda leaf: leaf[1:], rows), lambda rows: (x, y)],
    ids=["fewer", "more"],
)
@pytest.mark.parametrize("source", [(x, y), [(a, b) for a, b in zip(x, y, strict=True)]])
def test_a_host_transform_gives_as_many_rows(transform, source):
    with pytest.raises(ValueError, match=r"host_transform=...\)` must return as many rows as"):
        fitted(neuron.DataLoader(source, 16, host_transform=transform), {"steps": 1})


def test_a_source_gives_as_many_rows():
    class Short(neuron.Source):
        def __len__(self):
            return 96

        def read(self, rows):
            return x[rows[1:]], y[rows[1:]]

    for placement in ("device", "host"):
        loader = neuron.DataLoader(Short(), 16, placement=placement)
        with pytest.raises(ValueError, match=r"Short.read\(rows\)` must return as many.*15 for 16"):
            fitted(loader, {"steps": 1})
