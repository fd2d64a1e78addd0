"""portnn: the neural network library of the article "Neural Network from scratch in Python", for NumPy and CUDA."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from portnn.activations import (
    elu,
    elu_prime,
    gelu,
    gelu_prime,
    gelu_tanh,
    gelu_tanh_prime,
    hard_sigmoid,
    hard_sigmoid_prime,
    leaky_relu,
    leaky_relu_prime,
    log_softmax,
    relu,
    relu_prime,
    selu,
    selu_prime,
    sigmoid,
    sigmoid_prime,
    silu,
    silu_prime,
    softmax,
    softplus,
    softplus_prime,
    softsign,
    softsign_prime,
    tanh,
    tanh_prime,
)
from portnn.backend import available_backends, get_backend
from portnn.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    ReduceLROnPlateau,
    TimeLimit,
)
from portnn.datasets import load_mnist, to_categorical
from portnn.habits import no_name as _no_name
from portnn.history import History
from portnn.layers import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    Layer,
    LayerNormLayer,
    MaxPoolLayer,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
)
from portnn.losses import (
    Huber,
    SoftmaxCrossEntropy,
    binary_cross_entropy,
    binary_cross_entropy_prime,
    hinge,
    hinge_prime,
    mae,
    mae_prime,
    mse,
    mse_prime,
    softmax_cross_entropy,
    softmax_cross_entropy_prime,
)
from portnn.metrics import TopK, accuracy, confusion_matrix, f1, mean_absolute_error, precision, r2, recall
from portnn.network import Network
from portnn.optimizers import SGD, AdaGrad, Adam, AdamW, RMSprop
from portnn.schedules import CosineDecay, ExponentialDecay, OneCycle, StepDecay, WarmUp
from portnn.testing.compare_backends import compare_backends
from portnn.testing.gradcheck import gradcheck
from portnn.transfer import backend_of, to_device, to_numpy
from portnn.version import __version__ as __version__

load = Network.load
_THIN = ("onnx", "plot", "sklearn", "torch")  # modules that ``import portnn`` does not load, and ``portnn.plot`` does

__all__ = [
    "SGD",
    "ActivationLayer",
    "AdaGrad",
    "Adam",
    "AdamW",
    "AvgPoolLayer",
    "BatchNormLayer",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "ConvLayer",
    "CosineDecay",
    "DropoutLayer",
    "EarlyStopping",
    "ExponentialDecay",
    "FCLayer",
    "FlattenLayer",
    "GlobalAvgPoolLayer",
    "GlobalMaxPoolLayer",
    "GroupNormLayer",
    "History",
    "Huber",
    "JSONLogger",
    "Layer",
    "LayerNormLayer",
    "MaxPoolLayer",
    "Network",
    "OneCycle",
    "ParallelLayer",
    "RMSprop",
    "RandomAffineLayer",
    "ReduceLROnPlateau",
    "ReshapeLayer",
    "ResidualLayer",
    "ScaleLayer",
    "SequentialLayer",
    "SoftmaxCrossEntropy",
    "SoftmaxLayer",
    "StepDecay",
    "TimeLimit",
    "TopK",
    "UpsampleLayer",
    "WarmUp",
    "accuracy",
    "available_backends",
    "backend_of",
    "binary_cross_entropy",
    "binary_cross_entropy_prime",
    "compare_backends",
    "confusion_matrix",
    "elu",
    "elu_prime",
    "f1",
    "gelu",
    "gelu_prime",
    "gelu_tanh",
    "gelu_tanh_prime",
    "get_backend",
    "gradcheck",
    "hard_sigmoid",
    "hard_sigmoid_prime",
    "hinge",
    "hinge_prime",
    "leaky_relu",
    "leaky_relu_prime",
    "load",
    "load_mnist",
    "log_softmax",
    "mae",
    "mae_prime",
    "mean_absolute_error",
    "mse",
    "mse_prime",
    "precision",
    "r2",
    "recall",
    "relu",
    "relu_prime",
    "selu",
    "selu_prime",
    "sigmoid",
    "sigmoid_prime",
    "silu",
    "silu_prime",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_prime",
    "softplus",
    "softplus_prime",
    "softsign",
    "softsign_prime",
    "tanh",
    "tanh_prime",
    "to_categorical",
    "to_device",
    "to_numpy",
]

if TYPE_CHECKING:
    from portnn import onnx as onnx
    from portnn import plot as plot
    from portnn import sklearn as sklearn
    from portnn import torch as torch
else:  # for a type checker there would be no unknown name any more

    def __getattr__(name: str) -> Any:
        if name in _THIN:
            return _import_module(f"{__name__}.{name}")
        raise _no_name(__name__, name, __all__)
