"""The scale layer."""

from typing import Any

from portnn.layers.layer import Array, Layer
from portnn.settings import Setting, number


class ScaleLayer(Layer):
    """Multiplies by a number and adds one: bytes in 0..255 become 0..1 with ``ScaleLayer(1 / 255)``.

        Y     = factor X + offset
        dE/dX = factor dE/dY

    Both numbers are fixed, not learned. X and Y have the same shape, whichever it is.

    >>> import numpy as np
    >>> ScaleLayer(2.0, offset=-1.0)(np.array([[0.0, 0.5, 1.0]]))
    array([[-1.,  0.,  1.]])
    """

    last_axis_only = True
    factor: Any = Setting(number)
    offset: Any = Setting(number)

    def __init__(self, factor: float, offset: float = 0.0):
        self.factor, self.offset = factor, offset

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return input_shape

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X = self.accept(X)
        Y = self.factor * X + self.offset
        if training:
            self.input, self.output = X, Y
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.accept_error(output_error)
        return self.factor * D if need_input_error else None

    def __repr__(self) -> str:
        return f"ScaleLayer({self.factor:g}{f', offset={self.offset:g}' if self.offset else ''})"
