"""The reshape layer."""

from math import prod
from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.layers.layer import Layer
from portnn.settings import Fixed


class ReshapeLayer(Layer):
    """Gives each sample another shape, in C order: the last axis varies fastest.

        Y     = X in the new shape        dE/dX: dE/dY in the shape of X

    ``shape`` is that of one sample of Y, such as (28, 28, 1). X is (N, ...), Y is (N, *shape), with the same number of
    values per sample; ValueError if it differs.

    >>> import numpy as np
    >>> ReshapeLayer((2, 3, 1))(np.zeros((5, 6))).shape
    (5, 2, 3, 1)
    """

    def forward(self, X: Array) -> Array:
        return self.xp.reshape(X, (X.shape[0], *self.shape))

    def backward(self, output_error: Array) -> Array:
        return self.xp.reshape(output_error, self.input.shape)

    shape: Any = Fixed()

    def __init__(self, shape: tuple[int, ...]):
        self.shape = checks.shape("shape", shape)
        if not self.shape:
            raise ValueError("shape must have at least one axis, such as (28, 28, 1), got ()")

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
        if input_shape is not None and prod(input_shape) != prod(self.shape):
            raise checks.misfit(
                f"{self} makes samples of {prod(self.shape)} values, but a sample comes in with shape {input_shape}, "
                f"{prod(input_shape)} values",
                "choose a shape with as many",
            )
        return self.shape

    def __repr__(self) -> str:
        return f"ReshapeLayer({self.shape})"
