"""Metrics. A metric observes one example; the program adds up, over all rows alike."""

from neuron.metrics.metric import Gathered as Gathered
from neuron.metrics.metric import Metric as Metric
from neuron.metrics.parts import by_name as by_name
