"""The upsample layer."""

from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.layers.layer import Layer
from portnn.ops.windows import per_axis
from portnn.settings import Fixed


class UpsampleLayer(Layer):
    """Enlarges images by repeating each pixel ("nearest").

        Y[n, i, j, c]     = X[n, i // r, j // r, c]
        dE/dX[n, i, j, c] = sum of dE/dY over the r x r pixels that are copies of it

    ``factor`` r is a number, or one per axis. X is (N, H, W, C) or (N, L, C), Y is (N, r H, r W, C).

    >>> import numpy as np
    >>> UpsampleLayer(2)(np.array([[[1.0], [2.0]]]))[0, :, 0]
    array([1., 1., 2., 2.])
    """

    def forward(self, X: Array) -> Array:
        for axis, r in enumerate(self.factors(X.ndim - 2), start=1):
            X = self.xp.repeat(X, r, axis=axis) if r > 1 else X
        return X

    def backward(self, output_error: Array) -> Array:
        n, *image, channels = self.input.shape
        pairs = (size for pair in zip(image, self.factors(len(image)), strict=True) for size in pair)
        D = self.xp.reshape(output_error, (n, *pairs, channels))  # (N, H, r, W, r, C)
        return self.ops.total(D, tuple(range(2, 2 * len(image) + 1, 2)))

    factor: Any = Fixed()

    def __init__(self, factor: Any):
        self.factor = factor
        per_axis("factor", factor, len(factor) if isinstance(factor, (tuple, list)) else 1)

    def factors(self, axes: int) -> tuple[int, ...]:
        """r for each axis of the image."""
        return per_axis("factor", self.factor, axes)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape is None:
            return None
        *image, channels = input_shape or (0,)
        if not image:
            raise checks.misfit(
                f"{self} takes images (H, W, C) or sequences (L, C), but a sample comes in with shape {input_shape}",
                "put a ReshapeLayer in front of it",
            )
        if isinstance(self.factor, tuple) and len(self.factor) != len(image):
            raise checks.misfit(
                f"{self} has {len(self.factor)} factors, but a sample comes in with shape {input_shape}",
                f"give one factor for each of its {len(image)} axes, or one number for all",
            )
        return (*(n * r for n, r in zip(image, self.factors(len(image)), strict=True)), channels)

    def __repr__(self) -> str:
        return f"UpsampleLayer({self.factor})"
