"""The bootstrap of a trained model: replicas that are each trained on a resample of the data."""

from neuron.bootstrapping.fitting import bootstrap as bootstrap
from neuron.bootstrapping.result import Bootstrapped as Bootstrapped
