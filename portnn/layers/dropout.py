"""The dropout layer."""

from typing import Any

from portnn import random
from portnn._typing import Array
from portnn.checks import number
from portnn.layers.layer import Layer
from portnn.settings import Setting

WORDS = 2**32  # the number of 32-bit words


class DropoutLayer(Layer):
    """In training, drops each value with probability ``rate`` and scales up the others; in predict it does nothing.

        Y     = X * M,  M = 1 / (1 - rate) where a random 32-bit word is at least rate * 2**32, else 0
        dE/dX = dE/dY * M

    The mask M depends only on the network's seed, the layer's path and the step number, so it is the same on every
    device. ``rate`` is in [0, 1), ValueError otherwise. X and Y have the same shape, which may be any.

    Source: N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.

    >>> import numpy as np
    >>> layer = DropoutLayer(0.5)
    >>> layer.forward_propagation(np.ones((1, 6)))
    array([[2., 2., 2., 2., 0., 0.]])
    >>> layer(np.ones((1, 6)))
    array([[1., 1., 1., 1., 1., 1.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        if not training:
            return X
        Y, self.mask = self.ops.dropout(X, self.key, self.step, self.threshold, 1.0 / (1.0 - self.rate))
        return Y

    def backward(self, output_error: Array) -> Array:
        return output_error * self.mask

    last_axis_only = True
    _for_backward = (*Layer._for_backward, "mask")
    mask: Any = None  # M

    @staticmethod
    def _share(what: str, value: Any) -> float:
        rate = number(what, value)
        if not 0.0 <= rate < 1.0 or round(rate * WORDS) >= WORDS:
            raise ValueError(f"{what} must be in [0, 1): it is the probability of dropping a value; got {value}")
        return rate

    rate: Any = Setting(_share)

    def __init__(self, rate: float):
        self.rate = rate

    @property
    def threshold(self) -> int:
        """A value is kept if its random 32-bit word is at least this."""
        return round(self.rate * WORDS)

    def _place(self, path: str) -> None:
        super()._place(path)
        self.key = random.key(self.seed, f"{path}.mask" if path else "mask")

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return input_shape

    def __repr__(self) -> str:
        return f"DropoutLayer({self.rate:g})"
