"""Extreme values: infinities, huge numbers and NaN, with ``numpy.errstate(all="raise")``."""

import inspect

import array_api_strict
import numpy as np
import pytest

import portnn
from portnn import activations, losses, metrics, ops
from portnn.ops.windows import window_plan

INF, NAN = np.inf, np.nan
CPU = portnn.get_backend("cpu")
namespaces = pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "strict"])
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# -- activations -------------------------------------------------------------------------------------------------------

SELU_LOW = -activations.SELU_SCALE * activations.SELU_ALPHA
# f(-inf), f(inf), f'(-inf), f'(inf); "x" stands for x itself, times a factor from SLOPES
LIMITS = {
    "tanh": (-1.0, 1.0, 0.0, 0.0),
    "sigmoid": (0.0, 1.0, 0.0, 0.0),
    "relu": (0.0, "x", 0.0, 1.0),
    "leaky_relu": ("0.01x", "x", 0.01, 1.0),
    "elu": (-1.0, "x", 0.0, 1.0),
    "selu": (SELU_LOW, "sx", 0.0, activations.SELU_SCALE),
    "gelu": (0.0, "x", 0.0, 1.0),
    "gelu_tanh": (0.0, "x", 0.0, 1.0),
    "silu": (0.0, "x", 0.0, 1.0),
    "softplus": (0.0, "x", 0.0, 1.0),
    "softsign": (-1.0, 1.0, 0.0, 0.0),
    "hard_sigmoid": (0.0, 1.0, 0.0, 0.0),
}
SLOPES = {"x": 1.0, "0.01x": 0.01, "sx": activations.SELU_SCALE}


@namespaces
@dtypes
@pytest.mark.parametrize("name", activations.PAIRS)
def test_limits_of_activations(name, dtype, xp):
    f, f_prime = activations.PAIRS[name]
    assert name in LIMITS, f"add {name!r} to LIMITS in this file: f and f' at minus and plus infinity"
    below, above, prime_below, prime_above = LIMITS[name]
    real = np.dtype(dtype).type
    for size in (1e4, 1e10, 1e19, 1e20, 1e30, 1e38, INF, *([1e200, 1e308] if dtype == "float64" else [])):
        x = xp.asarray(np.array([-size, size], dtype))
        with np.errstate(all="raise"):
            values, primes = np.asarray(f(x)), np.asarray(f_prime(x))
        for value, limit, edge in ((values[0], below, -size), (values[1], above, size)):
            expected = real(SLOPES[limit]) * real(edge) if isinstance(limit, str) else limit
            assert np.isclose(value, expected, rtol=1e-6, atol=2e-4 if name == "softsign" else 0.0), (size, value)
        assert np.allclose(primes, [prime_below, prime_above], rtol=1e-6, atol=2e-8), (size, primes)
    assert np.isnan(np.asarray(f(xp.asarray(np.array([NAN], dtype)))))


@dtypes
@pytest.mark.parametrize("name", activations.PAIRS)
def test_the_quick_ones_have_these_limits_too(name, dtype):
    """The fast versions: small arrays, and large ones in compiled loops."""
    f, f_prime = activations.PAIRS[name]
    edges = np.array([-INF, -1e38, -30.0, -1e-30, -0.0, 0.0, 0.5, 30.0, 1e38, INF, NAN], dtype)
    chain = activations.CHAINS.get((f, f_prime))
    chain = chain and ops.implementation(CPU, "auto", chain)
    table = ops.bind(CPU, "auto")
    for copies in (1, 2000):
        x = np.tile(edges, (copies, 1))
        with CPU.scope():
            y = ops.implementation(CPU, "auto", f)(x)
            assert np.allclose(y, f(x), rtol=1e-6, atol=1e-7, equal_nan=True)
            d = np.full_like(x, 3.0)
            if chain:
                if name != "relu":  # relu's chain rule reads Y > 0, which is false for NaN
                    assert np.isnan(chain(y, d)[:, -1]).all() == np.isnan(f_prime(edges)[-1])
                assert np.allclose(chain(y, d)[:, :-1], (f_prime(x) * 3.0)[:, :-1], rtol=1e-5, atol=1e-6)
            if name in ("tanh", "relu"):
                joined = table.biased(x.copy(), np.zeros(11, dtype), f)
                assert np.allclose(joined, f(x), rtol=1e-6, atol=1e-7, equal_nan=True)


@dtypes
@pytest.mark.parametrize("name", activations.PAIRS)
def test_what_is_cut_off_changes_no_other_value(name, dtype):
    """Where x is clipped, and on both sides of that point, values match the exact formula in higher precision."""
    f, f_prime = activations.PAIRS[name]
    x = np.concatenate([np.linspace(-60, 60, 601), [-1001.0, -999.0, -800.0, -744.0, -100.0, 100.0, 800.0, 1001.0]])
    wide = x.astype(np.longdouble)
    true, slope = TRUE[name](wide) if name in TRUE else (None, None)
    if true is None:
        for function in (f, f_prime):
            names = inspect.unwrap(function).__code__.co_names
            assert "_within" not in names, f"{function.__name__} clips x: add {name!r} to TRUE in this file"
        pytest.skip("nothing is clipped")
    tiny = float(np.finfo(dtype).tiny)
    rtol = 3e-5 if dtype == "float32" else 1e-11
    at = 2e-6 if dtype == "float32" else 1e-13  # 1 + tanh and 1 + erf cancel far below zero
    assert np.allclose(f(x.astype(dtype)), true.astype(np.float64), rtol=rtol, atol=at * (name != "silu") + tiny * 2000)
    assert np.allclose(f_prime(x.astype(dtype)), slope.astype(np.float64), rtol=rtol, atol=at)


def _true_silu(x):
    s = 1.0 / (1.0 + np.exp(-x))
    return x * s, s + x * s * (1.0 - s)


def _true_gelu_tanh(x):
    u = np.sqrt(np.longdouble(2.0) / np.longdouble(np.pi)) * (x + activations.GELU_CUBE * x**3)
    inner = np.sqrt(2.0 / np.pi) * (1.0 + 3.0 * activations.GELU_CUBE * x * x)
    t = np.tanh(u)
    return 0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner


def _true_softsign(x):
    return x / (1.0 + abs(x)), 1.0 / (1.0 + abs(x)) ** 2


def _true_gelu(x):
    from math import erfc, pi, sqrt

    below = np.array([0.5 * erfc(-float(v) / sqrt(2.0)) for v in x], np.longdouble)
    return x * below, below + x * np.exp(-x * x / 2.0) / sqrt(2.0 * pi)


TRUE = {"silu": _true_silu, "gelu_tanh": _true_gelu_tanh, "softsign": _true_softsign, "gelu": _true_gelu}


@namespaces
def test_softmax_with_classes_that_cannot_be(xp):
    y = xp.asarray(np.array([[-INF, 0.0, 0.0], [0.0, -INF, -INF]]))
    with np.errstate(all="raise"):
        assert np.allclose(np.asarray(activations.softmax(y)), [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
        assert np.allclose(np.asarray(activations.log_softmax(y)), [[-INF, -np.log(2), -np.log(2)], [0.0, -INF, -INF]])
    with np.errstate(invalid="ignore"):
        for row in ([-INF, -INF], [INF, 0.0], [NAN, 0.0]):  # as in PyTorch
            for f in (activations.softmax, activations.log_softmax):
                assert np.isnan(np.asarray(f(xp.asarray(np.array([row]))))).all()


# -- losses ------------------------------------------------------------------------------------------------------------

LOG2, LOG3 = np.log(2.0), np.log(3.0)
CROSS = [losses.softmax_cross_entropy, losses.SoftmaxCrossEntropy()]


def _pair(loss):
    return loss, losses.softmax_cross_entropy_prime if loss is losses.softmax_cross_entropy else loss.prime


def both_ways(function):
    """A loss function and its fast version for the CPU."""
    return function, ops.implementation(CPU, "auto", function)


@dtypes
@namespaces
@pytest.mark.parametrize("loss", CROSS, ids=["function", "object"])
def test_cross_entropy_with_classes_that_cannot_be(loss, xp, dtype):
    Y = np.array([[-INF, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, -INF, -INF]], dtype)
    numbers = np.array([1, 0, 0])
    one_hot = np.eye(3, dtype=dtype)[numbers]
    soft = np.array([[0.0, 0.25, 0.75], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype)
    for T in (numbers, one_hot, one_hot.astype(np.int64), soft):
        rows = one_hot if T.ndim == 1 else T
        p = np.array([[0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
        f, prime = _pair(loss)
        for E, dE in zip(both_ways(f), both_ways(prime), strict=True):
            if xp is not np and E is not f:
                continue
            with np.errstate(all="raise") if E is f else CPU.scope():
                assert float(E(xp.asarray(T), xp.asarray(Y))) == pytest.approx((LOG2 + LOG3) / 3, rel=1e-6)
                assert np.allclose(np.asarray(dE(xp.asarray(T), xp.asarray(Y))), (p - rows) / 3, atol=1e-7)
            wanted = np.array([0, 0, 0]) if T.ndim == 1 else np.eye(3, dtype=T.dtype)[[0, 0, 0]]
            with np.errstate(all="raise") if E is f else CPU.scope():
                assert float(E(xp.asarray(wanted), xp.asarray(Y))) == INF  # the target is a class with probability 0
            for bad in (NAN, INF):
                worse = Y.copy()
                worse[1, 1] = bad
                with np.errstate(invalid="ignore"):
                    assert np.isnan(float(E(xp.asarray(T), xp.asarray(worse))))
            with np.errstate(invalid="ignore"):
                assert np.isnan(float(E(xp.asarray(T), xp.asarray(np.full_like(Y, -INF)))))


@namespaces
def test_label_smoothing_asks_for_every_class(xp):
    loss = losses.SoftmaxCrossEntropy(label_smoothing=0.3)
    Y, T = xp.asarray(np.array([[-INF, 0.0, 0.0]])), xp.asarray(np.array([1]))
    assert float(loss(T, Y)) == INF
    assert np.allclose(np.asarray(loss.prime(T, Y)), [[-0.1, 0.5 - 0.8, 0.5 - 0.1]])


@dtypes
@namespaces
def test_binary_cross_entropy_of_infinite_logits(xp, dtype):
    def values(T, Y):
        T, Y = (xp.asarray(np.array([v], dtype)) for v in (T, Y))
        with np.errstate(all="raise"):
            E, dE = losses.binary_cross_entropy(T, Y), losses.binary_cross_entropy_prime(T, Y)
        return float(E), float(np.asarray(dE)[0])

    for huge in (1e4, 1e38, INF):
        assert values(1.0, huge) == (0.0, 0.0)
        assert values(0.0, -huge) == (0.0, 0.0)
        assert values(1.0, -huge) == (pytest.approx(huge, rel=1e-6), -1.0)
        assert values(0.0, huge) == (pytest.approx(huge, rel=1e-6), 1.0)
        assert values(0.25, huge) == (pytest.approx(0.75 * huge, rel=1e-6), 0.75)
        assert values(0.25, -huge) == (pytest.approx(0.25 * huge, rel=1e-6), -0.25)
    for T in (0.0, 0.5, 1.0):
        assert np.isnan(values(T, NAN)).all()
    for Y in (-3.0, -0.0, 0.0, 0.7, 30.0):
        for T in (0.0, 0.3, 1.0):
            p = 1.0 / (1.0 + np.exp(-Y))
            E = -(T * np.log(p) + (1.0 - T) * (np.log(1.0 - p) if Y < 30 else -Y))
            assert values(T, Y) == (pytest.approx(E, rel=1e-5, abs=1e-12), pytest.approx(p - T, rel=1e-5, abs=1e-7))


@namespaces
def test_other_losses_of_infinite_outputs(xp):
    T = xp.asarray(np.array([1.0, -1.0]))
    pairs = {**losses.PAIRS, "huber": (losses.Huber(), losses.Huber().prime)}
    expected = {  # the error and dE/dY * 2 for Y = (inf, -inf) and (-inf, inf)
        "mae": ((INF, [1.0, -1.0]), (INF, [-1.0, 1.0])),
        "huber": ((INF, [1.0, -1.0]), (INF, [-1.0, 1.0])),
        "hinge": ((0.0, [0.0, 0.0]), (INF, [-1.0, 1.0])),
        "mse": ((INF, [INF, -INF]), (INF, [-INF, INF])),
    }
    for name, rows in expected.items():
        loss, prime = pairs[name]
        for Y, (error, slope) in zip(([INF, -INF], [-INF, INF]), rows, strict=True):
            with np.errstate(all="raise"):
                assert float(loss(T, xp.asarray(np.array(Y)))) == error, name
                assert np.array_equal(np.asarray(prime(T, xp.asarray(np.array(Y)))) * 2, slope), name


@namespaces
@pytest.mark.parametrize("name", [*losses.PAIRS, "huber"])
def test_nan_in_nan_out(name, xp):
    loss, prime = {**losses.PAIRS, "huber": (losses.Huber(), losses.Huber().prime)}[name]
    T, Y = xp.asarray(np.array([[1.0, 0.0], [0.0, 1.0]])), xp.asarray(np.array([[NAN, 0.5], [0.5, 0.25]]))
    assert np.isnan(float(loss(T, Y)))
    slopes = np.isnan(np.asarray(prime(T, Y)))
    assert slopes[0, 0]
    assert not slopes[1].any()
    if xp is np:
        assert np.isnan(ops.implementation(CPU, "auto", loss)(T, Y))
        assert np.isnan(ops.implementation(CPU, "auto", prime)(T, Y)[0, 0])


@namespaces
def test_nan_is_no_right_answer(xp):
    def accuracy(T, Y, metric=metrics.accuracy):
        return np.asarray(metric(xp.asarray(np.array(T)), xp.asarray(np.array(Y)))).tolist()

    Y = [[NAN, 0.0], [1.0, NAN], [NAN, NAN], [1.0, 0.0], [INF, 0.0], [-INF, 0.0]]
    assert accuracy([0, 0, 0, 0, 0, 1], Y) == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert accuracy([1, 1, 1, 1, 1, 0], Y) == [0.0] * 6
    assert accuracy(np.eye(2)[[0, 0, 0, 0, 0, 1]], Y) == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert accuracy([0.0, 1.0, 0.0], [[NAN], [NAN], [-INF]]) == [0.0, 0.0, 1.0]
    assert accuracy([[0.0, 1.0]], [[NAN, 2.0]], metrics.logit_accuracy) == [0.5]


@dtypes
def test_one_hot_of_every_kind_of_number(dtype):
    for kind in ("uint8", "int8", "int32", "uint64", "int64"):
        for xp in (np, array_api_strict):
            backend = portnn.get_backend(xp)
            rows = ops.bind(backend, "portable").one_hot(xp.asarray(np.array([2, 0], kind)), 3, getattr(xp, dtype))
            assert np.array_equal(np.asarray(rows), [[0, 0, 1], [1, 0, 0]])


# -- pooling -----------------------------------------------------------------------------------------------------------


PLACES = ["numpy", "portable", "strict", "compiled", pytest.param("gpu", marks=pytest.mark.gpu)]


@pytest.fixture(params=PLACES)
def pooling(request):
    """max_pool and max_pool_backward on NumPy arrays, and how often a batch is repeated."""
    name, copies = request.param, 1
    if name == "compiled":
        pytest.importorskip("numba")
        backend, kernels, copies = CPU, "auto", 1200
    elif name == "gpu":
        backend, kernels = portnn.get_backend("gpu"), "auto"
    else:
        backend = portnn.get_backend(array_api_strict) if name == "strict" else CPU
        kernels = "auto" if name == "numpy" else "portable"
    with backend.scope():
        table = ops.bind(backend, kernels)

        def run(x, plan, d=None):
            x = np.repeat(x.astype(np.float32), copies, axis=0)
            y = table.max_pool(backend.asarray(x), plan)
            if d is None:
                d = np.arange(1.0, np.prod(y.shape[1:]) + 1).reshape(1, *y.shape[1:])
                d = np.repeat(d, y.shape[0], axis=0)
            dx = table.max_pool_backward(backend.asarray(x), y, backend.asarray(d.astype(np.float32)), plan)
            y, dx = np.asarray(backend.to_numpy(y)), np.asarray(backend.to_numpy(dx))
            assert np.array_equal(dx[:1], dx[-1:])
            return y[::copies], dx[::copies]

        yield run


def largest_first(x, plan):
    """dE/dX for one image with one channel: the error of a window goes to its first NaN, else its first maximum."""
    x = x[0, :, :, 0]
    dx, k = np.zeros(x.shape), 0
    for i in range(plan.output[0]):
        for j in range(plan.output[1]):
            k += 1
            pixels = [
                (a, b)
                for a in range(i * plan.stride[0] - plan.padding[0][0], i * plan.stride[0] - plan.padding[0][0] + 2)
                for b in range(j * plan.stride[1] - plan.padding[1][0], j * plan.stride[1] - plan.padding[1][0] + 2)
                if 0 <= a < x.shape[0] and 0 <= b < x.shape[1]
            ]
            nan = [p for p in pixels if np.isnan(x[p])]
            top = max((x[p] for p in pixels if not np.isnan(x[p])), default=None)
            dx[nan[0] if nan else next(p for p in pixels if x[p] == top)] += k
    return dx


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("values", [[-INF], [-INF, 0.0], [NAN, 1.0, -INF], [NAN], [INF, NAN, 2.0], [0.0, 1.0]])
def test_no_error_of_a_pooling_window_is_lost(pooling, values, padding, stride):
    rng = np.random.default_rng(5)
    plan = window_plan((4, 4), (2, 2), stride, padding)
    for _ in range(2):
        x = rng.choice(values, (1, 4, 4, 1))
        y, dx = pooling(x, plan)
        expected = largest_first(x, plan)
        assert np.array_equal(dx[0, :, :, 0], expected)
        count = np.prod(plan.output)
        assert dx.sum() == count * (count + 1) / 2
        if values == [-INF]:
            assert np.all(y == -INF)


@pytest.mark.parametrize("layer", [portnn.GlobalMaxPoolLayer(), portnn.MaxPoolLayer(2)])
def test_layers_that_pool_give_the_error_to_nan(layer):
    x = np.array([-INF, NAN, NAN, 5.0]).reshape(1, 2, 2, 1)
    y = layer.forward_propagation(x)
    assert np.isnan(y).all()
    assert layer.backward_propagation(np.ones_like(y)).reshape(-1).tolist() == [0.0, 1.0, 0.0, 0.0]
    y = layer.forward_propagation(np.full((1, 2, 2, 1), -INF))
    assert layer.backward_propagation(np.ones_like(y)).reshape(-1).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_means_of_infinite_pixels(kernels):
    x = np.array([[INF, 1.0, NAN, 1.0], [1.0, 1.0, 1.0, -INF]]).reshape(1, 2, 4, 1)
    table = ops.bind(CPU, kernels)
    assert np.array_equal(table.avg_pool(x, window_plan((2, 4), (2, 2), 2))[0, :, :, 0], [[INF, NAN]], equal_nan=True)
    assert np.array_equal(table.avg_pool(x, window_plan((2, 4), (1, 1), 1)), x, equal_nan=True)


@dtypes
def test_the_chain_rule_of_tanh_with_infinite_errors(dtype):
    """Infinite errors keep their sign instead of becoming NaN, in small arrays and in large ones."""
    chain = ops.implementation(CPU, "auto", activations.tanh_chain)
    for copies in (1, 10_000):
        y, d = (np.tile(np.array(v, dtype), copies) for v in ([0.5, 0.5, 0.0], [INF, -INF, 2.0]))
        assert np.array_equal(chain(y, d)[:3], [INF, -INF, 2.0])


@pytest.mark.parametrize("copies", [1, 10_000])
def test_a_users_function_with_a_derivative_of_ours(copies):
    """A step function with relu_prime as its surrogate gradient: here Y > 0 does not follow from X > 0."""
    layer = portnn.ActivationLayer(lambda x: np.where(x > 1.0, 1.0, -1.0).astype(x.dtype), activations.relu_prime)
    layer.forward_propagation(np.tile(np.array([[-0.5], [0.5], [1.5]], np.float32), (copies, 1)))
    found = layer.backward_propagation(np.full((3 * copies, 1), 7.0, np.float32))
    assert np.array_equal(found[:3], [[0.0], [7.0], [7.0]])
