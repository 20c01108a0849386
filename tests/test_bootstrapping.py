"""The bootstrap: replicas that are each trained on a resample that is drawn once."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(80, 2)).astype(np.float32)
# The errors' spread grows with the first input, so that one variance for all is wrong.
NOISE = rng.normal(size=80) * (0.1 + 0.3 * np.abs(X[:, 0]))
Y = (X @ np.float32([1, -2]) + NOISE).astype(np.float32)
DESIGN = sm.add_constant(X.astype(np.float64), prepend=False)
GROUPS = rng.permutation(np.arange(80) % 16)


def trainer_of(rate=0.2, **options):
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.SGD(rate), progress=False, **options)


def bootstrap(replicas, rows=(X, Y), *, rate=0.2, steps=200, **options):
    """Full batches."""
    loader = neuron.DataLoader(rows, len(rows[0]), sampler=neuron.Sequential())
    options = {"seed": 3, "check": False} | options
    return neuron.bootstrap(trainer_of(rate), loader, replicas=replicas, steps=steps, **options)


def coefficients(model):
    return jnp.append(model.weight[0], model.bias)


def slopes(model):
    return model.weight[0]


def solved(counts, y=Y):
    """The minimum under such weights, by the normal equations."""
    weighted = DESIGN * np.asarray(counts)[:, None]
    return np.linalg.solve(DESIGN.T @ weighted, weighted.T @ y)


@pytest.fixture(scope="module")
def result():
    return bootstrap(400, check=True)


def test_each_replica_is_the_least_squares_of_its_resample(result):
    estimate, replicates = result.statistic(coefficients)
    np.testing.assert_allclose(estimate, solved(np.ones(80)), atol=1e-5)
    counts = neuron.Cases().counts(80, 400, 3).T
    np.testing.assert_array_equal(result.counts, counts)
    np.testing.assert_allclose(replicates, [solved(c) for c in counts], atol=1e-5)
    # Full batches have no noise to tell of.
    assert result.optimization_error.center < 0.01
    assert result.optimization_error.spread < 0.01


@pytest.mark.parametrize("replicas", [6, 40])
@pytest.mark.parametrize("resampling", [neuron.Clusters(GROUPS), neuron.Blocks(7)], ids=repr)
def test_clusters_and_blocks_one_by_one_and_side_by_side(resampling, replicas):
    result = bootstrap(replicas, resampling=resampling)
    counts = resampling.counts(80, replicas, 3).T
    _, replicates = result.statistic(coefficients)
    np.testing.assert_allclose(replicates, [solved(c) for c in counts], atol=1e-5)


def test_a_row_counts_by_its_own_weight_as_well():
    own = np.random.default_rng(1).uniform(0.2, 2, 80).astype(np.float32)
    result = bootstrap(40, (X, Y, own))
    _, replicates = result.statistic(coefficients)
    np.testing.assert_allclose(replicates, [solved(own * c) for c in result.counts], atol=1e-5)
    estimate = sm.WLS(Y.astype(float), DESIGN, own.astype(float)).fit().params
    np.testing.assert_allclose(result.statistic(coefficients)[0], estimate, atol=1e-5)


def test_standard_errors_are_those_of_the_sandwich(result):
    found = result.standard_error(coefficients)
    fit = sm.OLS(Y.astype(float), DESIGN).fit()
    robust = [fit.get_robustcov_results(kind).bse for kind in ("HC0", "HC3")]
    # 400 replicas leave 3.5 % of an error.
    assert (found > 0.88 * robust[0]).all()
    assert (found < 1.12 * robust[1]).all()
    assert fit.bse[0] < 0.85 * found[0]


def test_standard_errors_of_clusters_are_the_clustered_sandwichs():
    # What rows of a cluster share is in their errors, and in the first input.
    draws = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 4)
    x = draws.normal(size=(160, 2))
    x[:, 0] = draws.normal(size=40)[groups]
    y = x @ [1, -2] + draws.normal(size=40)[groups] + draws.normal(size=160)
    rows = x.astype(np.float32), y.astype(np.float32)
    result = bootstrap(400, rows, resampling=neuron.Clusters(groups))
    fit = sm.OLS(y, sm.add_constant(x, prepend=False)).fit()
    robust = fit.get_robustcov_results("cluster", groups=groups).bse
    found = result.standard_error(coefficients)
    np.testing.assert_allclose(found, robust, rtol=0.2)
    assert fit.bse[0] < 0.75 * found[0]


def test_standard_errors_of_residuals_are_the_textbooks():
    result = bootstrap(1000, resampling="residuals")
    fit = sm.OLS(Y.astype(float), DESIGN).fit()
    np.testing.assert_allclose(result.standard_error(coefficients), fit.bse, rtol=0.1)
    assert result.counts is None
    with pytest.raises(ValueError, match="rows that are left out"):
        _ = result.out_of_bag
    with pytest.raises(ValueError, match="take 'percentile' or 'basic'"):
        result.interval(coefficients, kind="bca")


@pytest.mark.parametrize(("kind", "method"), [("percentile",) * 2, ("basic",) * 2, ("bca", "BCa")])
def test_intervals_are_scipys_of_the_same_resamples(result, kind, method):
    replicates = np.array([solved(c)[0] for c in result.counts])
    expected = stats.bootstrap(
        (np.arange(80),),
        lambda rows: solved(np.bincount(rows, minlength=80))[0],
        n_resamples=0,
        bootstrap_result=types.SimpleNamespace(bootstrap_distribution=replicates),
        vectorized=False,
        confidence_level=0.9,
        method=method,
    ).confidence_interval
    found = result.interval(lambda model: model.weight[0, 0], kind=kind, level=0.9)
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=2e-5)


@pytest.mark.parametrize(("few", "many"), [(4, 8), (34, 70)])
def test_more_replicas_leave_the_first_as_they_were(few, many):
    make = lambda key: neuron.Dense(2, key=key)
    one, other = (bootstrap(number, steps=5, initial=make) for number in (few, many))
    np.testing.assert_array_equal(one.counts, other.counts[:few])
    np.testing.assert_array_equal(
        one.statistic(coefficients)[1], other.statistic(coefficients)[1][:few]
    )


def test_initial_gives_each_its_own_beginning():
    make = lambda key: neuron.Dense(2, key=key)
    results = [
        bootstrap(40, rate=1e-12, steps=1, initial=make, seed=seed) for seed in (3, 3 + 2**33)
    ]
    first, second = (r.statistic(slopes) for r in results)
    everyone = np.concatenate([first[0][None], first[1], second[0][None], second[1]])
    assert len(np.unique(everyone, axis=0)) == 82
    np.testing.assert_allclose(results[0].estimate.model.weight[0], first[0])
    # Where all find the one minimum, it matters no more.
    result = bootstrap(40, initial=make)
    _, replicates = result.statistic(coefficients)
    np.testing.assert_allclose(replicates, [solved(c) for c in result.counts], atol=1e-5)


def test_replicas_that_break_down_count_nowhere():
    x = X.copy()
    x[0] = [10, 0]
    rate, steps, replicas = 0.25, 400, 100
    with pytest.warns(UserWarning, match="of 101 members stopped where its loss"):
        result = bootstrap(replicas, (x, Y), rate=rate, steps=steps)
    # Plain gradient descent grows by this factor at each step.
    design = np.column_stack([x, np.ones(80)]).astype(float)
    hessians = [2 / 80 * design.T @ (design * c[:, None]) for c in result.counts]
    growth = np.abs(1 - rate * np.linalg.eigvalsh(hessians)).max(axis=1)
    broken = growth**steps > 1e20
    assert 3 < broken.sum() < 40
    assert result.failed == broken.sum()
    assert len(result) == replicas - result.failed
    assert f"{result.failed} failed" in repr(result)
    _, replicates = result.statistic(slopes)
    assert replicates.shape == (len(result), 2)
    assert np.isfinite(result.interval(slopes)).all()
    assert np.isfinite(result.out_of_bag["loss"])


def test_an_estimate_that_breaks_down_is_no_estimate():
    with (
        pytest.warns(UserWarning, match="members stopped"),
        pytest.raises(neuron.NonFiniteLossError, match="estimate"),
    ):
        bootstrap(5, rate=3.0, steps=400)


def norm_by_numpy(model):
    return np.linalg.norm(np.asarray(model.weight))


def sum_of_positive(model):
    return model.weight[model.weight > 0].sum()


def number(model):
    return float(model.weight[0, 1])


def branch(model):
    return model.bias if model.weight[0, 0] > 1 else -model.bias


@pytest.mark.parametrize("statistic", [norm_by_numpy, sum_of_positive, number, branch])
def test_a_statistic_that_can_not_be_traced_is_called_for_each(result, statistic):
    estimate, replicates = result.statistic(statistic)
    models = result.population.models
    np.testing.assert_allclose(estimate, statistic(models[0]), rtol=1e-6)
    np.testing.assert_allclose(replicates, [statistic(m) for m in models[1:]], rtol=1e-6)


def test_a_statistic_of_two_things_is_refused(result):
    with pytest.raises(TypeError, match="a number or an array; got tuple"):
        result.interval(lambda model: (model.weight, model.bias))


def test_the_noise_of_batches_is_told():
    loader = neuron.DataLoader((X, Y), 8)
    with pytest.warns(UserWarning, match="and they moved"):
        result = neuron.bootstrap(trainer_of(0.3), loader, replicas=40, steps=200)
    assert max(result.optimization_error.center, result.optimization_error.spread) > 0.2


def test_a_network_is_judged_by_what_it_predicts():
    """A step of noise that one layer undoes of the other moves weights, for good, and no model."""
    one, other = jax.random.split(jax.random.key(0))
    last = eqx.nn.Linear(2, "scalar", key=other)
    model = eqx.nn.Sequential([eqx.nn.Linear(2, 2, key=one), last])
    trainer = neuron.Trainer(model, optimizer=neuron.SGD(0.05), average=0.99, progress=False)
    rows = neuron.DataLoader((X, Y), 40)
    result = neuron.bootstrap(trainer, rows, replicas=40, steps=1000)
    assert result.optimization_error.center < 0.05


def test_an_end_before_the_minimum_is_told():
    """Without any noise: all batches are the data themselves."""
    loader = neuron.DataLoader((X, Y), len(X), sampler=neuron.Sequential())
    with pytest.warns(UserWarning, match="and they moved"):
        result = neuron.bootstrap(trainer_of(0.01), loader, replicas=40, steps=30)
    assert result.optimization_error.center > 1
