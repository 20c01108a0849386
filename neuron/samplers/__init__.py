"""Samplers. The rows of a batch are a pure function of (seed, epoch, position)."""

from neuron.samplers.blocks import BlockBootstrap as BlockBootstrap
from neuron.samplers.blocks import ShuffleBlocks as ShuffleBlocks
from neuron.samplers.groups import Grouped as Grouped
from neuron.samplers.sampler import Sampler as Sampler
from neuron.samplers.stratified import Stratified as Stratified
from neuron.samplers.subset import Subset as Subset
from neuron.samplers.tables import row_numbers_by_class as row_numbers_by_class
from neuron.samplers.uniform import Bootstrap as Bootstrap
from neuron.samplers.uniform import Sequential as Sequential
from neuron.samplers.uniform import Shuffle as Shuffle
from neuron.samplers.weighted import Balanced as Balanced
from neuron.samplers.weighted import Weighted as Weighted
