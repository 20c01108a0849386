"""Many steps in one program: the compiled loop over `step`."""

from neuron.run.loop import CAPACITY as CAPACITY
from neuron.run.members import Members as Members
from neuron.run.members import Together as Together
from neuron.run.program import Leaves as Leaves
from neuron.run.program import program_for as program_for
from neuron.run.program import ready as ready
from neuron.run.program import traced as traced
from neuron.run.run import Run as Run
from neuron.run.run import copied as copied
from neuron.run.scan import unroll as unroll


# What is driven.
UnderWay = Run | Members
