"""The article's algorithm in plain NumPy, one sample at a time: the reference for portnn's networks.

It is written for clarity, not for speed, and shares no code with portnn: convolutions are loops over filters, channels
and kernel offsets, everything is float64, and the gradients of a batch are averaged over its samples. X, Y, W, B and E
are named as in the article; ``dX`` stands for dE/dX, and so on.
"""

import numpy as np

# name -> (function, derivative)
FUNCTIONS = {
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "sigmoid": (lambda x: 1.0 / (1.0 + np.exp(-x)), lambda x: np.exp(-x) / (1.0 + np.exp(-x)) ** 2),
    "relu": (lambda x: np.where(x > 0, x, 0.0), lambda x: np.where(x > 0, 1.0, 0.0)),
}


def mse(y_true, y_pred):
    return np.sum((y_true - y_pred) ** 2) / y_true.size


def mse_prime(y_true, y_pred):
    return 2.0 * (y_pred - y_true) / y_true.size


class Fixed:
    """A layer without parameters."""

    parameters = ()

    def descend(self, learning_rate, gradients):
        pass


class Learning:
    """A layer with the parameters (W, B) and the gradients (dE/dW, dE/dB)."""

    def __init__(self, W, B):
        self.W, self.B = np.array(W, np.float64), np.array(B, np.float64)

    @property
    def parameters(self):
        return self.W, self.B

    def descend(self, learning_rate, gradients):
        self.W = self.W - learning_rate * gradients[0]
        self.B = self.B - learning_rate * gradients[1]


class Connected(Learning):
    """Y = X W + B for one row X (1, n); W (n, m), B (1, m)."""

    def forward(self, X):
        self.X = X
        return np.einsum("in,nm->im", X, self.W) + self.B

    def backward(self, dY):
        dW = np.einsum("in,im->nm", self.X, dY)
        return np.einsum("im,nm->in", dY, self.W), (dW, dY.copy())


class Convolution(Learning):
    """Y[:, :, f] = B[f] + the sum over channels c of X[:, :, c] correlated with W[:, :, c, f]; no padding."""

    def windows(self):
        """Each weight's index (u, v, c, f), and the part of the image that this weight is multiplied by."""
        h, w, channels, filters = self.W.shape
        H, W = self.X.shape[0] - h + 1, self.X.shape[1] - w + 1
        for f in range(filters):
            for c in range(channels):
                for u in range(h):
                    for v in range(w):
                        yield (u, v, c, f), (slice(u, u + H), slice(v, v + W), c)

    def forward(self, X):
        self.X = X
        h, w, _, filters = self.W.shape
        Y = np.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1, filters))
        for weight, window in self.windows():
            Y[:, :, weight[3]] += X[window] * self.W[weight]
        for f in range(filters):
            Y[:, :, f] += self.B[f]
        return Y

    def backward(self, dY):
        dX, dW = np.zeros(self.X.shape), np.zeros(self.W.shape)
        for weight, window in self.windows():
            dX[window] += dY[:, :, weight[3]] * self.W[weight]
            dW[weight] = np.sum(self.X[window] * dY[:, :, weight[3]])
        return dX, (dW, np.array([np.sum(dY[:, :, f]) for f in range(dY.shape[2])]))


class Activation(Fixed):
    """Y = f(X), element by element."""

    def __init__(self, name):
        self.f, self.f_prime = FUNCTIONS[name]

    def forward(self, X):
        self.X = X
        return self.f(X)

    def backward(self, dY):
        return dY * self.f_prime(self.X), ()


class Flatten(Fixed):
    """Flattens an image (H, W, C) to a row (1, H*W*C), channels fastest."""

    def forward(self, X):
        self.X = X
        return np.array([[value for row in X for pixel in row for value in pixel]])

    def backward(self, dY):
        return np.array(dY[0]).reshape(self.X.shape), ()


class Reference:
    """A network of the layers above, trained with the mean squared error, on rows (1, n) or images (H, W, C)."""

    def __init__(self, layers):
        self.layers = layers

    @property
    def parameters(self):
        """Dotted path -> array, as ``Network.parameters`` names them."""
        return {
            f"{i}.{name}": array
            for i, layer in enumerate(self.layers)
            for name, array in zip(("weights", "bias"), layer.parameters, strict=False)
        }

    def forward(self, X):
        for layer in self.layers:
            X = layer.forward(X)
        return X

    def predict(self, x):
        return np.stack([self.forward(np.asarray(X, np.float64)) for X in x])

    def train(self, x, y, epochs, learning_rate):
        """The article's loop: in the backward pass, each layer is updated right after its dE/dX was computed.

        ``learning_rate`` is a number, or a function of the number of steps so far. Returns each epoch's mean error.
        """
        rate_at = learning_rate if callable(learning_rate) else lambda step: learning_rate
        errors, step = [], 0
        for _ in range(epochs):
            error = 0.0
            for X, Y_true in zip(np.asarray(x, np.float64), np.asarray(y, np.float64), strict=True):
                Y = self.forward(X)
                error += mse(Y_true, Y)
                D = mse_prime(Y_true, Y)
                for layer in reversed(self.layers):
                    D, gradients = layer.backward(D)
                    layer.descend(rate_at(step), gradients)
                step += 1
            errors.append(error / len(x))
        return errors

    def train_in_batches(self, x, y, epochs, learning_rate, batch_size):
        """One update per batch, with the mean of its samples' gradients; the last batch may be smaller."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        errors = []
        for _ in range(epochs):
            error = 0.0
            for start in range(0, len(x), batch_size):
                batch = range(start, min(start + batch_size, len(x)))
                found = [self.gradients_of(x[i], y[i]) for i in batch]
                error += sum(one for one, _ in found)
                for i, layer in enumerate(self.layers):
                    each = [gradients[i] for _, gradients in found]
                    layer.descend(learning_rate, [sum(part) / len(batch) for part in zip(*each, strict=True)])
            errors.append(error / len(x))
        return errors

    def gradients_of(self, X, Y_true):
        """The error of one sample, and each layer's gradients for it; nothing is updated."""
        Y = self.forward(X)
        D = mse_prime(Y_true, Y)
        gradients = []
        for layer in reversed(self.layers):
            D, own = layer.backward(D)
            gradients.insert(0, own)
        return mse(Y_true, Y), gradients


# -- errors that the comparison has to find; test_reference.py uses them -----------------------------------------------


class BiasOnceAChannel(Convolution):
    """Wrong: the bias is added with every input channel."""

    def forward(self, X):
        return super().forward(X) + (X.shape[2] - 1) * self.B


class BiasGradientTimesFilters(Convolution):
    """Wrong: dE/dB is multiplied by the number of filters."""

    def backward(self, dY):
        dX, (dW, dB) = super().backward(dY)
        return dX, (dW, dB * dY.shape[2])


class UpdatedTooEarly(Connected):
    """Wrong: the weights are updated before dE/dX is computed with them."""

    learning_rate = 0.1

    def backward(self, dY):
        _, gradients = super().backward(dY)
        old = self.W
        self.W = old - self.learning_rate * gradients[0]
        dX, _ = super().backward(dY)
        self.W = old
        return dX, gradients


def assert_close(actual, expected, rtol=1e-12, what="array"):
    """Same shape and dtype, and no difference larger than ``rtol`` times the largest absolute value of ``expected``."""
    assert isinstance(actual, np.ndarray), f"{what} is a {type(actual).__name__}, not a NumPy array"
    assert isinstance(expected, np.ndarray), f"{what}: {type(expected).__name__} expected, not a NumPy array"
    assert actual.shape == expected.shape, f"{what} has shape {actual.shape}, expected {expected.shape}"
    assert actual.dtype == expected.dtype, f"{what} has dtype {actual.dtype}, expected {expected.dtype}"
    if expected.size == 0:
        return
    off, most = np.max(np.abs(actual - expected)), np.max(np.abs(expected))
    assert off <= rtol * most, f"{what} is off by {off:.3g}, {off / most if most else np.inf:.3g} of its largest value"


def assert_all_close(actual, expected, rtol=1e-12):
    """The same for dicts of arrays, which must have the same names in the same order."""
    assert list(actual) == list(expected), f"names {list(actual)}, expected {list(expected)}"
    for name, array in expected.items():
        assert_close(actual[name], array, rtol, name)
