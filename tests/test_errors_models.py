"""Models, objectives and metrics that can not be meant are refused: one row a mistake."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import neuron


F = np.float32
x, y = np.ones((8, 2), F), np.ones(8, F)
key = jax.random.key(0)
V, T, R = ValueError, TypeError, RuntimeError


class Normed(eqx.Module):
    norm: eqx.nn.BatchNorm
    again: eqx.nn.BatchNorm | None
    out: neuron.Dense
    mean_over: str | None = eqx.field(static=True)

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        if self.again is not None:
            x, state = self.again(x, state)
        if self.mean_over is not None:
            x = x - jax.lax.pmean(x, self.mean_over)
        return self.out(x), state


def normed(axis="batch", again=None, mean_over=None):
    def make(key):
        norm = lambda axis: eqx.nn.BatchNorm(2, axis, mode="batch")
        other = None if again is None else norm(again)
        return Normed(norm(axis), other, neuron.Dense(2, key=key), mean_over)

    return eqx.nn.make_with_state(make)(key)


class Keeping(eqx.Module):
    """A layer that keeps one example's own numbers."""

    index: eqx.nn.StateIndex
    out: neuron.Dense

    def __call__(self, x, state):
        return self.out(x), state.set(self.index, x)


def keeping():
    make = lambda key: Keeping(eqx.nn.StateIndex(jnp.zeros(2)), neuron.Dense(2, key=key))
    return eqx.nn.make_with_state(make)(key)


class Heads(eqx.Module):
    one: neuron.Dense

    def __call__(self, x):
        return {"a": self.one(x), "b": 2 * self.one(x)}


def dense(*features):
    return neuron.Dense(2, *features, key=key)


def train(model=None, loss=neuron.MeanSquaredError(), data=(x, y), batch_size=4, **options):
    model, state = model if isinstance(model, tuple) else (model, None)
    fit = options.pop("fit", {"steps": 1})
    options = {"model_state": state, "progress": False} | options
    trainer = neuron.Trainer(dense() if model is None else model, loss, **options)
    trainer.fit(neuron.DataLoader(data, batch_size), **fit)
    return trainer


def objective(answer, coupled=False):
    """An objective that says this of every example."""

    class Saying(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            value = model(example.inputs)
            return answer(value, example, model_state)

    Saying.coupled = coupled
    return Saying()


def terms(**parts):
    return objective(lambda value, example, state: (
        neuron.Terms(**{"value": value} | {n: p(value, example) for n, p in parts.items()}), state
    ))  # fmt: skip


class InHook(neuron.Callback):
    def __init__(self, hook):
        self.hook = hook

    def on_step_end(self, trainer, logs):
        self.hook(trainer)


def in_hook(hook):
    return train(callbacks=[InHook(hook)])


def plain(targets, predictions):
    return np.mean(targets == predictions)


class Two(eqx.Module):
    one: neuron.Dense

    def __call__(self, x):
        return self.one(x), self.one(x)


class Own(neuron.Metric):
    def observe(self, prediction, target):
        return prediction

    def compute(self, total):
        return total


coupled = objective(lambda value, example, state: (neuron.Terms(value), state), coupled=True)
l2 = neuron.L2(0.1)
mse, mae = neuron.MeanSquaredError(), neuron.MeanAbsoluteError()
two = {"a": mse, "b": mae}
targets = {"a": y, "b": y}
weighted = (x, y, np.arange(8, dtype=F))
held_out = {"steps": 1, "validation": weighted}

TABLE = [
    # State.
    ("state forgotten", lambda: train(normed()[0]), V, "must come with `model_state=`"),
    ("state too many", lambda: train((dense(), normed()[1])), V, "a state for Dense, which has none"),
    ("state of a wrong kind", lambda: train((normed()[0], {"a": 1})), T, "state of `model, state ="),
    ("another axis", lambda: train(normed(mean_over="rows")), V, "one name only.*rows"),
    ("two axes", lambda: train(normed(again="other")), V, r"alike in all layers; got .*'other'"),
    ("state not reduced", lambda: train(keeping()), V, r"same state for every example.*pmean"),
    ("batches of one row", lambda: train(normed(), batch_size=1), V, "at least 2 rows"),
    ("a last batch of one row", lambda: train(normed(), batch_size=7), V, "drop_last=True"),
    (
        "a last microbatch of one row",
        lambda: train(normed(), data=(x[:7], y[:7]), batch_size=2, accumulate=2),
        V,
        "at least 2 rows",
    ),
    # Objectives.
    ("a bare value", lambda: train(loss=objective(lambda v, e, s: v)), T, r"must return `\(neuron.Te"),
    (
        "terms alone",
        lambda: train(loss=objective(lambda v, e, s: neuron.Terms(v))),
        T,
        r"Saying.__call__` must return `\(neuron.Terms\(...\), model_state\)`; got Terms",
    ),
    (
        "a value and no terms",
        lambda: train(loss=objective(lambda v, e, s: (v, s))),
        T,
        "must return",
    ),
    ("a vector", lambda: train(dense(3), terms()), V, r"Terms\(value=...\)` must be scalars.*\(3,\)"),
    ("a vector of logs", lambda: train(loss=terms(logs=lambda v, e: {"x": e.inputs})), V, r"'x': \(2,\)"),
    ("a vector of weights", lambda: train(loss=terms(weight=lambda v, e: e.inputs)), V, "weight="),
    (
        "weights of other names",
        lambda: train(loss=terms(value=lambda v, e: {"a": v}, weight=lambda v, e: {"b": v})),
        V,
        r"named as the values are; Saying gave weights for \['b'\]",
    ),
    ("a log named loss", lambda: train(loss=terms(logs=lambda v, e: {"loss": v})), V, "got 'loss' twice"),
    ("coupled in microbatches", lambda: train(loss=coupled, accumulate=2), V, "must be 1 for an obj"),
    ("coupled with padding", lambda: train(loss=coupled, batch_size=3), V, "whole batches only"),
    (
        "coupled and held out",
        lambda: train(loss=coupled, fit={"steps": 1, "validation": (x[:7], y[:7])}),
        V,
        r"Trainer.fit\(validation=...\)` must have whole batches only.*got 7 rows",
    ),
    # Several losses, and penalties.
    ("no losses", lambda: train(loss={}), T, "a dict of them"),
    ("losses of a wrong kind", lambda: train(loss={"a": "mse"}), T, "a dict of them"),
    ("no such prediction", lambda: train(Heads(dense()), {"c": mse}, (x, targets)), V, r"\['a', 'b'\]"),
    ("no such target", lambda: train(Heads(dense()), two, (x, {"a": y})), V, r"'b'.*there are \['a'\]"),
    ("several losses, no targets", lambda: train(Heads(dense()), two, (x,)), V, "without targets"),
    ("weight of no loss", lambda: neuron.Supervised(two, weights={"c": 1.0}), V, r"got \['c'\], there are \['a', 'b'\]"),
    ("weight of one loss", lambda: neuron.Supervised(mse, weights={"a": 1.0}), V, "one loss has no name"),
    ("negative weight", lambda: neuron.Supervised(two, weights={"a": -1.0}), V, "at least 0; got -1"),
    ("weight of a wrong kind", lambda: neuron.Supervised(two, weights={"a": "1"}), T, "one real number"),
    ("no penalty", lambda: neuron.Penalized(mse), V, "at least one penalty"),
    ("penalty of a wrong kind", lambda: neuron.Penalized(mse, 0.1), T, r"such as neuron.L2\(1e-3\)"),
    ("two penalties of a name", lambda: neuron.Penalized(mse, l2, l2), V, "two named 'l2'"),
    ("negative penalty", lambda: neuron.L1(-1.0), V, r"L1\(strength=...\)` must be at least 0"),
    (
        "penalty of nothing",
        lambda: train(loss=neuron.Penalized(mse, neuron.L2(0.1, "encoder.*"))),
        V,
        r"'encoder.\*' is none of \['weight', 'bias'\]",
    ),
    ("a typo in a loss", lambda: train(Heads(dense()), {"a": mse, "bb": mse}, (x, targets)), V, r"Trainer\(loss={'bb': ...}\)` must"),
    ("a loss of dicts", lambda: train(Heads(dense())), T, r"MeanSquaredError\(\)` must take.*{'a': f32\[\], 'b': f32\[\]}.*`loss={'part': ...}`"),
    ("a loss of pairs", lambda: train(Two(dense())), T, r"a prediction of \(f32\[\], f32\[\]\) and a target of f32\[\]"),
    ("a loss of two targets", lambda: train(data=(x, (y, y))), T, r"a prediction of f32\[\] and a target of \(f32\[\], f32\[\]\)"),
    # What is trained, and how.
    (
        "other leaves that match nothing",
        lambda: neuron.Trainer(dense()).train_only("nope.*"),
        V,
        r"Trainer.train_only\(...\)` must match a leaf; 'nope.\*' is none of \['weight', 'bias'\]",
    ),
    ("patterns that match nothing", lambda: train(trainable="head.*"), V, r"is none of \['weight', 'bias'\]"),
    ("nothing to train", lambda: train(trainable=lambda path: False), V, "something to train"),
    ("selection of a wrong kind", lambda: train(trainable=3), T, "patterns, a function of a path"),
    ("other leaves in a hook", lambda: in_hook(lambda t: t.train_only("bias")), R, "between fits"),
    ("a fit in a hook", lambda: in_hook(lambda t: t.fit((x, y))), R, "can not be nested"),
    ("no microbatch", lambda: train(accumulate=0), V, r"Trainer\(accumulate=...\)` must be at least 1"),
    ("half a microbatch", lambda: train(accumulate=0.5), T, "whole number; got 0.5"),
    ("decay of 1", lambda: train(average=1), V, r"Trainer\(average=...\)` must be in \[0, 1\); got 1"),
    ("precision", lambda: train(precision="float16"), V, "'bfloat16', 'float32' or None"),
    ("clipped by nothing", lambda: neuron.Clipped(neuron.Adam()), V, "needs `norm=` or `value=`"),
    ("clipped to 0", lambda: neuron.Clipped(neuron.Adam(), norm=0), V, "above 0; got 0"),
    ("clipped class", lambda: neuron.Clipped(neuron.Adam, norm=1), T, "neuron.Optimizer"),
    (
        "bound that is not there",
        lambda: neuron.Trainer(dense(), optimizer=neuron.Clipped(neuron.SGD(), norm=1)).set(value=1),
        V,
        r"`set\(value=...\)` must name a number of Clipped.*'norm'",
    ),
    (
        "one rate for groups",
        lambda: neuron.Trainer(dense(), optimizer=neuron.SGD({"weight": 1, "*": 2})).set(learning_rate=1),
        T,
        r"set\(learning_rate=...\)` must be a dict.*{'weight': 0.001}; got 1, there are \['weight', '\*'\]",
    ),
    (
        "groups without a ratio",
        lambda: neuron.find_learning_rate(neuron.Trainer(dense(), optimizer=neuron.SGD({"*": 0})), (x, y)),
        V,
        r"one must be above 0; got {'\*': 0.0}",
    ),
    ("unknown number in a hook", lambda: in_hook(lambda t: t.set(rate=1)), V, "'learning_rate'"),
    (
        "optax without numbers",
        lambda: neuron.find_learning_rate(neuron.Trainer(dense(), optimizer=optax.adam(1e-3)), (x, y)),
        V,
        "learning_rate",
    ),
    ("rates", lambda: neuron.find_learning_rate(neuron.Trainer(dense()), (x, y), [0]), V, "above 0"),
    ("no short fit", lambda: neuron.find_learning_rate(neuron.Trainer(dense()), (x, y), steps=0), V, "steps"),
    ("draws", lambda: train().predict(x, samples=0), V, r"predict\(samples=...\)` must be at least 1"),
    # Metrics.
    ("metrics without names", lambda: train(metrics=[Own()]), T, "a dict of metrics by name"),
    ("metric named loss", lambda: train(metrics={"loss": Own()}), V, "got 'loss' twice"),
    ("rows of all named loss", lambda: train(metrics={"loss": neuron.ROCAUC()}), V, "got 'loss' twice"),
    ("metric named as a row's step", lambda: train(metrics={"step": Own()}), V, "got 'step' twice"),
    ("metric without a name", lambda: train(metrics={1: Own()}), T, "strings as names; got 1"),
    ("two metrics of a name", lambda: train(metrics={"a_m": Own(), "a": {"m": Own()}}), V, "got 'a_m' twice"),
    ("part named loss", lambda: train(loss=terms(value=lambda v, e: {"loss": v, "b": v})), V, "got 'loss' twice"),
    ("a log named epoch", lambda: train(loss=terms(logs=lambda v, e: {"epoch": v})), V, "got 'epoch' twice"),
    (
        "a log named as a metric of all rows",
        lambda: train(loss=terms(logs=lambda v, e: {"m": v}, prediction=lambda v, e: v), metrics={"m": neuron.ROCAUC()}),
        V,
        "got 'm' twice",
    ),
    ("metrics without targets", lambda: train(loss=terms(), data=(x,), metrics={"m": Own()}), V, "no prediction"),
    (
        "predictions without targets",
        lambda: train(loss=terms(prediction=lambda v, e: v), data=(x,), metrics={"m": Own()}),
        V,
        "without targets",
    ),
    (
        "metric of no part",
        lambda: train(Heads(dense()), two, (x, targets), metrics={"c": {"m": Own()}}),
        V,
        r"Trainer\(metrics={'c': ...}\)` must name an entry.*\['a', 'b'\]",
    ),
    (
        "metric of dicts",
        lambda: train(Heads(dense()), two, (x, targets), metrics={"m": neuron.Accuracy()}),
        T,
        r"Trainer\(metrics={'m': ...}\)` must take.*{'a': f32\[\], 'b': f32\[\]}.*`metrics={'part': {'m': ...}}`",
    ),
    ("function without weights", lambda: train(data=weighted, metrics={"m": plain}), V, "take `sample_weight=`; plain does not"),
    ("function without weights, held out", lambda: train(metrics={"m": plain}, fit=held_out), V, "take `sample_weight="),
    (
        "function without weights, evaluated",
        lambda: neuron.Trainer(dense(), metrics={"m": plain}).evaluate(weighted),
        V,
        "take `sample_weight=`",
    ),
    (
        "function of a part without weights",
        lambda: train(Heads(dense()), two, (x, targets, weighted[2]), metrics={"a": {"m": plain}}),
        V,
        "take `sample_weight=`",
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_runtime_type_checks():
    """As users have it: it is the library that must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("call", "kind", "point"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_refused(call, kind, point):
    with pytest.raises(Exception, match=point) as caught:
        call()
    assert type(caught.value) is kind


METRICS = [
    neuron.Accuracy(), neuron.Precision(), neuron.Recall(), neuron.F1(), neuron.ConfusionMatrix(),
    neuron.ROCAUC(), neuron.AveragePrecision(), neuron.R2(), neuron.PearsonCorrelation(),
    neuron.Perplexity(), neuron.CalibrationError(), mae, neuron.CrossEntropy(),
]  # fmt: skip
SIDES = {
    "a dict predicted": (Heads(dense()), y, T),
    "a pair predicted": (Two(dense()), y, T),
    "dicts as targets": (dense(2), targets, T),
    "pairs as targets": (dense(2), (y, y), T),
    "targets of more numbers": (dense(2), np.ones((8, 3), F), V),
    "targets of fewer": (dense(2), np.ones((8, 1), F), V),
    "classes that are no integers": (dense(2), y, V),
}


class Zero(neuron.Objective):
    """Says nothing, and predicts what the model does."""

    def __call__(self, model, model_state, example, *, key):
        prediction = model(example.inputs)
        return neuron.Terms(0 * jax.tree.leaves(prediction)[0].sum(), prediction=prediction), None


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize(("model", "targets", "kind"), SIDES.values(), ids=SIDES)
def test_what_a_metric_can_not_compare(metric, model, targets, kind):
    with pytest.raises(kind, match=r"^`.*one example's|^`.*an example's") as caught:
        train(model, Zero(), (x, targets), metrics={"m": metric})
    assert type(caught.value) is kind


def test_the_table_is_long_enough():
    assert len(TABLE) >= 40
