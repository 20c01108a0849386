"""Populations: many runs of one structure as one run, members first."""

from neuron.population.histories import best_of as best_of
from neuron.population.histories import monitored as monitored
from neuron.population.population import Population as Population
