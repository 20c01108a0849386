"""How often an interval holds the truth: `python benchmarks/coverage.py` prints a table.

Least squares stands in for training: the minimum of a loss under fixed weights per row, which is
there at once. So thousands of data sets are drawn from a known truth, each is resampled a thousand
times, and the share of intervals that hold the truth is counted.

`--trained` trains the replicas instead, for fewer and smaller sets: by `neuron.bootstrap`, and as
members that draw fresh minibatches with replacement, which is no bootstrap of the estimate.
"""

import argparse
import dataclasses
import sys
import time

import jax
import numpy as np
from scipy import stats

import neuron
from neuron.intervals import KINDS, interval
from neuron.resampling import Resampling


LEVEL = 0.95
# An intercept and two slopes; the first slope is what intervals are for.
TRUTH = np.array([1.0, 2.0, -1.0])
# Of replicas that are trained: in full batches, by a factor of 2 a step or so to the minimum; and
# with minibatches of 10, for 12 times as long as they forget where they began.
RATE, STEPS = 0.2, 100
MINIBATCH, SLOW, LONG = 10, 0.01, 600
# So many data sets share their resamples, which cost more than all the rest. What 1,000 replicas
# misplace the ends by is then common to 20 of 2,000 sets: less than 0.1 points of the share.
TOGETHER = 20


@dataclasses.dataclass(frozen=True)
class Situation:
    """Data sets of one kind, and what is resampled of them."""

    name: str
    errors: str
    rows: int
    resampling: Resampling
    estimate: str = "slope"


def groups(number, size):
    return np.repeat(np.arange(number), size)


SITUATIONS = [
    Situation("normal", "normal", 10, neuron.Cases()),
    Situation("normal", "normal", 20, neuron.Cases()),
    Situation("normal", "normal", 100, neuron.Cases()),
    Situation("heavy tails (t, 3 degrees)", "heavy", 100, neuron.Cases()),
    Situation("spread grows with x", "heteroscedastic", 20, neuron.Cases()),
    Situation("spread grows with x", "heteroscedastic", 100, neuron.Cases()),
    Situation("40 clusters of 5", "clustered 5", 200, neuron.Cases()),
    Situation("40 clusters of 5", "clustered 5", 200, neuron.Clusters(groups(40, 5))),
    Situation("10 clusters of 20", "clustered 20", 200, neuron.Clusters(groups(10, 20))),
    Situation("a series, 0.7 from row to row", "series", 200, neuron.Cases()),
    Situation("a series, 0.7 from row to row", "series", 200, neuron.Blocks(5)),
    Situation("a series, 0.7 from row to row", "series", 200, neuron.Blocks(20)),
    Situation("a series, 0.7 from row to row", "series", 1000, neuron.Blocks(20)),
    Situation("normal, their standard deviation", "normal", 50, neuron.Cases(), "deviation"),
]


def drawn(errors, rows, sets, rng):
    """Inputs (sets, rows, 3) with a column of ones, and targets (sets, rows)."""
    kind, _, size = errors.partition(" ")
    x = rng.normal(size=(sets, rows, 2))
    noise = rng.normal(size=(sets, rows))
    if kind == "heavy":
        noise = rng.standard_t(3, size=(sets, rows))
    elif kind == "heteroscedastic":
        noise = noise * (0.5 + np.abs(x[..., 0]))
    elif kind == "clustered":
        # The first input and half of the errors' variance are one for all rows of a cluster.
        number = rows // int(size)
        x[..., 0] = np.repeat(rng.normal(size=(sets, number)), int(size), axis=1)
        shared = np.repeat(rng.normal(size=(sets, number)), int(size), axis=1)
        noise = np.sqrt(0.5) * (noise + shared)
    elif kind == "series":
        x[..., 0], noise = series(x[..., 0]), series(noise)
    x = np.concatenate([np.ones((sets, rows, 1)), x], axis=2)
    return x, x @ TRUTH + noise


def series(shocks, kept=0.7):
    """Each value is so much of the one before, and a shock; the variance stays 1."""
    values = shocks.copy()
    for row in range(1, shocks.shape[1]):
        values[:, row] = kept * values[:, row - 1] + np.sqrt(1 - kept**2) * shocks[:, row]
    return values


def fitted(x, y, weights):
    """Coefficients and the errors' standard deviation (weights, sets, 4), by each column of
    weights: the normal equations, summed for all of them in one product."""
    row = np.concatenate([x, y[..., None]], axis=2)
    products = row[..., :, None] * row[..., None, :]
    sets, rows = y.shape
    products = products.transpose(1, 0, 2, 3).reshape(rows, -1)
    sums = (weights.T.astype(np.float64) @ products).reshape(-1, sets, 4, 4)
    # Three coefficients can not be told from fewer rows: intervals leave such a resample out.
    few = ((weights > 0).sum(axis=0) < 3)[:, None, None]
    matrices = np.where(few[..., None], np.eye(3), sums[..., :3, :3])
    found = np.where(few, np.nan, np.linalg.solve(matrices, sums[..., :3, 3:])[..., 0])
    # The sum of squares that is left, over the sum of weights; rounding may take it below 0.
    left = sums[..., 3, 3] - (found * sums[..., :3, 3]).sum(axis=-1)
    deviation = np.sqrt(np.maximum(left, 0) / sums[..., 0, 0])
    return np.concatenate([found, deviation[..., None]], axis=-1)


def textbook(x, y, column):
    """Half the widths (sets,) of the t intervals of one coefficient: by one variance of all
    errors, and by HC3 (MacKinnon & White, 1985)."""
    _, rows, size = x.shape
    inverse = np.linalg.inv(x.transpose(0, 2, 1) @ x)
    # What each target adds to each coefficient.
    shares = x @ inverse
    left = y - (x @ (shares.transpose(0, 2, 1) @ y[..., None]))[..., 0]
    plain = inverse[:, column, column] * (left**2).sum(axis=1) / (rows - size)
    leverage = (shares * x).sum(axis=2)
    robust = ((shares[..., column] * left / (1 - leverage)) ** 2).sum(axis=1)
    quantile = stats.t.ppf((1 + LEVEL) / 2, rows - size)
    return quantile * np.sqrt(plain), quantile * np.sqrt(robust)


def textbook_deviation(estimate, rows):
    """The exact interval for a standard deviation of normal errors."""
    quantiles = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], rows - len(TRUTH))
    return estimate * np.sqrt(rows / quantiles)[:, None]


def held(situation, sets, replicas, seed, number):
    """Whether the intervals of some data sets hold the truth (intervals, sets)."""
    # The same data sets, whatever is resampled of them.
    kinds = [(other.errors, other.rows) for other in SITUATIONS]
    place = kinds.index((situation.errors, situation.rows))
    rng = np.random.default_rng([seed, place, number])
    x, y = drawn(situation.errors, situation.rows, sets, rng)
    of_slope = situation.estimate == "slope"
    column, truth = (1, TRUTH[1]) if of_slope else (3, 1.0)
    counts = situation.resampling.counts(situation.rows, replicas, int(rng.integers(2**63)))
    weights = counts, np.ones((situation.rows, 1)), situation.resampling.without_one(situation.rows)
    replicates, estimate, jackknife = (fitted(x, y, each)[..., column] for each in weights)
    estimate = estimate[0]
    ends = [interval(kind, replicates, estimate, LEVEL, jackknife) for kind in KINDS]
    if of_slope:
        ends += [(estimate - half, estimate + half) for half in textbook(x, y, column)]
    else:
        ends += [textbook_deviation(estimate, situation.rows)]
    return np.array([(lower <= truth) & (truth <= upper) for lower, upper in ends])


def coverage(situation, simulations, replicas, seed=0):
    """The share of data sets whose interval holds the truth: of each kind, and of the textbook."""
    sizes = [TOGETHER] * (simulations // TOGETHER)
    if rest := simulations % TOGETHER:
        sizes.append(rest)
    parts = [held(situation, size, replicas, seed, n) for n, size in enumerate(sizes)]
    return np.concatenate(parts, axis=1).mean(axis=1)


def trainer(rate):
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.SGD(rate), progress=False)


def by_bootstrap(x, y, replicas, seed):
    """Slopes (replicas, 2) and the estimate's, in full batches under weights per row."""
    loader = neuron.DataLoader((x, y), len(y), sampler=neuron.Sequential())
    result = neuron.bootstrap(
        trainer(RATE), loader, replicas=replicas, steps=STEPS, seed=seed, check=False
    )
    estimate, replicates = result.statistic(lambda model: model.weight[0])
    return replicates, estimate


def by_minibatches(x, y, replicas, seed):
    """The same of members that each draw a new minibatch with replacement at every step."""
    samplers = [neuron.Bootstrap(seed * replicas + replica) for replica in range(replicas)]
    loaders = [neuron.DataLoader((x, y), MINIBATCH, sampler=sampler) for sampler in samplers]
    population = neuron.Population.repeated(trainer(SLOW), replicas)
    population.fit(loaders, steps=LONG)
    replicates = np.asarray(population.stacked.weight)[:, 0]
    return replicates, replicates.mean(axis=0)


def trained(way, rows, simulations, replicas, seed=0):
    """Of data sets with normal errors: the share of percentile intervals of the first slope that
    hold the truth, and their mean width."""
    rng = np.random.default_rng([seed, rows])
    x, y = drawn("normal", rows, simulations, rng)
    ends = []
    for number in range(simulations):
        one = x[number, :, 1:].astype(np.float32), y[number].astype(np.float32)
        replicates, estimate = way(*one, replicas, seed * simulations + number)
        ends.append(interval("percentile", replicates, estimate, LEVEL))
    lower, upper = (np.array([getattr(end, name)[0] for end in ends]) for name in ends[0]._fields)
    return ((lower <= TRUTH[1]) & (TRUTH[1] <= upper)).mean(), (upper - lower).mean()


def cell(share, simulations):
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / simulations):.1f}"


def words(resampling):
    name = type(resampling).__name__.lower()
    return f"{name} of {resampling.length}" if isinstance(resampling, neuron.Blocks) else name


WAYS = {"bootstrap": by_bootstrap, "fresh minibatches": by_minibatches}


def print_trained(simulations, replicas, seed):
    print("| replicas trained as | rows | percentile | width |")
    print("|---|---|---|---|")
    for rows in (50, 100):
        for name, way in WAYS.items():
            share, width = trained(way, rows, simulations, replicas, seed)
            print(f"| {name} | {rows} | {cell(share, simulations)} | {width:.3f} |", flush=True)


def print_solved(simulations, replicas, seed):
    print("| errors | rows | resampled | percentile | basic | BCa | textbook | HC3 |")
    print("|---|---|---|---|---|---|---|---|")
    for situation in SITUATIONS:
        shares = coverage(situation, simulations, replicas, seed)
        cells = [cell(share, simulations) for share in shares] + [""] * (5 - len(shares))
        head = f"{situation.name} | {situation.rows} | {words(situation.resampling)}"
        print(f"| {head} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("--simulations", type=int, help="2000, or 200 that are trained")
    parser.add_argument("--replicas", type=int, help="1000, or 200 that are trained")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    most = (200, 200) if given.trained else (2000, 1000)
    simulations, replicas = given.simulations or most[0], given.replicas or most[1]
    began = time.monotonic()
    table = print_trained if given.trained else print_solved
    table(simulations, replicas, given.seed)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
