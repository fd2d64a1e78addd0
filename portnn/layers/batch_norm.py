"""The batch normalization layer."""

from math import prod
from typing import Any

from portnn.backend import Backend
from portnn.layers.layer import Array
from portnn.layers.normalization import NormLayer
from portnn.settings import Setting, number


def _weight(what: str, value: Any) -> float:
    found = number(what, value)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{what} must be in [0, 1], the weight of the newest batch, got {value}")
    return found


class BatchNormLayer(NormLayer):
    """In training, normalizes each channel over the batch, and over the image; else by running means of what it saw.

        Z     = (X - mean) S,  S = 1 / sqrt(variance + epsilon)         Y = Z W + B
        dE/dX = S (dE/dZ - mean of dE/dZ - Z * mean of (dE/dZ * Z)),  dE/dZ = dE/dY W
        dE/dW = sum of dE/dY * Z        dE/dB = sum of dE/dY

    Means, sums and the (biased) variance are over all axes but the last, the channels C. Each step leads the buffers
    ``running_mean`` and ``running_var`` (C,) on: running = (1 - momentum) * running + momentum * batch, with the
    unbiased variance (n - 1 instead of n). So a batch must hold two values a channel at least. Frozen
    (``trainable = False``) it uses the running means in training too, and keeps them.

    X and Y (N, ..., C); ``layer.weights`` W, ones at first, and ``layer.bias`` B, zeros, are (C,).

    Source: S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015; running means as in PyTorch.

    >>> import numpy as np
    >>> BatchNormLayer().forward_propagation(np.array([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    """

    momentum: Any = Setting(_weight)

    def __init__(self, *, momentum: float = 0.1, epsilon: float = 1e-5):
        super().__init__(epsilon=epsilon)
        self.momentum = momentum

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        if input_shape and not self.buffers:
            self.buffers = {"running_mean": [0.0] * input_shape[-1], "running_var": [1.0] * input_shape[-1]}
        super().build(input_shape, backend, dtype, seed, path)

    def check_leaves(self) -> None:
        super().check_leaves()
        for name, array in self.buffers.items():
            if self.complete and array.shape != self.shapes["weights"]:
                raise ValueError(f"{self}.{name} has shape {tuple(array.shape)}, expected {self.shapes['weights']}")

    def smallest_batch(self, input_shape: tuple[int, ...] | None) -> int:
        return 2 if input_shape is not None and prod(input_shape[:-1]) == 1 and not self._frozen else 1

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X, xp = self.accept(X), self.xp
        self.output_shape(tuple(X.shape[1:] or X.shape))
        W, B = self.parameters["weights"], self.parameters["bias"]
        running_mean, running_var = self.buffers["running_mean"], self.buffers["running_var"]
        if not training or self._frozen:
            S = W / xp.sqrt(running_var + self.epsilon)
            Y = X * S + (B - running_mean * S)
            if training:
                self.input, self.S, self.output = X, S, Y
            return Y
        n, axes = prod(X.shape[:-1]), tuple(range(X.ndim - 1))
        if n == 1:
            raise ValueError(
                f"{self} was given one value a channel, X of shape {tuple(X.shape)}: in training it needs 2 at least, "
                "to tell their variance. Use a larger batch_size, or one that leaves no last batch of one sample"
            )
        Z, S, mean, variance = self.ops.normalize(X, axes, self.epsilon)
        Y = Z * W + B
        if n:
            old, new = 1.0 - self.momentum, self.momentum
            self.new_buffers = {
                "running_mean": old * running_mean + new * xp.reshape(mean, W.shape),
                "running_var": old * running_var + (new * n / (n - 1)) * xp.reshape(variance, W.shape),
            }
        self.input, self.Z, self.S, self.output = X, Z, S, Y
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.accept_error(output_error)
        if self._frozen:  # Y = S X + a constant
            return D * self.S if need_input_error else None
        self.learn(D, self.Z)
        if not need_input_error:
            return None
        return self.ops.normalize_backward(D * self.parameters["weights"], self.Z, self.S, tuple(range(D.ndim - 1)))

    def __repr__(self) -> str:
        return "BatchNormLayer()" if self.momentum == 0.1 else f"BatchNormLayer(momentum={self.momentum:g})"
