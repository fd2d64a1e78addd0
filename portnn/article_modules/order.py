"""The article's arithmetic, operation by operation, for ``portnn run --original-weights``.

The article's networks may be chaotic: with its convolution example on MNIST, a difference in the last bit grows two- to
threefold with each step, and is seen in the printed errors after fifty. To print the article's errors, portnn then has
to round as the article does. Its portable routines do, but for the derivative of the error, where 2 (Y - Y*) / n and
(Y - Y*) (2 / n) may differ in the last bit, and for convolutions, which are products of matrices there. Here they are
sums in the order in which ``scipy.signal.correlate2d`` and ``convolve2d`` add, which the article calls: along each row
of the smaller array in groups of four, and one by one where fewer are left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from portnn import layers


def mse(y_true: Any, y_pred: Any) -> Any:
    """The mean of (Y* - Y)^2 over all elements."""
    return np.mean(np.power(np.reshape(y_true, y_pred.shape) - y_pred, 2))


def mse_prime(y_true: Any, y_pred: Any) -> Any:
    """2 (Y - Y*) / (number of elements)."""
    return 2 * (y_pred - np.reshape(y_true, y_pred.shape)) / y_pred.size


class ConvLayer(layers.ConvLayer):
    """One that adds in that order; for NumPy, without stride, padding, dilation and groups.

    A file holds it as the layer that it derives from, and so do exported pages.
    """

    def forward(self, X: Any, *, training: bool = False) -> Any:
        if not self._is_the_articles(X):
            return super().forward(X, training=training)
        W, B = self.parameters["weights"], self.parameters["bias"]
        rows, columns, channels, filters = W.shape
        Y = np.empty((X.shape[0], *self.plan.output, filters), X.dtype)
        for f in range(filters):
            parts = [
                _in_fours([[self._seen(X, u, v)[..., c] * W[u, v, c, f] for v in range(columns)] for u in range(rows)])
                for c in range(channels)
            ]
            Y[..., f] = sum(parts[1:], parts[0]) + B[f]
        return Y

    def backward(self, output_error: Any, *, need_input_error: bool = True) -> Any:
        X, D, W = self.input, output_error, self.parameters["weights"]
        if not self._is_the_articles(X):
            return super().backward(D, need_input_error=need_input_error)
        dW, dX = np.empty(W.shape, W.dtype), np.zeros(X.shape, X.dtype)
        rows, columns, channels, filters = W.shape
        for c in range(channels):
            for f in range(filters):
                terms = [[np.zeros(X.shape[:3], X.dtype) for _ in range(columns)] for _ in range(rows)]
                for u in range(rows):
                    for v in range(columns):
                        dW[u, v, c, f] = _last(_fours(self._seen(X, u, v)[..., c] * D[..., f]))
                        self._seen(terms[u][v], u, v)[...] = D[..., f] * W[u, v, c, f]
                dX[..., c] += _in_fours(terms)
        self.gradients["weights"] = dW
        self.gradients["bias"] = np.stack([sum(np.sum(one[:, :, f]) for one in D) for f in range(filters)])
        return dX if need_input_error else None

    def _is_the_articles(self, X: Any) -> bool:
        return (
            isinstance(X, np.ndarray)
            and X.ndim == 4
            and (self.stride, self.padding, self.dilation, self.groups) == (1, "valid", 1, 1)
            and "bias" in self.parameters
        )

    def _seen(self, X: Any, u: int, v: int) -> Any:
        """The part of X (N, H, W, ...) that the weight (u, v) is multiplied by: (N, H', W', ...)."""
        height, width = self.plan.output
        return X[:, u : u + height, v : v + width]


def _in_fours(rows: Sequence[Sequence[Any]]) -> Any:
    """The sum of arrays that stand in rows."""
    total: Any = 0.0
    for row in rows:
        whole = len(row) // 4 * 4
        for k in range(0, whole, 4):
            total = total + (((row[k] + row[k + 1]) + row[k + 2]) + row[k + 3])
        for term in row[whole:]:
            total = total + term
    return total


def _fours(P: Any) -> Any:
    """The terms (N, H, W) in the order in which they are added: those along W as groups of four, and what is left."""
    whole = P.shape[2] // 4 * 4
    a, b, c, d = (P[:, :, k:whole:4] for k in range(4))
    return np.concatenate([((a + b) + c) + d, P[:, :, whole:]], axis=2)


def _last(terms: Any) -> Any:
    """Their sum one by one, which ``np.sum`` would compute in pairs."""
    return np.cumsum(terms.reshape(-1))[-1]
