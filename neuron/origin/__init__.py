"""Origin. Where the first value arose that made a step's loss or gradients not finite."""

from neuron.origin.origin import Origin as Origin
from neuron.origin.origin import located as located
