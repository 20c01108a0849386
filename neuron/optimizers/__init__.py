"""Optimizers. Gradients in, updates out; every number is a leaf that may change at any time."""

from neuron.optimizers.adam import Adam as Adam
from neuron.optimizers.adam import AdamW as AdamW
from neuron.optimizers.clipped import Clipped as Clipped
from neuron.optimizers.decay import decayed as decayed
from neuron.optimizers.fields import is_number as is_number
from neuron.optimizers.optimizer import Optimizer as Optimizer
from neuron.optimizers.rates import Groups as Groups
from neuron.optimizers.rates import is_rate as is_rate
from neuron.optimizers.sgd import SGD as SGD
from neuron.optimizers.transformation import as_optimizer as as_optimizer
