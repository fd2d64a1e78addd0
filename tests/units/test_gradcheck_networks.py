"""The gradient checker on networks, that it changes nothing of the caller's, and its report."""

import copy

import array_api_strict
import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from portnn import ActivationLayer, ConvLayer, FCLayer, Layer, Network, ScaleLayer, arrangement
from portnn.testing.gradcheck import GradcheckReport, gradcheck
from wrong_layers import ArticleFC, Norm, fc

# -- networks ----------------------------------------------------------------------------------------------------------


def test_a_network_with_an_articles_layer():
    assert gradcheck(Network([FCLayer(4, 3), ActivationLayer("tanh"), ArticleFC(3, 2)], seed=1))
    report = gradcheck(Network([FCLayer(4, 3), ActivationLayer("tanh"), ArticleFC(3, 2, "early")], seed=1))
    assert "layer 2 (ArticleFC()): dE/dX: update made before the input gradient" in report.diagnosis


def test_a_layer_deep_within_is_named():
    inner = portnn.ResidualLayer(fc(dB=lambda self, D: 2.0 * D.sum(axis=0, keepdims=True))(), FCLayer(4, 3))
    report = gradcheck(Network([FCLayer(5, 3), portnn.ParallelLayer([inner], [])], seed=1))
    assert report.diagnosis.startswith("layer 1.0.0.0 (WrongFC()): dE/dbias: constant factor: it is 2 times")


class KeptAside(Layer):
    """A learned factor in an attribute, where no optimizer finds it."""

    def __init__(self, n):
        self.gain = np.full(n, 2.0)

    def forward(self, X):
        return self.gain * X

    def backward(self, output_error):
        self.gradients["gain"] = np.sum(output_error * self.input, axis=0)
        return self.gain * output_error


def test_a_gradient_of_no_parameter():
    report = gradcheck(KeptAside(3), input_shape=(3,))
    assert not report.passed
    assert report.errors.keys() == {"X"}
    assert report.worst < 1e-9
    assert "backward sets gradients['gain'], but no parameter has this name (there are: none)" in report.diagnosis


def test_a_gradient_whose_name_is_misspelt():
    class Misspelt(ScaleLayer):
        def __init__(self, n):
            super().__init__(3.0)
            self.parameters["shift"] = np.zeros(n)

        def forward(self, X):
            return super().forward(X) + self.parameters["shift"]

        def backward(self, output_error):
            self.gradients["shfit"] = np.sum(output_error, axis=0)
            return super().backward(output_error)

    report = gradcheck(Misspelt(3), input_shape=(3,))
    assert "dE/dshift: gradient missing" in report.diagnosis
    assert "gradients['shfit'], but no parameter has this name (there are: 'shift')" in report.diagnosis


def test_a_gradient_of_no_parameter_within_a_network():
    inside = portnn.ResidualLayer(KeptAside(3), FCLayer(3, 3))
    report = gradcheck(Network([FCLayer(4, 3), inside], seed=1))
    assert not report.passed
    assert "0.bias" in report.errors
    assert report.diagnosis.startswith("layer 1.0 (KeptAside()): backward sets gradients['gain'], but no parameter")


def test_layers_that_are_joined_wrongly():
    class NoSkip(portnn.ResidualLayer):
        def backward(self, output_error, *, need_input_error=True):
            return super().backward(output_error) - output_error

    report = gradcheck(NoSkip(FCLayer(3, 3)), input_shape=(3,))
    assert "the layers are right one by one" in report.diagnosis
    assert "skip connection" in report.diagnosis


def test_a_mask_that_is_drawn_at_each_call():
    class Dropout(Layer):
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def forward(self, X, *, training=False):
            self.mask = self.rng.random(X.shape) > 0.5
            return X * self.mask

        def backward(self, output_error, *, need_input_error=True):
            return output_error * self.mask

    assert "forward is not repeatable" in gradcheck(Dropout(), input_shape=(9,)).diagnosis


# -- nothing changes ---------------------------------------------------------------------------------------------------


def state(layers):
    kept = []
    for layer in layers:
        attributes = {
            k: v for k, v in vars(layer).items() if k not in ("backend", "xp", "ops", "device_dtype", "layers")
        }
        kept.append(copy.deepcopy({k: v for k, v in attributes.items() if not callable(v)}))
    return kept


@pytest.mark.parametrize("layer", [lambda: Norm(3, (0,)), lambda: portnn.BatchNormLayer(), lambda: ArticleFC(3, 4)])
def test_the_callers_layer_and_x_are_unchanged(layer):
    layer, x = (
        layer(),
        np.random.default_rng(0).standard_normal((1, 3) if layer().updates_itself else (5, 3)),
    )
    Y = layer.forward_propagation(x)
    layer.backward_propagation(np.ones(Y.shape), 0.1)
    before, x_before = state([layer]), x.copy()
    x.flags.writeable = False
    gradcheck(layer, x)
    np.testing.assert_equal(state([layer]), before)
    np.testing.assert_equal(x, x_before)


def test_the_callers_network_is_unchanged_and_may_be_float32():
    net = Network([FCLayer(3, 4), portnn.BatchNormLayer(), portnn.DropoutLayer(0.5), FCLayer(4, 2)], seed=1)
    net.use("mse")
    net.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, batch_size=2, learning_rate=0.1, verbose=0)
    before = state(net.walk())
    assert gradcheck(net)
    np.testing.assert_equal(state(net.walk()), before)
    assert net.dtype == "float32"
    assert all(arrangement.owner(layer) is net for layer in net.walk())


def test_a_layer_on_another_backend():
    net = Network([FCLayer(3, 4), ActivationLayer("tanh")], seed=1, backend=strict_backend())
    weights = net.parameters["0.weights"]
    assert gradcheck(net, net.backend.asarray(np.ones((2, 3))))
    assert gradcheck(net)
    assert net.parameters["0.weights"] is weights
    assert isinstance(weights, type(array_api_strict.asarray(0.0)))


def test_the_same_report_each_time():
    first, second = (gradcheck(FCLayer(3, 4)) for _ in range(2))
    assert first == second


# -- what it takes, what it says ---------------------------------------------------------------------------------------


def test_x_may_be_a_list_or_one_sample():
    assert gradcheck(FCLayer(3, 2), [[1, 2, 3], [4, 5, 6]])
    assert gradcheck(FCLayer(3, 2), [1.0, 2.0, 3.0])
    assert gradcheck(ConvLayer((4, 4, 1), (2, 2), 3), np.arange(16.0).reshape(4, 4, 1))


def test_the_report_is_a_table():
    report = gradcheck(fc(dB=lambda self, D: D.mean(axis=0, keepdims=True))(), input_shape=(3,))
    assert isinstance(report, GradcheckReport)
    assert repr(report) == str(report)
    first, head, *rows, last = str(report).splitlines()
    assert (first, head.split()) == ("gradcheck FAILED", ["gradient", "relative", "error"])
    assert [row.split()[0] for row in rows] == ["dE/dX", "dE/dweights", "dE/dbias"]
    assert [row.endswith("WRONG") for row in rows] == [False, False, True]
    assert last == report.diagnosis
    assert report.worst == report.errors["bias"] > 0.1
    assert str(gradcheck(FCLayer(2, 3))).startswith("gradcheck passed")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((ActivationLayer("tanh"),), ValueError, r"gradcheck\(layer, input_shape=\(3,\)\)"),
        ((Network(),), ValueError, "the network has no layers"),
        ((FCLayer,), TypeError, r"call FCLayer\(...\) first"),
        ((3,), TypeError, "takes a layer or a network, got 3"),
        ((FCLayer(2, 3), np.zeros((0, 2))), ValueError, "nothing to measure"),
        ((FCLayer(2, 3), [[np.nan, 1.0]]), ValueError, "NaN or infinity"),
        ((FCLayer(2, 3), [["a", "b"]]), TypeError, "real numbers"),
        ((FCLayer(2, 3), np.zeros((2, 4))), ValueError, "takes 2 values"),
    ],
)
def test_errors_say_what_to_do(arguments, error, match):
    with pytest.raises(error, match=match):
        gradcheck(*arguments)


def test_what_forward_raises_reaches_the_caller_and_what_backward_raises_is_reported():
    class Broken(ScaleLayer):
        def forward(self, X, *, training=False):
            raise ZeroDivisionError("by the user")

    with pytest.raises(ZeroDivisionError, match="by the user"):
        gradcheck(Broken(2.0), input_shape=(3,))
    report = gradcheck(fc(dX=lambda self, D, W: 1 / 0)(), input_shape=(3,))
    assert not report
    assert "division by zero" in report.diagnosis
