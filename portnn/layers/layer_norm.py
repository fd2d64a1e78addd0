"""The layer normalization layer."""

from portnn._typing import Array
from portnn.layers.normalization import NormLayer


class LayerNormLayer(NormLayer):
    """Normalizes each sample over its last axis, in training and in predict.

        Z     = (X - mean) S,  S = 1 / sqrt(variance + epsilon)         Y = Z W + B
        dE/dX = S (dE/dZ - mean of dE/dZ - Z * mean of (dE/dZ * Z)),  dE/dZ = dE/dY W
        dE/dW = sum of dE/dY * Z        dE/dB = sum of dE/dY            over all axes but the last

    Means and the (biased) variance are over the last axis, C. X and Y are (N, ..., C). ``layer.weights`` W and
    ``layer.bias`` B are (C,), initially ones and zeros.

    Source: J. L. Ba et al., "Layer normalization", 2016.

    >>> import numpy as np
    >>> LayerNormLayer()(np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        Z, S, _, _ = self.ops.normalize(X, (X.ndim - 1,), self.epsilon)
        if training:
            self.Z, self.S = Z, S
        return self.scaled(Z)

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        D, Z, S = output_error, self.Z, self.S
        dZ = self.scaled_backward(D, Z)
        return self.ops.normalize_backward(dZ, Z, S, (D.ndim - 1,)) if need_input_error else None
