"""Under any ``numpy.seterr`` setting, NumPy reports no floating-point errors, and divergence raises DivergedError."""

from contextlib import suppress

import numpy as np
import pytest

import portnn
from portnn import activations, losses
from portnn.training import DivergedError

INF, NAN = np.inf, np.nan
CPU = portnn.get_backend("cpu")
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# -- numpy.seterr --------------------------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("state", ["raise", "warn"])
def test_functions_alone_do_not_speak_of_underflow(dtype, state):
    x = np.array([[-3000.0, -200.0, -104.0, -90.0, -30.0, 0.0, 30.0, 90.0, 104.0, 200.0, 3000.0]], dtype)
    with np.errstate(all=state):
        for f, prime in activations.PAIRS.values():
            f(x), prime(x)
        activations.softmax(x), activations.log_softmax(x)
        T = np.zeros_like(x)
        T[0, 3] = 1.0
        for loss, prime in (*losses.PAIRS.values(), (losses.Huber(), losses.Huber().prime)):
            loss(T, x), prime(T, x)
        small = np.full((1, 11), 1e-30 if dtype == "float32" else 1e-200, dtype)
        for loss, prime in (*losses.PAIRS.values(), (losses.Huber(), losses.Huber().prime)):
            loss(np.zeros_like(small), small), prime(np.zeros_like(small), small)
        smooth = losses.SoftmaxCrossEntropy(label_smoothing=0.1)
        smooth(T, x), smooth.prime(T, x)
        assert np.geterr() == dict.fromkeys(("divide", "over", "under", "invalid"), state)


def network(backend="cpu", kernels="auto", dtype="float32"):
    layers = [
        portnn.ConvLayer((6, 6, 1), (3, 3), 2),
        portnn.BatchNormLayer(),
        portnn.ActivationLayer("gelu"),
        portnn.MaxPoolLayer(2),
        portnn.FlattenLayer(),
        portnn.FCLayer(8, 5),
        portnn.LayerNormLayer(),
        portnn.ActivationLayer("sigmoid"),
        portnn.DropoutLayer(0.2),
        portnn.FCLayer(5, 3),
    ]
    return portnn.Network(layers, backend=backend, kernels=kernels, seed=1, dtype=dtype)


OPTIMIZERS = [
    portnn.SGD(1e10),
    portnn.SGD(1e10, momentum=0.9),
    portnn.Adam(1e30),
    portnn.AdaGrad(1e30),
    portnn.RMSprop(1e38),
    portnn.SGD(1e10, clip_norm=1e30),
]
STATES = [{"all": "raise"}, {"all": "warn"}, {}]  # the test settings turn warnings into errors


@pytest.mark.parametrize("state", STATES, ids=str)
@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("backend", ["cpu", np], ids=["cpu", "generic"])
def test_a_fit_that_diverges_says_so_and_numpy_does_not(backend, kernels, state):
    x = np.random.default_rng(0).standard_normal((40, 6, 6, 1)) * 1e30
    labels = np.arange(40) % 3
    for optimizer in OPTIMIZERS:
        net = network(backend, kernels)
        net.use("softmax_cross_entropy", optimizer=optimizer, metrics=["accuracy"])
        with np.errstate(**state):
            before = np.geterr()
            with suppress(DivergedError):
                net.fit(x, labels, epochs=3, batch_size=8, verbose=0)
            net.predict(x)
            net.evaluate(x, labels)
            net.fit(x, labels, epochs=1, batch_size=8, verbose=0, check_finite=False)
            assert np.geterr() == before


@pytest.mark.parametrize("state", STATES, ids=str)
@pytest.mark.parametrize(
    "loss", ["mse", "mae", "hinge", "binary_cross_entropy", "softmax_cross_entropy", portnn.Huber()]
)
def test_diverged_error_comes_before_any_warning(loss, state):
    x = np.full((20, 4), 1e30)
    net = portnn.Network([portnn.FCLayer(4, 30), portnn.ActivationLayer("relu"), portnn.FCLayer(30, 2)], seed=3)
    net.use(loss, optimizer=portnn.SGD(1e10))
    with np.errstate(**state), pytest.raises(DivergedError):
        net.fit(
            x,
            np.eye(2)[np.arange(20) % 2] * 2.0 - 1.0 if loss == "hinge" else np.eye(2)[[0, 1] * 10],
            epochs=5,
            batch_size=4,
            verbose=0,
        )


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_a_usual_fit_under_seterr(kernels):
    """exp of very negative numbers and squares of small gradients underflow without an error."""
    x = np.random.default_rng(0).standard_normal((64, 6, 6, 1)) * 100.0
    for optimizer in (portnn.Adam(0.01), portnn.RMSprop(0.01), portnn.SGD(0.1, momentum=0.9)):
        net = network("cpu", kernels)
        net.use("softmax_cross_entropy", optimizer=optimizer)
        with np.errstate(all="raise"):
            net.fit(x * 1e-25, np.arange(64) % 3, epochs=2, batch_size=16, verbose=0)
            net.fit(x, np.arange(64) % 3, epochs=2, batch_size=16, verbose=0)
            net.predict(x)


def test_an_error_within_a_fit_leaves_the_users_setting():
    net = portnn.Network([portnn.FCLayer(2, 1)], seed=0)
    net.use("mse")
    with np.errstate(over="raise", under="warn"):
        before = np.geterr()
        with pytest.raises(ValueError, match="shape"):
            net.fit(np.ones((3, 2)), np.ones((3, 5)), epochs=1, learning_rate=0.1, verbose=0)
        assert np.geterr() == before


def test_what_a_network_runs_is_not_wrapped():
    """The error state is set once per call of the network, in ``scope``, not in every function."""
    for name, pair in activations.PAIRS.items():
        alone, layer = portnn.ActivationLayer(name), portnn.ActivationLayer(name)
        alone.build((3,), CPU, "float32", 0, "0")
        portnn.Network([layer])
        for run, by_itself, function in zip((layer.f, layer.f_prime), (alone.f, alone.f_prime), pair, strict=True):
            quiet = getattr(by_itself, "__wrapped__", None)
            assert quiet is run or quiet.__wrapped__ is run.__wrapped__
            assert run is not function or not hasattr(function, "__wrapped__")
            assert function.__name__.startswith(name)
            assert function.__doc__
    net = portnn.Network([portnn.FCLayer(2, 1)])
    net.use("mae")
    assert net.bound_loss is not portnn.mae
