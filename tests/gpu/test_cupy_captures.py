"""All that a step may use, captured on a GPU: equal to the portable path on the host, and launched, not run eagerly."""

import warnings

import numpy as np
import pytest

import portnn
from cases import LAYERS, LOSSES, METRICS, OPTIMIZERS
from documents import run
from portnn import Adam, FCLayer, Network, ParallelLayer
from portnn.backend import namespace

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error")]  # a step that is not captured says so by a warning
LIMITS = {"float32": 1e-5, "float64": 1e-11}
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


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss(backend, monkeypatch, rng, name, weighted, kernels):
    def make(where, kernels):
        net = Network([FCLayer(4, 3)], backend=where, kernels=kernels, dtype="float64", seed=1)
        net.use(LOSSES[name].given, optimizer=portnn.SGD(0.05))
        return net

    x, y = rng.standard_normal((N, 4)), LOSSES[name].targets(rng, N, 3)
    options = {"sample_weight": rng.random(N)} if weighted else {}
    compare(backend, make, x, y, "float64", kernels, monkeypatch=monkeypatch, **options)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric(backend, monkeypatch, rng, name):
    def make(where, kernels):
        net = Network([FCLayer(4, 7)], backend=where, kernels=kernels, dtype="float64", seed=1)
        net.use("mse", optimizer=portnn.SGD(0.05), metrics=[name])
        return net

    x, y = rng.standard_normal((N, 4)), METRICS[name](rng, N, 7)
    for options in ({}, {"sample_weight": rng.random(N)}):
        compare(backend, make, x, y, "float64", monkeypatch=monkeypatch, **options)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer(backend, monkeypatch, rng, name, dtype):
    def make(where, kernels):
        layers = [FCLayer(4, 5), portnn.ActivationLayer("tanh"), FCLayer(5, 3)]
        net = Network(layers, backend=where, kernels=kernels, dtype=dtype, seed=1)
        net.use("mse", optimizer=OPTIMIZERS[name]())
        return net

    compare(backend, make, rng.standard_normal((N, 4)), rng.standard_normal((N, 3)), dtype, monkeypatch=monkeypatch)


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_each_layer(backend, monkeypatch, rng, case, kernels):
    def make(where, kernels):
        net = Network([], backend=where, kernels=kernels, dtype="float64", seed=1)
        if len(case.sample) == 1:
            net.add(FCLayer(case.sample[0], case.sample[0], bias=False))  # so that dE/dX is needed
        for layer in (case.make(), portnn.FlattenLayer()):
            net.add(layer)
        net.use("mse", optimizer=portnn.SGD(0.05))
        return net

    x = rng.standard_normal((N, *case.sample))
    y = rng.standard_normal(fitted_shape(make("cpu", "portable"), x))
    compare(backend, make, x, y, "float64", kernels, monkeypatch=monkeypatch)


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


# -- the functions of the namespace ------------------------------------------------------------------------------------

X = np.array([[-1.5, 0.0, 2.0], [np.nan, -np.inf, 0.5]])
ROWS = np.arange(6.0).reshape(2, 3)
CALLS = {
    "abs": lambda xp, x, a: xp.abs(x),
    "arange": lambda xp, x, a: xp.arange(3, dtype=xp.float64, device=x.device),
    "argmax": lambda xp, x, a: xp.argmax(a, axis=-1),
    "any": lambda xp, x, a: xp.any(x > 0, axis=1),
    "all": lambda xp, x, a: xp.all(x == x),
    "asarray": lambda xp, x, a: xp.asarray(x, copy=True),
    "asarray of a dtype": lambda xp, x, a: xp.asarray(x, dtype=xp.float32),
    "astype": lambda xp, x, a: xp.astype(x > 0, xp.float32),
    "broadcast_to": lambda xp, x, a: xp.broadcast_to(x[:1, :], (4, 3)) * 1.0,
    "clip": lambda xp, x, a: xp.clip(x, -1.0, 1.0),
    "clip by arrays": lambda xp, x, a: xp.clip(x, -a, a),
    "clip from above": lambda xp, x, a: xp.clip(x, max=1.0),
    "concat of two": lambda xp, x, a: xp.concat([x, a], axis=-1),
    "concat of nine": lambda xp, x, a: xp.concat([x] * 9, axis=0),
    "concat of seventy": lambda xp, x, a: xp.concat([x, a] * 35, axis=1),
    "concat, flat": lambda xp, x, a: xp.concat([x, a] * 6, axis=None),
    "empty": lambda xp, x, a: xp.empty((2, 2), dtype=x.dtype, device=x.device) * 0.0 == 5.0,
    "exp": lambda xp, x, a: xp.exp(x),
    "expand_dims": lambda xp, x, a: xp.expand_dims(x, axis=1) + 1.0,
    "expm1": lambda xp, x, a: xp.expm1(x),
    "flip": lambda xp, x, a: xp.flip(x, axis=0) + 0.0,
    "full": lambda xp, x, a: xp.full((2, 3), 0.5, dtype=x.dtype, device=x.device),
    "full_like": lambda xp, x, a: xp.full_like(x, 2.0),
    "isfinite": lambda xp, x, a: xp.isfinite(x),
    "isnan": lambda xp, x, a: xp.isnan(x),
    "linspace": lambda xp, x, a: xp.linspace(0.0, 1.0, 5, dtype=x.dtype),
    "log": lambda xp, x, a: xp.log(a + 1.0),
    "log1p": lambda xp, x, a: xp.log1p(a),
    "logical_and": lambda xp, x, a: xp.logical_and(x > 0, a > 0),
    "logical_or": lambda xp, x, a: xp.logical_or(x > 0, a > 0),
    "matmul": lambda xp, x, a: xp.matmul(a, a.T),
    "max": lambda xp, x, a: xp.max(a, axis=1, keepdims=True),
    "maximum": lambda xp, x, a: xp.maximum(x, a),
    "maximum of a number": lambda xp, x, a: xp.maximum(x, 0.0),
    "mean": lambda xp, x, a: xp.mean(a, axis=0),
    "min": lambda xp, x, a: xp.min(a),
    "minimum": lambda xp, x, a: xp.minimum(x, a),
    "ones": lambda xp, x, a: xp.ones((2,), dtype=x.dtype, device=x.device),
    "ones_like": lambda xp, x, a: xp.ones_like(x),
    "permute_dims": lambda xp, x, a: xp.permute_dims(x, (1, 0)) * 2.0,
    "pow": lambda xp, x, a: xp.pow(a, 2.0),
    "prod": lambda xp, x, a: xp.prod(a, axis=1),
    "repeat": lambda xp, x, a: xp.repeat(x, 3, axis=1),
    "reshape": lambda xp, x, a: xp.reshape(x, (3, 2)) + 1.0,
    "roll": lambda xp, x, a: xp.roll(x, 1, axis=1),
    "sign": lambda xp, x, a: xp.sign(x),
    "sign of float32": lambda xp, x, a: xp.sign(xp.astype(x, xp.float32)),
    "sign of integers": lambda xp, x, a: xp.sign(xp.astype(a, xp.int64) - 2),
    "sqrt": lambda xp, x, a: xp.sqrt(a),
    "squeeze": lambda xp, x, a: xp.squeeze(x[:1, :], axis=0) * 1.0,
    "stack of two": lambda xp, x, a: xp.stack([x, a]),
    "stack of ten": lambda xp, x, a: xp.stack([x, a] * 5, axis=1),
    "sum": lambda xp, x, a: xp.sum(a, axis=(0, 1)),
    "take": lambda xp, x, a: xp.take(x, xp.argmax(a, axis=-1), axis=1),
    "tanh": lambda xp, x, a: xp.tanh(x),
    "tile": lambda xp, x, a: xp.tile(x, (2, 1)),
    "tril": lambda xp, x, a: xp.tril(a),
    "unstack": lambda xp, x, a: sum(xp.unstack(a)),
    "where": lambda xp, x, a: xp.where(x > 0, x, a),
    "where of numbers": lambda xp, x, a: xp.where(x > 0, 1.0, a),
    "zeros": lambda xp, x, a: xp.zeros((2,), dtype=x.dtype, device=x.device),
    "zeros_like": lambda xp, x, a: xp.zeros_like(x),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("which", ["xp", "namespace"])
def test_each_function(backend, name, which):
    """Those of the backend's namespace, and of the one that losses and metrics ask an array for."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = np.asarray(CALLS[name](np, X, ROWS))
    with backend.scope():
        x, a = backend.asarray(X), backend.asarray(ROWS)
        xp = backend.xp if which == "xp" else namespace(x)
        memory, found = backend.driver.new_memory(backend), []
        with backend.driver.using(memory):
            CALLS[name](xp, x, a)  # compiles
            graph = backend.driver.capture(lambda: found.append(CALLS[name](xp, x, a)))
        backend.driver.launch(graph)
        found = backend.to_numpy(found[0])
    assert found.dtype == expected.dtype
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-12, equal_nan=True)
