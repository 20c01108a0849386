"""Evaluation and prediction: held-out rows in blocks of one shape, in inference mode.

One program serves any number of rows, and nothing here changes a run's state.
"""

from neuron.evaluation.batches import BATCH_SIZE as BATCH_SIZE
from neuron.evaluation.evaluating import Scored as Scored
from neuron.evaluation.evaluating import at_once as at_once
from neuron.evaluation.evaluating import evaluate as evaluate
from neuron.evaluation.finishing import computed as computed
from neuron.evaluation.finishing import finished as finished
from neuron.evaluation.finishing import finisher as finisher
from neuron.evaluation.models import over_models as over_models
from neuron.evaluation.observing import Observed as Observed
from neuron.evaluation.observing import Observer as Observer
from neuron.evaluation.predicting import Predicting as Predicting
from neuron.evaluation.predicting import predict as predict
from neuron.evaluation.resampling import resampled as resampled
from neuron.evaluation.weighing import weighed as weighed
