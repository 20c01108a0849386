"""Checkpoints: models and runs in files that are whole or not there."""

from neuron.checkpoint.configuration import described as described
from neuron.checkpoint.directory import BEST as BEST
from neuron.checkpoint.directory import Directory as Directory
from neuron.checkpoint.directory import found as found
from neuron.checkpoint.directory import load_run as load_run
from neuron.checkpoint.directory import newest as newest
from neuron.checkpoint.files import read as read
from neuron.checkpoint.files import sync_folder as sync_folder
from neuron.checkpoint.files import write as write
from neuron.checkpoint.format import decode as decode
from neuron.checkpoint.format import encode as encode
from neuron.checkpoint.format import taken_apart as taken_apart
from neuron.checkpoint.leaves import by_path as by_path
from neuron.checkpoint.leaves import from_paths as from_paths
from neuron.checkpoint.models import Path as Path
from neuron.checkpoint.models import load as load
from neuron.checkpoint.models import save as save
from neuron.checkpoint.runs import Saved as Saved
from neuron.checkpoint.runs import Snapshot as Snapshot
