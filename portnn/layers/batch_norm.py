"""The batch normalization layer."""

from math import prod
from typing import Any

from portnn._typing import Array
from portnn.backend import Backend
from portnn.checks import number
from portnn.layers.normalization import NormLayer
from portnn.settings import Setting


class BatchNormLayer(NormLayer):
    """Normalizes each channel: by the batch's mean and variance in training, by their running averages in predict.

        Z     = (X - mean) S,  S = 1 / sqrt(variance + epsilon)         Y = Z W + B
        dE/dX = S (dE/dZ - mean of dE/dZ - Z * mean of (dE/dZ * Z)),  dE/dZ = dE/dY W
        dE/dW = sum of dE/dY * Z        dE/dB = sum of dE/dY

    X and Y are (N, ..., C); means, sums and the (biased) variance are over all axes but the last, the channels.
    Source: S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015; running averages as in PyTorch.
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        if not training or self._is_frozen:
            slope = self.slope()
            return self.ops.scaled(X, slope, self.parameters["bias"] - self.buffers["running_mean"] * slope)
        self.Z, self.S, mean, variance = self.ops.normalize(X, tuple(range(X.ndim - 1)), self.epsilon)
        self.update_running(X, mean, variance)
        return self.scaled(self.Z)

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        D, Z, S = output_error, self.Z, self.S
        if self._is_frozen:  # the mean and variance are constants, so Y is linear in X
            return D * self.slope() if need_input_error else None
        dZ = self.scaled_backward(D, Z)
        return self.ops.normalize_backward(dZ, Z, S, tuple(range(D.ndim - 1))) if need_input_error else None

    @staticmethod
    def _weight(what: str, value: Any) -> float:
        found = number(what, value)
        if not 0.0 <= found <= 1.0:
            raise ValueError(f"{what} must be in [0, 1]: it is the weight of the newest batch; got {value}")
        return found

    momentum: Any = Setting(_weight)
    batches_before = 0  # that the running averages had seen before the updates since use(), as PyTorch counts them

    def __init__(self, *, momentum: float = 0.1, epsilon: float = 1e-5):
        """Each step updates the buffers ``running_mean`` and ``running_var`` (C,): running = (1 - momentum) * running +
        momentum * batch, with the unbiased variance (n - 1 instead of n). So in training a batch must hold at least two
        values per channel; ValueError if it does not. A frozen layer (``trainable = False``) uses the running averages
        in training too, and keeps them. ``layer.weights`` W and ``layer.bias`` B are (C,), initially ones and zeros.

        >>> import numpy as np
        >>> BatchNormLayer().forward_propagation(np.array([[1.0], [3.0]])).round(3)
        array([[-1.],
               [ 1.]])
        """
        super().__init__(epsilon=epsilon)
        self.momentum = momentum

    def slope(self) -> Array:
        """dY/dX (C,) with the running averages, which are constants."""
        return self.parameters["weights"] / self.xp.sqrt(self.buffers["running_var"] + self.epsilon)

    def update_running(self, X: Array, mean: Array, variance: Array) -> None:
        """Sets ``new_buffers`` to the running mean and variance after the batch X."""
        n, old, new = prod(X.shape[:-1]), 1.0 - self.momentum, self.momentum
        if n == 1:
            raise ValueError(
                f"{self} was given one value per channel, X of shape {tuple(X.shape)}: in training it needs at least "
                "2, to compute a variance. Use a larger batch_size, or one that leaves no last batch of one sample"
            )
        if n:
            running_mean, running_var = self.buffers["running_mean"], self.buffers["running_var"]
            batch_mean, batch_var = (self.xp.reshape(a, running_mean.shape) for a in (mean, variance))
            self.new_buffers = {
                "running_mean": old * running_mean + new * batch_mean,
                "running_var": old * running_var + (new * n / (n - 1)) * batch_var,
            }

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        if input_shape and not self.buffers:
            self.buffers = {"running_mean": [0.0] * input_shape[-1], "running_var": [1.0] * input_shape[-1]}
        super().build(input_shape, backend, dtype, seed, path)

    def batches_seen(self, step: int) -> int:
        """How many batches the running averages have seen when the network has made ``step``."""
        return self.batches_before + self._updates("weights", step)

    def _training_afresh(self, step: int) -> dict[str, Any]:
        return super()._training_afresh(step) | {"batches_before": self.batches_seen(step)}

    def _check_leaves(self) -> None:
        super()._check_leaves()
        if lost := {"running_mean", "running_var"} - self.buffers.keys() if self.complete and self.backend else set():
            raise ValueError(f"{self} has lost its {min(lost)}: layer.buffers must hold running_mean and running_var")
        for name, array in self.buffers.items():
            if self.complete and array.shape != self.shapes["weights"]:
                raise ValueError(f"{self}.{name} has shape {tuple(array.shape)}, expected {self.shapes['weights']}")

    def smallest_batch(self, input_shape: tuple[int, ...] | None) -> int:
        return 2 if input_shape is not None and prod(input_shape[:-1]) == 1 and not self._is_frozen else 1

    def __repr__(self) -> str:
        return "BatchNormLayer()" if self.momentum == 0.1 else f"BatchNormLayer(momentum={self.momentum:g})"
