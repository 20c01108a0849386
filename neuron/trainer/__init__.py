"""The trainer. It holds the parts and the state of a run, and drives."""

from neuron.trainer.driven import Driven as Driven
from neuron.trainer.held_out import observed as observed
from neuron.trainer.start import beginning as beginning
from neuron.trainer.trainer import Trainer as Trainer
