"""The fully connected layer."""

from math import prod
from typing import Any

from portnn import checks, initializers
from portnn._typing import Array
from portnn.backend import Backend
from portnn.layers.attributes import Parameter
from portnn.layers.layer import Layer
from portnn.settings import Fixed


class FCLayer(Layer):
    """Fully connected: every output is a weighted sum of all inputs, plus a bias.

        Y     = X W + B
        dE/dX = dE/dY W^T        dE/dW = X^T dE/dY        dE/dB = sum of dE/dY over all axes but the last

    X is (..., input_size), Y is (..., output_size): the layer acts on the last axis. ``layer.weights`` is
    (input_size, output_size), drawn by the named ``initializer``; ``layer.bias`` is (1, output_size), initially zero,
    absent with ``bias=False``.

    >>> import numpy as np
    >>> layer = FCLayer(2, 1)
    >>> layer.weights, layer.bias = [[1.0], [2.0]], [[0.5]]
    >>> layer(np.array([[3.0, 4.0]]))
    array([[11.5]])
    """

    def forward(self, X: Array) -> Array:
        return self.ops.affine(X, self.parameters["weights"], self.parameters.get("bias"))

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        W, X, D = self.parameters["weights"], self.ops.rows(self.input), self.ops.rows(output_error)
        self.gradients["weights"] = self.xp.matmul(X.T, D)
        if "bias" in self.parameters:
            self.gradients["bias"] = self.ops.column_sums(D)
        return self.ops.affine(output_error, W.T) if need_input_error else None

    last_axis_only = True
    input_size: Any = Fixed()
    output_size: Any = Fixed()
    initializer: Any = Fixed()
    weights = Parameter()
    bias = Parameter()

    def __init__(self, input_size: int, output_size: int, *, initializer: str = "glorot_uniform", bias: bool = True):
        if isinstance(input_size, (tuple, list)) or isinstance(output_size, (tuple, list)):
            raise TypeError(
                f"FCLayer takes two numbers, of inputs and of outputs, got ({input_size}, {output_size}): it acts on "
                "the last axis and needs no shapes. For shapes (1, 2) and (1, 3) write FCLayer(2, 3)"
            )
        self.input_size = checks.size("input_size", input_size)
        self.output_size = checks.size("output_size", output_size)
        self.initializer = initializers.check_name(initializer)
        self.shapes = {"weights": (self.input_size, self.output_size)}
        if checks.flag("bias", bias):
            self.shapes["bias"] = (1, self.output_size)

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        fans = (self.input_size, self.output_size)
        self.draw_missing(fans, seed, path)
        super().build(input_shape, backend, dtype, seed, path)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
        if input_shape is None:
            return (self.output_size,)
        if not input_shape:
            raise checks.misfit(
                f"{self} acts on the last axis, but a sample is a single number", "give it one with x[:, None]"
            )
        if input_shape[-1] != self.input_size:
            flat = (
                f", or FlattenLayer() in front of it if {self.input_size} is their product"
                if len(input_shape) > 1
                else ""
            )
            raise checks.misfit(
                f"{self} takes {self.input_size} values on the last axis, but a sample comes in with shape "
                f"{input_shape}",
                f"make it FCLayer({input_shape[-1]}, {self.output_size}){flat}",
            )
        return (*input_shape[:-1], self.output_size)

    def multiply_adds(self, input_shape: tuple[int, ...] | None) -> int:
        return prod(input_shape[:-1] if input_shape else ()) * self.input_size * self.output_size

    def __repr__(self) -> str:
        return f"FCLayer({self.input_size}, {self.output_size}{'' if 'bias' in self.shapes else ', bias=False'})"
