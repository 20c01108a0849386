"""Callbacks. Hooks that look at a run, and the ones that everybody needs."""

from neuron.callbacks.callback import Callback as Callback
from neuron.callbacks.callback import Hooks as Hooks
from neuron.callbacks.callback import Logs as Logs
from neuron.callbacks.checkpoint import Checkpoint as Checkpoint
from neuron.callbacks.files import CSVLogger as CSVLogger
from neuron.callbacks.files import JSONLLogger as JSONLLogger
from neuron.callbacks.logger import Logger as Logger
from neuron.callbacks.mlflow import MLflow as MLflow
from neuron.callbacks.profile import Profile as Profile
from neuron.callbacks.progress import PrintLog as PrintLog
from neuron.callbacks.progress import ProgressBar as ProgressBar
from neuron.callbacks.progress import terminal_attached as terminal_attached
from neuron.callbacks.rates import LearningRateLogger as LearningRateLogger
from neuron.callbacks.rates import ReduceLROnPlateau as ReduceLROnPlateau
from neuron.callbacks.stopping import EarlyStopping as EarlyStopping
from neuron.callbacks.tensorboard import TensorBoard as TensorBoard
from neuron.callbacks.timer import Timer as Timer
from neuron.callbacks.wandb import WandB as WandB
