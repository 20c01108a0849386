"""Trains Equinox models: a run is one value and one compiled program."""

from neuron.callbacks import Callback as Callback
from neuron.callbacks import EarlyStopping as EarlyStopping
from neuron.callbacks import PrintLog as PrintLog
from neuron.callbacks import ProgressBar as ProgressBar
from neuron.data import DataLoader as DataLoader
from neuron.errors import NonFiniteLossError as NonFiniteLossError
from neuron.history import History as History
from neuron.layers import Dense as Dense
from neuron.losses import BinaryCrossEntropy as BinaryCrossEntropy
from neuron.losses import BinaryFocal as BinaryFocal
from neuron.losses import CategoricalFocal as CategoricalFocal
from neuron.losses import CosineSimilarity as CosineSimilarity
from neuron.losses import CrossEntropy as CrossEntropy
from neuron.losses import GaussianNegativeLogLikelihood as GaussianNegativeLogLikelihood
from neuron.losses import Hinge as Hinge
from neuron.losses import Huber as Huber
from neuron.losses import KullbackLeibler as KullbackLeibler
from neuron.losses import LogCosh as LogCosh
from neuron.losses import Loss as Loss
from neuron.losses import MeanAbsoluteError as MeanAbsoluteError
from neuron.losses import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from neuron.losses import MeanSquaredError as MeanSquaredError
from neuron.losses import MeanSquaredLogError as MeanSquaredLogError
from neuron.losses import PoissonNegativeLogLikelihood as PoissonNegativeLogLikelihood
from neuron.losses import Quantile as Quantile
from neuron.losses import RootMeanSquaredError as RootMeanSquaredError
from neuron.losses import SquaredHinge as SquaredHinge
from neuron.metrics import F1 as F1
from neuron.metrics import Accuracy as Accuracy
from neuron.metrics import CalibrationError as CalibrationError
from neuron.metrics import ConfusionMatrix as ConfusionMatrix
from neuron.metrics import Gathered as Gathered
from neuron.metrics import Metric as Metric
from neuron.metrics import Perplexity as Perplexity
from neuron.metrics import Precision as Precision
from neuron.metrics import Recall as Recall
from neuron.models import apply as apply
from neuron.objectives import Objective as Objective
from neuron.objectives import Supervised as Supervised
from neuron.objectives import Terms as Terms
from neuron.optimizers import SGD as SGD
from neuron.optimizers import Adam as Adam
from neuron.optimizers import AdamW as AdamW
from neuron.optimizers import Clipped as Clipped
from neuron.optimizers import Optimizer as Optimizer
from neuron.samplers import Bootstrap as Bootstrap
from neuron.samplers import Sampler as Sampler
from neuron.samplers import Sequential as Sequential
from neuron.samplers import Shuffle as Shuffle
from neuron.state import TrainState as TrainState
from neuron.trainer import Trainer as Trainer
from neuron.types import Batch as Batch


__version__ = "0.1.0"
