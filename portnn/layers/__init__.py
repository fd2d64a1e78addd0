"""The layers, one per file: the formula, then forward and backward."""

from typing import TYPE_CHECKING, Any

from portnn.habits import no_name as _no_name
from portnn.layers.activation import ActivationLayer
from portnn.layers.batch_norm import BatchNormLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.dropout import DropoutLayer
from portnn.layers.fc import FCLayer
from portnn.layers.flatten import FlattenLayer
from portnn.layers.global_pooling import GlobalAvgPoolLayer, GlobalMaxPoolLayer
from portnn.layers.group_norm import GroupNormLayer
from portnn.layers.layer import Layer
from portnn.layers.layer_norm import LayerNormLayer
from portnn.layers.parallel import ParallelLayer
from portnn.layers.pooling import AvgPoolLayer, MaxPoolLayer
from portnn.layers.random_affine import RandomAffineLayer
from portnn.layers.reshape import ReshapeLayer
from portnn.layers.residual import ResidualLayer
from portnn.layers.scale import ScaleLayer
from portnn.layers.sequential import SequentialLayer
from portnn.layers.softmax import SoftmaxLayer
from portnn.layers.upsample import UpsampleLayer

__all__ = [
    "ActivationLayer",
    "AvgPoolLayer",
    "BatchNormLayer",
    "ConvLayer",
    "DropoutLayer",
    "FCLayer",
    "FlattenLayer",
    "GlobalAvgPoolLayer",
    "GlobalMaxPoolLayer",
    "GroupNormLayer",
    "Layer",
    "LayerNormLayer",
    "MaxPoolLayer",
    "ParallelLayer",
    "RandomAffineLayer",
    "ReshapeLayer",
    "ResidualLayer",
    "ScaleLayer",
    "SequentialLayer",
    "SoftmaxLayer",
    "UpsampleLayer",
]

if not TYPE_CHECKING:  # for which there would be no unknown name any more

    def __getattr__(name: str) -> Any:
        raise _no_name(__name__, name, __all__)
