"""Loggers for services: what they are told, on stand-ins and on the tools' own offline modes."""

import json
import pathlib
import struct
import sys
import types

import jax
import numpy as np
import pytest

import neuron


X = np.random.default_rng(3).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)
LOADER = neuron.DataLoader((X, Y), 10)
TOOLS = {"tensorboardX": neuron.TensorBoard, "wandb": neuron.WandB, "mlflow": neuron.MLflow}
EXTRAS = {"tensorboardX": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
each_tool = pytest.mark.parametrize("tool", TOOLS)


def made(tool, **options):
    return TOOLS[tool](*(["runs"] if tool == "tensorboardX" else []), **options)


def trainer(*callbacks, **options):
    model = neuron.Dense(2, key=jax.random.key(1))
    return neuron.Trainer(model, callbacks=callbacks, progress=False, **options)


class Raising(neuron.Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, trainer, logs):
        raise self.error


def resumed(logger, state, step):
    """What happens where a fit goes on from a checkpoint: the fit begins, then the state comes."""
    at = types.SimpleNamespace(step=step, stopped=None)
    logger.on_fit_begin(at)
    if state is not None:
        logger.load_state_dict(at, state)
    return at


@each_tool
def test_without_the_tool_the_extra_is_named(monkeypatch, tool):
    monkeypatch.setitem(sys.modules, tool, None)
    name = TOOLS[tool].__name__
    words = rf"`{name}\(\)` logs through {tool}; install `neuron-equinox\[{EXTRAS[tool]}\]`"
    with pytest.raises(ImportError, match=words):
        trainer(made(tool)).fit(LOADER, epochs=1)


@each_tool
@pytest.mark.parametrize(("every", "error"), [(0, ValueError), ("epoch", TypeError)])
@pytest.mark.usefixtures("unchecked")
def test_arguments_are_refused(tool, every, error):
    with pytest.raises(error, match=rf"`{TOOLS[tool].__name__}\(every=...\)`"):
        made(tool, every=every)


class Runs:
    """A stand-in for wandb: runs by name, which go on where they ended."""

    def __init__(self):
        self.run, self.begun, self.points = None, [], {}

    def init(self, **options):
        self.begun.append(options)
        name = options.get("id") or f"run{len(self.points)}"
        points = self.points.setdefault(name, [])
        self.run = types.SimpleNamespace(
            id=name,
            step=points[-1][0] if points else 0,
            log=lambda values, step, commit: self._log(points, values, step, commit),
            finish=lambda exit_code: self._finish(exit_code),
        )
        return self.run

    def _log(self, points, values, step, commit):
        assert step >= self.run.step
        points.append((step, values))
        self.run.step = step + commit

    def _finish(self, exit_code):
        self.run, self.code = None, exit_code


@pytest.fixture
def wandb(monkeypatch):
    runs = Runs()
    monkeypatch.setitem(sys.modules, "wandb", runs)
    return runs


def test_wandb_gets_each_epoch_and_the_steps_that_somebody_asks_for(wandb):
    fitted = trainer(neuron.WandB(project="digits", every=3))
    fitted.fit(LOADER, epochs=2, validation=(X, Y))
    assert wandb.begun == [{"project": "digits"}]
    points = wandb.points["run0"]
    assert [step for step, _ in points] == [3, 4, 6, 8]
    assert points[1][1] == {n: v for n, v in fitted.history.epochs[0].items() if n != "step"}
    assert points[2][1]["step_loss"] == float(fitted.history["loss"][5])
    assert (wandb.run, wandb.code) == (None, 0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_wandb_hears_of_a_fit_that_failed(wandb, error):
    with pytest.raises(error):
        trainer(neuron.WandB(), Raising(error)).fit(LOADER, epochs=2)
    assert (wandb.run, wandb.code) == (None, 1)


def test_wandb_goes_on_with_a_trainers_run_and_begins_another_for_another(wandb):
    logger = neuron.WandB(project="digits")
    first = trainer(logger)
    first.fit(LOADER, epochs=1)
    first.fit(LOADER, epochs=1)
    trainer(logger).fit(LOADER, epochs=1)
    again = {"project": "digits", "id": "run0", "resume": "allow"}
    assert wandb.begun == [{"project": "digits"}, again, {"project": "digits"}]
    assert [step for step, _ in wandb.points["run0"]] == [4, 8]
    assert [step for step, _ in wandb.points["run1"]] == [4]


def test_wandb_leaves_out_what_a_run_has_already(wandb):
    killed = neuron.WandB(every=1)
    killed.on_fit_begin(types.SimpleNamespace(step=0))
    for step in (1, 2, 3, 4, 5):
        if step == 3:
            state = json.loads(json.dumps(killed.state_dict()))
        killed.log({"loss": 1 / step}, step)
    logger = neuron.WandB(every=1)
    resumed(logger, state, 2)
    for step in range(3, 8):
        logger.log({"loss": 1 / step}, step)
    assert wandb.points["run0"] == [(step, {"loss": 1 / step}) for step in (1, 2, 3, 4, 5, 5, 6, 7)]
    # The last step may come twice, since a step and its epoch are two: the service keeps one.


def test_a_checkpoint_outside_of_a_fit_begins_no_run(wandb, mlflow):
    for kind in (neuron.WandB, neuron.MLflow):
        logger = kind()
        assert logger.state_dict() == {"id": None}
        trainer(logger).fit(LOADER, epochs=1)
        assert logger.state_dict() == {"id": "run0" if kind is neuron.WandB else "0-None-0"}
    assert len(wandb.begun) == len(mlflow.points) == 1


def test_wandb_without_a_name_to_go_on_with_begins_a_run(wandb):
    logger = neuron.WandB()
    resumed(logger, None, 8)
    logger.log({"loss": 1.0}, 9)
    assert wandb.begun == [{}]


def test_a_wandb_run_of_ones_own_is_used_and_left_open(wandb):
    mine = wandb.init(project="mine")
    trainer(neuron.WandB()).fit(LOADER, epochs=1)
    assert len(wandb.begun) == 1
    assert wandb.run is mine
    assert [step for step, _ in wandb.points["run0"]] == [4]


def test_arrays_are_curves_of_their_elements_and_large_ones_are_left_out(wandb):
    logger = neuron.WandB()
    resumed(logger, None, 8)
    logger.log({"recall": np.array([0.5, 1.0]), "m": np.array([[1, 2], [3, 4]]), "n": 7}, 9)
    elements = {"recall/0": 0.5, "recall/1": 1, "m/0/0": 1, "m/0/1": 2, "m/1/0": 3, "m/1/1": 4}
    assert wandb.points["run0"] == [(9, elements | {"n": 7})]
    with pytest.warns(UserWarning, match=r"`WandB\(\)` leaves out 'm', an array of 289 elements"):
        logger.log({"m": np.zeros((17, 17)), "n": 8}, 10)
    assert wandb.points["run0"][-1] == (10, {"n": 8})


def test_wandb_itself_takes_it_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    options = {"project": "digits", "mode": "offline", "dir": str(tmp_path)}
    seen = []

    class Look(neuron.Callback):
        def on_epoch_end(self, trainer, logs):
            seen.append((wandb.run.id, dict(wandb.run.summary)))

    fitted = trainer(neuron.WandB(every=2, **options), Look())
    for _ in range(2):
        fitted.fit(LOADER, epochs=2)
    assert wandb.run is None
    assert len({name for name, _ in seen}) == 1
    assert [values["epoch"] for _, values in seen] == [1, 2, 3, 4]
    assert seen[0][1]["loss"] == fitted.history.epochs[0]["loss"]
    assert seen[0][1]["step_loss"] == float(fitted.history["loss"][3])
    assert list(tmp_path.rglob("*.wandb"))


class Store:
    """A stand-in for mlflow: runs in which points are added up."""

    def __init__(self):
        self.points, self.status, self.experiments, self.active = {}, {}, {}, None
        self.entities = types.SimpleNamespace(Metric=lambda *parts: types.SimpleNamespace(
            key=parts[0], value=parts[1], step=parts[3]
        ))  # fmt: skip

    def MlflowClient(self, uri):
        self.uri = uri
        return self

    def active_run(self):
        return self.active

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self.experiments[name] = str(len(self.experiments) + 1)
        return self.experiments[name]

    def create_run(self, experiment, run_name):
        name = f"{experiment}-{run_name}-{len(self.points)}"
        self.points[name], self.status[name] = [], "RUNNING"
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=name))

    def update_run(self, run, status):
        self.status[run] = status

    set_terminated = update_run

    def log_batch(self, run, metrics):
        self.points[run] += metrics

    def get_metric_history(self, run, key):
        return [point for point in self.points[run] if point.key == key]

    def steps(self, run, key):
        return [point.step for point in self.get_metric_history(run, key)]


@pytest.fixture
def mlflow(monkeypatch):
    store = Store()
    monkeypatch.setitem(sys.modules, "mlflow", store)
    return store


def test_mlflow_gets_each_epoch_and_the_steps_that_somebody_asks_for(mlflow):
    rates = neuron.SGD({"wei*": 0.1, "*": 0.05})
    fitted = trainer(neuron.MLflow("digits", run_name="a", every=3), optimizer=rates)
    fitted.fit(LOADER, epochs=2)
    trainer(neuron.MLflow("digits", run_name="b")).fit(LOADER, epochs=1)
    assert list(mlflow.points) == ["1-a-0", "1-b-1"]
    assert mlflow.status == dict.fromkeys(mlflow.points, "FINISHED")
    assert mlflow.steps("1-a-0", "loss") == [4, 8]
    assert mlflow.steps("1-a-0", "step_loss") == [3, 6]
    losses = [point.value for point in mlflow.get_metric_history("1-a-0", "loss")]
    assert losses == [row["loss"] for row in fitted.history.epochs]
    # Names as the tool takes them.
    assert mlflow.steps("1-a-0", "learning_rate_wei__") == [4, 8]


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError, "FAILED"), (KeyboardInterrupt, "KILLED"), (neuron.Terminated, "KILLED")],
)
def test_mlflow_hears_how_a_fit_ended(mlflow, error, status):
    with pytest.raises(error):
        trainer(neuron.MLflow(), Raising(error)).fit(LOADER, epochs=2)
    assert mlflow.status == {"0-None-0": status}


def test_mlflow_leaves_out_what_a_curve_has_already(mlflow):
    killed = neuron.MLflow()
    killed.on_fit_begin(types.SimpleNamespace(step=0))
    for step in range(1, 6):
        if step == 3:
            state = json.loads(json.dumps(killed.state_dict()))
        killed.log({"loss": 1 / step}, step)
    logger = neuron.MLflow()
    at = resumed(logger, state, 2)
    for step in range(3, 8):
        logger.log({"loss": 1 / step, "late": 1.0}, step)
    (run,) = mlflow.points
    assert mlflow.steps(run, "loss") == [1, 2, 3, 4, 5, 6, 7]
    assert mlflow.steps(run, "late") == [3, 4, 5, 6, 7]
    assert mlflow.status[run] == "RUNNING"
    logger.on_fit_end(at)
    assert mlflow.status[run] == "FINISHED"


def test_an_mlflow_run_of_ones_own_is_used_and_left_open(mlflow):
    mlflow.active = mlflow.create_run("5", "mine")
    trainer(neuron.MLflow()).fit(LOADER, epochs=1)
    (run,) = mlflow.points
    assert mlflow.steps(run, "loss") == [4]
    assert mlflow.status[run] == "RUNNING"


# SQLAlchemy and pydantic, which mlflow brings, warn of what they are about to change.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_itself_takes_it_with_a_store_in_a_file(tmp_path):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    logger = neuron.MLflow("digits", run_name="first", tracking_uri=uri, every=2)
    rates = neuron.SGD({"wei*": 0.1, "*": 0.05})
    fitted = trainer(logger, optimizer=rates)
    for _ in range(2):
        fitted.fit(LOADER, epochs=1)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits").experiment_id
    (run,) = client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [
        (row["step"], row["loss"]) for row in fitted.history.epochs
    ]
    steps = client.get_metric_history(run.info.run_id, "step_learning_rate_wei__")
    assert [p.step for p in steps] == [2, 4, 6, 8]
    # From a checkpoint at step 4, by another process.
    again = neuron.MLflow("digits", tracking_uri=uri)
    at = resumed(again, logger.state_dict(), 4)
    for step in (8, 12):
        again.log({"loss": 1.0}, step)
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    again.on_fit_end(at)
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [p.step for p in points] == [4, 8, 12]


def events(folder):
    """What the event files of a folder hold, in the order of their names: (step, tag, value), and
    the steps from which on TensorBoard hides what came before."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    for path in sorted(pathlib.Path(folder).glob("events.*")):
        content = path.read_bytes()
        while content:
            # A length of eight bytes and its checksum, the event, and its checksum.
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            if event.session_log.status == SessionLog.START:
                yield event.step, "START", None
            for value in event.summary.value:
                yield event.step, value.tag, value.simple_value


def test_tensorboard_files_have_each_epoch_and_the_steps_that_somebody_asks_for(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    fitted = trainer(neuron.TensorBoard(tmp_path, every=3))
    fitted.fit(LOADER, epochs=2, validation=(X, Y))
    found = list(events(tmp_path))
    epochs = {(row["step"], n): v for row in fitted.history.epochs for n, v in row.items()}
    for name in ("epoch", "loss", "val_loss", "learning_rate", "seconds"):
        expected = [(step, np.float32(epochs[step, name])) for step in (4, 8)]
        assert [(step, value) for step, tag, value in found if tag == name] == expected
    steps = [(step, value) for step, tag, value in found if tag == "step_loss"]
    assert steps == [(step, fitted.history["loss"][step - 1]) for step in (3, 6)]


def test_tensorboard_hides_what_a_resume_takes_again(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    fitted = trainer(neuron.TensorBoard(tmp_path))
    for _ in range(2):
        fitted.fit(LOADER, epochs=1)
    marks = [(step, tag) for step, tag, _ in events(tmp_path) if tag in ("START", "loss")]
    # Each fit has a file of its own, even within one second.
    assert marks == [(1, "START"), (4, "loss"), (5, "START"), (8, "loss")]


def test_tensorboard_files_are_closed_when_a_fit_fails(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    logger = neuron.TensorBoard(tmp_path)
    with pytest.raises(OSError):
        trainer(logger, Raising(OSError)).fit(LOADER, epochs=2)
    assert logger._writer is None
    assert [step for step, tag, _ in events(tmp_path) if tag == "loss"] == [4]


def test_tensorboard_is_told_through_its_writer(monkeypatch):
    told = []
    writer = types.SimpleNamespace(
        add_scalar=lambda name, value, step: told.append((name, step)),
        flush=lambda: told.append("flush"),
        close=lambda: told.append("close"),
    )

    def open_writer(directory, **options):
        told.append((directory, options["purge_step"]))
        return writer

    stand_in = types.SimpleNamespace(SummaryWriter=open_writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", stand_in)
    logger = neuron.TensorBoard("runs")
    at = types.SimpleNamespace(step=7)
    logger.on_fit_begin(at)
    logger.log({"loss": 1.0, "m": np.ones(2)}, 8)
    logger.on_fit_end(at)
    assert told == [("runs", 8), ("loss", 8), ("m/0", 8), ("m/1", 8), "flush", "close"]
