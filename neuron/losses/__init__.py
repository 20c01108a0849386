"""Losses. A loss scores one example; the step averages over the batch."""

from neuron.losses.classification import BinaryCrossEntropy as BinaryCrossEntropy
from neuron.losses.classification import BinaryFocal as BinaryFocal
from neuron.losses.classification import CategoricalFocal as CategoricalFocal
from neuron.losses.classification import CrossEntropy as CrossEntropy
from neuron.losses.classification import Hinge as Hinge
from neuron.losses.classification import SquaredHinge as SquaredHinge
from neuron.losses.distribution import (
    GaussianNegativeLogLikelihood as GaussianNegativeLogLikelihood,
)
from neuron.losses.distribution import KullbackLeibler as KullbackLeibler
from neuron.losses.distribution import PoissonNegativeLogLikelihood as PoissonNegativeLogLikelihood
from neuron.losses.loss import Loss as Loss
from neuron.losses.regression import CosineSimilarity as CosineSimilarity
from neuron.losses.regression import Huber as Huber
from neuron.losses.regression import LogCosh as LogCosh
from neuron.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from neuron.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from neuron.losses.regression import MeanSquaredError as MeanSquaredError
from neuron.losses.regression import MeanSquaredLogError as MeanSquaredLogError
from neuron.losses.regression import Quantile as Quantile
from neuron.losses.regression import RootMeanSquaredError as RootMeanSquaredError
