"""The flatten layer."""

from math import prod

from portnn._typing import Array
from portnn.layers.layer import Layer


class FlattenLayer(Layer):
    """Writes each sample out as one row, in C order: the last axis (channels) varies fastest.

        Y[n, (h W + w) C + c] = X[n, h, w, c]        dE/dX: dE/dY in the shape of X

    X is (N, ...), Y is (N, product of the other sizes).

    >>> import numpy as np
    >>> FlattenLayer()(np.zeros((5, 4, 3, 2))).shape
    (5, 24)
    """

    def forward(self, X: Array) -> Array:
        return self.xp.reshape(X, (X.shape[0], prod(X.shape[1:])))

    def backward(self, output_error: Array) -> Array:
        return self.xp.reshape(output_error, self.input.shape)

    def __init__(self) -> None:  # or its signature would be that of ``Layer.__new__``
        super().__init__()

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if input_shape is None else (prod(input_shape),)
