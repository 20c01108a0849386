"""Objectives. What a trainer minimizes: sums and weights over examples, finished into a value."""

from neuron.objectives.objective import Objective as Objective
from neuron.objectives.objective import Parts as Parts
from neuron.objectives.objective import Terms as Terms
from neuron.objectives.parts import compared as compared
from neuron.objectives.parts import entry as entry
from neuron.objectives.penalties import L1 as L1
from neuron.objectives.penalties import L2 as L2
from neuron.objectives.penalties import Penalized as Penalized
from neuron.objectives.penalties import Penalty as Penalty
from neuron.objectives.supervised import Supervised as Supervised
from neuron.objectives.supervised import as_objective as as_objective
