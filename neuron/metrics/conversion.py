"""Temporary."""

import numpy as np

from neuron.losses import Loss
from neuron.metrics.metric import Gathered, Metric


class FromLoss(Metric):
    loss: Loss

    def observe(self, p, t):
        w = self.loss.weight(t)
        return w * self.loss(p, t), w

    def compute(self, total):
        return self.loss.finish(total[0] / total[1])


class Plain(Gathered):
    function: object

    def observe(self, p, t):
        return p, t

    def compute(self, total):
        (p, t), w = total
        return np.asarray(self.function(t, p))


def as_metric(name, metric):
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, Loss):
        return FromLoss(metric)
    return Plain(metric)
