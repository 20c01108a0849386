"""One training step and one evaluation step: the only room that knows the batch axis."""

from neuron.step.gradient import Task as Task
from neuron.step.gradient import loss_and_gradients as loss_and_gradients
from neuron.step.inference import evaluation_step as evaluation_step
from neuron.step.inference import observation_step as observation_step
from neuron.step.inference import prediction_step as prediction_step
from neuron.step.precision import checked_precision as checked_precision
from neuron.step.sums import Scoring as Scoring
from neuron.step.sums import Shown as Shown
from neuron.step.sums import Sums as Sums
from neuron.step.sums import example_keys as example_keys
from neuron.step.sums import summed as summed
from neuron.step.training import first_sums as first_sums
from neuron.step.training import short_size as short_size
from neuron.step.training import training_step as training_step
