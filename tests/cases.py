"""One table of cases: a row for every public layer, activation, loss, optimizer and op."""

from collections.abc import Callable
from typing import Any, NamedTuple

import portnn
from portnn import SGD, ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Layer, ScaleLayer


class Case(NamedTuple):
    """A layer to be made fresh for each test, and the shape of one sample it takes."""

    name: str
    make: Callable[[], Layer]
    sample: tuple[int, ...]


class OwnLayer(Layer):
    """A user's layer in forward and backward: Y = X * scale, scale (n,)."""

    def __init__(self, n: int):
        self.parameters["scale"] = [1.0 + 0.5 * i for i in range(n)]

    def forward(self, X: Any, *, training: bool = False) -> Any:
        if training:
            self.input = X
        return X * self.parameters["scale"]

    def backward(self, output_error: Any, *, need_input_error: bool = True) -> Any:
        self.gradients = {"scale": self.xp.sum(output_error * self.input, axis=tuple(range(self.input.ndim - 1)))}
        return output_error * self.parameters["scale"] if need_input_error else None


LAYERS = [
    Case("FCLayer", lambda: FCLayer(5, 3), (5,)),
    Case("FCLayer, rows", lambda: FCLayer(5, 3), (1, 5)),
    Case("FCLayer, images", lambda: FCLayer(2, 3), (3, 4, 2)),
    Case("FCLayer, no bias", lambda: FCLayer(4, 1, bias=False), (4,)),
    Case("ConvLayer", lambda: ConvLayer((6, 5, 3), (3, 2), 4), (6, 5, 3)),
    Case("ConvLayer, one pixel", lambda: ConvLayer((3, 3, 1), (3, 3), 2), (3, 3, 1)),
    Case("ConvLayer, no bias", lambda: ConvLayer((4, 4, 2), (1, 1), 3, bias=False), (4, 4, 2)),
    Case("ActivationLayer, tanh", lambda: ActivationLayer("tanh"), (4,)),
    Case("ActivationLayer, sigmoid", lambda: ActivationLayer("sigmoid"), (2, 3)),
    Case("ActivationLayer, relu", lambda: ActivationLayer("relu"), (3, 2, 2)),
    Case("FlattenLayer", lambda: FlattenLayer(), (3, 2, 2)),
    Case("ScaleLayer", lambda: ScaleLayer(1 / 255, offset=-0.5), (3, 2)),
    Case("OwnLayer", lambda: OwnLayer(4), (4,)),
]
ACTIVATIONS = ["relu", "sigmoid", "tanh"]
LOSSES = ["mse"]
OPTIMIZERS = {
    "SGD": lambda: SGD(0.1),
    "SGD, schedule": lambda: SGD(lambda k: 0.1 / (1 + k)),
    "SGD, momentum": lambda: SGD(0.1, momentum=0.9),
    "SGD, nesterov": lambda: SGD(lambda k: 0.1 * 0.5**k, momentum=0.9, nesterov=True),
}
OPS = ["patches", "fold", "images", "columns"]

# Public names that are no row of the table, because they calculate nothing that has a derivative or a twin.
OTHERS = {
    "History",
    "Layer",
    "Network",
    "available_backends",
    "backend_of",
    "get_backend",
    "load_mnist",
    "to_categorical",
    "to_device",
    "to_numpy",
}


def missing() -> set[str]:
    """Public names that have no row."""
    rows = {case.name.split(",")[0] for case in LAYERS} | {name.split(",")[0] for name in OPTIMIZERS}
    functions = {*ACTIVATIONS, *LOSSES}
    return set(portnn.__all__) - OTHERS - rows - functions - {f"{name}_prime" for name in functions}
