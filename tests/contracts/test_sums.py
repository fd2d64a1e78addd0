"""Sums and means of many float32 numbers are as accurate as blockwise summation, whatever the memory layout.

Naive summation of a constant, a hundred thousand times, has an error of some tenths of a percent. The bounds here are
relative to the sum (or mean) of the absolute values, like the error bounds of summation.
"""

import array_api_strict
import numpy as np
import pytest

import portnn
from portnn import losses, ops
from portnn.activations import log_softmax, softmax
from portnn.layers.layer import Layer

BOUND = 1e-6
RNG = np.random.default_rng(11)
TABLES = {
    "numpy": (portnn.get_backend("cpu"), "auto"),
    "portable": (portnn.get_backend("cpu"), "portable"),
    "generic": (portnn.get_backend(np), "auto"),
    "strict": (portnn.get_backend(array_api_strict), "auto"),
}
tables = pytest.mark.parametrize("where", TABLES)
ORDERS = ["samples first", "batch fastest"]
orders = pytest.mark.parametrize("order", ORDERS)
KINDS = ["constant", "uniform", "far from zero"]


def numbers(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.full(shape, 123.456, np.float32)
    x = rng.random(shape, np.float32)
    return x if kind == "uniform" else x + np.float32(1000.0)


def laid(x, order):
    """The same values, C-contiguous or, if "batch fastest", with the first axis innermost and the last outermost."""
    if order == "samples first":
        return np.ascontiguousarray(x)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(x, 0, -1), -2, 0)).transpose(
        x.ndim - 1, *range(1, x.ndim - 1), 0
    )


def built(layer, sample, where, dtype="float32"):
    backend, kernels = TABLES[where]
    for part in layer.walk():
        part.kernels = kernels
    layer.build(sample, backend, dtype, 7, "0")
    return layer


def there(where, x):
    backend = TABLES[where][0]
    return x if backend.owns(x) else backend.asarray(x)


def back(where, x):
    return np.asarray(TABLES[where][0].to_numpy(x))


def off(found, numbers, axes, count=1, **options):
    """The largest error of a sum (or of a mean over ``count``), relative to that of the absolute values."""
    numbers = numbers.astype(np.float64)
    exact = numbers.sum(axis=axes, **options) / count
    assert found.shape == exact.shape
    return float(np.max(np.abs(found - exact) / (np.abs(numbers).sum(axis=axes, **options) / count)))


# -- total -------------------------------------------------------------------------------------------------------------

SHAPES = [
    ((100_003,), 0),
    ((100_003,), None),
    ((100_003, 3), 0),
    ((100_003, 1), 0),
    ((3, 50_001), 1),
    ((128, 10), 0),
    ((128, 500), (0,)),
    ((250, 7), -2),
    ((64, 32, 33, 3), (0, 1, 2)),
    ((64, 32, 33, 3), (2, 0, 1)),
    ((8, 40, 40, 6), (1, 2)),
    ((8, 700, 2, 9), (1, 3)),
    ((8, 700, 2, 9), (-3, -1)),
    ((2, 3, 70, 3, 70, 5), (2, 4)),
    ((2, 9, 5000), -1),
]


@tables
@orders
@pytest.mark.parametrize("kind", KINDS)
def test_total(where, order, kind):
    backend, kernels = TABLES[where]
    total = ops.bind(backend, kernels).total
    for shape, axes in SHAPES:
        x = laid(numbers(kind, shape), order) if len(shape) > 1 else numbers(kind, shape)
        for keepdims in (False, True):
            y = back(where, total(there(where, x), axes, keepdims))
            assert y.dtype == np.float32
            assert off(y, x, axes, keepdims=keepdims) < BOUND, (shape, axes)


@tables
def test_total_of_slices_of_few_and_of_none(where):
    backend, kernels = TABLES[where]
    total = ops.bind(backend, kernels).total
    x = RNG.random((300, 40, 6))
    for part in (x[::3], x[:, ::-1], x[10:277, 3:30, 1:4], x[:, :, ::2], x[:0], x[:2, :3], x[:1]):
        for axes in (0, 1, (0, 1), (0, 2), (2, 1), None):
            for keepdims in (False, True):
                found = back(where, total(there(where, part), axes, keepdims))
                assert np.allclose(found, part.sum(axis=axes, keepdims=keepdims), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("n", [200, 5000])
def test_total_keeps_nan_and_infinity_in_their_columns(n):
    for where in TABLES:
        backend, kernels = TABLES[where]
        x = np.ones((n, 4))
        x[3, 1], x[n - 2, 2], x[7, 3] = np.inf, np.nan, -np.inf
        found = back(where, ops.bind(backend, kernels).total(there(where, x), 0))
        assert np.array_equal(found, [n, np.inf, np.nan, -np.inf], equal_nan=True)


def test_a_users_layer_has_such_sums_too():
    class Sums(Layer):
        def forward(self, X, *, training=False):
            return self.xp.sum(self.accept(X), axis=(1, 2))

        def backward(self, output_error, *, need_input_error=True):
            raise NotImplementedError

    x = numbers("constant", (2, 200, 300, 3))
    assert off(Sums()(x), x, (1, 2)) < BOUND
    assert Sums().xp.sum(np.ones(3, np.float32), dtype=np.float64).dtype == np.float64
    assert Sums().xp.sum(np.array([True, True])) == 2


# -- normalization -----------------------------------------------------------------------------------------------------


@tables
@orders
def test_batch_norm_of_a_constant_image(where, order):
    x = laid(numbers("constant", (64, 32, 32, 3)), order)
    layer = built(portnn.BatchNormLayer(momentum=1.0), (32, 32, 3), where)
    assert np.abs(back(where, layer.forward_propagation(there(where, x)))).max() < 1e-3
    assert np.allclose(back(where, layer.new_buffers["running_mean"]), x[0, 0, 0], rtol=2e-7)
    assert np.abs(back(where, layer.new_buffers["running_var"])).max() < 1e-9


def reference(x, d, axes):
    """The normalized values Z and dE/dX, in float64."""
    x, d = x.astype(np.float64), d.astype(np.float64)
    z = x - x.mean(axis=axes, keepdims=True)
    scale = 1.0 / np.sqrt((z * z).mean(axis=axes, keepdims=True) + 1e-5)
    z = z * scale
    along = (d * z).mean(axis=axes, keepdims=True)
    return z, scale * (d - d.mean(axis=axes, keepdims=True) - z * along)


@tables
@orders
def test_batch_norm_far_from_zero(where, order):
    x = (1000.0 + np.random.default_rng(1).standard_normal((256, 14, 14, 4))).astype(np.float32)
    d = numbers("far from zero", x.shape, seed=2)
    z, dx = reference(x, d, (0, 1, 2))
    layer = built(portnn.BatchNormLayer(momentum=1.0), (14, 14, 4), where)
    found = back(where, layer.forward_propagation(there(where, laid(x, order))))
    assert np.abs(found - z).max() < 1e-5
    variance = x.astype(np.float64).var(axis=(0, 1, 2), ddof=1)
    assert np.allclose(back(where, layer.new_buffers["running_var"]), variance, rtol=1e-5)
    error = back(where, layer.backward_propagation(there(where, laid(d, order))))
    assert np.abs(error - dx).max() < 4e-4  # dE/dY is about 1000, where one ulp is 6e-5
    assert off(back(where, layer.gradients["bias"]), d, (0, 1, 2)) < BOUND
    assert off(back(where, layer.gradients["weights"]), d * z, (0, 1, 2)) < BOUND


@tables
@orders
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (portnn.LayerNormLayer, (3, 7)),
        (portnn.LayerNormLayer, (3, 20_000)),
        (portnn.LayerNormLayer, (2, 5, 5, 300)),
        (lambda: portnn.GroupNormLayer(2), (2, 40, 40, 6)),
        (lambda: portnn.GroupNormLayer(3), (2, 50, 6)),
    ],
)
def test_normalization_within_a_sample(where, order, make, shape):
    layer = built(make(), shape[1:], where)
    x = np.full(shape, 12345.0, np.float32)
    assert np.abs(back(where, layer.forward_propagation(there(where, laid(x, order))))).max() < 1e-3
    x = (500.0 + np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
    groups = getattr(layer, "groups", None)
    grouped = (shape[0], -1, groups, shape[-1] // groups) if groups else shape
    axes = (1, 3) if groups else (len(shape) - 1,)
    d = numbers("uniform", shape, seed=3)
    z, dx = reference(x.reshape(grouped), d.reshape(grouped), axes)
    assert np.abs(back(where, layer.forward_propagation(there(where, laid(x, order)))) - z.reshape(shape)).max() < 1e-5
    assert (
        np.abs(back(where, layer.backward_propagation(there(where, laid(d, order)))) - dx.reshape(shape)).max() < 2e-6
    )


@tables
def test_normalization_of_one_number_and_of_nothing(where):
    layer = built(portnn.BatchNormLayer(), (4,), where)
    assert back(where, layer.forward_propagation(there(where, np.zeros((0, 4), np.float32)))).shape == (0, 4)
    layer = built(portnn.LayerNormLayer(), (1,), where)
    assert np.all(back(where, layer.forward_propagation(there(where, np.full((3, 1), 7e4, np.float32)))) == 0.0)


# -- gradients of biases, pooling --------------------------------------------------------------------------------------


@tables
@pytest.mark.parametrize("rows", [128, 250, 200_001])
def test_bias_gradient_of_a_fully_connected_layer(where, rows):
    layer = built(portnn.FCLayer(1, 3), (1,), where)
    layer.forward_propagation(there(where, np.zeros((rows, 1), np.float32)))
    for kind in KINDS:
        d = numbers(kind, (rows, 3))
        layer.backward_propagation(there(where, d))
        assert off(back(where, layer.gradients["bias"]), d, 0, keepdims=True) < BOUND


@tables
@orders
def test_bias_gradient_of_a_convolution(where, order):
    layer = built(portnn.ConvLayer((30, 30, 1), (1, 1), 3), (30, 30, 1), where)
    layer.forward_propagation(there(where, np.zeros((70, 30, 30, 1), np.float32)))
    d = numbers("constant", (70, 30, 30, 3))
    layer.backward_propagation(there(where, laid(d, order)))
    assert off(back(where, layer.gradients["bias"]), d, (0, 1, 2)) < BOUND


@tables
@orders
@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_means_of_images(where, order, kind):
    x = numbers(kind, (2, 512, 512, 2))
    layer = built(portnn.GlobalAvgPoolLayer(), x.shape[1:], where)
    assert off(back(where, layer(there(where, laid(x, order)))), x, (1, 2), 512 * 512) < BOUND
    x = numbers(kind, (17, 64, 64, 2))
    layer = built(portnn.AvgPoolLayer(64), x.shape[1:], where)
    assert off(back(where, layer(there(where, laid(x, order))))[:, 0, 0], x, (1, 2), 64 * 64) < BOUND


@tables
@orders
def test_upsample_backward(where, order):
    layer = built(portnn.UpsampleLayer(100), (2, 2, 3), where)
    layer.forward_propagation(there(where, np.zeros((2, 2, 2, 3), np.float32)))
    d = numbers("constant", (2, 200, 200, 3))
    found = back(where, layer.backward_propagation(there(where, laid(d, order))))
    assert off(found, d.reshape(2, 2, 100, 2, 100, 3), (2, 4)) < BOUND


# -- softmax, losses, the error of an epoch ----------------------------------------------------------------------------


@orders
@pytest.mark.parametrize("namespace", [np, array_api_strict])
def test_softmax_over_a_long_axis(order, namespace):
    x = numbers("uniform", (3, 200_000))
    given = namespace.asarray(laid(x, order)) if namespace is not np else laid(x, order)
    z = np.exp(x.astype(np.float64))
    exact = z / z.sum(axis=-1, keepdims=True)
    assert np.abs(np.asarray(softmax(given)) / exact - 1.0).max() < BOUND
    assert (
        np.abs(np.asarray(log_softmax(given)) - np.log(exact)).max() < 4e-6
    )  # values around 12, where one ulp is 1e-6


@tables
@orders
def test_softmax_layer_over_a_long_axis(where, order):
    x, d = numbers("uniform", (2, 100_000)), numbers("constant", (2, 100_000), seed=1)
    layer = built(portnn.SoftmaxLayer(), x.shape[1:], where)
    layer.forward_propagation(there(where, laid(x, order)))
    dx = back(where, layer.backward_propagation(there(where, laid(d, order))))
    y = back(where, layer.output)
    assert np.abs(dx / y).max() < 123.456 * 2e-6  # exactly 0 if dE/dY is constant


@orders
@pytest.mark.parametrize("n", [1000, 100_000, 2_000_000])
@pytest.mark.slow
def test_losses_of_large_batches(order, n):
    cpu = portnn.get_backend("cpu")
    y, t = laid(np.full((n, 2), 0.1, np.float32), order), np.zeros((n, 2), np.float32)
    d = float(np.float32(0.1))
    for name, exact in (("mse", d * d), ("mae", d), ("hinge", 1.0), ("binary_cross_entropy", np.log1p(np.exp(d)))):
        for loss in (losses.PAIRS[name][0], ops.implementation(cpu, "auto", losses.PAIRS[name][0])):
            assert float(loss(t, y)) == pytest.approx(exact, rel=BOUND), name
    for labels in (np.zeros(n, np.int64), np.eye(2, dtype=np.float32)[np.zeros(n, np.int64)]):
        for loss in (losses.softmax_cross_entropy, ops.implementation(cpu, "auto", losses.softmax_cross_entropy)):
            assert float(loss(labels, y)) == pytest.approx(np.log(2.0), rel=BOUND)


def test_cross_entropy_of_many_classes_in_any_order():
    fast = ops.implementation(portnn.get_backend("cpu"), "auto", losses.softmax_cross_entropy)
    prime = ops.implementation(portnn.get_backend("cpu"), "auto", losses.softmax_cross_entropy_prime)
    y = np.zeros((300, 20_000), np.float32) + np.float32(0.3)
    rows = np.full(y.shape, 1.0 / 20_000, np.float32)
    for order in ORDERS:
        for targets in (np.arange(300), laid(rows, order)):
            assert float(fast(targets, laid(y, order))) == pytest.approx(np.log(20_000.0), rel=BOUND)
        share = prime(np.zeros(300, np.int64), laid(y, order))[:, 1:] * (300 * 20_000)
        assert np.abs(share - 1.0).max() < BOUND
        assert np.abs(prime(laid(rows, order), laid(y, order))).max() * 20_000 * 300 < 2e-6


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_the_error_of_an_epoch_and_the_metrics(kernels):
    n = 300_000
    net = portnn.Network([portnn.FCLayer(1, 1, bias=False)], seed=0, kernels=kernels)
    net.use("mse", optimizer=portnn.SGD(0.0), metrics=["accuracy"])
    net.parameters["0.weights"][...] = 0.1
    x, y = np.ones((n, 1), np.float32), np.zeros((n, 1), np.float32)
    y[: n // 3] = 1.0
    exact = (float(np.float32(0.1)) - 1.0) ** 2 / 3.0 + float(np.float32(0.1)) ** 2 * 2.0 / 3.0
    for batch_size in (n, 7, 1000):
        if batch_size == 7:
            x, y, n = x[-2100:], y[-2100:], 2100
            exact = float(np.float32(0.1)) ** 2
        history = net.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
        assert history["error"][0] == pytest.approx(exact, rel=BOUND)
        found = net.evaluate(x, y, batch_size=batch_size)
        assert found["error"] == pytest.approx(exact, rel=BOUND)
        assert found["accuracy"] == history["accuracy"][0] == pytest.approx(np.mean(y < 0.5), rel=1e-12)


# -- the GPU kernels ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param("gpu", marks=pytest.mark.gpu)])
def gpu(request):
    backend = portnn.get_backend(request.param)
    with backend.scope():
        yield backend


@pytest.fixture
def fused(gpu):
    """The fused routines, and the transfers to and from the device."""
    return ops.bind(gpu, "auto"), gpu.asarray, gpu.to_numpy


@pytest.mark.parametrize("kind", KINDS)
def test_total_on_the_gpu(fused, kind):
    table, to, back = fused
    for shape, axes in [*SHAPES, ((1, 5), 0), ((0, 5), 0), ((70, 0), 0), ((257, 2), 0), ((3, 4), (0, 1))]:
        x = numbers(kind, shape)
        for keepdims in (False, True):
            found = back(table.total(to(x), axes, keepdims))
            exact = x.astype(np.float64).sum(axis=axes, keepdims=keepdims)
            assert found.shape == exact.shape
            assert np.abs(found - exact).max(initial=0.0) <= BOUND * np.abs(exact).max(initial=0.0), (shape, axes)
    x = numbers(kind, (3, 50_001))
    assert off(back(table.total(to(np.ascontiguousarray(x.T)).T, 1)), x, 1) < BOUND  # a transposed array
    x = np.ones((1000, 3), np.float32)
    x[5, 0], x[900, 1], x[77, 2] = np.inf, np.nan, -np.inf
    assert np.array_equal(back(table.total(to(x), 0)), [np.inf, np.nan, -np.inf], equal_nan=True)


def test_normalization_on_the_gpu(fused):
    table, to, back = fused
    x = numbers("constant", (64, 32, 32, 3))
    z, _, mean, variance = map(back, table.normalize(to(x), (0, 1, 2), 1e-5))
    assert np.abs(z).max() < 1e-3
    assert np.all(variance >= 0.0)
    assert np.abs(mean - x[0, 0, 0]).max() < 1e-5
    z, *_ = map(back, table.normalize(to(np.full((50_000, 1), 1e10, np.float32)), (0,), 1e-5))
    assert np.isfinite(z).all()
    x = (1000.0 + np.random.default_rng(1).standard_normal((256, 14, 14, 4))).astype(np.float32)
    d = numbers("far from zero", x.shape, seed=2)
    exact, dx = reference(x, d, (0, 1, 2))
    z, scale, _, variance = table.normalize(to(x), (0, 1, 2), 1e-5)
    assert np.abs(back(z) - exact).max() < 1e-5
    assert np.allclose(back(variance)[0, 0, 0], x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-5)
    assert np.abs(back(table.normalize_backward(to(d), z, scale, (0, 1, 2))) - dx).max() < 4e-4


def test_average_pooling_on_the_gpu(fused):
    from portnn.ops.windows import window_plan

    table, to, back = fused
    x = numbers("constant", (2, 100, 100, 2))
    found = back(table.avg_pool(to(x), window_plan((100, 100), (100, 100), 1)))
    assert off(found[:, 0, 0], x, (1, 2), 10_000) < BOUND


def test_cross_entropy_of_many_classes_on_the_gpu(gpu):
    to, back = gpu.asarray, gpu.to_numpy
    y, labels = numbers("uniform", (3, 50_000)), np.array([0, 7, 49_999])
    z = np.exp(y.astype(np.float64))
    p = z / z.sum(axis=1, keepdims=True)
    loss, prime = (
        ops.implementation(gpu, "auto", f) for f in (losses.softmax_cross_entropy, losses.softmax_cross_entropy_prime)
    )
    exact = -np.log(p[[0, 1, 2], labels]).mean()
    assert float(back(loss(to(labels), to(y)))) == pytest.approx(exact, rel=3e-7)
    share = back(prime(to(labels), to(y)))[:, 10:40_000] * 3
    assert np.abs(share / p[:, 10:40_000] - 1.0).max() < BOUND
