"""portnn: the neural network library of the article "Neural Network from scratch in Python", for NumPy and CUDA."""

from portnn.activations import relu, relu_prime, sigmoid, sigmoid_prime, tanh, tanh_prime
from portnn.backend import available_backends, get_backend
from portnn.datasets import load_mnist, to_categorical
from portnn.layers import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Layer, ScaleLayer
from portnn.losses import mse, mse_prime
from portnn.network import Network
from portnn.optimizers import SGD
from portnn.training import History
from portnn.transfer import backend_of, to_device, to_numpy

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "ActivationLayer",
    "ConvLayer",
    "FCLayer",
    "FlattenLayer",
    "History",
    "Layer",
    "Network",
    "ScaleLayer",
    "available_backends",
    "backend_of",
    "get_backend",
    "load_mnist",
    "mse",
    "mse_prime",
    "relu",
    "relu_prime",
    "sigmoid",
    "sigmoid_prime",
    "tanh",
    "tanh_prime",
    "to_categorical",
    "to_device",
    "to_numpy",
]
