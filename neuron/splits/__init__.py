"""Splits. Rows in parts, at random: a pure function of labels, groups and a seed."""

from neuron.splits.splitting import fold_of as fold_of
from neuron.splits.splitting import k_folds as k_folds
from neuron.splits.splitting import split as split
