"""portnn.compare_backends: runs that agree, and for runs that do not, the first tensor that differs."""

import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from portnn_numpy.backend import NumpyBackend

X = np.random.default_rng(0).standard_normal((22, 6, 6, 1))
Y = np.random.default_rng(1).integers(0, 3, 22)


def network(dtype="float64"):
    layers = [
        portnn.ConvLayer((6, 6, 1), (3, 3), 4, bias=False),
        portnn.BatchNormLayer(),
        portnn.ActivationLayer("tanh"),
        portnn.FlattenLayer(),
        portnn.DropoutLayer(0.3),
        portnn.FCLayer(64, 5),
        portnn.ActivationLayer("relu"),
        portnn.FCLayer(5, 3),
    ]
    net = portnn.Network(layers, seed=3, dtype=dtype)
    net.use("softmax_cross_entropy", optimizer=portnn.Adam(1e-2), metrics=["accuracy"])
    return net


class Sabotaged(NumpyBackend):
    """The NumPy backend with one function changed."""

    def __init__(self, name, change):
        super().__init__(compile=False)
        self.changed, self.change = name, change
        self.name = "sabotaged"

    def implementation(self, function):
        found, own = super().implementation(function), getattr(function, "func", function)
        if own.__qualname__ != self.changed:
            return found
        return lambda *arguments: self.change(found(*arguments))


def test_numpy_agrees_with_itself_without_its_fast_versions():
    net = network()
    before = {path: w.copy() for path, w in net.parameters.items()}
    report = portnn.compare_backends(net, X, Y, backends=("cpu", np), epochs=3, batch_size=8)
    assert report
    assert report.steps == 9
    assert report.difference < 1e-11
    assert str(report).startswith("equal for 9 steps: no tensor differs by more than ")
    assert net.step == 0  # the given network was not trained
    assert all(np.array_equal(w, before[path]) for path, w in net.parameters.items())


def test_numpy_agrees_with_other_libraries():
    assert portnn.compare_backends(network(), X, Y, backends=("cpu", strict_backend()), batch_size=8)


@pytest.mark.gpu
def test_the_gpu_agrees():
    for dtype in ("float32", "float64"):
        report = portnn.compare_backends(network(dtype), X, Y, epochs=2, batch_size=8)
        assert report, report


@pytest.mark.parametrize(
    ("name", "change", "step", "layer", "tensor"),
    [
        ("affine", lambda y: y * 1.001, 0, "layer 6 (ActivationLayer)", "Y"),
        ("relu_chain", lambda d: d * 1.001, 0, "layer 5 (FCLayer)", "dE/dweights"),
        ("softmax_cross_entropy_prime", lambda d: d * 1.001, 0, "layer 7 (FCLayer)", "dE/dweights"),
        ("softmax_cross_entropy", lambda e: e * 1.001, 0, "the loss", "E"),
        ("Adam.update", lambda made: ([w * 1.001 for w in made[0]], made[1]), 0, "layer 0 (ConvLayer)", "weights"),
        ("patches", lambda parts: [p * 1.001 for p in parts], 0, "layer 0 (ConvLayer)", "Y"),
        ("affine", lambda y: y * np.nan, 0, "layer 6 (ActivationLayer)", "Y"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(name, change, step, layer, tensor):
    pair = (NumpyBackend(compile=False), Sabotaged(name, change))
    report = portnn.compare_backends(network(), X, Y, backends=pair, batch_size=8)
    assert not report
    assert (report.step, report.layer, report.tensor) == (step, layer, tensor)
    assert report.difference > 1e-4
    assert str(report) == f"step {step}: {tensor} of {layer} differs by {report.difference:.1e}"


def test_a_difference_that_comes_later():
    calls = []

    def later(parts):
        calls.append(0)
        return [p * (1.001 if len(calls) > 4 else 1.0) for p in parts]

    pair = (NumpyBackend(compile=False), Sabotaged("patches", later))
    assert portnn.compare_backends(network(), X, Y, backends=pair, epochs=4, batch_size=8).step == 4


def test_a_tolerance_of_ones_own():
    pair = (NumpyBackend(compile=False), Sabotaged("patches", lambda parts: [p * 1.001 for p in parts]))
    assert portnn.compare_backends(network(), X, Y, backends=pair, batch_size=8, tolerance=10.0)


def test_a_difference_is_relative_and_infinite_where_one_is_not_finite():
    from portnn.testing.compare_backends import _difference

    assert _difference(np.array([10.0, 1.0]), np.array([10.0, 2.0])) == 0.1
    assert _difference(np.array([0.5]), np.array([0.0])) == 0.5
    assert _difference(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0.0
    for a, b in ((np.nan, 1.0), (np.inf, 1.0), (np.inf, -np.inf), (1.0, np.nan)):
        assert _difference(np.array([a]), np.array([b])) == np.inf
    assert _difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_what_is_refused():
    with pytest.raises(TypeError, match="compare_backends takes a network, got FCLayer"):
        portnn.compare_backends(portnn.FCLayer(2, 3), X, Y)
    with pytest.raises(ValueError, match="targets"):
        portnn.compare_backends(network(), X, Y[:3], backends=("cpu", np))
    if "gpu" not in portnn.available_backends():
        with pytest.raises(portnn.backend.BackendUnavailableError):
            portnn.compare_backends(network(), X, Y)


def test_a_learning_rate_in_place_of_an_optimizer():
    net = portnn.Network([portnn.FCLayer(3, 2)], seed=1)
    net.use("mse")
    assert portnn.compare_backends(net, np.ones((4, 3)), np.ones((4, 2)), backends=("cpu", np), learning_rate=0.1)
