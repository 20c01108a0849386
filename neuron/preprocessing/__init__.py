"""Preprocessing. What is fitted on training rows, is part of the model and is never trained."""

from neuron.preprocessing.categories import OneHot as OneHot
from neuron.preprocessing.composed import Preprocessed as Preprocessed
from neuron.preprocessing.composed import Scaled as Scaled
from neuron.preprocessing.scalers import MinMax as MinMax
from neuron.preprocessing.scalers import Scaler as Scaler
from neuron.preprocessing.scalers import Standardize as Standardize
