"""Scores with intervals: the values of `evaluate`, and the bootstrap of the rows done by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.metrics as sk

import neuron
from neuron.evaluation import resampling
from neuron.resampling import Cases, Clusters
from neuron.scores import Plan, Score


rng = np.random.default_rng(5)
ROWS = 157
X = rng.normal(size=(ROWS, 3)).astype(np.float32)
LOGIT = X @ np.float32([1.5, -1, 0.5])
SIDE = (LOGIT + rng.logistic(size=ROWS) > 0).astype(np.float32)
Y = (LOGIT + rng.normal(size=ROWS)).astype(np.float32)
KIND = np.argmax(X + rng.normal(size=(ROWS, 3)), axis=1).astype(np.int32)
W = rng.integers(0, 4, ROWS).astype(np.float32)
GROUPS = rng.integers(0, 25, ROWS)
REPLICAS = 130
MODEL = neuron.Dense(3, key=jax.random.key(2))
CLASSES = neuron.Dense(3, 3, key=jax.random.key(3))


def trainer_of(loss, model=MODEL, **options):
    return neuron.Trainer(model, loss, progress=False, **options)


def outputs(model, x=X):
    return np.asarray(jax.vmap(model)(x), np.float64)


def counts(rows=ROWS, seed=7, resampling=None):
    return (resampling or Cases()).counts(rows, REPLICAS, seed).astype(np.float64)


def assert_scores(found, by_hand, *, plain, resamples, rtol=2e-5, level=0.9):
    """Scores are plain values with the percentiles and the spread of values by hand."""
    assert found.keys() == plain.keys()
    for name, value in by_hand.items():
        score = found[name]
        # To the bit: the sums of the two are made alike.
        np.testing.assert_array_equal(score.value, plain[name])
        replicates = np.array([value(column) for column in resamples.T])
        tails = np.percentile(replicates, [50 * (1 - level), 50 * (1 + level)], axis=0)
        np.testing.assert_allclose(score.lower, tails[0], rtol=rtol, atol=1e-6)
        np.testing.assert_allclose(score.upper, tails[1], rtol=rtol, atol=1e-6)
        spread = replicates.std(axis=0, ddof=1)
        np.testing.assert_allclose(score.standard_error, spread, rtol=2e-4, atol=1e-6)


def scored(trainer, data, **options):
    options = {"interval": 0.9, "replicas": REPLICAS, "seed": 7} | options
    return trainer.evaluate(data, **options)


def mean(values):
    return lambda drawn: np.average(values, weights=drawn)


@pytest.mark.parametrize("batch_size", [1, 10, 157])
def test_regression(batch_size):
    metrics = {
        "rmse": neuron.RootMeanSquaredError(),
        "r2": neuron.R2(),
        "r": neuron.PearsonCorrelation(),
        "sklearn": sk.r2_score,
    }
    trainer = trainer_of(neuron.MeanSquaredError(), metrics=metrics)
    loader = neuron.DataLoader((X, Y), batch_size)
    p = outputs(MODEL)
    squares = (p - Y) ** 2
    by_hand = {
        "loss": mean(squares),
        "rmse": lambda drawn: np.sqrt(np.average(squares, weights=drawn)),
        "r2": lambda drawn: sk.r2_score(Y, p, sample_weight=drawn),
        "r": lambda drawn: np.corrcoef(np.repeat([p, Y], drawn.astype(int), axis=1))[0, 1],
        "sklearn": lambda drawn: sk.r2_score(Y, p, sample_weight=drawn),
    }
    found, plain = scored(trainer, loader), trainer.evaluate(loader)
    assert_scores(found, by_hand, plain=plain, resamples=counts())
    assert all(isinstance(score, Score) for score in found.values())
    assert type(found["loss"].value) is type(found["loss"].lower) is float


def test_the_root_of_a_loss_is_taken_in_each_resample():
    trainer = trainer_of(neuron.RootMeanSquaredError())
    squares = (outputs(MODEL) - Y) ** 2
    by_hand = {"loss": lambda drawn: np.sqrt(np.average(squares, weights=drawn))}
    plain = trainer.evaluate((X, Y))
    assert_scores(scored(trainer, (X, Y)), by_hand, plain=plain, resamples=counts())


def test_two_sides():
    metrics = {
        "accuracy": neuron.Accuracy(),
        "f1": neuron.F1(),
        "auc": neuron.ROCAUC(),
        "ap": neuron.AveragePrecision(),
        "sklearn_auc": sk.roc_auc_score,
        "matrix": neuron.ConfusionMatrix(),
    }
    trainer = trainer_of(neuron.BinaryCrossEntropy(), metrics=metrics)
    logits = outputs(MODEL)
    p, said = 1 / (1 + np.exp(-logits)), logits > 0
    by_hand = {
        "loss": lambda drawn: sk.log_loss(SIDE, p, sample_weight=drawn),
        "accuracy": lambda drawn: sk.accuracy_score(SIDE, said, sample_weight=drawn),
        "f1": lambda drawn: sk.f1_score(SIDE, said, sample_weight=drawn),
        "auc": lambda drawn: sk.roc_auc_score(SIDE, logits, sample_weight=drawn),
        "ap": lambda drawn: sk.average_precision_score(SIDE, logits, sample_weight=drawn),
        "sklearn_auc": lambda drawn: sk.roc_auc_score(SIDE, logits, sample_weight=drawn),
        "matrix": lambda drawn: sk.confusion_matrix(SIDE, said, sample_weight=drawn),
    }
    plain = trainer.evaluate((X, SIDE))
    found = scored(trainer, (X, SIDE))
    assert_scores(found, by_hand, plain=plain, resamples=counts())
    assert found["matrix"].lower.shape == (2, 2)


def cross_entropies(logits):
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(ROWS), KIND]


def test_many_classes():
    # A class counts by a weight of its own, in the sum below as well.
    weights = np.array([1.0, 2.0, 0.5])
    metrics = {"f1": neuron.F1("none"), "perplexity": neuron.Perplexity()}
    trainer = trainer_of(neuron.CrossEntropy(class_weight=weights), CLASSES, metrics=metrics)
    logits = outputs(CLASSES)
    each, said = cross_entropies(logits), logits.argmax(1)
    by_hand = {
        "loss": lambda drawn: np.average(each, weights=drawn * weights[KIND]),
        "f1": lambda drawn: sk.f1_score(KIND, said, average=None, sample_weight=drawn),
        "perplexity": lambda drawn: np.exp(np.average(each, weights=drawn)),
    }
    plain = trainer.evaluate((X, KIND))
    assert_scores(scored(trainer, (X, KIND)), by_hand, plain=plain, resamples=counts())


def test_a_rows_weight_counts_as_often_as_it_is_drawn():
    metrics = {"accuracy": neuron.Accuracy(), "auc": sk.roc_auc_score}
    trainer = trainer_of(neuron.BinaryCrossEntropy(), metrics=metrics)
    logits = outputs(MODEL)
    p = 1 / (1 + np.exp(-logits))
    by_hand = {
        "loss": lambda drawn: sk.log_loss(SIDE, p, sample_weight=drawn * W),
        "accuracy": lambda drawn: sk.accuracy_score(SIDE, logits > 0, sample_weight=drawn * W),
        "auc": lambda drawn: sk.roc_auc_score(SIDE, logits, sample_weight=drawn * W),
    }
    plain = trainer.evaluate((X, SIDE, W))
    assert_scores(scored(trainer, (X, SIDE, W)), by_hand, plain=plain, resamples=counts())


def test_whole_groups_are_resampled():
    trainer = trainer_of(neuron.MeanSquaredError())
    by_hand = {"loss": mean((outputs(MODEL) - Y) ** 2)}
    plain = trainer.evaluate((X, Y))
    resamples = counts(resampling=Clusters(GROUPS))
    found = scored(trainer, (X, Y), groups=GROUPS)
    assert_scores(found, by_hand, plain=plain, resamples=resamples)


def test_rows_that_are_there_ten_times_need_groups():
    trainer = trainer_of(neuron.MeanSquaredError())
    many = np.repeat(X, 10, axis=0), np.repeat(Y, 10)
    once = scored(trainer, (X, Y), replicas=1000)["loss"]
    grouped = scored(trainer, many, replicas=1000, groups=np.repeat(np.arange(ROWS), 10))["loss"]
    cases = scored(trainer, many, replicas=1000)["loss"]
    # A resample of groups has other draws, by the same chances.
    assert grouped.standard_error == pytest.approx(once.standard_error, rel=0.15)
    assert cases.standard_error == pytest.approx(once.standard_error / np.sqrt(10), rel=0.15)


def test_several_losses_and_penalties():
    class Two(eqx.Module):
        line: neuron.Dense
        kinds: neuron.Dense

        def __call__(self, x):
            return {"size": self.line(x), "kind": self.kinds(x)}

    losses = {"size": neuron.RootMeanSquaredError(), "kind": neuron.CrossEntropy()}
    loss = neuron.Penalized(
        neuron.Supervised(losses, weights={"kind": lambda step: 0.25 + step}), neuron.L2(0.1)
    )
    metrics = {"kind": {"accuracy": neuron.Accuracy(), "hits": hits}}
    trainer = trainer_of(loss, Two(MODEL, CLASSES), metrics=metrics)
    data = X, {"size": Y, "kind": KIND}
    squares, logits = (outputs(MODEL) - Y) ** 2, outputs(CLASSES)
    each, right = cross_entropies(logits), logits.argmax(1) == KIND
    size = lambda drawn: np.sqrt(np.average(squares, weights=drawn))
    plain = trainer.evaluate(data)
    by_hand = {
        "size": size,
        "kind": mean(each),
        "kind_accuracy": mean(right),
        "kind_hits": mean(right),
        "l2": lambda drawn: plain["l2"],
        "loss": lambda drawn: size(drawn) + 0.25 * mean(each)(drawn) + plain["l2"],
    }
    found = scored(trainer, data)
    assert_scores(found, by_hand, plain=plain, resamples=counts())
    assert found["l2"].lower == found["l2"].upper == found["l2"].value > 0.1


def hits(targets, predictions):
    """A function of all rows that knows no weights."""
    return np.mean(predictions.argmax(1) == targets)


class Logged(neuron.Objective):
    """Two values of an example, and something that is logged."""

    def __call__(self, model, model_state, example, *, key):
        output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
        apart = jnp.abs(output - example.targets)
        values = {"near": apart, "far": apart**2}
        logs = {"drawn": jax.random.uniform(key), "output": output}
        return neuron.Terms(values, {"near": 1.0, "far": apart}, logs=logs), model_state


def test_an_objective_of_ones_own():
    trainer = trainer_of(Logged())
    p = outputs(MODEL)
    apart = np.abs(p - Y)
    far = lambda drawn: np.average(apart**2, weights=drawn * W * apart)
    by_hand = {
        "near": lambda drawn: np.average(apart, weights=drawn * W),
        "far": far,
        "loss": lambda drawn: np.average(apart, weights=drawn * W) + far(drawn),
        "output": lambda drawn: np.average(p, weights=drawn * W),
    }
    plain = trainer.evaluate((X, Y, W))
    assert_scores(scored(trainer, (X, Y, W)), by_hand, plain=plain, resamples=counts())


class Normed(eqx.Module):
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: neuron.Dense

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(3, axis_name="batch", mode="batch")
        self.drop, self.out = eqx.nn.Dropout(0.5), neuron.Dense(3, key=key)

    def __call__(self, x, state, *, key):
        x, state = self.norm(x, state)
        return self.out(self.drop(x, key=key)), state


def test_a_model_with_state():
    model, state = eqx.nn.make_with_state(Normed)(jax.random.key(0))
    trainer = trainer_of(neuron.MeanSquaredError(), model, model_state=state, average=0.9)
    trainer.fit(neuron.DataLoader((X, Y), 20), epochs=2)
    p = np.asarray(trainer.predict(X), np.float64)
    by_hand = {"loss": mean((p - Y) ** 2)}
    plain = trainer.evaluate((X, Y))
    assert_scores(scored(trainer, (X, Y)), by_hand, plain=plain, resamples=counts(), rtol=1e-4)


class Counting(neuron.Source):
    """Rows that count how often each was read."""

    def __init__(self):
        self.reads = np.zeros(ROWS, int)

    def __len__(self):
        return ROWS

    def read(self, rows):
        np.add.at(self.reads, rows, 1)
        return X[rows], Y[rows]


def batches():
    for first in range(0, ROWS, 11):
        yield X[first : first + 11], Y[first : first + 11]


def parquet(folder):
    table = pa.table({**{f"x{n}": X[:, n] for n in range(3)}, "y": Y})
    pq.write_table(table, folder / "rows.parquet", row_group_size=40)
    return neuron.DataLoader.from_files(folder, 16, target="y")


def test_rows_that_come_in_blocks(tmp_path):
    trainer = trainer_of(neuron.MeanSquaredError(), metrics={"r2": neuron.R2()})
    expected = scored(trainer, neuron.DataLoader((X, Y), 11))
    for loader in (
        neuron.DataLoader(batches()),
        parquet(tmp_path),
        neuron.DataLoader((X, Y), 16, placement="host"),
    ):
        found = scored(trainer, loader)
        for name, score in expected.items():
            np.testing.assert_allclose(astuple(found[name]), astuple(score), rtol=1e-5)


def astuple(score):
    return score.value, score.lower, score.upper, score.standard_error


def test_rows_are_read_once():
    source = Counting()
    loader = neuron.DataLoader(source, 16)
    trainer = trainer_of(neuron.MeanSquaredError(), metrics={"r2": sk.r2_score})
    trainer.evaluate(loader)
    before = source.reads.copy()
    scored(trainer, loader, replicas=200)
    assert (source.reads - before == 1).all()


def test_a_transform_is_done_first():
    def doubled(example):
        return neuron.Batch(2 * example.inputs, example.targets + 1)

    trainer = trainer_of(neuron.MeanSquaredError())
    loader = neuron.DataLoader((X, Y), 16, transform=doubled)
    by_hand = {"loss": mean((outputs(MODEL, 2 * X) - Y - 1) ** 2)}
    plain = trainer.evaluate(loader)
    assert_scores(scored(trainer, loader), by_hand, plain=plain, resamples=counts())


def test_a_transform_at_random_is_done_once_to_each_row():
    def noisy(example, *, key):
        return neuron.Batch(example.inputs + jax.random.normal(key, (3,)), example.targets)

    trainer = trainer_of(neuron.MeanSquaredError())
    loader = neuron.DataLoader((X, Y), 16, transform=noisy)
    p = np.asarray(trainer.predict(loader, batch_size=16), np.float64)
    plain = trainer.evaluate(loader)
    found = scored(trainer, loader)
    assert found["loss"].value == plain["loss"]
    assert found["loss"].lower < plain["loss"] < found["loss"].upper
    # A prediction's keys are others, so its noise is: only the size of things is the same.
    assert found["loss"].standard_error == pytest.approx(((p - Y) ** 2).std() / ROWS**0.5, rel=0.5)


def test_many_rows_are_totaled_in_pieces(monkeypatch):
    """Far from zero, where sums of squares about zero would have lost the spread."""
    rows = 40_000
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    y = (x @ np.float32([1, 2, 3]) + 1000 + rng.normal(size=rows)).astype(np.float32)
    model = eqx.tree_at(lambda m: (m.weight, m.bias), MODEL, (jnp.array([[1.0, 2, 2.5]]), 1000.0))
    model = jax.tree.map(jnp.asarray, model)
    trainer = trainer_of(neuron.MeanSquaredError(), model, metrics={"r2": neuron.R2()})
    p = outputs(model, x)
    resamples = counts(rows)
    by_hand = {"loss": mean((p - y) ** 2), "r2": lambda c: sk.r2_score(y, p, sample_weight=c)}
    plain = trainer.evaluate((x, y))
    assert_scores(scored(trainer, (x, y)), by_hand, plain=plain, resamples=resamples, rtol=1e-4)
    monkeypatch.setattr(resampling, "_MOST", 256)
    assert_scores(scored(trainer, (x, y)), by_hand, plain=plain, resamples=resamples, rtol=1e-4)


def test_it_is_the_bootstrap_of_scipy():
    trainer = trainer_of(neuron.MeanSquaredError())
    found = scored(trainer, (X, Y), replicas=4000)["loss"]
    squares = (outputs(MODEL) - Y) ** 2
    other = scipy.stats.bootstrap(
        (squares,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    ends = other.confidence_interval
    # A percentile of 4,000 is off by about 0.04 standard errors; two of them by 0.05.
    close = 0.2 * other.standard_error
    assert found.lower == pytest.approx(ends.low, abs=close)
    assert found.upper == pytest.approx(ends.high, abs=close)
    assert found.standard_error == pytest.approx(other.standard_error, rel=0.08)


@pytest.mark.parametrize("of", ["loss", "mae"])
def test_intervals_are_torchmetrics_in_distribution(of):
    # Its own resamples of the rows of one batch: the same up to the noise of 2,000 of them.
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    metrics = {"mae": neuron.MeanAbsoluteError()}
    found = scored(trainer_of(neuron.MeanSquaredError(), metrics=metrics), (X, Y), replicas=2000)[
        of
    ]
    kinds = {"loss": torchmetrics.MeanSquaredError, "mae": torchmetrics.MeanAbsoluteError}
    other = torchmetrics.wrappers.BootStrapper(
        kinds[of](), num_bootstraps=2000, quantile=torch.tensor([0.05, 0.95]),
        sampling_strategy="multinomial",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other.update(torch.tensor(outputs(MODEL)), torch.tensor(Y, dtype=torch.float64))
        ends = other.compute()
    error = float(ends["std"])
    assert found.standard_error == pytest.approx(error, rel=0.1)
    lower, upper = ends["quantile"].tolist()
    assert found.lower == pytest.approx(lower, abs=0.25 * error)
    assert found.upper == pytest.approx(upper, abs=0.25 * error)
    assert float(found) == pytest.approx(float(ends["mean"]), abs=0.15 * error)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 200 data sets of 100 rows, 90 % intervals: 180 are expected, with a standard deviation of
    4.2, and a few less for percentiles at so few rows of a skew score. 160 to 196 is within four."""
    rows = 100
    zero = eqx.tree_at(lambda m: (m.weight, m.bias), MODEL, (jnp.zeros((1, 3)), jnp.zeros(())))
    trainer = trainer_of(
        neuron.MeanSquaredError(), zero, metrics={"mae": neuron.MeanAbsoluteError()}
    )
    draws = np.random.default_rng(11)
    held = {"loss": 0, "mae": 0}
    truth = {"loss": 1.0, "mae": np.sqrt(2 / np.pi)}
    for seed in range(200):
        y = draws.normal(size=rows).astype(np.float32)
        found = scored(trainer, (np.zeros((rows, 3), np.float32), y), replicas=200, seed=seed)
        for name in held:
            held[name] += found[name].lower <= truth[name] <= found[name].upper
    assert all(160 <= number <= 196 for number in held.values()), held


traces = []


class Traced(eqx.Module):
    line: neuron.Dense

    def __call__(self, x):
        traces.append(1)
        return self.line(x)


class TracedMetric(neuron.Metric):
    def observe(self, prediction, target):
        traces.append(2)
        return prediction - target, 1

    def compute(self, total):
        traces.append(3)
        return total[0] / total[1]


def test_another_evaluation_traces_nothing():
    def make(key):
        model = Traced(neuron.Dense(3, key=jax.random.key(key)))
        return trainer_of(neuron.MeanSquaredError(), model, metrics={"bias": TracedMetric()})

    scored(make(0), (X, Y))
    cached = resampling._added._cache_size(), resampling._finished._cache_size()
    traces.clear()
    scored(make(1), (X, Y), replicas=300, seed=3, interval=0.5)
    scored(make(2), (X[:130], Y[:130]))
    assert traces == []
    assert cached == (resampling._added._cache_size(), resampling._finished._cache_size())


def test_a_resample_without_a_value_is_left_out_and_counted():
    sides = np.zeros(ROWS, np.float32)
    sides[:2] = 1
    trainer = trainer_of(neuron.BinaryCrossEntropy(), metrics={"auc": neuron.ROCAUC()})
    drawn = counts()
    none = (drawn[:2].sum(axis=0) == 0).sum()
    assert 5 < none < 50
    with pytest.warns(UserWarning, match=f"'auc' is not finite in {none} of {REPLICAS} resamples"):
        found = scored(trainer, (X, sides))["auc"]
    logits = outputs(MODEL)
    kept = drawn[:, drawn[:2].sum(axis=0) > 0]
    values = [sk.roc_auc_score(sides, logits, sample_weight=column) for column in kept.T]
    assert found.lower == pytest.approx(np.percentile(values, 5), rel=1e-6)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1), rel=1e-6)


def test_rows_that_are_not_drawn_do_no_harm():
    """A score that is infinite in one row is so in the resamples that have drawn it, and no other."""
    y = Y.copy()
    y[3] = np.finfo(np.float32).max
    trainer = trainer_of(neuron.MeanSquaredError())
    plan = Plan.of("evaluate", "interval", 0.9, REPLICAS, None, 7)
    (found,) = neuron.trainer.observed(plan, [trainer], (X, y))
    values = neuron.evaluation.resampled(found, counts().astype(np.uint8))["loss"]
    np.testing.assert_array_equal(np.isinf(values), counts()[3] > 0)
    assert np.isfinite(values).any()
    # Of a value that is not finite there is nothing to say.
    score = scored(trainer, (X, y))["loss"]
    assert score.value == np.inf
    assert np.isnan([score.lower, score.upper, score.standard_error]).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"interval": 1.0}, ValueError, r"`Trainer.evaluate\(interval=...\)` must be a number betw"),
        ({"interval": 95}, ValueError, "between 0 and 1; got 95"),
        ({"interval": True}, TypeError, "between 0 and 1; got True"),
        ({"interval": "95%"}, TypeError, "between 0 and 1; got '95%'"),
        ({"interval": 0.95, "replicas": 39}, ValueError, "at least 40 for an interval of 0.95.*39"),
        ({"replicas": 2.5}, TypeError, r"`Trainer.evaluate\(replicas=...\)` must be a whole number"),
        ({"seed": -1}, ValueError, r"`Trainer.evaluate\(seed=...\)` must be from 0"),
        ({"groups": GROUPS[1:]}, ValueError, "one group a row; got 156 for 157 rows"),
        ({"groups": np.zeros(ROWS)}, ValueError, "at least two groups"),
        ({"interval": None, "groups": GROUPS}, ValueError, "is for intervals; got no `interval=`"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused(options, error, words, unchecked):
    with pytest.raises(error, match=words):
        scored(trainer_of(neuron.MeanSquaredError()), (X, Y), **options)


def test_forty_resamples_are_enough_for_95_percent():
    assert scored(trainer_of(neuron.MeanSquaredError()), (X, Y), interval=0.95, replicas=40)


def test_a_single_row_is_refused():
    trainer = trainer_of(neuron.MeanSquaredError())
    with pytest.raises(ValueError, match="must have at least 2 rows to resample; got 1"):
        scored(trainer, (X[:1], Y[:1]))
    with pytest.raises(ValueError, match="at least 2 rows"):
        scored(trainer, neuron.DataLoader(iter([(X[:1], Y[:1])])))
    with pytest.raises(ValueError, match="one group a row; got 3 for 157 rows"):
        scored(trainer, neuron.DataLoader(batches()), groups=[1, 2, 3])


def test_coupled_examples_are_refused():
    class Coupled(neuron.Objective):
        coupled = True

        def __call__(self, model, model_state, example, *, key):
            output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
            return neuron.Terms(jnp.var(neuron.whole_batch(model, output))), model_state

    trainer = trainer_of(Coupled())
    with pytest.raises(ValueError, match=r"resamples rows.*Coupled couples the examples"):
        scored(trainer, neuron.DataLoader((X, Y), 157))


def test_a_score_prints_as_many_digits_as_mean_something():
    assert repr(Score(0.912, 0.8812, 0.9423, 0.015)) == "0.91 (0.88 to 0.94)"
    assert repr(Score(1234.56, 1200.0, 1271.0, 20.0)) == "1235 (1200 to 1271)"
    assert repr(Score(2.0, 2.0, 2.0, 0.0)) == "2 (2 to 2)"
    assert repr(Score(1.25e-9, 1.0e-9, 1.5e-9, 1e-10)) == "1.25e-09 (1e-09 to 1.5e-09)"
    nan = float("nan")
    assert repr(Score(0.5, nan, nan, nan)) == "0.5 (nan to nan)"
    pair = np.array([0.25, 0.5])
    assert (
        repr(Score(pair, pair - 0.125, pair + 0.125, pair))
        == "[0.25, 0.5 ] ([0.125, 0.375] to [0.375, 0.625])"
    )
    assert float(Score(0.912, 0.8812, 0.9423, 0.015)) == 0.912
