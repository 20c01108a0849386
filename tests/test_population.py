"""Populations: many runs of one structure as one, each as it would have been alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counted

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(70, 3)).astype(np.float32)
Y = (X @ np.float32([1, -2, 0.5]) + 0.1 * rng.normal(size=70)).astype(np.float32)


def neuron_of(seed, rate=0.05, **options):
    model = neuron.Dense(3, key=jax.random.key(seed))
    options = {"loss": neuron.RootMeanSquaredError(), "progress": False} | options
    return neuron.Trainer(model, optimizer=neuron.SGD(rate), **options)


def network(seed, rate=1e-2, **options):
    model = eqx.nn.MLP(3, "scalar", 8, 1, key=jax.random.key(seed))
    return neuron.Trainer(model, optimizer=neuron.Adam(rate), **{"progress": False} | options)


def loader(seed=0, **options):
    return neuron.DataLoader((X, Y), 16, sampler=neuron.Shuffle(seed), **options)


def weights(trainer):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(trainer.state.params)])


def alone(make, members, data=loader, **options):
    trainers = [make(k) for k in range(members)]
    for trainer in trainers:
        trainer.fit(data(), **options)
    return trainers


@pytest.mark.parametrize("make", [neuron_of, network])
@pytest.mark.parametrize("members", [1, 5])
def test_one_by_one_each_has_the_bits_of_a_run_alone(make, members):
    population = neuron.Population([make(k) for k in range(members)])
    population.fit(loader(), epochs=3)
    assert population.history["loss"].shape == (members, 15)
    for k, trainer in enumerate(alone(make, members, epochs=3)):
        np.testing.assert_array_equal(weights(population[k]), weights(trainer))
        np.testing.assert_array_equal(population.history["loss"][k], trainer.history["loss"])
        rows = zip(population[k].history.epochs, trainer.history.epochs, strict=True)
        for mine, other in rows:
            assert mine | {"seconds": 0} == other | {"seconds": 0}


def test_side_by_side_each_is_a_run_alone_but_for_rounding():
    make = lambda k: neuron_of(k, 0.01 * (1 + k % 4))
    population = neuron.Population([make(k) for k in range(40)])
    population.fit(loader(), epochs=20)
    for k, trainer in enumerate(alone(make, 40, epochs=20)[:8]):
        np.testing.assert_allclose(weights(population[k]), weights(trainer), atol=1e-6)


@pytest.mark.parametrize("block_size", [1, 7, 33, 100])
def test_neither_number_nor_block_changes_a_bit(block_size):
    def trained(members, block_size=None):
        population = neuron.Population(
            [neuron_of(k) for k in range(members)], block_size=block_size
        )
        population.fit(loader(), epochs=2)
        return np.asarray(population.stacked.weight)

    np.testing.assert_array_equal(trained(50, block_size)[:40], trained(40))


def test_one_compile_and_no_trace_beyond_that_of_one():
    line, traces = counted(jnp.zeros(3))
    of = lambda k: type(line)(jnp.full(3, float(k)))

    def make(k):
        return neuron.Trainer(of(k), progress=False)

    neuron.Population([make(k) for k in range(3)]).fit(loader(), epochs=1)
    before = len(traces)
    neuron.Population([make(k) for k in range(6)]).fit(loader(1), epochs=2)
    make(0).fit(loader(), epochs=1)
    assert len(traces) == before
    # Side by side a step goes row by row, which is another one.
    neuron.Population([make(k) for k in range(16)]).fit(loader(1), epochs=2)
    before = len(traces)
    neuron.Population([make(k) for k in range(70)]).fit(loader(), epochs=1)
    assert len(traces) == before


@pytest.mark.parametrize(("members", "rounding"), [(3, 0), (130, 1e-6)])
def test_a_loader_for_each(members, rounding):
    population = neuron.Population([neuron_of(0) for _ in range(members)])
    population.fit([loader(k) for k in range(members)], epochs=3)
    for k in (0, 1, 2, members - 1):
        trainer = neuron_of(0)
        trainer.fit(loader(k), epochs=3)
        np.testing.assert_allclose(weights(population[k]), weights(trainer), rtol=0, atol=rounding)


def test_weights_of_rows_for_each():
    weight = rng.integers(0, 3, (40, 70)).astype(np.uint8)
    population = neuron.Population([neuron_of(0) for _ in range(40)])
    population.fit(loader(), epochs=3, weight=weight)
    for k in (0, 17, 39):
        trainer = neuron_of(0)
        trainer.fit(neuron.DataLoader((X, Y, weight[k].astype(np.float32)), 16), epochs=3)
        np.testing.assert_allclose(weights(population[k]), weights(trainer), atol=1e-6)


def test_no_row_is_copied_for_a_member():
    x = rng.normal(size=(500, 31)).astype(np.float32)
    weight = rng.integers(0, 3, (20, 500)).astype(np.uint8)
    before = {id(array) for array in jax.live_arrays()}
    seen = []

    class Look(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            arrays = [array for array in jax.live_arrays() if id(array) not in before]
            large = [a for a in arrays if 31 in a.shape and a.size >= x.size]
            seen.append({(a.shape, a.unsafe_buffer_pointer()) for a in large})
            # How often a row counts is a byte a member.
            assert {a.dtype for a in arrays if a.shape[-1:] == (500,) and a.ndim > 1} == {
                np.dtype("uint8")
            }

    trainers = [neuron.Trainer(neuron.Dense(31, key=jax.random.key(k))) for k in range(20)]
    population = neuron.Population(trainers, callbacks=[Look()], progress=False)
    population.fit((x, x[:, 0]), epochs=1, weight=weight)
    ((shape, _),) = seen[0]
    assert shape == x.shape


def test_a_member_that_blows_up_stops_alone():
    trainers = [neuron_of(k, rate) for k, rate in enumerate([0.01, 1e30, 0.02])]
    population = neuron.Population(trainers)
    with pytest.warns(UserWarning, match="1 of 3 members stopped where its loss"):
        population.fit(loader(), epochs=4)
    assert list(population.stops) == [1]
    stop = population.stops[1].step
    assert 0 < stop < 5
    loss = population.history["loss"]
    assert np.isfinite(loss[[0, 2]]).all()
    assert np.isnan(loss[1, stop:]).all()
    assert len(population[1].history) == stop
    one = neuron_of(0, 0.01)
    one.fit(loader(), epochs=4)
    np.testing.assert_array_equal(weights(population[0]), weights(one))


def test_predictions_and_scores_are_those_of_each():
    population = neuron.Population([neuron_of(k) for k in range(3)])
    population.fit(loader(), epochs=2, validation=(X[:20], Y[:20]))
    predicted, scores = population.predict(X), population.evaluate((X, Y))["loss"]
    assert predicted.shape == (3, 70)
    for k in range(3):
        member = population[k]
        np.testing.assert_array_equal(predicted[k], member.predict(X))
        assert scores[k] == pytest.approx(member.evaluate((X, Y))["loss"], rel=1e-12)
    best = population.best("val_loss")
    assert (
        best.evaluate((X[:20], Y[:20]))["loss"] == population.history.epochs[-1]["val_loss"].min()
    )


@pytest.mark.parametrize(
    ("trainers", "error", "words"),
    [
        (list, ValueError, "at least one trainer"),
        (lambda: [neuron_of(0), 3], TypeError, "neuron.Trainer objects; got 3"),
        (lambda: [neuron_of(0), network(0)], ValueError, "trainer 1 has another model's structure"),
        (
            lambda: [neuron_of(0), neuron_of(1, loss=neuron.MeanSquaredError())],
            ValueError,
            "another loss",
        ),
        (lambda: [neuron_of(0), neuron_of(1, accumulate=2)], ValueError, "another accumulate"),
    ],
)
def test_refused(trainers, error, words, unchecked):
    with pytest.raises(error, match=words):
        neuron.Population(trainers())


def test_a_copy_knows_who_has_stopped():
    make = lambda k: neuron_of(k, [0.01, 1e30][k])
    population = neuron.Population([make(k) for k in range(2)])
    with pytest.warns(UserWarning, match="1 of 2 members stopped"):
        population.fit(loader(), epochs=2)
    assert population.copy().stops == population.stops != {}


def test_an_error_within_a_step_leaves_a_population_that_can_be_used():
    class Model(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return eqx.error_if(x @ self.weight, self.weight[0] > 0, "too much")

    trainers = [neuron.Trainer(Model(jnp.full(3, -1.0 + k)), progress=False) for k in range(3)]
    population = neuron.Population(trainers)
    for _ in range(2):
        with pytest.raises(Exception, match="too much"):
            population.fit(loader(), epochs=1)
        assert population.step == 0


@pytest.mark.parametrize("members", [3, 40])
def test_settings_of_a_thread_reach_all_blocks(members):
    with jax.enable_x64(True):
        make = lambda k: neuron_of(k, 0.01)
        population = neuron.Population([make(k) for k in range(members)])
        rows = X.astype(np.float64), Y.astype(np.float64)
        population.fit(rows, epochs=2)
        one = make(0)
        one.fit(rows, epochs=2)
        assert population.stacked.weight.dtype == np.float64
        np.testing.assert_allclose(weights(population[0]), weights(one), rtol=1e-12)


class Lazy(neuron.Source):
    """Rows that are read when they are asked for."""

    def __len__(self):
        return len(X)

    def read(self, rows):
        return X[rows], Y[rows]


def test_rows_that_are_read_are_all_there():
    lazy = lambda: neuron.DataLoader(Lazy(), 16, placement="device")
    plain = lambda: neuron.DataLoader((X, Y), 16)
    made = [
        [
            neuron.cross_validate(neuron_of(0), data(), folds=5, epochs=1)["loss"],
            neuron.bootstrap(
                neuron_of(0), data(), replicas=4, epochs=1, check=False
            ).population.stacked.weight,
            neuron.Population([neuron_of(0)] * 2).fit(data(), epochs=1, targets=np.stack([Y, -Y]))[
                "loss"
            ],
        ]
        for data in (lazy, plain)
    ]
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_fit_within_a_fit_changes_nothing():
    weight = rng.integers(0, 3, (2, 70)).astype(np.uint8)

    class Nested(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            with pytest.raises(RuntimeError, match="nested"):
                trainer.fit(loader(), epochs=1)
            trainer.set(learning_rate=0.01)

    populations = [
        neuron.Population([neuron_of(0, 0.01)] * 2, callbacks=callbacks)
        for callbacks in ([], [Nested()])
    ]
    for population in populations:
        population.fit(loader(), epochs=3, weight=weight)
    np.testing.assert_array_equal(*(p.stacked.weight for p in populations))
