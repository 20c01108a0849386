"""Metrics. A metric observes one example; the program sums, over training and held-out rows alike."""

from neuron.metrics.metric import Gathered as Gathered
from neuron.metrics.metric import Metric as Metric
