"""History. Every step's loss, and one row an epoch."""

from neuron.history.columns import Row as Row
from neuron.history.history import History as History
from neuron.history.values import portable as portable
