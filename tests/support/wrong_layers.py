"""A table of layers with one mistake each, in both styles, and words that gradcheck's diagnosis must contain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from portnn import Layer, ResidualLayer


class Wrong(NamedTuple):
    """A function that makes a wrong layer, the shape of a sample, and words that the diagnosis must contain."""

    name: str
    make: Callable[[], Any]
    sample: tuple[int, ...]
    words: str


def rng(seed=0):
    return np.random.default_rng(seed)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class FC(Layer):
    """Y = X W + B."""

    def __init__(self, n, m):
        self.parameters = {"weights": rng().standard_normal((n, m)), "bias": np.zeros((1, m))}

    def forward(self, X, *, training=False):
        if training:
            self.input = X
        return np.matmul(X, self.parameters["weights"]) + self.parameters["bias"]

    def backward(self, D, *, need_input_error=True):
        self.gradients["weights"] = self.dW(self.input, D)
        self.gradients["bias"] = self.dB(D)
        return self.dX(D, self.parameters["weights"])

    def dW(self, X, D):
        return np.matmul(X.T, D)

    def dB(self, D):
        return D.sum(axis=0, keepdims=True)

    def dX(self, D, W):
        return np.matmul(D, W.T)


class Function(Layer):
    """Y = f(X); ``wrong(D, X, Y)`` is returned in place of dE/dX."""

    def __init__(self, f, wrong):
        self.f, self.wrong = f, wrong

    def forward(self, X, *, training=False):
        Y = self.f(X)
        if training:
            self.input, self.output = X, Y
        return Y

    def backward(self, D, *, need_input_error=True):
        return self.wrong(D, self.input, self.output)


class Fused(FC):
    """Y = f(Z) with Z = X W + B; ``f_prime(Z, Y)`` is used in place of f'(Z)."""

    def __init__(self, n, m, f, f_prime):
        super().__init__(n, m)
        self.f, self.f_prime = f, f_prime

    def forward(self, X, *, training=False):
        self.Z = super().forward(X, training=training)
        self.output = self.f(self.Z)
        return self.output

    def backward(self, D, *, need_input_error=True):
        return super().backward(D * self.f_prime(self.Z, self.output))


class Normalize(Layer):
    """Normalization over ``axes``, then scale and shift; ``wrong`` gives dE/dX, ``dgamma`` summands of dE/dgamma."""

    def __init__(self, n, axes, wrong, dgamma=None):
        self.parameters = {"gamma": np.ones(n), "beta": np.zeros(n)}
        self.axes, self.wrong, self.dgamma = axes, wrong, dgamma or (lambda D, Z, X: D * Z)

    def forward(self, X, *, training=False):
        C = X - X.mean(axis=self.axes, keepdims=True)
        self.S = 1.0 / np.sqrt((C**2).mean(axis=self.axes, keepdims=True) + 1e-5)
        self.Z, self.input = C * self.S, X
        return self.Z * self.parameters["gamma"] + self.parameters["beta"]

    def backward(self, D, *, need_input_error=True):
        rows = tuple(range(D.ndim - 1))
        self.gradients["gamma"] = self.dgamma(D, self.Z, self.input).sum(axis=rows)
        self.gradients["beta"] = D.sum(axis=rows)
        return self.wrong(D, self.parameters["gamma"], self.Z, self.S, self.axes)


def mean(a, axes):
    return a.mean(axis=axes, keepdims=True)


class Scale(Layer):
    """Y = gain * X + shift; ``wrong(D, gain)`` is returned as dE/dX, ``dgain(D, X)`` as dE/dgain."""

    def __init__(self, n, wrong=lambda D, gain: D * gain, dgain=lambda D, X: (D * X).sum(axis=0)):
        self.parameters = {"gain": np.ones(n), "shift": np.zeros(n)}
        self.wrong, self.dgain = wrong, dgain

    def forward(self, X, *, training=False):
        self.input = X
        return self.parameters["gain"] * X + self.parameters["shift"]

    def backward(self, D, *, need_input_error=True):
        self.gradients = {"gain": self.dgain(D, self.input), "shift": D.sum(axis=0)}
        return self.wrong(D, self.parameters["gain"])


class Masked(Layer):
    """Dropout with a mask that depends on the step; ``wrong(layer, D)`` is the backward pass."""

    def __init__(self, wrong):
        self.wrong, self.rate = wrong, 0.4

    def mask(self, X, seed):
        return (np.random.default_rng(seed).random(X.shape) >= self.rate) / (1.0 - self.rate)

    def forward(self, X, *, training=False):
        self.M = self.mask(X, int(self.step))
        return X * self.M

    def backward(self, D, *, need_input_error=True):
        return self.wrong(self, D)


class Pool(Layer):
    """Pooling over windows of 2 x 2; ``wrong(D, windows)`` computes dE/dX, for windows of shape (N, h, w, 4, C)."""

    def __init__(self, kind, wrong):
        self.kind, self.wrong = kind, wrong

    def forward(self, X, *, training=False):
        N, H, W, C = X.shape
        self.windows = (
            X.reshape(N, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(N, H // 2, W // 2, 4, C)
        )
        self.shape = X.shape
        return self.windows.max(axis=3) if self.kind == "max" else self.windows.mean(axis=3)

    def backward(self, D, *, need_input_error=True):
        N, H, W, C = self.shape
        E = np.broadcast_to(self.wrong(D[:, :, :, None, :], self.windows), self.windows.shape)
        return E.reshape(N, H // 2, W // 2, 2, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(self.shape)


class Conv(Layer):
    """Convolution without padding, as loops over the kernel; ``dX`` and ``dK`` corrupt the gradients."""

    def __init__(self, c, f, dX=lambda dX: dX, dK=lambda dK: dK):
        self.parameters = {"kernel": rng().standard_normal((3, 2, c, f)), "bias": np.zeros(f)}
        self.dX, self.dK = dX, dK

    def places(self, H, W):
        return [(u, v, slice(u, u + H - 2), slice(v, v + W - 1)) for u in range(3) for v in range(2)]

    def forward(self, X, *, training=False):
        K, self.input = self.parameters["kernel"], X
        return self.parameters["bias"] + sum(
            np.matmul(X[:, r, c], K[u, v]) for u, v, r, c in self.places(*X.shape[1:3])
        )

    def backward(self, D, *, need_input_error=True):
        X, K = self.input, self.parameters["kernel"]
        dX, dK = np.zeros(X.shape), np.zeros(K.shape)
        for u, v, r, c in self.places(*X.shape[1:3]):
            dK[u, v] = np.tensordot(X[:, r, c], D, axes=([0, 1, 2], [0, 1, 2]))
            dX[:, r, c] += np.matmul(D, K[u, v].T)
        self.gradients = {"kernel": self.dK(dK), "bias": D.sum(axis=(0, 1, 2))}
        return self.dX(dX)


class Skip(FC):
    """Y = X + tanh(X W + B); ``share`` is the derivative of the skip connection, which should be 1."""

    share = 1.0

    def forward(self, X, *, training=False):
        self.T = np.tanh(super().forward(X, training=training))
        return X + self.T

    def backward(self, D, *, need_input_error=True):
        return self.share * D + super().backward(D * (1 - self.T**2))


def softmax(X):
    E = np.exp(X - X.max(axis=-1, keepdims=True))
    return E / E.sum(axis=-1, keepdims=True)


def changed(kind, n, m, **methods):
    """A function that makes a layer of a subclass of ``kind`` with these methods."""
    return lambda: type("Wrong" + kind.__name__, (kind,), methods)(n, m)


def fc(**methods):
    return changed(FC, 3, 4, **methods)


def square(**methods):
    return changed(FC, 4, 4, **methods)


def f(function, wrong):
    return lambda: Function(function, wrong)


def article(function, wrong, keep=True):
    return lambda: ArticleFunction(function, wrong, keep)


def first_input(self, X, *, training=False):
    if getattr(self, "first", None) is None:
        self.first = X
    return np.matmul(X, self.parameters["weights"]) + self.parameters["bias"]


def add_up(self, X, D):
    return self.gradients.get("weights", 0.0) + np.matmul(X.T, D)


def step_first(self, D, *, need_input_error=True):
    self.gradients = {"weights": self.dW(self.input, D), "bias": self.dB(D)}
    self.parameters["weights"] = self.parameters["weights"] - 0.1 * self.gradients["weights"]
    return np.matmul(D, self.parameters["weights"].T)


class ArticleFC(Layer):
    def __init__(self, n, m, how=""):
        self.weights, self.bias, self.how = rng(1).random((n, m)) - 0.5, rng(2).random((1, m)) - 0.5, how

    def forward_propagation(self, input):
        self.input = input
        return np.matmul(input, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        dX, dW = np.matmul(output_error, self.weights.T), np.matmul(self.input.T, output_error)
        if self.how == "transposed":
            dX = np.matmul(output_error, self.weights)
        if self.how == "outer":
            dW = np.matmul(output_error.T, self.input)
        if self.how != "no update":
            self.weights -= learning_rate * dW * {"minus": -1, "twice": 2}.get(self.how, 1)
        if self.how == "early":
            dX = np.matmul(output_error, self.weights.T)
        if self.how != "no bias":
            self.bias -= (1.0 if self.how == "no rate" else learning_rate) * output_error
        return None if self.how == "no dX" else dX


class ArticleFunction(Layer):
    """Y = f(X), written as in the article; ``wrong(D, X, Y)`` is returned as dE/dX."""

    def __init__(self, f, wrong, keep=True):
        self.f, self.wrong, self.keep = f, wrong, keep

    def forward_propagation(self, input):
        Y = self.f(input)
        if self.keep:
            self.kept = input, Y
        return Y

    def backward_propagation(self, output_error, learning_rate):
        return self.wrong(output_error, *self.kept)


def tanh_prime(x):
    return 1 - np.tanh(x) ** 2


def relu(x):
    return np.maximum(x, 0)


def leaky_relu(x):
    return np.where(x > 0, x, 0.1 * x)


def bn(wrong, dgamma=None):
    return lambda: Normalize(4, (0,), wrong, dgamma)


def ln(wrong):
    return lambda: Normalize(6, (-1,), wrong)


def right_norm(D, G, Z, S, axes):
    return S * (D * G - mean(D * G, axes) - Z * mean(D * G * Z, axes))


class Norm(Normalize):
    def __init__(self, n, axes):
        super().__init__(n, axes, right_norm)


def no_bias(self, D, *, need_input_error=True):
    dX = FC.backward(self, D)
    del self.gradients["bias"]
    return dX


CONSTANT, SIGN, TRANSPOSED, BATCH = "constant factor", "sign", "transposed", "not summed over the batch"
FLIPPED, STALE, EARLY = "flipped kernel", "stale or missing cache", "update made before the input gradient"
LEFT_OUT, PASSED = "a derivative left out", "the error is passed through unchanged"
MISSING = "gradient missing or left at zero"

WRONG = [
    Wrong("dW averaged", fc(dW=lambda self, X, D: np.matmul(X.T, D) / len(X)), (3,), "dE/dweights: constant factor"),
    Wrong("dB averaged", fc(dB=lambda self, D: D.mean(axis=0, keepdims=True)), (3,), "1 / the batch size N"),
    Wrong("all halved", fc(dX=lambda self, D, W: 0.5 * np.matmul(D, W.T)), (3,), "0.5 is 1/2"),
    Wrong("dX off by 1e-4", fc(dX=lambda self, D, W: 1.0001 * np.matmul(D, W.T)), (3,), CONSTANT),
    Wrong("dW negated", fc(dW=lambda self, X, D: -np.matmul(X.T, D)), (3,), "dE/dweights: sign"),
    Wrong("dX negated", fc(dX=lambda self, D, W: -np.matmul(D, W.T)), (3,), "dE/dX: sign"),
    Wrong("dW transposed", fc(dW=lambda self, X, D: np.matmul(D.T, X)), (3,), TRANSPOSED),
    Wrong("square dW", square(dW=lambda self, X, D: np.matmul(D.T, X)), (4,), TRANSPOSED),
    Wrong("square dX", square(dX=lambda self, D, W: np.matmul(D, W)), (4,), "transposed: it is the one"),
    Wrong("dW reshaped", fc(dW=lambda self, X, D: np.matmul(D.T, X).reshape(3, 4)), (3,), TRANSPOSED),
    Wrong("dB not summed", fc(dB=lambda self, D: D), (3,), BATCH),
    Wrong("dB of one sample", fc(dB=lambda self, D: D[:1]), (3,), BATCH),
    Wrong("dW of the last sample", fc(dW=lambda self, X, D: np.matmul(X[-1:].T, D[-1:])), (3,), BATCH),
    Wrong("dW sample by sample", fc(dW=lambda self, X, D: X[:, :, None] * D[:, None, :]), (3,), BATCH),
    Wrong("dX summed", fc(dX=lambda self, D, W: np.matmul(D, W.T).sum(axis=0)), (3,), "summed over the batch"),
    Wrong("dB zero", fc(dB=lambda self, D: 0.0 * D[:1]), (3,), MISSING),
    Wrong("dB missing", fc(backward=no_bias), (3,), MISSING),
    Wrong("dX None", fc(dX=lambda self, D, W: None), (3,), "dE/dX: " + MISSING),
    Wrong("added up", fc(dW=add_up), (3,), "added to it"),
    Wrong("first input kept", fc(forward=first_input, dW=lambda self, X, D: np.matmul(self.first.T, D)), (3,), STALE),
    Wrong("step first", fc(backward=step_first), (3,), EARLY),
    Wrong("tanh at Y", f(np.tanh, lambda D, X, Y: D * tanh_prime(Y)), (3,), STALE),
    Wrong("tanh of X", f(np.tanh, lambda D, X, Y: D * (1 - X**2)), (3,), STALE),
    Wrong("tanh passed", f(np.tanh, lambda D, X, Y: D), (3,), PASSED),
    Wrong("tanh + ", f(np.tanh, lambda D, X, Y: D * (1 + Y**2)), (3,), SIGN),
    Wrong("sigmoid, 1 - Y missing", f(sigmoid, lambda D, X, Y: D * Y), (3,), LEFT_OUT),
    Wrong("sigmoid minus", f(sigmoid, lambda D, X, Y: D * Y * (Y - 1)), (3,), SIGN),
    Wrong("square, 2 missing", f(np.square, lambda D, X, Y: D * X), (3,), "0.5 is 1/2"),
    Wrong("relu inverted", f(relu, lambda D, X, Y: D * (X < 0)), (4, 3), "inverted"),
    Wrong("relu passed", f(relu, lambda D, X, Y: D), (4, 3), PASSED),
    Wrong("leaky relu at 0", f(leaky_relu, lambda D, X, Y: D * (X > 0)), (9,), MISSING),
    Wrong("leaky relu at 1", f(leaky_relu, lambda D, X, Y: D), (9,), PASSED),
    Wrong("leaky relu, slope", f(leaky_relu, lambda D, X, Y: D * np.where(X > 0, 1, 0.2)), (9,), CONSTANT),
    Wrong("fused tanh left out", lambda: Fused(3, 4, np.tanh, lambda Z, Y: 1.0), (3,), PASSED),
    Wrong("fused sigmoid at Y", lambda: Fused(3, 4, sigmoid, lambda Z, Y: sigmoid(Y) * (1 - sigmoid(Y))), (3,), STALE),
    Wrong("fused relu left out", lambda: Fused(3, 4, relu, lambda Z, Y: 1.0), (3,), PASSED),
    Wrong("softmax passed", f(softmax, lambda D, X, Y: D), (4,), "softmax taken for the identity"),
    Wrong("softmax diagonal", f(softmax, lambda D, X, Y: D * Y * (1 - Y)), (4,), "only the diagonal"),
    Wrong("softmax part", f(softmax, lambda D, X, Y: D * Y), (4,), LEFT_OUT),
    Wrong("softmax over all", f(softmax, lambda D, X, Y: Y * (D - (D * Y).sum())), (4,), "wrong axes"),
    Wrong("BN, statistics", bn(lambda D, G, Z, S, axes: D * G * S), (4,), LEFT_OUT),
    Wrong("BN, variance", bn(lambda D, G, Z, S, axes: S * (D * G - mean(D * G, axes))), (4,), "that of the variance"),
    Wrong("BN, mean", bn(lambda D, G, Z, S, axes: S * (D * G - Z * mean(D * G * Z, axes))), (4,), "that of the mean"),
    Wrong("BN, gamma", bn(lambda D, G, Z, S, axes: right_norm(D, 1.0, Z, S, axes)), (4,), LEFT_OUT),
    Wrong("BN, dgamma with X", bn(right_norm, lambda D, Z, X: D * X), (4,), STALE),
    Wrong("BN, dgamma without Z", bn(right_norm, lambda D, Z, X: D), (4,), PASSED),
    Wrong("LN, statistics", ln(lambda D, G, Z, S, axes: D * G * S), (6,), LEFT_OUT),
    Wrong("LN, variance", ln(lambda D, G, Z, S, axes: S * (D * G - mean(D * G, axes))), (6,), "that of the variance"),
    Wrong("LN, sign", ln(lambda D, G, Z, S, axes: -right_norm(D, G, Z, S, axes)), (6,), "dE/dX: sign"),
    Wrong("scale without gain", lambda: Scale(4, wrong=lambda D, gain: D), (4,), PASSED),
    Wrong("dgain without X", lambda: Scale(4, dgain=lambda D, X: D.sum(axis=0)), (4,), PASSED),
    Wrong("dropout drawn again", lambda: Masked(lambda self, D: D * self.mask(D, 99)), (8,), STALE),
    Wrong("dropout, no mask", lambda: Masked(lambda self, D: D), (8,), PASSED),
    Wrong("dropout, no scale", lambda: Masked(lambda self, D: D * (self.M > 0)), (8,), "0.6 is 1 - rate"),
    Wrong("max to all", lambda: Pool("max", lambda D, V: D), (4, 6, 2), LEFT_OUT),
    Wrong("mean not divided", lambda: Pool("mean", lambda D, V: D), (4, 6, 2), "the window size"),
    Wrong("max minus", lambda: Pool("max", lambda D, V: -D * (V.max(axis=3, keepdims=True) == V)), (4, 6, 2), SIGN),
    Wrong("conv, dK flipped", lambda: Conv(2, 4, dK=lambda dK: dK[::-1, ::-1]), (5, 6, 2), FLIPPED),
    Wrong("conv, dK of positions", lambda: Conv(2, 4, dK=lambda dK: dK / 15), (5, 6, 2), "number of output positions"),
    Wrong("conv, dX shifted", lambda: Conv(2, 4, dX=lambda dX: np.roll(dX, 1, axis=1)), (5, 6, 2), "shifted"),
    Wrong("conv, no border", lambda: Conv(2, 4, dX=lambda dX: dX * (dX[:, :, :1] != dX)), (5, 6, 2), MISSING),
    Wrong("no skip", changed(Skip, 4, 4, share=0.0), (4,), "skip connection"),
    Wrong("in a residual", lambda: ResidualLayer(FC(4, 4), square(dX=lambda self, D, W: D)()), (4,), "layer 1 ("),
    Wrong("article: dX transposed", lambda: ArticleFC(4, 4, "transposed"), (4,), TRANSPOSED),
    Wrong("article: no dX", lambda: ArticleFC(3, 4, "no dX"), (3,), MISSING),
    Wrong("article: outer product", lambda: ArticleFC(4, 4, "outer"), (4,), TRANSPOSED),
    Wrong("article: minus", lambda: ArticleFC(3, 4, "minus"), (3,), SIGN),
    Wrong("article: twice", lambda: ArticleFC(3, 4, "twice"), (3,), CONSTANT),
    Wrong("article: early", lambda: ArticleFC(3, 4, "early"), (3,), EARLY),
    Wrong("article: no update", lambda: ArticleFC(3, 4, "no update"), (3,), MISSING),
    Wrong("article: bias not updated", lambda: ArticleFC(3, 4, "no bias"), (3,), MISSING),
    Wrong("article: learning rate left out", lambda: ArticleFC(3, 4, "no rate"), (3,), "learning rate"),
    Wrong("article: tanh at Y", article(np.tanh, lambda D, X, Y: D * tanh_prime(Y)), (5,), STALE),
    Wrong("article: nothing kept", article(np.tanh, lambda D, X, Y: D, keep=False), (5,), STALE),
    Wrong("article: ones for f'", article(np.tanh, lambda D, X, Y: D), (5,), PASSED),
    Wrong("article: softmax diagonal", article(softmax, lambda D, X, Y: Y * (1 - Y) * D), (5,), "only the diagonal"),
    Wrong("article: softmax identity", article(softmax, lambda D, X, Y: D), (5,), "softmax taken for the identity"),
    Wrong("article: softmax part", article(softmax, lambda D, X, Y: Y * D), (5,), LEFT_OUT),
    Wrong("article: softmax minus", article(softmax, lambda D, X, Y: -Y * (D - (D * Y).sum())), (5,), SIGN),
]
