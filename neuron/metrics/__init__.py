"""Metrics. A metric observes one example; sums over examples give the value."""

from neuron.metrics.adapters import as_metric as as_metric
from neuron.metrics.classification import Accuracy as Accuracy
from neuron.metrics.classification import ConfusionMatrix as ConfusionMatrix
from neuron.metrics.detection import F1 as F1
from neuron.metrics.detection import Precision as Precision
from neuron.metrics.detection import Recall as Recall
from neuron.metrics.metric import Gathered as Gathered
from neuron.metrics.metric import Metric as Metric
from neuron.metrics.parts import by_name as by_name
from neuron.metrics.probability import CalibrationError as CalibrationError
from neuron.metrics.probability import Perplexity as Perplexity
from neuron.metrics.ranking import ROCAUC as ROCAUC
from neuron.metrics.ranking import AveragePrecision as AveragePrecision
from neuron.metrics.regression import R2 as R2
from neuron.metrics.regression import PearsonCorrelation as PearsonCorrelation
