"""The gradient checker on layers: right layers pass, and mistakes in wrong ones are found and named."""

from time import perf_counter, process_time, sleep

import numpy as np
import pytest

import portnn
from cases import LAYERS, OwnLayer
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Layer, Network
from portnn.testing.gradcheck import gradcheck
from wrong_layers import FC, WRONG, ArticleFC, Conv, Function, Fused, Masked, Norm, Pool, Scale, Skip, fc, softmax
from wrong_layers_more import (
    FUNCTIONS,
    MORE_WRONG,
    ArticleFused,
    ArticlePass,
    Composite,
    Copied,
    Noisy,
    Passes,
    PlainFlippedConv,
    Rows,
    Table,
)
from wrong_layers_more import lenet as another_lenet


@pytest.mark.parametrize("wrong", [*WRONG, *MORE_WRONG], ids=lambda wrong: wrong.name)
def test_a_mistake_is_found_and_named(wrong, monkeypatch):
    monkeypatch.setattr("portnn.testing.gradcheck.diagnosis.SECONDS", 300.0)  # a busy machine guesses as well
    report = gradcheck(wrong.make(), input_shape=wrong.sample)
    assert not report
    assert wrong.words in report.diagnosis


class ArticleConv(Layer):
    """Convolution of one image (H, W, C) without padding, with the mistake ``how``; "bias": both published errors."""

    def __init__(self, channels, filters, how):
        self.weights, self.bias = (
            np.random.default_rng(3).random((3, 3, channels, filters)) - 0.5,
            np.random.default_rng(4).random(filters) - 0.5,
        )
        self.how = how

    def forward_propagation(self, input):
        self.input, (H, W, C) = input, input.shape
        Y = np.zeros((H - 2, W - 2, len(self.bias))) + (C if self.how == "bias" else 1) * self.bias
        for u, v in np.ndindex(3, 3):
            Y += np.matmul(input[u : u + H - 2, v : v + W - 2], self.weights[u, v])
        return Y

    def backward_propagation(self, output_error, learning_rate):
        X, D, (h, w, F) = self.input, output_error, output_error.shape
        dX, dW, dB = np.zeros(X.shape), np.zeros(self.weights.shape), D.sum(axis=(0, 1))
        for u, v in np.ndindex(3, 3):
            W = self.weights[2 - u, 2 - v] if self.how == "unflipped" else self.weights[u, v]
            E = D * (np.arange(F) == F - 1) if self.how == "last filter" else D
            dX[u : u + h, v : v + w] += np.matmul(E, W.T)
            place = (2 - u, 2 - v) if self.how == "dW flipped" else (u, v)
            dW[place] = np.tensordot(X[u : u + h, v : v + w], D, axes=([0, 1], [0, 1]))
        self.weights -= learning_rate * dW
        self.bias -= learning_rate * (F * dB if self.how in ("bias", "times F") else dB)
        return dX


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("bias", "dE/dbias: bias added more than once: forward adds it 3 times; 3 is the number of input channels"),
        ("bias", "backward has a constant factor 2; 2 is the number of outputs (filters, units)"),
        ("times F", "dE/dbias: constant factor: it is 2 times what it should be; 2 is the number of outputs"),
        ("unflipped", "dE/dX: flipped kernel"),
        ("dW flipped", "dE/dweights: flipped kernel"),
        ("last filter", "dE/dX: not summed over axis 2 of Y: the part of index 1 of 2"),
    ],
)
def test_mistakes_in_an_articles_convolution(how, words):
    assert gradcheck(ArticleConv(3, 2, "right"), input_shape=(5, 6, 3))
    assert words in gradcheck(ArticleConv(3, 2, how), input_shape=(5, 6, 3)).diagnosis


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_our_layers_are_right(case):
    report = gradcheck(case.make(), input_shape=case.sample)
    assert report, report
    assert report.diagnosis == ""
    assert report.worst <= 1e-6


# -- users' layers that are right --------------------------------------------------------------------------------------


class Affine(Layer):
    """In the article's style, with a trainable number, a fixed array, and attributes that ``forward`` never reads."""

    def __init__(self, n):
        self.weights, self.bias, self.slope = np.ones((1, n)), np.zeros((1, n)), 0.25
        self.fixed, self.weights_error, self.calls = np.linspace(1, 2, n).reshape(1, -1), np.zeros((1, n)), 0.0

    def forward_propagation(self, input):
        self.input = input
        return self.weights * input * self.fixed + self.bias + self.slope * input**2

    def backward_propagation(self, output_error, learning_rate):
        self.weights_error = output_error * self.input * self.fixed
        dX = output_error * (self.weights * self.fixed + 2 * self.slope * self.input)
        self.weights = self.weights - learning_rate * self.weights_error
        self.bias -= learning_rate * output_error
        self.slope -= learning_rate * np.sum(output_error * self.input**2)
        self.calls += 1.0
        return dX


class Batched(ArticleFC):
    batched = True

    def backward_propagation(self, output_error, learning_rate):
        dX = np.matmul(output_error, self.weights.T)
        self.weights -= learning_rate * np.matmul(self.input.T, output_error)
        self.bias -= learning_rate * output_error.sum(axis=0, keepdims=True)
        return dX


class Unused(FC):
    """Has a parameter that nothing depends on, and fills its cache in inference too."""

    def __init__(self, n, m):
        super().__init__(n, m)
        self.parameters["unused"] = np.ones(4)

    def forward(self, X, *, training=False):
        return super().forward(X, training=True)

    def backward(self, D, *, need_input_error=True):
        self.gradients["unused"] = np.zeros(4)
        return np.broadcast_to(super().backward(D), self.input.shape)


def right_softmax(D, X, Y):
    return Y * (D - np.sum(D * Y, axis=-1, keepdims=True))


RIGHT = [
    (lambda: Affine(4), (4,)),
    (lambda: ArticleFC(3, 4), (3,)),
    (lambda: ArticleFC(3, 4), (1, 3)),
    (lambda: Batched(3, 4), (3,)),
    (lambda: Unused(3, 4), (3,)),
    (lambda: OwnLayer(4), (4,)),
    (lambda: FC(3, 4), (3,)),
    (lambda: Fused(3, 4, np.tanh, lambda Z, Y: 1 - Y**2), (3,)),
    (lambda: Fused(3, 4, lambda x: np.maximum(x, 0), lambda Z, Y: Z > 0), (3,)),
    (lambda: Function(softmax, right_softmax), (4,)),
    (lambda: Norm(4, (0,)), (4,)),
    (lambda: Norm(6, (-1,)), (6,)),
    (lambda: Scale(4), (4,)),
    (lambda: Skip(4, 4), (4,)),
    (lambda: Masked(lambda self, D: D * self.M), (8,)),
    (lambda: Pool("mean", lambda D, V: D / 4), (4, 6, 2)),
    (lambda: Pool("max", lambda D, V: D * (V.max(axis=3, keepdims=True) == V)), (4, 6, 2)),
    (lambda: Conv(2, 4), (5, 6, 2)),
    *((lambda where=where: Rows(3, 2, where), (3,)) for where in ("list", "dict", "object", "kernels")),
    *((lambda f=f: ArticleFused(4, 3, "", *f), (4,)) for f in FUNCTIONS.values()),
    (lambda: Copied(4, 3, renewed=True), (4,)),
    (lambda: Composite(False), (3,)),
    (lambda: Network([FCLayer(4, 3), Composite(False)], seed=1), (4,)),
    (lambda: Table(False), (1,)),
]


@pytest.mark.parametrize("row", range(len(RIGHT)))
def test_right_layers_of_users_pass(row):
    make, sample = RIGHT[row]
    report = gradcheck(make(), input_shape=sample)
    assert report, report


def test_what_an_articles_layer_learns_is_found():
    assert set(gradcheck(Affine(4), input_shape=(4,)).errors) == {"X", "weights", "bias", "slope"}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "softmax", "norm"])
def test_large_and_small_inputs_pass(name, scale):
    layers = {"softmax": lambda: Function(softmax, right_softmax), "norm": lambda: Norm(5, (0,))}
    layer = layers.get(name, lambda: ActivationLayer(name))()
    x = scale * np.random.default_rng(5).standard_normal((4, 5))
    assert gradcheck(layer, x)
    assert gradcheck(layer, x + 100.0)


def test_a_bias_before_a_norm_has_no_derivative():
    assert gradcheck(Network([FCLayer(4, 3), Norm(3, (0,))], seed=1))


def test_kinks_are_noticed_and_another_x_drawn():
    x = np.array([[0.0, 1.0, -2.0], [0.0, 0.0, 3.0]])
    assert gradcheck(ActivationLayer("relu"), x)
    assert gradcheck(Pool("max", lambda D, V: D * (V.max(axis=3, keepdims=True) == V)), np.ones((2, 4, 4, 1)))
    assert not gradcheck(Function(lambda x: np.maximum(x, 0), lambda D, X, Y: 2.0 * D * (X > 0)), x)


def test_nothing_but_kinks_is_said():
    report = gradcheck(Function(lambda x: np.abs(1e9 * x - np.round(1e9 * x)), lambda D, X, Y: D), input_shape=(3,))
    assert not report
    assert "has a kink" in report.diagnosis


SIZES = [20, pytest.param(28, marks=pytest.mark.slow)]  # image sizes; LeNet's original size is the larger one


def lenet(size):
    inner, last = (size - 4) // 2, (size - 12) // 4
    return Network(
        [
            ConvLayer((size, size, 1), (5, 5), 6),
            ActivationLayer("relu"),
            portnn.MaxPoolLayer(2),
            ConvLayer((inner, inner, 6), (5, 5), 16),
            ActivationLayer("relu"),
            portnn.MaxPoolLayer(2),
            FlattenLayer(),
            FCLayer(16 * last * last, 84),
            ActivationLayer("tanh"),
            FCLayer(84, 10),
        ],
        seed=1,
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_large_network_passes(size):
    report = gradcheck(lenet(size))
    assert report, report
    assert len(report.errors) == 9


def test_few_names_are_taken_by_the_base():
    """A layer as in the article may use portnn's attribute names for itself, and a parameter may be called X."""
    mine = {
        "kernels": np.ones(3),
        "layers": 2,
        "parameters": None,
        "buffers": [],
        "backend": "np",
        "walk": 1,
        "dtype": float,
    }
    for name, value in mine.items():
        layer = ArticleFused(3, 2)
        setattr(layer, name, value)
        assert gradcheck(layer, input_shape=(3,)), name
        assert getattr(layer, name) is value
    assert set(gradcheck(Named(), input_shape=(3,)).errors) == {"X", "X (parameter)"}
    assert set(gradcheck(Rows(3, 2, "object"), input_shape=(3,)).errors) == {
        "X",
        "inner.W",
    }  # its cached input is called X too


class Named(Layer):
    def __init__(self):
        self.parameters["X"] = np.arange(6.0).reshape(3, 2)

    def forward(self, X, *, training=False):
        self.input = X
        return np.matmul(X, self.parameters["X"])

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["X"] = np.matmul(self.input.T, output_error)
        return np.matmul(output_error, self.parameters["X"].T)


def test_a_wrong_layer_is_found_whatever_its_weights():
    """Units that are dead for one sample are not dead for all of them."""
    for seed in range(20):
        layer = ArticleFused(4, 3, "twice", lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0)
        layer.W = np.random.default_rng(seed).standard_normal((4, 3))
        assert not gradcheck(layer, input_shape=(4,)), seed


def test_all_samples_given_are_looked_at():
    x = np.random.default_rng(0).standard_normal((5, 3))
    x[0] = np.abs(x[0])
    assert not gradcheck(ArticlePass(), x)
    assert not gradcheck(ArticlePass(), -np.abs(x[:1]))  # all outputs are zero here, so other inputs are tried too


@pytest.mark.parametrize("x", [[[1e-3, 1.0, 2.0]], [[1e-6, 2e-5, 1e-5], [3e-6, 1e-4, 1e-5]], [[0.5, 2.0, 1.0]]])
def test_near_the_edge_of_what_a_function_takes(x):
    assert gradcheck(Function(np.log, lambda D, X, Y: D / X), x)
    assert gradcheck(Function(np.sqrt, lambda D, X, Y: D / (2 * Y)), x)
    assert "constant factor" in gradcheck(Function(np.log, lambda D, X, Y: 2 * D / X), x).diagnosis


def test_a_square_root_that_is_given_a_zero():
    assert gradcheck(
        Function(lambda X: np.sqrt(X + 1e-4), lambda D, X, Y: D / (2 * Y)), [[0.0, 1.0, 4.0], [9.0, 0.25, 100.0]]
    )


def test_a_guess_that_fails_ends_nothing():
    """A ``forward`` that rejects unexpected values may fail while the checker looks for the mistake."""

    class Picky(FC):
        def forward(self, X, *, training=False):
            if np.max(np.abs(self.parameters["bias"])) > 5 or self.parameters["weights"][0, 0] < 0:
                raise RuntimeError("out of range")
            return super().forward(X)

        def dX(self, D, W):
            return np.matmul(D, np.abs(W).T)

    layer = Picky(3, 3)
    layer.parameters["weights"] = np.linspace(1.0, -1.0, 9).reshape(3, 3)
    assert "dE/dX: " in gradcheck(layer, input_shape=(3,)).diagnosis


def test_noise_that_is_no_mask():
    assert gradcheck(Noisy(), input_shape=(6,)).diagnosis.endswith("draw the mask from self.step")


def test_formulas_say_what_their_letters_are():
    wrong = gradcheck(Function(np.tanh, lambda D, X, Y: D), input_shape=(5,))
    assert wrong.diagnosis.endswith("A = dE/dY (A: what backward gave)")
    wrong = gradcheck(ArticleFC(3, 4, "no rate"), input_shape=(3,))
    assert wrong.diagnosis.endswith("does not follow the learning rate: learning_rate is not used")
    wrong = gradcheck(fc(dB=lambda self, D: D[:1])(), input_shape=(3,))
    assert wrong.diagnosis == "dE/dbias: not summed over the batch: only sample 0 of 5 counts"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.slow
def test_a_large_wrong_network_is_told_in_time(size):
    started = process_time()
    report = gradcheck(another_lenet(Passes, size=size))
    assert report.diagnosis.startswith("layer 4 (ActivationLayer(tanh)): dE/dX: a derivative left out")
    assert "flipped kernel" in gradcheck(another_lenet(ActivationLayer, PlainFlippedConv, size)).diagnosis
    assert process_time() - started < 30


@pytest.mark.slow
def test_guessing_ends_in_time():
    class Slow(FC):
        def forward(self, X, *, training=False):
            sleep(0.005)
            return super().forward(X)

        def dX(self, D, W):
            return super().dX(D, W) + np.sin(np.arange(D.shape[0] * len(W))).reshape(D.shape[0], -1)

    started = perf_counter()
    assert "no known mistake fits" in gradcheck(Slow(30, 20), np.ones((20, 30))).diagnosis
    assert perf_counter() - started < 30


# -- networks ----------------------------------------------------------------------------------------------------------


def test_a_network_names_the_layer():
    net = Network(
        [FCLayer(3, 5), ActivationLayer("tanh"), Scale(5), fc(dX=lambda self, D, W: -np.matmul(D, W.T))()][:3]
    )
    assert gradcheck(net)
    wrong = Network([FCLayer(5, 3), ActivationLayer("tanh"), fc(dW=lambda self, X, D: -np.matmul(X.T, D))()], seed=1)
    report = gradcheck(wrong)
    assert set(report.errors) == {"X", "0.weights", "0.bias", "2.weights", "2.bias"}
    assert report.errors["2.weights"] > 0.1
    assert report.errors["0.weights"] <= 1e-6
    assert report.diagnosis == "layer 2 (WrongFC()): dE/dweights: sign: it is the right one, negated"
