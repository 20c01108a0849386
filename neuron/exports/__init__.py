"""Exports: a trained model as a file that runs without its class, or without Python."""

from neuron.exports.exporting import export as export
from neuron.exports.loaded import Exported as Exported
from neuron.exports.loaded import load_exported as load_exported
from neuron.exports.onnx import export_onnx as export_onnx
