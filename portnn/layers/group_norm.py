"""The group normalization layer."""

from math import prod
from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.layers.normalization import NormLayer
from portnn.settings import Fixed


class GroupNormLayer(NormLayer):
    """Divides the channels into groups and normalizes each group over the image, per sample, in training and predict.

        Z     = (X - mean) S,  S = 1 / sqrt(variance + epsilon)         Y = Z W + B
        dE/dX = S (dE/dZ - mean of dE/dZ - Z * mean of (dE/dZ * Z)),  dE/dZ = dE/dY W
        dE/dW = sum of dE/dY * Z        dE/dB = sum of dE/dY            over all axes but the last

    Means and the (biased) variance are over one sample's pixels and the C / groups neighbouring channels of a group;
    ValueError if ``groups`` does not divide C. X and Y are (N, ..., C). ``layer.weights`` W and ``layer.bias`` B are
    (C,), initially ones and zeros.

    Source: Y. Wu, K. He, "Group normalization", ECCV 2018.

    >>> import numpy as np
    >>> GroupNormLayer(2)(np.array([[1.0, 3.0, 20.0, 10.0]])).round(3)
    array([[-1.,  1.,  1., -1.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        Z, S, _, _ = self.ops.normalize(self.grouped(X), (1, 3), self.epsilon)
        Z = self.xp.reshape(Z, X.shape)
        if training:
            self.Z, self.S = Z, S
        return self.scaled(Z)

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        D, Z, S = output_error, self.Z, self.S
        dZ = self.scaled_backward(D, Z)
        if not need_input_error:
            return None
        dX = self.ops.normalize_backward(self.grouped(dZ), self.grouped(Z), S, (1, 3))
        return self.xp.reshape(dX, D.shape)

    groups: Any = Fixed()

    def __init__(self, groups: int, *, epsilon: float = 1e-5):
        super().__init__(epsilon=epsilon)
        self.groups = checks.size("groups", groups)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape == ():
            raise checks.misfit(f"{self} takes samples with a channel axis, but a sample is a single number")
        shape = super().output_shape(input_shape)
        if shape and shape[-1] % self.groups:
            raise checks.misfit(
                f"{self}: groups={self.groups} does not divide the {shape[-1]} channels of a sample of shape {shape}",
                f"groups must be a divisor of {shape[-1]}",
            )
        return shape

    def grouped(self, X: Array) -> Array:
        """(N, H, W, C) -> (N, H*W, groups, C / groups)."""
        n, *image, channels = X.shape
        return self.xp.reshape(X, (n, prod(image), self.groups, channels // self.groups))

    def __repr__(self) -> str:
        return f"GroupNormLayer({self.groups})"
