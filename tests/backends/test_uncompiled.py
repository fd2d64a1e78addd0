"""What NumPy alone does faster than the portable functions: the two compared, on drawn shapes and in whole networks."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portnn
from drawn_arrays import laid_out, numbers
from portnn import activations, losses, ops
from portnn.ops.windows import window_plan
from portnn.training import fusion
from portnn_numpy import _pooling, namespace
from portnn_numpy.backend import NumpyBackend
from portnn_numpy.uncompiled import ops as fast
from portnn_numpy.uncompiled import training

PLAIN = NumpyBackend(compile=False)
OPS, PORTABLE = ops.bind(PLAIN, "auto"), ops.bind(PLAIN, "portable")
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
drawn = settings(max_examples=80, deadline=None)
dtypes = st.sampled_from(["float32", "float64"])


@pytest.fixture(scope="module", autouse=True)
def any_size():
    """Rows of patches are used for short rows too, and sums and blocks are so small that there are several."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(fast, "FEWEST_COLUMNS", 1)
        patch.setattr(fast, "MOST_SUMS", 200)
        patch.setattr(_pooling, "BLOCK", 700)
        yield


layouts = st.sampled_from(["batch fastest", "as it is", "with gaps", "read-only"])


def close(a, b, terms=1):
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    limit = TOLERANCE[a.dtype.name] * max(1.0, terms**0.5)
    np.testing.assert_allclose(a, b, rtol=limit, atol=limit)


@st.composite
def convolutions(draw):
    """A plan, groups, and the numbers of channels and filters."""
    axes = draw(st.integers(1, 3))
    sizes = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(axes))  # noqa: E731
    pads = draw(st.sampled_from(["valid", "same", "odd"]))
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes)) if pads == "odd" else pads
    plan = window_plan(sizes(5, 8), sizes(1, 3), sizes(1, 2), padding, sizes(1, 2))
    groups = draw(st.integers(1, 3))
    return plan, groups, groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 4))


@given(convolutions(), st.integers(0, 5), dtypes, layouts, st.integers(0, 99))
@drawn
def test_convolution_and_its_derivatives(convolution, n, dtype, layout, seed):
    plan, groups, channels, filters = convolution
    x = laid_out(numbers(seed, n, *plan.image, channels, dtype=dtype), layout)
    w = laid_out(numbers(seed + 1, *plan.kernel, channels // groups, filters, dtype=dtype), layout)
    d = laid_out(numbers(seed + 2, n, *plan.output, filters, dtype=dtype), layout)
    (y, seen), (y0, seen0) = (table.convolution(x, w, plan, groups) for table in (OPS, PORTABLE))
    dilated = plan.starts[-1][0] != plan.kernel[0] - 1
    assert isinstance(seen, fast._Lines) == (n > 0 and plan.kernel[0] > 1 and not dilated)
    close(y, y0, w.size)
    dw = OPS.convolution_gradient(seen, d, plan, w.shape)
    close(dw, PORTABLE.convolution_gradient(seen0, d, plan, w.shape), y.size)
    dx = OPS.convolution_backward(w, d, plan, groups)
    close(dx, PORTABLE.convolution_backward(w, d, plan, groups), w.size)


def test_patches_take_less_memory():
    plan = window_plan((9, 8), (5, 3))
    x = numbers(0, 4, 9, 8, 2)
    _, seen = OPS.convolution(x, numbers(1, 5, 3, 2, 6), plan)
    assert seen.lines.size == 4 * 9 * 3 * 2 * 6  # N, rows, w, C, W'
    p = PORTABLE.patches(x, plan)[0].reshape(5 * 3 * 2, 4, 5, 6)  # (K, N, H', W')
    np.testing.assert_array_equal(seen.patches()[0].reshape(5, -1, 6, 4), p.transpose(2, 0, 3, 1))


def test_short_rows_keep_whole_patches(monkeypatch):
    monkeypatch.setattr(fast, "FEWEST_COLUMNS", 512)
    plan, w = window_plan((6, 18), (3, 3)), numbers(1, 3, 3, 2, 4)
    kinds = [type(OPS.convolution(numbers(0, n, 6, 18, 2), w, plan)[1]) for n in (31, 32)]
    assert kinds == [list, fast._Lines]


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"broadcast|reshape|shape"):
        OPS.convolution(numbers(0, 4, 5, 5, 2), numbers(1, 3, 3, 2, 4), window_plan((8, 8), (3, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_odd_values_stay_where_they_belong(value):
    plan, w = window_plan((7, 6), (3, 2)), numbers(1, 3, 2, 2, 3)
    x, d = numbers(0, 4, 7, 6, 2), numbers(2, 4, 5, 5, 3)
    x[1, 3, 2, 0] = d[2, 0, 4, 1] = value
    y, dx = OPS.convolution(x, w, plan)[0], OPS.convolution_backward(w, d, plan)
    for found, expected in ((y, PORTABLE.convolution(x, w, plan)[0]), (dx, PORTABLE.convolution_backward(w, d, plan))):
        close(found, expected, w.size)
        assert 0 < np.sum(~np.isfinite(found)) < found.size / 4


@given(
    st.integers(0, 4), st.integers(1, 5), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]),
    st.sampled_from(["valid", "same"]), dtypes, st.sampled_from([0.0, 0.1]), st.integers(0, 99),
)  # fmt: skip
@drawn
def test_max_pooling_in_blocks_of_channels(n, channels, kernel, stride, padding, dtype, nan, seed):
    plan = window_plan((7, 6), (kernel, kernel), stride, padding)
    x = np.round(numbers(seed, n, 7, 6, channels, dtype=dtype))  # with several largest
    x[np.random.default_rng(seed).random(x.shape) < nan] = np.nan
    d, y = numbers(seed + 1, n, *plan.output, channels, dtype=dtype), PORTABLE.max_pool(x, plan)
    close(OPS.max_pool_backward(x, y, d, plan), PORTABLE.max_pool_backward(x, y, d, plan))


@given(st.sampled_from([(6, 6), (7, 5)]), st.integers(1, 4), dtypes, st.sampled_from(["relu", "tanh"]), st.booleans())
@drawn
def test_the_chain_rule_behind_max_pooling(image, channels, dtype, name, nan):
    """Of windows that do not overlap; the sums are dE/dB."""
    f, f_prime = getattr(activations, name), getattr(activations, f"{name}_prime")
    chain = PLAIN.implementation(activations.CHAINS[f, f_prime])
    Y = laid_out(f(numbers(0, 3, *image, channels, dtype=dtype)), "batch fastest")
    if nan:
        Y[1, 2, 3, 0] = np.nan
    plan = window_plan(image, (2, 2), 2)
    P, d = OPS.max_pool(Y, plan), numbers(1, 3, *plan.output, channels, dtype=dtype)
    if nan and name == "tanh":
        assert training.pooled(Y, P, d, chain, "MaxPoolLayer", plan, OPS) is NotImplemented
        return
    D, sums = training.pooled(Y, P, d, chain, "MaxPoolLayer", plan, OPS)
    expected, none = fusion.pooled(Y, P, d, chain, "MaxPoolLayer", plan, PORTABLE)
    assert none is None
    close(D, expected)
    close(sums, expected.sum((0, 1, 2)), 100)
    for kind, other in (("AvgPoolLayer", plan), ("MaxPoolLayer", window_plan(image, (2, 2), 1))):
        assert training.pooled(Y, P, d, chain, kind, other, OPS) is NotImplemented


@given(st.integers(1, 9), st.integers(1, 5), dtypes, st.booleans(), st.integers(0, 99))
@drawn
def test_a_loss_and_its_derivative_are_those_of_the_two_functions(n, k, dtype, chained, seed):
    Y = np.tanh(numbers(seed, n, k, dtype=dtype))
    chain = PLAIN.implementation(activations.tanh_chain) if chained else None
    classes = np.random.default_rng(seed).integers(0, k, n)
    targets = numbers(seed + 1, n, k, dtype=dtype)
    error, D, sums = training.whole(classes, Y, *training.CROSS_ENTROPY, chain)
    expected, D0, none = fusion.whole(classes, Y, *training.CROSS_ENTROPY, chain)
    assert sums is none is None
    np.testing.assert_array_equal(error, expected)
    np.testing.assert_array_equal(D, D0)
    assert D.dtype == dtype
    assert training.whole(targets, Y, losses.mae, losses.mae_prime, chain) is NotImplemented
    assert training.whole(targets, Y, *training.CROSS_ENTROPY, chain) is NotImplemented  # one-hot rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k"), [(3, 256), (5, 1024), (70, 1152), (4, 1153), (1, 130), (0, 256)])
def test_rows_that_compete_in_the_cache_are_turned_right(n, k, dtype):
    x = np.arange(n * k, dtype=dtype).reshape(n, k)
    turned = namespace._turned(x)
    np.testing.assert_array_equal(turned, x.T)
    assert turned.flags.c_contiguous


def network(kernels):
    net = portnn.Network(seed=1, backend=PLAIN, kernels=kernels)
    net.add(portnn.ConvLayer((13, 11, 2), (3, 3), 5, padding="same"))
    net.add(portnn.ActivationLayer("relu"))
    net.add(portnn.MaxPoolLayer(2))
    net.add(portnn.ConvLayer((6, 5, 5), (3, 2), 4))
    net.add(portnn.ActivationLayer("tanh"))
    net.add(portnn.AvgPoolLayer(2))
    net.add(portnn.FlattenLayer())
    net.add(portnn.FCLayer(2 * 2 * 4, 3))
    net.use("softmax_cross_entropy", optimizer=portnn.SGD(0.05, momentum=0.9))
    return net


def test_a_network_trains_as_with_the_portable_functions():
    x, y = numbers(3, 37, 13, 11, 2), np.arange(37) % 3
    nets = [network(kernels) for kernels in ("auto", "portable")]
    errors = [net.fit(x, y, epochs=3, batch_size=8, verbose=0)["error"] for net in nets]
    assert isinstance(nets[0].layers[0].kept, fast._Lines)
    np.testing.assert_allclose(*errors, rtol=1e-4)
    for path, w in nets[0].parameters.items():
        np.testing.assert_allclose(w, nets[1].parameters[path], rtol=1e-3, atol=1e-5)


def test_compiled_loops_have_versions_of_their_own():
    """Within their calls BLAS has one thread, and their pool the others."""
    assert NumpyBackend(compile=False)._packages == ("portnn_numpy.uncompiled", "portnn_numpy")
    assert "portnn_numpy.uncompiled" not in NumpyBackend(compile=True)._packages or not NumpyBackend()._loops


def test_the_sum_over_many_rows_is_as_accurate_as_pairwise():
    """dE/dW for an error of ones is the sum of the patches."""
    plan, n = window_plan((64, 40), (3, 3)), 30
    x = np.random.default_rng(5).random((n, 64, 40, 1), np.float32)
    _, seen = OPS.convolution(x, numbers(1, 3, 3, 1, 2), plan)
    dw = OPS.convolution_gradient(seen, np.ones((n, *plan.output, 2), np.float32), plan, (3, 3, 1, 2))
    windows = [x[(slice(None), *window)].astype(np.float64).sum() for window in plan.windows]
    assert prod(plan.output) * n > 70_000
    np.testing.assert_allclose(dw[..., 0, 0].reshape(-1), windows, rtol=1e-6)
