"""Pooling over windows: maximum and mean."""

from portnn._typing import Array
from portnn.layers.pool_windows import PoolLayer


class MaxPoolLayer(PoolLayer):
    """The largest value in each window of the image.

        Y[n, i, j, c] = max over u, v of X[n, s i + u, s j + v, c]
        dE/dX: dE/dY[n, i, j, c] goes to the largest pixel, to the first of them where several are equal

    X is (N, H, W, C) or (N, L, C), Y is (N, H', W', C). Arguments and errors are those of ``PoolLayer``; padding is
    minus infinity. NaN counts as the largest: Y is NaN, and dE/dY goes to the first NaN of the window.
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        Y = self.ops.max_pool(X, self.plan(X))
        if training:
            self.Y = Y
        return Y

    def backward(self, output_error: Array) -> Array:
        return self.ops.max_pool_backward(self.input, self.Y, output_error, self.plan(self.input))


class AvgPoolLayer(PoolLayer):
    """The mean of each window of the image.

        Y[n, i, j, c] = mean over u, v of X[n, s i + u, s j + v, c]
        dE/dX: dE/dY[n, i, j, c] is divided equally among the window's pixels

    All else is as in MaxPoolLayer, but padding is not counted: the mean is that of the pixels that a window covers.
    """

    def forward(self, X: Array) -> Array:
        return self.ops.avg_pool(X, self.plan(X))

    def backward(self, output_error: Array) -> Array:
        return self.ops.avg_pool_backward(output_error, self.plan(self.input))
