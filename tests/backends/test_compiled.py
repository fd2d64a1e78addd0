"""The loops compiled by Numba, compared with portable functions on random shapes, and the cases that bypass them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portnn
from drawn_arrays import laid_out, numbers
from portnn import activations, ops
from portnn.ops.resampling import reach_of
from portnn.ops.windows import window_plan
from portnn.training import fusion
from portnn_numpy import blas, compiled
from portnn_numpy.backend import NumpyBackend

pytestmark = pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}")
CPU = NumpyBackend()
drawn = settings(max_examples=60, deadline=None)
dtypes = st.sampled_from(["float32", "float64"])
TOLERANCE = {"float32": 2e-6, "float64": 2e-14}


@pytest.fixture(autouse=True, params=["alone", "within a public call"])
def where(request):
    """Functions are compared on their own, and as in a public call, in which loops may be divided among threads."""
    with np.errstate(all="ignore"):
        if request.param == "alone":
            yield request.param
            return
        import numba

        from portnn_numpy.compiled import pool

        with pool.Scope(np.errstate()):
            if pool.alone():
                pool._mine.threads = numba.get_num_threads()
            yield request.param


def tables():
    return ops.bind(CPU, "auto"), ops.bind(CPU, "portable")


layouts = st.sampled_from(["batch fastest", "batch fastest", "as it is", "with gaps", "read-only"])


def close(a, b, dtype, scale=1.0):
    assert a.shape == b.shape
    assert a.dtype == b.dtype == dtype
    assert np.abs(a - b).max(initial=0.0) <= scale * TOLERANCE[dtype] * max(1.0, np.abs(b).max(initial=0.0))


# -- convolution and pooling -----------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    axes, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 2, 3]))
    several = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    image, kernel = several(5, 10), several(1, 3)
    plan = window_plan(image, kernel, several(1, 3), draw(st.sampled_from(["valid", "same", 1, 2])), several(1, 2))
    channels, filters = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 14))
    return plan, groups, channels, filters, draw(st.sampled_from([16, 17, 32, 40, 63]))


@drawn
@given(convolutions(), layouts, st.integers(0, 99))
def test_convolution(case, layout, seed):
    plan, groups, channels, filters, n = case
    fast, portable = tables()
    x = numbers(seed, n, *plan.image, channels)
    w = numbers(seed + 1, *plan.kernel, channels // groups, filters)
    y, seen = fast.convolution(laid_out(x, layout), w, plan, groups)
    expected, patches = portable.convolution(x, w, plan, groups)
    close(y, expected, "float32")
    d = numbers(seed + 2, *y.shape)
    gradient = fast.convolution_gradient(seen, laid_out(d, layout), plan, w.shape)
    sums = portable.convolution_gradient(patches, d, plan, w.shape)
    assert np.abs(gradient - sums).max() <= 1e-5 * max(1.0, np.abs(sums).max())
    back = fast.convolution_backward(w, laid_out(d, layout), plan, groups)
    close(back, portable.convolution_backward(w, d, plan, groups), "float32")


def spreading():
    """Kernels with an odd number of taps, on images of which one pixel, the first or last, is infinite or NaN."""
    kernels = st.sampled_from([((5, 6), (3, 3)), ((7,), (3,)), ((4, 3, 3), (3, 1, 1))])
    return st.tuples(kernels, st.sampled_from([np.nan, np.inf]), st.sampled_from([0, -1]), st.sampled_from([1, 5, 7]))


@drawn
@given(spreading(), st.sampled_from(["valid", "same"]), st.integers(0, 99))
def test_a_pixel_that_is_not_finite_reaches_only_the_windows_that_it_is_in(case, padding, seed):
    (image, kernel), wild, place, channels = case
    plan = window_plan(image, kernel, 1, padding)
    fast, portable = tables()
    x, w = numbers(seed, 33, *image, channels), numbers(seed + 1, *kernel, channels, channels)
    d = numbers(seed + 2, 33, *plan.output, channels)
    for array in (x, d):
        array.reshape(33, -1)[3, place] = wild
    (y, _), (expected, _) = fast.convolution(x, w, plan, 1), portable.convolution(x, w, plan, 1)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    back, expected = fast.convolution_backward(w, d, plan, 1), portable.convolution_backward(w, d, plan, 1)
    np.testing.assert_array_equal(np.isfinite(back), np.isfinite(expected))


@drawn
@given(convolutions(), layouts, dtypes, st.integers(0, 99))
def test_patches(case, layout, dtype, seed):
    plan, groups, channels, _, n = case
    fast, numpys = tables()[0], ops.bind(NumpyBackend(compile=False), "auto")  # the portable ones have another order
    x = numbers(seed, n, *plan.image, channels, dtype=dtype)
    found, expected = fast.patches(laid_out(x, layout), plan, groups), numpys.patches(x, plan, groups)
    assert len(found) == len(expected) == groups
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert np.array_equal(a, b)


def test_small_convolutions_are_gathered_and_large_ones_where_all_cores_are_for_the_loops(where):
    """The test above would mean nothing if it never reached the compiled loops."""
    from portnn_numpy.compiled._convolution import Seen

    fast, _ = tables()
    plan = window_plan((8, 8), (3, 3))
    large = where != "alone" and blas.can_be_told()
    for n, filters, gathered in ((64, 8, True), (8, 8, False), (64, 600, large)):
        _, seen = fast.convolution(numbers(0, n, 8, 8, 2), numbers(1, 3, 3, 2, filters), plan, 1)
        assert isinstance(seen, Seen) == gathered
    twice, _ = tables()
    x, w = numbers(0, 64, 8, 8, 2, dtype="float64"), numbers(1, 3, 3, 2, 8, dtype="float64")
    assert not isinstance(twice.convolution(x, w, plan, 1)[1], Seen)


def test_tables_of_the_way_back_stay_small(monkeypatch):
    """Forward tables grow with the channels, backward tables with the filters: too large a table is not built."""
    from portnn_numpy.compiled import _convolution

    fast, portable = tables()
    monkeypatch.setattr(_convolution, "backward_table", lambda *a: pytest.fail("built a table with millions of rows"))
    plan = window_plan((100, 100), (3, 3), 1, "same")
    w, d = numbers(0, 3, 3, 4, 64), numbers(1, 16, 100, 100, 64)
    close(fast.convolution_backward(w, d, plan, 1), portable.convolution_backward(w, d, plan, 1), "float32")


@st.composite
def poolings(draw):
    axes = draw(st.integers(1, 2))
    several = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    kernel = several(1, 3)
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in kernel)
    plan = window_plan(several(6, 12), kernel, several(1, 3), padding)
    return plan, draw(st.integers(1, 4)), draw(st.sampled_from([15, 16, 33, 512]))


@drawn
@given(poolings(), layouts, dtypes, st.integers(0, 99))
def test_pooling(case, layout, dtype, seed):
    plan, channels, n = case
    fast, portable = tables()
    x = numbers(seed, n, *plan.image, channels, dtype=dtype).round(1)  # rounded, so that windows contain ties
    mine = laid_out(x, layout)
    largest, mean = portable.max_pool(x, plan), portable.avg_pool(x, plan)
    found = fast.max_pool(mine, plan)
    assert np.array_equal(found, largest)
    close(fast.avg_pool(mine, plan), mean, dtype)
    d = numbers(seed + 1, *largest.shape, dtype=dtype)
    theirs = laid_out(d, layout)
    close(fast.max_pool_backward(mine, found, theirs, plan), portable.max_pool_backward(x, largest, d, plan), dtype)
    close(fast.avg_pool_backward(theirs, plan), portable.avg_pool_backward(d, plan), dtype)


def test_pooling_lets_nan_through():
    fast, portable = tables()
    x = numbers(0, 64, 8, 8, 4)
    x[3, 2, 2, 1] = np.nan
    plan = window_plan((8, 8), (2, 2), 2)
    for name in ("max_pool", "avg_pool"):
        a, b = (getattr(table, name)(x, plan) for table in (fast, portable))
        assert np.array_equal(np.isnan(a), np.isnan(b)), name


chains = st.sampled_from([activations.relu_chain, activations.tanh_chain])


def with_sums(function, *arguments):
    """dE/dX, and its sums over all but the channels, whether the function returns them or not."""
    dx, sums = function(*arguments)
    return dx, dx.sum(axis=tuple(range(dx.ndim - 1))) if sums is None else sums


@drawn
@given(poolings(), layouts, dtypes, chains, st.sampled_from([None, "MaxPoolLayer", "AvgPoolLayer"]), st.integers(0, 99))
def test_the_chain_rule_behind_a_convolution(case, layout, dtype, chain, kind, seed):
    """Alone, and behind pooling; windows that overlap or are padded are left to the plain functions."""
    plan, channels, n = case
    if kind is not None and seed % 2:  # windows side by side
        plan = window_plan(plan.image, plan.kernel, plan.kernel)
    fast, portable = tables()
    y = np.tanh(numbers(seed, n, *plan.image, channels, dtype=dtype).round(1))
    if kind is None:
        function, given = fusion.chained_image, [y, numbers(seed + 1, *y.shape, dtype=dtype)]
        others, plain = (chain,), (chain,)
    else:
        p = portable.max_pool(y, plan) if kind == "MaxPoolLayer" else portable.avg_pool(y, plan)
        function, given = fusion.pooled, [y, p, numbers(seed + 1, *p.shape, dtype=dtype)]
        others, plain = (chain, kind, plan, fast), (chain, kind, plan, portable)
    dx, sums = with_sums(ops.implementation(CPU, "auto", function), laid_out(y, layout), *given[1:], *others)
    expected, exact = with_sums(function, *given, *plain)
    close(dx, expected, dtype)
    assert np.abs(sums - exact).max() <= 500 * TOLERANCE[dtype] * max(1.0, np.abs(exact).max())


# -- images moved at random ------------------------------------------------------------------------------------------------

amounts = st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 180.0), st.floats(0.0, 0.95))


@drawn
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), amounts, layouts, dtypes, st.integers(0, 99))
def test_images_moved_at_random(height, width, channels, amounts, layout, dtype, seed):
    fast, portable = tables()
    n = max(2, -(-9000 // (height * width * channels)))
    x, d = (numbers(seed + k, n, height, width, channels, dtype=dtype) for k in (0, 1))
    maps = portable.random_maps(x, (1, 2), seed, *amounts)
    close(fast.resample(laid_out(x, layout), maps), portable.resample(x, maps), dtype, 20.0)
    found = fast.resample_backward(laid_out(d, layout), maps, reach_of(*amounts[1:]))
    close(found, portable.resample_backward(d, maps, reach_of(*amounts[1:])), dtype, 20.0)


def test_a_pixel_without_weight_is_not_read():
    """It may be infinite or NaN: as in the portable version, this reaches only what it has a weight in."""
    fast, portable = tables()
    x = numbers(0, 64, 12, 12, 1)
    x[:, 5, 5] = np.nan
    x[:, 8, 3] = np.inf
    for amounts in ((0.0, 0.0, 0.0), (2.0, 20.0, 0.3)):
        maps = portable.random_maps(x, (1, 2), 3, *amounts)
        y, dx = fast.resample(x, maps), fast.resample_backward(x, maps, reach_of(*amounts[1:]))
        assert np.array_equal(np.isfinite(y), np.isfinite(portable.resample(x, maps)))
        assert np.array_equal(np.isfinite(dx), np.isfinite(portable.resample_backward(x, maps, reach_of(*amounts[1:]))))
        assert (~np.isfinite(y)).sum() == 128 or amounts[0] > 0.0
    with pytest.raises(ValueError, match=r"maps have shape \(63, 2, 3\), but 64 images need \(64, 2, 3\)"):
        fast.resample(x, maps[:63])


# -- activations and optimizers --------------------------------------------------------------------------------------------

shapes = st.sampled_from([(8192,), (100, 90), (64, 7, 7, 5), (3, 5), (1, 8200), (0, 4)])


@drawn
@given(shapes, layouts, dtypes, st.sampled_from([None, "relu", "tanh"]), st.integers(0, 99))
def test_biased(shape, layout, dtype, name, seed):
    product, bias = numbers(seed, *shape, dtype=dtype), numbers(seed + 1, shape[-1], dtype=dtype)
    function = None if name is None else activations.PAIRS[name][0]
    fast, portable = tables()
    expected = portable.biased(product, bias, function)
    given_away = (
        product.copy() if layout == "read-only" else laid_out(product, layout)
    )  # a product is a new array, never read-only
    close(fast.biased(given_away, bias, function), expected, dtype)


@drawn
@given(st.integers(1, 150), layouts, layouts, dtypes, st.sampled_from([None, "relu", "tanh"]), st.integers(0, 99))
def test_affine(n, layout, other, dtype, name, seed):
    """On both sides of the size from which a product is divided."""
    x, w = numbers(seed, 2, n, 64, dtype=dtype), numbers(seed + 1, 64, 131, dtype=dtype)
    bias, function = numbers(seed + 2, 1, 131, dtype=dtype), None if name is None else activations.PAIRS[name][0]
    fast, portable = tables()
    found = fast.affine(laid_out(x, layout), laid_out(w, other), bias, function)
    close(found, portable.affine(x, w, bias, function), dtype, 5.0)


@drawn
@given(shapes, layouts, dtypes, st.sampled_from(list(activations.CHAINS)), st.integers(0, 99))
def test_activations_and_their_chain_rule(shape, layout, dtype, pair, seed):
    f, prime = pair
    x, d = numbers(seed, *shape, dtype=dtype), numbers(seed + 1, *shape, dtype=dtype)
    y = ops.implementation(CPU, "auto", f)(laid_out(x, layout))
    close(y, f(x), dtype)
    chain = ops.implementation(CPU, "auto", activations.CHAINS[f, prime])
    close(chain(y, laid_out(d, layout)), prime(x) * d, dtype)


@pytest.mark.parametrize("name", activations.PAIRS)
@drawn
@given(shapes, layouts, dtypes, st.integers(0, 99))
def test_each_activation_and_its_derivative(name, shape, layout, dtype, seed):
    x = 3.0 * numbers(seed, *shape, dtype=dtype)
    for function in activations.PAIRS[name]:
        close(ops.implementation(CPU, "auto", function)(laid_out(x, layout)), function(x), dtype)


def test_tanh_is_exact_to_three_units_in_the_last_place():
    tanh = ops.implementation(CPU, "auto", activations.tanh)
    x = np.concatenate([np.linspace(-12, 12, 200_001), 10.0 ** np.linspace(-37, 37, 2000)]).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(tanh(x) - exact) <= 3 * np.spacing(np.abs(exact).astype(np.float32))).all()
    x[:4] = [np.inf, -np.inf, np.nan, 0.0]
    assert np.array_equal(tanh(x)[:4], [1.0, -1.0, np.nan, 0.0], equal_nan=True)


OPTIMIZERS = [
    portnn.SGD(0.1),
    portnn.SGD(0.1, momentum=0.9),
    portnn.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    portnn.AdaGrad(0.1, clip_norm=1.0),
    portnn.RMSprop(0.1),
    portnn.Adam(0.1, weight_decay=0.1),
    portnn.AdamW(0.1, clip_value=0.5),
    portnn.AdamW(lambda step: 0.0),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: repr(optimizer).partition(" at 0x")[0])
def test_optimizers(optimizer, dtype):
    results = []
    for kernels in ("auto", "portable"):
        update = ops.implementation(CPU, kernels, type(optimizer).update)
        w = [numbers(0, 100, 90, dtype=dtype), numbers(1, 5, dtype=dtype)]
        slots = optimizer.slots(w)
        for k in range(4):
            g = [numbers(k + 2, 90, 100, dtype=dtype).T, laid_out(numbers(k + 9, 5, dtype=dtype), "read-only")]
            before = [a.copy() for a in (*w, *g)]
            held = [*w, *g]
            w, slots = update(optimizer, w, g, slots, optimizer.hyper(k))
            assert all(np.array_equal(a, b) for a, b in zip(held, before, strict=True))
        results.append(w + [a for kind in slots.values() for a in kind])
    for a, b in zip(*results, strict=True):
        close(a, b, dtype)


def test_a_matrix_is_turned():
    from portnn_numpy.compiled.jit import turned

    for shape in ((300, 131), (16, 4096), (40_000, 1)):
        for dtype in ("float32", "float64"):
            x = numbers(0, *shape, dtype=dtype)
            y = turned(laid_out(x, "read-only"))
            assert y.flags.c_contiguous
            assert y.dtype == dtype
            assert np.array_equal(y, x.T)
    assert turned(x[:10]) is None
    assert turned(x.astype(">f8")) is None


# -- networks --------------------------------------------------------------------------------------------------------------


def lenet(**options):
    net = portnn.Network(seed=3, **options)
    for layer in (
        portnn.ConvLayer((12, 12, 1), (3, 3), 6, padding="same"),
        portnn.ActivationLayer("tanh"),
        portnn.AvgPoolLayer(2),
        portnn.ConvLayer((6, 6, 6), (3, 3), 8),
        portnn.ActivationLayer("relu"),
        portnn.MaxPoolLayer(2),
        portnn.FlattenLayer(),
        portnn.FCLayer(32, 60),
        portnn.ActivationLayer("tanh"),
        portnn.FCLayer(60, 4),
    ):
        net.add(layer)
    net.use("softmax_cross_entropy", optimizer=portnn.Adam(1e-3), metrics=["accuracy"])
    return net


def test_a_network_learns_the_same_with_and_without():
    x, y = numbers(0, 150, 12, 12, 1), np.random.default_rng(1).integers(0, 4, 150)
    runs = {
        "compiled": lenet(backend=CPU),
        "NumPy": lenet(backend=NumpyBackend(compile=False)),
        "portable": lenet(backend=CPU, kernels="portable"),
    }
    errors = {name: net.fit(x, y, epochs=3, batch_size=64, verbose=0)["error"] for name, net in runs.items()}
    outputs = {name: net.predict(x) for name, net in runs.items()}
    for name in ("compiled", "NumPy"):
        assert errors[name] == pytest.approx(errors["portable"], rel=1e-5), name
        assert np.abs(outputs[name] - outputs["portable"]).max() < 1e-4, name


def test_a_layer_of_a_network_used_alone_is_what_it_always_is():
    """The layer is fused with its neighbor only while the network runs."""
    net = lenet(backend=CPU)
    fc = net.layers[7]
    x = numbers(0, 64, 32)
    fc.bias = np.full((1, 60), -1.0)
    net.predict(numbers(1, 64, 12, 12, 1))
    assert np.allclose(fc.forward(x), x @ fc.weights + fc.bias, atol=1e-5)


def test_our_function_with_a_derivative_of_the_users_is_not_joined():
    """Such a derivative cannot, in general, be computed from Y."""
    nets = []
    for kernels in ("auto", "portable"):
        net = portnn.Network(seed=1, kernels=kernels, backend=CPU)
        net.add(portnn.FCLayer(3, 4))
        net.add(portnn.ActivationLayer(activations.relu, lambda x: 1.0 / (1.0 + x * x)))
        net.use("mse")
        net.fit(numbers(0, 8, 3), numbers(1, 8, 4), epochs=2, learning_rate=0.1, batch_size=4, verbose=0)
        nets.append(net.parameters["0.weights"])
    assert np.allclose(*nets, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::portnn_numpy.compiled.CompiledLoopsWarning")
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ModuleNotFoundError("No module named 'numba'", name="numba"), "python -m pip install numba"),
        (ImportError("Numba needs NumPy 2.0 or less"), "NumPy 2.0 or less"),
    ],
)
def test_without_numba_everything_works(monkeypatch, failure, words):
    monkeypatch.setattr(compiled, "trouble", lambda: failure)
    backend = NumpyBackend()
    assert backend.implementation(portnn.losses.mse) is NumpyBackend(compile=False).implementation(portnn.losses.mse)
    assert backend.implementation(activations.tanh) is np.tanh
    assert words in backend.describe()["compiled loops"]
    net = lenet(backend=backend)
    net.fit(numbers(0, 20, 12, 12, 1), np.zeros(20, int), epochs=1, verbose=0)


def test_neither_import_nor_a_small_network_pays_for_numba():
    """Importing portnn does not import Numba, and a network with few weights and outputs compiles nothing."""
    import os
    import subprocess
    import sys

    code = (
        "import sys, portnn; assert 'numba' not in sys.modules\n"
        "net = portnn.Network([portnn.FCLayer(2, 3), portnn.ActivationLayer('tanh'), portnn.FCLayer(3, 1)], seed=1)\n"
        "net.use('mse', optimizer=portnn.Adam())\n"
        "net.fit([[0.0, 1.0]], [[1.0]], epochs=2, verbose=0)\n"
        "from portnn_numpy.compiled import _activations, optimizers\n"
        "loops = [f for m in (_activations, optimizers) for f in vars(m).values() if hasattr(f, 'serial')]\n"
        "assert len(loops) > 9 and not any(f.serial.signatures or 'parallel' in vars(f) for f in loops)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})


@drawn
@given(st.integers(30, 200), st.integers(9, 40), dtypes, st.integers(0, 99))
def test_whole(n, classes, dtype, seed):
    """A loss and its derivative at once are those of the two functions, and the sums those of the columns."""
    from portnn_numpy import losses
    from portnn_numpy.compiled import training

    both = losses.softmax_cross_entropy, losses.softmax_cross_entropy_prime
    logits = 5.0 * numbers(seed, n, classes, dtype=dtype)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    error, d, sums = training.whole(labels, logits, *both, None)
    tight = {"float32": 1e-5, "float64": 1e-13}[dtype]
    assert error.dtype == d.dtype == sums.dtype == dtype
    assert abs(error - both[0](labels, logits)) <= tight * max(1.0, abs(error))
    assert np.abs(d - both[1](labels, logits)).max() <= tight
    assert np.abs(sums - d.astype("float64").sum(axis=0)).max() <= tight
    for other in (labels.astype("int32"), np.where(labels == labels[0], classes, labels), labels[1:]):
        assert training.whole(other, logits, *both, None) is NotImplemented
    assert training.whole(labels, logits, both[0], losses.mse_prime, None) is NotImplemented
    logits[0, labels[0]] = -np.inf
    assert training.whole(labels, logits, *both, None)[0] == np.inf
    logits[1, 0] = np.nan
    error, d, sums = training.whole(labels, logits, *both, None)
    assert np.isnan(error)
    assert np.isnan(sums).all()
    assert np.array_equal(np.isnan(d), np.isnan(both[1](labels, logits)))


@pytest.mark.parametrize(("channels", "kept"), [(32, 1), (33, 0)])
def test_the_places_of_very_many_windows_are_not_kept(channels, kept):
    """Images of ever other sizes would fill the memory."""
    from portnn_numpy.compiled import _pooling

    plan, source = window_plan((128, 128), (2, 2), 2), np.broadcast_to(np.float32(0), (channels, 128, 128, 16))
    _pooling._windows.cache_clear()
    places, offsets = _pooling.windows(source, plan)
    assert (places.size, offsets.tolist()) == (channels * 64 * 64, [0, 16, 128 * 16, 129 * 16])
    assert _pooling._windows.cache_info().currsize == kept
