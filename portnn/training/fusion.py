"""Fusion: an FC or convolution layer and the activation after it run as one."""

from collections.abc import Iterator, Sequence
from typing import Any

from portnn import activations
from portnn._typing import Array
from portnn.layers.activation import ActivationLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.fc import FCLayer
from portnn.ops import portable

# Activations that ``ops.biased`` knows. Their derivative is a function of Y: X is never written to memory.
PAIRS = ((activations.relu, activations.relu_prime), (activations.tanh, activations.tanh_prime))


class Fused:
    """Two fused layers, Y = f(X W + B) in one pass over the products, by the backend's fast ``ops.biased``.

    It replaces the two only in the list of layers that run; ``network.layers`` still holds both.
    """

    def __init__(self, layer: Any, activation: Any):
        self.layer, self.activation = layer, activation
        self.f, self.chain = activation.activation, activation.chain
        self.is_convolution = isinstance(layer, ConvLayer)
        self.path, self.backend = layer.path, layer.backend

    def fit_to(self, X: Array) -> None:
        self.layer.fit_to(X)

    def compute(self, X: Array, training: bool) -> Array:
        layer = self.layer
        if self.is_convolution:
            product, seen = layer.ops.convolution(X, layer.parameters["weights"], layer.plan, layer.groups)
            Y = layer.ops.biased(product, layer.parameters["bias"], self.f)
        else:
            seen, Y = None, layer.ops.affine(X, layer.parameters["weights"], layer.parameters["bias"], self.f)
        if training:
            layer.input, layer.output = X, None  # what is between the two is never in memory
            self.activation.input, self.activation.output = None, Y
            if self.is_convolution:
                layer.kept = seen
        return Y

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array:
        return self.layer.compute_backward(self.chain(self.activation.output, output_error), need_input_error)

    def walk(self) -> Iterator[Any]:
        yield from (self.layer, self.activation)


def fuse(layers: Sequence[Any], backend: Any, kernels: str) -> list[Any]:
    """The layers, fused where the backend can run two as one; unchanged with ``kernels="portable"``."""
    if kernels == "portable" or backend.implementation(portable.biased) is portable.biased:
        return list(layers)
    fused: list[Any] = []
    for layer in layers:
        if fused and _suits(fused[-1], layer):
            fused[-1] = Fused(fused[-1], layer)
        else:
            fused.append(layer)
    return fused


def _suits(layer: Any, activation: Any) -> bool:
    """Whether the two can be fused: only portnn's own classes, since a class derived from them may differ."""
    return (
        type(layer) in (FCLayer, ConvLayer)
        and "bias" in layer.shapes
        and not any({"forward", "backward"} & vars(part).keys() for part in (layer, activation))
        and type(activation) is ActivationLayer
        and (activation.activation, activation.activation_prime) in PAIRS
    )
