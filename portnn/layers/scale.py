"""The scale layer."""

from typing import Any

from portnn._typing import Array
from portnn.checks import number
from portnn.layers.layer import Layer
from portnn.settings import Setting


class ScaleLayer(Layer):
    """Multiplies by a constant and adds another: ``ScaleLayer(1 / 255)`` maps bytes 0..255 to 0..1.

        Y     = factor X + offset
        dE/dX = factor dE/dY

    Both constants are fixed, not learned. X and Y have the same shape, which may be any.

    >>> import numpy as np
    >>> ScaleLayer(2.0, offset=-1.0)(np.array([[0.0, 0.5, 1.0]]))
    array([[-1.,  0.,  1.]])
    """

    def forward(self, X: Array) -> Array:
        return self.factor * X + self.offset

    def backward(self, output_error: Array) -> Array:
        return self.factor * output_error

    last_axis_only = True
    factor: Any = Setting(number)
    offset: Any = Setting(number)

    def __init__(self, factor: float, offset: float = 0.0):
        self.factor, self.offset = factor, offset

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return input_shape

    def __repr__(self) -> str:
        return f"ScaleLayer({self.factor:g}{f', offset={self.offset:g}' if self.offset else ''})"
