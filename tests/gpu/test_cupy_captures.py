"""All that a step may use, captured on a GPU: equal to the portable path on the host, and launched, not run eagerly."""

import numpy as np
import pytest

import portnn
import portnn.activations
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, METRICS, OPTIMIZERS
from documents import run
from portnn import Adam, FCLayer, Network, ParallelLayer

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error")]  # a step that is not captured says so by a warning
LIMITS = {"float32": 1e-5, "float64": 1e-11}
WAYS = [("auto", "float32"), ("auto", "float64"), ("portable", "float64")]  # on the GPU; on the CPU it is portable
STEPS = 5  # two warm-ups, the capture, and what is launched after it
N = 6


def fitted(where, make, x, y, kernels="auto", epochs=STEPS, **options):
    net = make(where, kernels)
    net.fit(x, y, epochs=epochs, batch_size=len(x), verbose=0, **options)
    return net


def compare(backend, make, x, y, dtype, kernels="auto", epochs=STEPS, launches=None, monkeypatch=None, **options):
    """Trains on both, and on the GPU twice: launched as graphs, to the same bits, close to the portable path."""
    seen = []
    launch = backend.driver.launch
    monkeypatch.setattr(backend.driver, "launch", lambda graph: (seen.append(1), launch(graph))[1])
    first, again = (fitted("gpu", make, x, y, kernels, epochs, **options) for _ in range(2))
    plain = fitted("cpu", make, x, y, "portable", epochs, **options)
    assert len(seen) == 2 * (epochs - 2)
    for path, expected in plain.parameters.items():
        found = backend.to_numpy(first.parameters[path])
        assert np.array_equal(found, backend.to_numpy(again.parameters[path])), path
        assert np.abs(found - expected).max(initial=0.0) <= LIMITS[dtype] * max(1.0, np.abs(expected).max()), path
    for name, values in plain.history.items():
        assert np.allclose(first.history[name], values, rtol=10 * LIMITS[dtype]), name


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize(("kernels", "dtype"), WAYS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss(backend, monkeypatch, rng, name, weighted, kernels, dtype):
    def make(where, kernels):
        net = Network([FCLayer(4, 3)], backend=where, kernels=kernels, dtype=dtype, seed=1)
        net.use(LOSSES[name].given, optimizer=portnn.SGD(0.05))
        return net

    x, y = rng.standard_normal((N, 4)), LOSSES[name].targets(rng, N, 3)
    options = {"sample_weight": rng.random(N)} if weighted else {}
    compare(backend, make, x, y, dtype, kernels, monkeypatch=monkeypatch, **options)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", METRICS)
def test_each_metric(backend, monkeypatch, rng, name, dtype):
    def make(where, kernels):
        net = Network([FCLayer(4, 7)], backend=where, kernels=kernels, dtype=dtype, seed=1)
        net.use("mse", optimizer=portnn.SGD(0.05), metrics=[name])
        return net

    x, y = rng.standard_normal((N, 4)), METRICS[name](rng, N, 7)
    for options in ({}, {"sample_weight": rng.random(N)}):
        compare(backend, make, x, y, dtype, monkeypatch=monkeypatch, **options)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer(backend, monkeypatch, rng, name, dtype):
    def make(where, kernels):
        layers = [FCLayer(4, 5), portnn.ActivationLayer("tanh"), FCLayer(5, 3)]
        net = Network(layers, backend=where, kernels=kernels, dtype=dtype, seed=1)
        net.use("mse", optimizer=OPTIMIZERS[name]())
        return net

    compare(backend, make, rng.standard_normal((N, 4)), rng.standard_normal((N, 3)), dtype, monkeypatch=monkeypatch)


@pytest.mark.parametrize(("kernels", "dtype"), WAYS)
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_each_layer(backend, monkeypatch, rng, case, kernels, dtype):
    def make(where, kernels):
        net = Network([], backend=where, kernels=kernels, dtype=dtype, seed=1)
        if len(case.sample) == 1:
            net.add(FCLayer(case.sample[0], case.sample[0], bias=False))  # so that dE/dX is needed
        for layer in (case.make(), portnn.FlattenLayer()):
            net.add(layer)
        net.use("mse", optimizer=portnn.SGD(0.05))
        return net

    x = rng.standard_normal((N, *case.sample))
    y = rng.standard_normal(fitted_shape(make("cpu", "portable"), x))
    compare(backend, make, x, y, dtype, kernels, monkeypatch=monkeypatch)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", [*ACTIVATIONS, *FUNCTIONS_ONLY])
def test_each_activation(backend, rng, name, dtype):
    """The functions themselves, and their derivatives, as a layer of a user's may call them."""
    functions = [getattr(portnn.activations, f"{name}{end}", None) for end in ("", "_prime")]
    for function in filter(None, functions):
        x = (3 * rng.standard_normal((N, 4))).astype(dtype)
        expected, found = function(x), []
        with backend.scope():
            given, memory = backend.asarray(x), backend.driver.new_memory(backend)
            with backend.driver.using(memory):
                function(given)  # compiles
                graph = backend.driver.capture(lambda f=function, given=given, found=found: found.append(f(given)))
            for _ in range(2):
                backend.driver.launch(graph)
                found.append(backend.to_numpy(found[0]))
        assert found[1].dtype == dtype
        assert np.array_equal(found[1], found[2])
        assert np.abs(found[1] - expected).max() <= LIMITS[dtype] * max(1.0, np.abs(expected).max())


def fitted_shape(net, x):
    return np.asarray(net.predict(x)).shape


@pytest.mark.parametrize("branches", [8, 9, 70])
def test_many_branches(backend, monkeypatch, rng, branches):
    def make(where, kernels):
        net = Network(
            [ParallelLayer(*(FCLayer(3, 2) for _ in range(branches)))], backend=where, dtype="float64", seed=1
        )
        net.use("mse", optimizer=Adam(0.01))
        return net

    x, y = rng.standard_normal((N, 3)), rng.standard_normal((N, 2 * branches))
    compare(backend, make, x, y, "float64", monkeypatch=monkeypatch)


FIRST = """
import numpy as np, portnn
net = portnn.Network([portnn.FCLayer(4, 3)], backend="gpu", seed=1)
net.use("softmax_cross_entropy", metrics=["accuracy"])
net.fit(np.ones((40, 4), np.float32), np.arange(40) % 3, epochs=1, batch_size=8, learning_rate=0.1, verbose=0)
"""


def test_the_first_capture_of_a_process_loads_no_kernels(backend):
    """Eager float32 steps copy weights; what a capture copies at its end is only the sums of metrics, in float64."""
    done = run("-c", FIRST, warnings="error::UserWarning")
    assert done.returncode == 0, done.stderr
