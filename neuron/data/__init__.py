"""Data. `DataLoader` takes it as it is, checks it, and feeds it to the program."""

from neuron.data.columns import Columns as Columns
from neuron.data.conversions import as_inputs as as_inputs
from neuron.data.conversions import as_loader as as_loader
from neuron.data.feed import Feed as Feed
from neuron.data.loader import DataLoader as DataLoader
from neuron.data.pieces import padded as padded
from neuron.data.source import Source as Source
from neuron.data.source import Stream as Stream
from neuron.data.supply import Wanted as Wanted
from neuron.data.supply import accepted as accepted
