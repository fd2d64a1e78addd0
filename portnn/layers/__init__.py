"""The shelf of layers, one idea a file: formula, forward, backward."""

from portnn.layers.activation import ActivationLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.fc import FCLayer
from portnn.layers.flatten import FlattenLayer
from portnn.layers.layer import Layer
from portnn.layers.scale import ScaleLayer

__all__ = ["ActivationLayer", "ConvLayer", "FCLayer", "FlattenLayer", "Layer", "ScaleLayer"]
