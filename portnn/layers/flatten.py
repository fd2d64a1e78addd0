"""The flatten layer."""

from math import prod

from portnn.layers.layer import Array, Layer


class FlattenLayer(Layer):
    """Writes each sample out as one row, in C order: the last axis (channels) runs fastest.

        Y[n, (h W + w) C + c] = X[n, h, w, c]        dE/dX: dE/dY in the shape of X

    X (N, ...), Y (N, product of the rest).

    >>> import numpy as np
    >>> FlattenLayer()(np.zeros((5, 4, 3, 2))).shape
    (5, 24)
    """

    def __init__(self) -> None:
        super().__init__()

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if input_shape is None else (prod(input_shape),)

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X = self.accept(X)
        Y = self.xp.reshape(X, (X.shape[0], prod(X.shape[1:])))
        if training:
            self.input, self.output = X, Y
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.accept_error(output_error)
        return self.xp.reshape(D, self.input.shape) if need_input_error else None
