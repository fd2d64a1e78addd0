"""Pooling over the whole image: one value per channel."""

from math import prod

from portnn import checks
from portnn._typing import Array
from portnn.layers.layer import Layer


class GlobalPoolLayer(Layer):
    """Base class: images (N, H, W, C), or sequences (N, L, C), become (N, C)."""

    def __init__(self) -> None:  # or its signature would be that of ``Layer.__new__``
        super().__init__()

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape is not None and (len(input_shape) < 2 or 0 in input_shape):
            raise checks.misfit(
                f"{self} takes images (H, W, C) or sequences (L, C), but a sample comes in with shape {input_shape}",
                "it needs axes to pool over besides the channels",
            )
        return input_shape and (input_shape[-1],)

    def pixels(self, X: Array) -> Array:
        """(N, H, W, C) -> (N, H*W, C)."""
        self.output_shape(tuple(X.shape[1:]))
        return self.xp.reshape(X, (X.shape[0], prod(X.shape[1:-1]), X.shape[-1]))


class GlobalAvgPoolLayer(GlobalPoolLayer):
    """The mean of each channel over the image.

        Y[n, c]           = mean over i, j of X[n, i, j, c]
        dE/dX[n, i, j, c] = dE/dY[n, c] / (H W)

    X is (N, H, W, C) or (N, L, C), Y is (N, C).

    >>> import numpy as np
    >>> GlobalAvgPoolLayer()(np.arange(4.0).reshape(1, 2, 2, 1))
    array([[1.5]])
    """

    def forward(self, X: Array) -> Array:
        pixels = self.pixels(X)
        return self.ops.total(pixels, 1) / float(pixels.shape[1])

    def backward(self, output_error: Array) -> Array:
        n, *image, channels = self.input.shape
        share = self.xp.reshape(output_error * (1.0 / prod(image)), (n, *(1 for _ in image), channels))  # (N, 1, 1, C)
        input_error = self.xp.zeros_like(self.input)  # in the memory order of X
        input_error[...] = share
        return input_error


class GlobalMaxPoolLayer(GlobalPoolLayer):
    """The largest value of each channel over the image.

        Y[n, c] = max over i, j of X[n, i, j, c]
        dE/dX: dE/dY[n, c] goes to the largest pixel, to the first of them where several are equal

    X is (N, H, W, C) or (N, L, C), Y is (N, C).

    >>> import numpy as np
    >>> GlobalMaxPoolLayer()(np.arange(4.0).reshape(1, 2, 2, 1))
    array([[3.]])
    """

    def forward(self, X: Array) -> Array:
        return self.xp.max(self.pixels(X), axis=1)

    def backward(self, output_error: Array) -> Array:
        xp, D, pixels = self.xp, output_error, self.pixels(self.input)  # (N, H*W, C)
        chosen = self.ops.one_hot(xp.argmax(pixels, axis=1), pixels.shape[1], D.dtype)  # (N, C, H*W)
        errors = xp.permute_dims(chosen * xp.expand_dims(D, axis=-1), (0, 2, 1))
        return xp.reshape(errors, self.input.shape)
