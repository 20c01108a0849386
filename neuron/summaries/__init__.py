"""Summaries. What arrays a model holds, and what its layers give for one example."""

from neuron.summaries.arrays import Row as Row
from neuron.summaries.outputs import Output as Output
from neuron.summaries.overview import Summary as Summary
from neuron.summaries.overview import summary as summary
