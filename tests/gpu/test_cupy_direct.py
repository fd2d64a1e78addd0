"""Convolutions without patches in memory: the values, the bits and the choice between the two ways."""

import math
import zlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import portnn
import software_gpu
from portnn import activations, ops
from portnn.ops.windows import window_plan
from portnn.training import fusion
from software_gpu import control

pytestmark = pytest.mark.gpu
DTYPES = ["float32", "float64"]
LIMITS = {"float32": 1e-5, "float64": 1e-12}  # of the largest value
needs_software = pytest.mark.skipif(not software_gpu.is_wanted(), reason="only a GPU in software tells or draws that")


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def close(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.abs(found - expected).max() <= LIMITS[expected.dtype.name] * np.abs(expected).max()


PLAIN = ops.bind(portnn.get_backend(np), "portable")


class Case:
    """A convolution with its bias, relu or tanh, and a pooling layer behind it, on the device and with NumPy."""

    def __init__(self, backend, rng, dtype, plan, n, channels, filters, groups=1, kind="MaxPoolLayer", window=None):
        self.backend, self.plan, self.groups = backend, plan, groups
        self.fused = ops.bind(backend, "auto")
        shapes = (n, *plan.image, channels), (*plan.kernel, channels // groups, filters), (filters,)
        self.X, self.W, self.B = ((2 * rng.standard_normal(shape)).astype(dtype) for shape in shapes)
        self.D = rng.standard_normal((n, *plan.output, filters)).astype(dtype)
        window = window or tuple(min(2, m) for m in plan.output)
        name = "relu" if rng.random() < 0.5 else "tanh"
        self.f, self.chain = activations.PAIRS[name][0], activations.CHAINS[activations.PAIRS[name]]
        self.pooling = kind, window if hasattr(window, "output") else window_plan(plan.output, window, window)
        self.d = self.D[(slice(None), *map(slice, self.pooling[1].output))]  # dE/dY behind the pooling layer

    def forward(self):
        """Y, Y pooled, and ``seen``."""
        there = map(self.backend.asarray, (self.X, self.W, self.B))
        rest = self.f, self.plan, self.groups, self.pooling, True, self.fused
        return ops.implementation(self.backend, "auto", fusion.convolved)(*there, *rest)

    def run(self):
        """Y, Y pooled, dE/dW and dE/dX, on the device."""
        with self.backend.scope():
            Y, P, seen = self.forward()
            W, D = map(self.backend.asarray, (self.W, self.D))
            dW = self.fused.convolution_gradient(seen, D, self.plan, self.W.shape)
            return Y, P, dW, self.fused.convolution_backward(W, D, self.plan, self.groups)

    def expected(self):
        given = self.X, self.W, self.B, self.f, self.plan, self.groups
        Y, P, seen = fusion.convolved(*given, self.pooling, True, PLAIN)
        dW = PLAIN.convolution_gradient(seen, self.D, self.plan, self.W.shape)
        return Y, P, dW, PLAIN.convolution_backward(self.W, self.D, self.plan, self.groups)

    def agree(self):
        for found, expected in zip(self.run(), self.expected(), strict=True):
            close(self.backend.to_numpy(found), expected)
        self.agree_behind()

    def behind(self, need_error=True):
        """Y, Y pooled, and from the error behind the pooling layer dE/dY, dE/dW and dE/dB."""
        there = partial(ops.implementation, self.backend, "auto")
        with self.backend.scope():
            Y, P, seen = self.forward()
            given = Y, P, self.backend.asarray(self.d), there(self.chain)
            errors = partial(there(fusion.pooled), *given, *self.pooling, self.fused)
            rest = self.pooling, self.plan, self.W.shape, need_error, self.fused
            return Y, P, *there(fusion.differentiated)(errors, seen, *given, *rest)

    def agree_behind(self):
        found = Y, P, *_ = [self.backend.to_numpy(x) for x in self.behind()]
        given, seen = (Y, P, self.d, self.chain), PLAIN.convolution(self.X, self.W, self.plan, self.groups)[1]
        errors = partial(fusion.pooled, *given, *self.pooling, PLAIN)
        expected = fusion.differentiated(errors, seen, *given, self.pooling, self.plan, self.W.shape, True, PLAIN)
        for ours, theirs in zip(found[2:], expected, strict=True):
            close(ours, theirs)
        assert all(
            np.array_equal(a, self.backend.to_numpy(b)) for a, b in zip(found[3:], self.behind(False)[3:], strict=True)
        )


def drawn(backend, rng, dtype, filters=(1, 2, 5, 8, 20, 70)):
    axes, groups = int(rng.integers(1, 3)), int(rng.choice([1, 1, 2, 3]))

    def several(low, high):
        return tuple(int(v) for v in rng.integers(low, high + 1, axes))

    kernel = several(1, 4)
    padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
    plan = window_plan(several(7, 12), kernel, several(1, 3), padding, several(1, 2))
    n, channels, of_group = int(rng.integers(1, 5)), groups * int(rng.integers(1, 8)), int(rng.choice(filters))
    kind = str(rng.choice(["MaxPoolLayer", "AvgPoolLayer"]))
    window = tuple(int(rng.integers(1, min(3, m) + 1)) for m in plan.output)
    return Case(backend, rng, dtype, plan, n, channels, groups * of_group, groups, kind, window)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_shapes(backend, rng, dtype, kernels):
    """Strides, padding, dilation, groups, one axis and two, several tiles of filters, windows that do not fit."""
    backend.direct_up_to = math.inf
    for _ in range(25):
        del kernels[:]
        drawn(backend, rng, dtype).agree()
        joined = ["convolve", "convolve_gradients"]
        assert kernels == ["convolve", "convolve_gradient", "convolve", *joined, *joined]


@needs_software
@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_shapes_with_threads_in_a_drawn_order(backend, rng, dtype):
    backend.direct_up_to = math.inf
    with control.settings(order=5, races=True):
        for _ in range(6):
            drawn(backend, rng, dtype, filters=(1, 3, 9)).agree()


SHAPES = {
    "LeNet's first": (window_plan((28, 28), (5, 5), padding="same"), 3, 1, 6, 1),
    "LeNet's second": (window_plan((14, 14), (5, 5)), 5, 6, 16, 1),
    "one by one": (window_plan((9, 9), (1, 1)), 2, 7, 3, 1),
    "as large as the image": (window_plan((5, 6), (5, 6)), 4, 3, 10, 1),
    "depthwise": (window_plan((9, 8), (3, 3), stride=2, padding="same"), 2, 12, 12, 12),
    "many filters": (window_plan((6, 6), (3, 3)), 2, 3, 130, 1),
    "many channels": (window_plan((5, 5), (3, 3)), 2, 70, 4, 1),
    "a sequence": (window_plan((200,), (9,), dilation=3, padding=4), 3, 2, 5, 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["MaxPoolLayer", "AvgPoolLayer"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_networks(backend, rng, name, kind, dtype):
    backend.direct_up_to = math.inf
    plan, n, channels, filters, groups = SHAPES[name]
    Case(backend, rng, dtype, plan, n, channels, filters, groups, kind).agree()


LONG = {
    "pixels": (window_plan((32, 32), (3, 3), padding="same"), 32, 1, 2),  # 32,768 for dE/dW
    "a patch": (window_plan((3, 3), (3, 3)), 2, 2048, 3),  # of 18,432 values
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", ["drawn", "equal"])
@pytest.mark.parametrize("name", LONG)
def test_long_sums_stay_accurate(backend, rng, name, values, dtype):
    """No term is negative, so every addition meets a large sum; if all are equal, it rounds to the same side each time."""
    from portnn_cupy import direct

    backend.direct_up_to = math.inf
    plan, n, channels, filters = LONG[name]
    shapes = (n, *plan.image, channels), (*plan.kernel, channels, filters), (n, *plan.output, filters)
    x, w, d = ((rng.random(s) if values == "drawn" else np.full(s, 0.1)).astype(dtype) for s in shapes)
    with backend.scope():
        fused = ops.bind(backend, "auto")
        y, seen = fused.convolution(backend.asarray(x), backend.asarray(w), plan, 1)
        dw = fused.convolution_gradient(seen, backend.asarray(d), plan, w.shape)
    assert isinstance(seen, direct.Seen)
    x, w, d = (a.astype(np.longdouble) for a in (x, w, d))
    expected, patches = PLAIN.convolution(x, w, plan, 1)
    for found, exact in ((y, expected), (dw, PLAIN.convolution_gradient(patches, d, plan, w.shape))):
        units = np.abs(backend.to_numpy(found) / exact - 1).max() / np.finfo(dtype).eps
        assert units <= 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["MaxPoolLayer", "AvgPoolLayer"])
def test_pooling_in_the_same_kernel_gives_the_bits_of_pooling_alone(backend, rng, kernels, kind, dtype):
    """Ties and NaN included, and their derivatives; rows and columns are left over on the right and below."""
    plan = window_plan((9, 10), (2, 2))
    case = Case(backend, rng, dtype, plan, 3, 2, 5, kind=kind, window=(3, 2))
    case.X, case.W, case.B = case.X.round(), case.W.round(), case.B.round()  # relu and tanh give many equal values
    case.X[1, 4, 4, 0] = np.nan
    case.X[2, 0, 0, 1] = np.inf
    Y, P, D, _, _ = case.behind()
    assert kernels == ["convolve", "convolve_gradients"]
    with backend.scope():
        pool = case.fused.max_pool if kind == "MaxPoolLayer" else case.fused.avg_pool
        there = ops.implementation(backend, "auto", fusion.pooled), ops.implementation(backend, "auto", case.chain)
        alone = pool(Y, case.pooling[1]), there[0](Y, P, backend.asarray(case.d), there[1], *case.pooling, None)[0]
    Y, P, D, *alone = map(backend.to_numpy, (Y, P, D, *alone))
    assert np.array_equal(P, alone[0], equal_nan=True)
    assert np.array_equal(D, alone[1], equal_nan=True)
    assert np.isnan(Y).any()
    assert np.isnan(P).any()
    assert len(np.unique(Y[0])) < Y[0].size / 2
    expected, _ = fusion.pooled(Y, P, case.d, case.chain, *case.pooling, PLAIN)
    assert np.allclose(D, expected, rtol=1e-6, atol=1e-12, equal_nan=True)


@needs_software
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_in_any_order_of_blocks(backend, rng, dtype):
    from portnn_cupy import direct, sums

    case = Case(backend, rng, dtype, window_plan((20, 20), (3, 3)), 16, 2, 6)
    answers = []
    for order in (0, 0, 1, 2, 3):
        with control.settings(order=order):
            answers.append([backend.to_numpy(x) for x in (*case.run(), *case.behind())])
            with backend.scope():
                assert not backend.to_numpy(sums.tickets()).any()  # as the next launch needs them
    assert all(np.array_equal(a, b) for other in answers[1:] for a, b in zip(answers[0], other, strict=True))
    *_, run = direct.gradient_tiles(3 * 3 * 2, 6)
    assert 4 * run < 16 * 18 * 18  # so the sum had several parts


def test_infinity_and_nan_reach_the_sums(backend, rng):
    case = Case(backend, rng, "float32", window_plan((20, 20), (3, 3)), 16, 2, 6)
    case.D[7, 3, 3, 2], case.D[9, 5, 5, 4] = np.nan, np.inf
    _, _, dW, _ = case.run()
    dW = backend.to_numpy(dW)
    assert np.isnan(dW[..., 2]).all()
    assert np.isinf(dW[..., 4]).all()
    assert np.isfinite(dW[..., [0, 1, 3, 5]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "plan",
    [
        window_plan((9, 8), (3, 3), padding="same"),
        window_plan((9, 8), (3, 2), stride=(4, 3), padding=1),  # a stride larger than the kernel
        window_plan((30,), (4,), dilation=3),
    ],
)
def test_infinite_weights_reach_the_pixels_that_they_saw_and_no_others(backend, rng, plan, value, dtype):
    """Forward a tap on the padding sees zeros, which an infinite weight makes NaN. Backwards there is no such term."""
    backend.direct_up_to = math.inf
    case = Case(backend, rng, dtype, plan, 2, 6, 10, groups=2)
    case.W.reshape(-1)[rng.integers(0, case.W.size, 3)] = value
    Y, _, _, dX = map(backend.to_numpy, case.run())
    with np.errstate(invalid="ignore"):
        expected_Y, _, _, expected_dX = case.expected()
    assert np.isfinite(expected_dX).any()
    assert not np.isfinite(expected_dX).all()
    for found, expected in ((Y, expected_Y), (dX, expected_dX)):
        finite = np.isfinite(expected)
        assert np.array_equal(found[~finite], expected[~finite], equal_nan=True)
        close(found[finite], expected[finite])


# -- which convolutions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "values", "is_direct"),
    [(1, 10**6, True), (6, 25, True), (32, 10**6, True), (33, 10**6, False), (33, 1056, True), (33, 1057, False),
     (64, 64, True), (64, 288, False), (10**6, 32, True), (10**6, 33, False)],
)  # fmt: skip
def test_few_filters_or_small_patches(backend, filters, values, is_direct):
    from portnn_cupy import direct

    plan, real = window_plan((1,), (1,)), np.dtype("float32")
    x, w = (SimpleNamespace(shape=shape, size=1, dtype=real) for shape in ((1, 1, values), (1, values, filters)))
    turned = SimpleNamespace(shape=(1, filters, values), size=1, dtype=real)  # for dE/dX
    assert direct.suits(x, w, plan, 1) is direct.suits_backward(turned, x, plan, 1) is is_direct
    for up_to, answer in ((0, False), (math.inf, True)):
        backend.direct_up_to = up_to
        assert direct.suits(x, w, plan, 1) is direct.suits_backward(turned, x, plan, 1) is answer


def test_a_stride_makes_the_way_back_dearer(backend):
    """Of four pixels of dE/dX, with a stride of 2, three see only zeros under a tap."""
    from portnn_cupy import direct

    real = np.dtype("float32")
    for channels, is_direct in ((7, True), (8, True), (9, False)):
        plan = window_plan((8, 8), (2, 2), stride=2)
        w, d = (SimpleNamespace(shape=s, size=1, dtype=real) for s in ((2, 2, channels, 10**6), (1, 4, 4, 10**6)))
        assert direct.suits_backward(w, d, plan, 1) is is_direct


def test_what_is_not_for_these_kernels(backend):
    from portnn_cupy import direct

    backend.direct_up_to = math.inf
    plan, real, other = window_plan((4,), (2,)), np.dtype("float32"), np.dtype("float64")

    def suits(x=real, w=real, size=1, n=1, groups=1):
        x = SimpleNamespace(shape=(n, 4, 1), size=size, dtype=x)
        return direct.suits(x, SimpleNamespace(shape=(2, 1, 3), size=6, dtype=w), plan, groups)

    assert suits()
    assert not suits(w=other)
    assert not suits(np.dtype("float16"), np.dtype("float16"))
    assert not suits(size=0)  # no samples
    assert not suits(size=2**30 + 1)
    assert not suits(n=2**30 // 9 + 1)  # Y would be too large
    assert not suits(groups=1 << 16)


@pytest.mark.parametrize(
    ("window", "options", "joined"),
    [((2, 2), {}, True), ((2, 2), {"stride": 1}, False), ((3, 3), {"padding": 1, "stride": 3}, False), ((1, 8), {}, True),
     ((8, 8), {}, True)],
)  # fmt: skip
def test_which_pooling_is_joined(backend, rng, kernels, window, options, joined):
    plan = window_plan((9, 9), (2, 2))
    pooling = window_plan(plan.output, window, options.get("stride", window), options.get("padding", "valid"))
    case = Case(backend, rng, "float64", plan, 2, 2, 60, window=pooling)
    case.agree()
    assert kernels[:2] == (["convolve", "convolve_gradient"] if joined else ["convolve", "max_pool"])
    assert "convolve_gradients" in kernels  # any pooling can be joined to the backward pass


@pytest.mark.parametrize(("channels", "joined"), [(100, True), (114, False)])
def test_a_chain_rule_that_many_tiles_would_compute_is_a_pass_of_its_own(backend, rng, kernels, channels, joined):
    backend.direct_up_to = math.inf
    case = Case(backend, rng, "float32", window_plan((5, 5), (3, 3)), 2, channels, 4)
    case.agree_behind()
    assert kernels[:3] == (
        ["convolve", "convolve_gradients", "convolve"] if joined else ["convolve", "sum_chained", "convolve_gradient"]
    )


@pytest.mark.parametrize("value", [-1, math.nan, "auto", None])
def test_a_switch_that_is_none(backend, value):
    with pytest.raises(ValueError, match=r"direct_up_to must be a number, 0 or more \(math.inf: always\), got"):
        backend.direct_up_to = value
    assert backend.direct_up_to == 32
