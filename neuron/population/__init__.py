"""Populations: many runs of one structure as one run, members first."""

from neuron.population.population import Population as Population
