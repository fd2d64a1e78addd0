"""More layers with one mistake each: fused, written as in the article, or with a mistake that is hard to see."""

import numpy as np

from portnn import ActivationLayer, AvgPoolLayer, ConvLayer, FCLayer, FlattenLayer, Layer, Network, ResidualLayer
from wrong_layers import FC, Function, Wrong, relu, rng, sigmoid, softmax, tanh_prime


class ArticleFused(Layer):
    """Y = f(X W + k B), written as in the article, with W of shape (n, m) and the mistake ``how``."""

    def __init__(self, n, m, how="", f=np.tanh, prime=tanh_prime, k=1):
        self.W, self.b = rng(5).standard_normal((n, m)), 0.3 * rng(6).standard_normal((1, m))
        self.how, self.f, self.prime, self.k, self.x = how, f, prime, k, None

    def forward_propagation(self, input):
        before, self.x = self.x, input
        self.kept = before if self.how == "stale" and before is not None else input
        self.z = np.matmul(input, self.W) + self.k * self.b
        return self.f(self.z)

    def backward_propagation(self, output_error, learning_rate):
        d = output_error * (1.0 if self.how == "passed" else self.prime(self.z)) * (2.0 if self.how == "twice" else 1.0)
        W = self.W
        self.W = self.W - learning_rate * np.matmul(self.kept.T, d)
        self.b = self.b - learning_rate * d
        W = self.W if self.how == "early" else W.T if self.how == "transposed" else W
        return np.matmul(d, W.T)


class Rows(Layer):
    """Y = X W as in the article, with the weights stored in ``where``; ``go`` and ``more`` change the update."""

    def __init__(self, n, m, where="list", go=1.0, more=lambda self, dW: 0.0):
        W = rng().standard_normal((n, m))
        self.where, self.go, self.more = where, go, more
        if where == "list":
            self.params = [W]
        elif where == "dict":
            self.p = {"W": W}
        elif where == "tuple":
            self.t = (W,)
        elif where == "kernels":
            self.kernels = W
        else:
            self.inner = type("Plain", (), {})()
            self.inner.W = W

    def weights(self):
        places = {"list": lambda: self.params[0], "dict": lambda: self.p["W"], "tuple": lambda: self.t[0]}
        places |= {"kernels": lambda: self.kernels, "object": lambda: self.inner.W}
        return places[self.where]()

    def forward_propagation(self, input):
        self.X = input
        return np.matmul(input, self.weights())

    def backward_propagation(self, output_error, learning_rate):
        W, dW = self.weights(), np.matmul(self.X.T, output_error)
        dX = np.matmul(output_error, W.T)
        W -= learning_rate * self.go * (dW + self.more(self, dW))
        return dX


def momentum(self, dW):
    self.speed = 0.9 * getattr(self, "speed", 0.0) + dW
    return self.speed - dW


def decay(self, dW):
    return 0.01 * self.weights()


class Copied(Layer):
    """Computes dE/dX with a copy of the weights, which is made once, or after each step if ``renewed``."""

    def __init__(self, n, m, renewed=False):
        self.W = rng().standard_normal((n, m))
        self.Wt, self.renewed = self.W.T.copy(), renewed

    def forward_propagation(self, input):
        self.X = input
        return np.matmul(input, self.W)

    def backward_propagation(self, output_error, learning_rate):
        dX = np.matmul(output_error, self.Wt)
        self.W -= learning_rate * np.matmul(self.X.T, output_error)
        if self.renewed:
            self.Wt = self.W.T.copy()
        return dX


class CopiedFC(FC):
    def __init__(self, n, m):
        super().__init__(n, m)
        self.Wt = self.parameters["weights"].T.copy()

    def dX(self, D, W):
        return np.matmul(D, self.Wt)


class Composite(Layer):
    """As in the article, with children that update themselves: wrong if they are in ``layers``, right elsewhere."""

    def __init__(self, in_layers):
        self.inner = [FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)]
        if in_layers:
            self.layers = self.inner

    def forward_propagation(self, input):
        Y = input
        for layer in self.inner:
            Y = layer.forward_propagation(Y)
        return Y

    def backward_propagation(self, output_error, learning_rate):
        for layer in reversed(self.inner):
            output_error = layer.backward_propagation(output_error, learning_rate)
        return output_error


class ArticlePass(Layer):
    """Relu, or the maximum of two neighbors; the error passes through unchanged, or goes to the first of the two."""

    def __init__(self, kind="relu"):
        self.kind = kind

    def forward_propagation(self, input):
        self.shape = input.shape
        return np.maximum(input, 0) if self.kind == "relu" else np.maximum(input[:, 0::2], input[:, 1::2])

    def backward_propagation(self, output_error, learning_rate):
        if self.kind == "relu":
            return output_error
        dX = np.zeros(self.shape)
        dX[:, 0::2] = output_error
        return dX


class Ends(FC):
    """Y = f(Z) with Z = X W + k B, in portnn's style; ``d(D, Z, Y)`` is returned as dE/dZ."""

    k = 1

    def __init__(self, n, m, f, d):
        super().__init__(n, m)
        self.f, self.d = f, d

    def forward(self, X, *, training=False):
        self.Z = super().forward(X, training=training) + (self.k - 1) * self.parameters["bias"]
        self.Y = self.f(self.Z)
        return self.Y

    def backward(self, D, *, need_input_error=True):
        return super().backward(self.d(D, self.Z, self.Y))


class Twice(Ends):
    k = 2


class Dead(Ends):
    """All units are dead for typical inputs."""

    def __init__(self):
        super().__init__(3, 2, relu, lambda D, Z, Y: 7.0 * D * (Z > 0))
        self.parameters["bias"] = np.full((1, 2), -100.0)


class FlippedConv(ConvLayer):
    """Convolution followed by a function; dE/dX is computed with the flipped kernel."""

    function = staticmethod(relu)

    def forward(self, X, *, training=False):
        self.Z = super().forward(X, training=training)
        return self.function(self.Z)

    def backward(self, D, *, need_input_error=True):
        D = D * (self.Z > 0) if self.function is relu else D
        W = self.parameters["weights"]
        super().backward(D)
        gradients = dict(self.gradients)
        self.parameters["weights"] = W[::-1].copy()
        dX = super().backward(D)
        self.parameters["weights"], self.gradients = W, gradients
        return dX


class PlainFlippedConv(FlippedConv):
    function = staticmethod(lambda Z: Z)


class OnePosition(ConvLayer):
    def backward(self, D, *, need_input_error=True):
        dX = super().backward(D)
        self.gradients["bias"] = D[:, 0, 0].sum(axis=0)
        return dX


class Table(Layer):
    """Looks up rows of a table by the sign of the input; if ``lost``, the gradient counts repeated rows only once."""

    def __init__(self, lost):
        self.parameters, self.lost = {"table": rng(4).standard_normal((3, 2))}, lost

    def forward(self, X, *, training=False):
        self.rows, self.shape = np.clip(np.rint(X[:, 0]).astype(int), -1, 1) + 1, X.shape
        return self.parameters["table"][self.rows]

    def backward(self, D, *, need_input_error=True):
        table = np.zeros((3, 2))
        if self.lost:
            table[self.rows] += D
        else:
            np.add.at(table, self.rows, D)
        self.gradients["table"] = table
        return np.zeros(self.shape)


class MinusInside(ResidualLayer):
    def backward(self, D, *, need_input_error=True):
        return 2 * D - super().backward(D)


class Noisy(Layer):
    def __init__(self):
        self.rng = rng()

    def forward(self, X, *, training=False):
        return X + self.rng.standard_normal(X.shape)

    def backward(self, D, *, need_input_error=True):
        return D


class SharedTanh(Layer):
    """Stores its cache on the class, so that two such layers overwrite each other's."""

    kept: dict[str, np.ndarray] = {}  # noqa: RUF012 - the mistake

    def forward(self, X, *, training=False):
        self.kept["Y"] = np.tanh(X)
        return self.kept["Y"]

    def backward(self, D, *, need_input_error=True):
        return D * (1 - self.kept["Y"] ** 2)


class Passes(ActivationLayer):
    def backward(self, D, *, need_input_error=True):
        return D


class Tempered(Function):
    """Softmax of X / 2, with a backward pass that treats softmax as the identity."""

    def __init__(self):
        super().__init__(lambda X: softmax(X / 2.0), lambda D, X, Y: D / 2.0)


def one_channel(layer):
    return lambda: Network([ConvLayer((6, 6, 1), (3, 3), 2), layer("tanh"), FlattenLayer(), FCLayer(32, 3)], seed=1)


def lenet(activation, conv=ConvLayer, size=28):
    """LeNet-5 for images of ``size`` 28 or 20; the second convolution and its activation may be wrong."""
    inner, last = (size - 4) // 2, (size - 12) // 4
    return Network(
        [
            *(ConvLayer((size, size, 1), (5, 5), 6), ActivationLayer("tanh"), AvgPoolLayer(2)),
            *(conv((inner, inner, 6), (5, 5), 16), activation("tanh"), AvgPoolLayer(2), FlattenLayer()),
            *(FCLayer(16 * last * last, 120), ActivationLayer("tanh"), FCLayer(120, 10)),
        ],
        seed=1,
    )


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def relu_prime(z):
    return (z > 0) * 1.0


FUNCTIONS = {"tanh": (np.tanh, tanh_prime), "relu": (relu, relu_prime), "sigmoid": (sigmoid, sigmoid_prime)}
WORDS = {
    "early": "update made before",
    "stale": "stale or missing cache",
    "twice": "2 times what",
    "transposed": "transposed",
}
STALE, SHARE = "stale or missing cache", "two layers seem to share what they keep"
IDENTITY, DIAGONAL = "softmax taken for the identity", "only the diagonal of softmax's Jacobian"
TIMES = "bias added more than once: forward adds it 2 times"

MORE_WRONG = [
    Wrong(f"fused {name}, {how}", lambda how=how, f=f: ArticleFused(4, 4, how, *f), (4,), words)
    for name, f in FUNCTIONS.items()
    for how, words in WORDS.items()
]
MORE_WRONG += [
    Wrong(
        "fused relu passed", lambda: ArticleFused(4, 3, "passed", relu, relu_prime), (4,), "passed through unchanged"
    ),
    Wrong("fused tanh, bias twice", lambda: ArticleFused(4, 3, k=2), (4,), TIMES),
    Wrong("our fused relu, bias twice", lambda: Twice(3, 4, relu, lambda D, Z, Y: D * (Z > 0)), (3,), TIMES),
    Wrong("all units dead", Dead, (3,), "dE/dX: constant factor: it is 7 times"),
    Wrong("one-channel images", one_channel(Passes), (6, 6, 1), "layer 1 (ActivationLayer(tanh)): dE/dX: a derivative"),
    Wrong("one number", ArticlePass, (1,), "passed through unchanged"),
    Wrong("a window of two", lambda: ArticlePass("max"), (4,), "the wrong element of a window"),
    Wrong("a copy of the weights", lambda: Copied(4, 3), (4,), STALE),
    Wrong("our copy of the weights", lambda: CopiedFC(4, 3), (4,), STALE),
    Wrong("weights in a list, twice", lambda: Rows(3, 2, "list", 2.0), (3,), "dE/dparams[0]: constant factor: it is 2"),
    Wrong("weights in a dict, up", lambda: Rows(3, 2, "dict", -1.0), (3,), "dE/dp['W']: sign"),
    Wrong("weights in an object, up", lambda: Rows(3, 2, "object", -1.0), (3,), "dE/dinner.W: sign"),
    Wrong("weights in a tuple", lambda: Rows(3, 2, "tuple"), (3,), "backward changed something of forward"),
    Wrong("weights called kernels, up", lambda: Rows(3, 2, "kernels", -1.0), (3,), "dE/dkernels: sign"),
    Wrong("momentum", lambda: Rows(3, 2, more=momentum), (3,), "0.9 times that of the pass before (momentum?)"),
    Wrong("weight decay", lambda: Rows(3, 2, more=decay), (3,), "0.01 times params[0] (weight decay?)"),
    Wrong("children in layers", lambda: Composite(True), (3,), "its children step twice"),
    Wrong("flipped before relu", lambda: FlippedConv((6, 2), (3,), 3), (6, 2), "dE/dX: flipped kernel"),
    Wrong(
        "mask from the error", lambda: Function(relu, lambda D, X, Y: np.maximum(D, 0)), (6,), "mask is made from dE/dY"
    ),
    Wrong("FC and softmax, identity", lambda: Ends(4, 3, softmax, lambda D, Z, Y: D), (4,), IDENTITY),
    Wrong("FC and softmax, diagonal", lambda: Ends(4, 3, softmax, lambda D, Z, Y: D * Y * (1 - Y)), (4,), DIAGONAL),
    Wrong("softmax of X / 2", Tempered, (5,), IDENTITY),
    Wrong("one position", lambda: OnePosition((6, 6, 3), (3, 3), 2), (6, 6, 3), "not summed over axes (1, 2) of Y"),
    Wrong("repeated rows", lambda: Table(True), (1,), "not summed over the batch: only the last sample of those"),
    Wrong("minus inside", lambda: MinusInside(FCLayer(4, 4), ActivationLayer("tanh")), (4,), "sign within the formula"),
    Wrong(
        "not transposed back", lambda: Function(lambda X: X.transpose(0, 2, 1), lambda D, X, Y: D), (4, 4), "transposed"
    ),
    Wrong(
        "kept on the class", lambda: Network([FCLayer(4, 4), SharedTanh(), FCLayer(4, 4), SharedTanh()]), (4,), SHARE
    ),
]
