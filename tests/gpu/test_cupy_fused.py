"""Each fused function for the GPU compared with its portable version, on random data and mostly random shapes.

On the GPU in software, also with the blocks and threads of a launch in a drawn order.
"""

import zlib
from functools import partial

import numpy as np
import pytest

import portnn
import software_gpu
from portnn import activations, losses, ops
from portnn.ops.resampling import reach_of
from portnn.ops.windows import window_plan
from portnn.training import batches, fusion, step
from software_gpu import control

pytestmark = pytest.mark.gpu
DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 3e-6, "float64": 2e-14}
DRAWS = 25


@pytest.fixture(params=["in order", "drawn order, compared"])
def backend(request, backend):
    if request.param == "in order":
        yield backend
    elif not software_gpu.is_wanted():
        pytest.skip("only a GPU in software runs threads in an order that one can choose")
    else:
        with control.settings(order=7, races=True):
            yield backend


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


class Tables:
    """The backend's fused routines and NumPy's portable ones, called with the same values."""

    def __init__(self, backend, dtype, rng):
        self.backend, self.dtype, self.rng = backend, dtype, rng
        self.fused = ops.bind(backend, "auto")
        self.plain = ops.bind(portnn.get_backend(np), "portable")

    def numbers(self, *shape, decimals=None):
        x = self.rng.standard_normal(shape)
        return (x if decimals is None else x.round(decimals)).astype(self.dtype)

    def there(self, x):
        """Copies to the device, sometimes in Fortran order, because results must not depend on the memory layout."""
        if isinstance(x, np.ndarray) and x.ndim and self.rng.random() < 0.3:
            return self.backend.asarray(np.ascontiguousarray(x.T)).T
        return self.backend.asarray(x) if isinstance(x, np.ndarray) else x

    def close(self, found, expected, scale=1.0):
        for a, b in zip(listed(found), listed(expected), strict=True):
            assert self.backend.owns(a)
            a = self.backend.to_numpy(a)
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            assert np.abs(a - b).max(initial=0.0) <= scale * TOLERANCE[self.dtype] * max(
                1.0, np.abs(b).max(initial=0.0)
            )

    def compare(self, name, *arguments, scale=1.0):
        with self.backend.scope():
            found = getattr(self.fused, name)(*map(self.there, arguments))
        expected = getattr(self.plain, name)(*arguments)
        self.close(found, expected, scale)
        return found, expected


def listed(x):
    return x if isinstance(x, (tuple, list)) else [x]


@pytest.fixture(params=DTYPES)
def tables(request, backend, rng):
    return Tables(backend, request.param, rng)


# -- images ------------------------------------------------------------------------------------------------------------


def draw_plan(rng, pooling=False):
    axes = int(rng.integers(1, 3))

    def several(low, high):
        return tuple(int(v) for v in rng.integers(low, high + 1, axes))

    kernel = several(1, 3)
    padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
    return window_plan(several(5, 9), kernel, several(1, 3), padding, 1 if pooling else several(1, 2))


@pytest.fixture(params=[0, 32], ids=["patches", "direct"])
def way(request, backend):
    """With patches in memory, or without them, which small convolutions otherwise are."""
    backend.direct_up_to = request.param


def test_convolution(tables, rng, way):
    for _ in range(DRAWS):
        plan, groups, n = draw_plan(rng), int(rng.choice([1, 1, 2])), int(rng.integers(1, 4))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        x = tables.numbers(n, *plan.image, channels)
        w = tables.numbers(*plan.kernel, channels // groups, filters)
        tables.compare("patches", x, plan, groups)
        parts = [tables.numbers(*p.shape) for p in tables.plain.patches(x, plan, groups)]
        with tables.backend.scope():
            folded = tables.fused.fold([tables.there(p) for p in parts], plan)
            y, seen = tables.fused.convolution(tables.there(x), tables.there(w), plan, groups)
            d = tables.numbers(*y.shape)
            gradient = tables.fused.convolution_gradient(seen, tables.there(d), plan, w.shape)
        tables.close(folded, tables.plain.fold(parts, plan))
        expected, patches = tables.plain.convolution(x, w, plan, groups)
        tables.close(y, expected, 3.0)
        tables.close(gradient, tables.plain.convolution_gradient(patches, d, plan, w.shape), 10.0)
        tables.compare("convolution_backward", w, d, plan, groups, scale=3.0)


@pytest.mark.parametrize("name", [None, "relu", "tanh"])
def test_convolution_with_what_follows_it(tables, rng, way, name):
    function, fast = None if name is None else activations.PAIRS[name][0], fusion.convolved
    for kind in ("MaxPoolLayer", "AvgPoolLayer", None):
        plan, groups, n = draw_plan(rng), int(rng.choice([1, 1, 2])), int(rng.integers(1, 4))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        x, b = tables.numbers(n, *plan.image, channels), tables.numbers(filters)
        w = tables.numbers(*plan.kernel, channels // groups, filters)
        window = tuple(min(2, m) for m in plan.output)
        pooling = None if kind is None else (kind, window_plan(plan.output, window, window))
        with tables.backend.scope():
            there = (*map(tables.there, (x, w, b)), function, plan, groups, pooling, True, tables.fused)
            Y, P, _ = ops.implementation(tables.backend, "auto", fast)(*there)
        expected, pooled, _ = fast(x, w, b, function, plan, groups, pooling, True, tables.plain)
        tables.close(Y, expected, 3.0)
        assert (P is None) == (kind is None)
        if kind is not None:
            tables.close(P, pooled, 3.0)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_what_is_between_an_activation_and_the_convolution_before_it(tables, rng, way, name):
    chain = activations.CHAINS[activations.PAIRS[name]]
    fast = [ops.implementation(tables.backend, "auto", f) for f in (chain, fusion.differentiated)]
    for kind, need_error in (("MaxPoolLayer", True), ("AvgPoolLayer", True), ("MaxPoolLayer", False), (None, True)):
        plan, groups, n = draw_plan(rng), int(rng.choice([1, 1, 2])), int(rng.integers(1, 4))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        x, w = tables.numbers(n, *plan.image, channels), tables.numbers(*plan.kernel, channels // groups, filters)
        y = tables.numbers(n, *plan.output, filters, decimals=0)
        window = tuple(min(2, m) for m in plan.output)
        pooling = None if kind is None else (kind, window_plan(plan.output, window, 1))  # windows may overlap
        p = None if kind is None else (tables.plain.max_pool if "Max" in kind else tables.plain.avg_pool)(y, pooling[1])
        d = tables.numbers(*(y if p is None else p).shape)

        def gradients(table, function, x, w, *behind, pooling=pooling, plan=plan, groups=groups, need=need_error):
            _, seen = table.convolution(x, w, plan, groups)
            y, p, d, chain = behind
            given = (y, d, chain) if pooling is None else (y, p, d, chain, *pooling, table)
            bound = tables.backend if table is tables.fused else portnn.get_backend(np)
            errors = ops.implementation(bound, "auto", fusion.chained if pooling is None else fusion.pooled)
            return function(partial(errors, *given), seen, *behind, pooling, plan, w.shape, need, table)

        with tables.backend.scope():
            there = [None if a is None else tables.there(a) for a in (x, w, y, p, d)]
            D, *found = gradients(tables.fused, fast[1], *there, fast[0])
        expected, *sums = gradients(tables.plain, fusion.differentiated, x, w, y, p, d, chain)
        tables.close(found, sums, 10.0)
        if need_error:
            tables.close(D, expected)


def test_pooling(tables, rng):
    for _ in range(DRAWS):
        plan = draw_plan(rng, pooling=True)
        x = tables.numbers(
            int(rng.integers(1, 4)), *plan.image, int(rng.integers(1, 4)), decimals=0
        )  # rounded, so that windows contain ties
        _, largest = tables.compare("max_pool", x, plan)
        d = tables.numbers(*largest.shape)
        tables.compare("max_pool_backward", x, largest, d, plan)
        tables.compare("avg_pool", x, plan)
        tables.compare("avg_pool_backward", d, plan)


def test_pooling_lets_nan_through(tables):
    x = tables.numbers(2, 6, 6, 3)
    x[1, 2, 3, 0] = np.nan
    plan = window_plan((6, 6), (2, 2), 2)
    for name in ("max_pool", "avg_pool"):
        with tables.backend.scope():
            found = tables.backend.to_numpy(getattr(tables.fused, name)(tables.there(x), plan))
        assert np.array_equal(np.isnan(found), np.isnan(getattr(tables.plain, name)(x, plan)))


# -- normalization, dropout --------------------------------------------------------------------------------------------


def test_normalization(tables, rng):
    for shape in ((1, 3), (5, 4), (40, 1), (3, 7, 5, 2), (700, 3), (2, 50, 50, 4)):
        x, d = tables.numbers(*shape) + 2.0, tables.numbers(*shape)
        x = x.astype(tables.dtype)
        axes = tuple(range(len(shape) - 1))
        _, (z, scale, _, _) = tables.compare("normalize", x, axes, 1e-5, scale=20.0)
        tables.compare("normalize_backward", d, z, scale, axes, scale=300.0)
        others = (len(shape) - 1,)  # layer normalization
        tables.compare("normalize", x, others, 1e-5, scale=20.0)


def test_dropout_is_numpys_bit_for_bit(tables, rng):
    for shape in ((1,), (7,), (8,), (9,), (3, 5, 11), (0, 4), (1000,)):
        x, step = tables.numbers(*shape), int(rng.integers(0, 1000))
        key, threshold = portnn.random.key(3, "2.mask"), round(0.3 * 2**32)
        expected = tables.plain.dropout(x, key, step, threshold, 1.0 / 0.7)
        for given in (step, tables.backend.asarray(np.array(step, np.int64))):
            with tables.backend.scope():
                found = tables.fused.dropout(tables.there(x), key, given, threshold, 1.0 / 0.7)
            for a, b in zip(found, expected, strict=True):
                assert np.array_equal(tables.backend.to_numpy(a), b)


def test_images_moved_at_random(tables, rng):
    for k in range(DRAWS):
        n, channels = int(rng.integers(0, 5)), int(rng.integers(1, 4))
        x = tables.numbers(n, int(rng.integers(1, 12)), int(rng.integers(1, 12)), channels)
        amounts = (float(rng.random() * 4), float(rng.random() * 180), float(rng.random() * 0.95)) if k else (0.0,) * 3
        key, step, reach = portnn.random.key(3, "2.affine"), int(rng.integers(0, 1000)), reach_of(*amounts[1:])
        for given in (step, np.array(step, np.int64)):
            with tables.backend.scope():
                maps = tables.fused.random_maps(tables.there(x), key, tables.there(given), *amounts)
            expected = tables.plain.random_maps(x, key, step, *amounts)
            assert np.allclose(tables.backend.to_numpy(maps), expected, rtol=1e-13, atol=1e-12)
        tables.compare("resample", x, expected, scale=30.0)
        tables.compare("resample_backward", x, expected, reach, scale=30.0)
        if k == 0:
            with tables.backend.scope():
                unmoved = tables.fused.resample(tables.there(x), maps)
            assert np.array_equal(tables.backend.to_numpy(unmoved), x)


# -- activations and losses --------------------------------------------------------------------------------------------

SHAPES = [(1, 1), (3, 5), (2, 3, 4, 6), (300, 7), (0, 3)]


@pytest.mark.parametrize("name", [None, "relu", "tanh"])
def test_biased(tables, name):
    function = None if name is None else activations.PAIRS[name][0]
    for shape in SHAPES:
        product, bias = tables.numbers(*shape), tables.numbers(shape[-1])
        expected = tables.plain.biased(product, bias, function)
        with tables.backend.scope():
            found = tables.fused.biased(tables.there(product.copy()), tables.there(bias), function)
        tables.close(found, expected)


@pytest.mark.parametrize("pair", activations.CHAINS, ids=lambda pair: pair[0].__name__)
def test_chain_rule(tables, pair):
    f, prime = pair
    chain = ops.implementation(tables.backend, "auto", activations.CHAINS[f, prime])
    for shape in SHAPES:
        x, d = tables.numbers(*shape), tables.numbers(*shape)
        with tables.backend.scope():
            found = chain(tables.there(f(x)), tables.there(d))
        tables.close(found, prime(x) * d)


@pytest.mark.parametrize("name", activations.PAIRS)
def test_each_activation_and_its_derivative(tables, name):
    for function in activations.PAIRS[name]:
        fused = ops.implementation(tables.backend, "auto", function)
        for shape in SHAPES:
            x = 3 * tables.numbers(*shape)
            with tables.backend.scope():
                found = fused(tables.there(x))
            tables.close(found, function(x))


def test_softmax_cross_entropy(tables, rng):
    for shape, labels in (((5, 3), (5,)), ((4, 2, 3), (4, 2)), ((6, 1, 10), (6,)), ((300, 4), (300,)), ((5, 3), None)):
        y = tables.numbers(*shape) * 5
        y = y.astype(tables.dtype)
        if labels is None:  # one-hot targets: the portable function handles them
            t = np.eye(3, dtype=tables.dtype)[rng.integers(0, 3, 5)]
        else:
            t = rng.integers(0, shape[-1], labels)
        for name in ("softmax_cross_entropy", "softmax_cross_entropy_prime"):
            plain = getattr(losses, name)
            with tables.backend.scope():
                found = ops.implementation(tables.backend, "auto", plain)(tables.backend.asarray(t), tables.there(y))
            tables.close(found, np.asarray(plain(t, y)))


def test_mean_squared_error(tables):
    for shape in SHAPES[:-1]:
        y, t = tables.numbers(*shape), tables.numbers(*shape)
        for name in ("mse", "mse_prime"):
            plain = getattr(losses, name)
            with tables.backend.scope():
                found = ops.implementation(tables.backend, "auto", plain)(tables.there(t), tables.there(y))
            tables.close(found, np.asarray(plain(t, y)))


# -- sums in the pass of what comes before them ------------------------------------------------------------------------

CHAINS = list(activations.CHAINS.values())


def with_sums(answer):
    """dE/dX and the sums of its columns, on the host."""
    *_, D, sums = answer
    return [*answer[:-1], D.sum(axis=tuple(range(D.ndim - 1))) if sums is None else sums]


def compare_sums(tables, function, arguments, plain_arguments, scale=10.0):
    fast = ops.implementation(tables.backend, "auto", function)
    with tables.backend.scope():
        found = fast(*arguments)
    assert found[-1] is not None
    tables.close(found, list(map(np.asarray, with_sums(function(*plain_arguments)))), scale)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.__name__)
def test_the_chain_rule_and_its_sums(tables, chain):
    fast = ops.implementation(tables.backend, "auto", chain)
    for shape in [(1, 1), (3, 5), (2, 3, 4, 6), (300, 7), (2100, 3)]:
        y, d = tables.numbers(*shape), tables.numbers(*shape)
        for function in (fusion.chained, fusion.chained_image):
            compare_sums(tables, function, (tables.there(y), tables.there(d), fast), (y, d, chain))


@pytest.mark.parametrize("kind", ["MaxPoolLayer", "AvgPoolLayer"])
def test_the_derivative_of_pooling_with_both(tables, rng, kind):
    chain = activations.relu_chain
    fast = ops.implementation(tables.backend, "auto", chain)
    for _ in range(DRAWS):
        plan = draw_plan(rng, pooling=True)
        y = tables.numbers(int(rng.integers(1, 4)), *plan.image, int(rng.integers(1, 4)), decimals=0)
        p = tables.plain.max_pool(y, plan) if kind == "MaxPoolLayer" else tables.plain.avg_pool(y, plan)
        d = tables.numbers(*p.shape)
        there = (*map(tables.there, (y, p, d)), fast, kind, plan, tables.fused)
        compare_sums(tables, fusion.pooled, there, (y, p, d, chain, kind, plan, tables.plain))


@pytest.mark.parametrize("chain", [None, *CHAINS], ids=lambda chain: getattr(chain, "__name__", "none"))
def test_mean_squared_error_with_all_behind_it(tables, chain):
    fast = None if chain is None else ops.implementation(tables.backend, "auto", chain)
    loss, prime = losses.PAIRS["mse"]
    bound = [ops.implementation(tables.backend, "auto", f) for f in (loss, prime)]
    for shape in [(1, 1), (128, 10), (5, 256), (7, 2, 3), (3000, 4)]:
        t, y = tables.numbers(*shape), tables.numbers(*shape)
        compare_sums(tables, fusion.whole, (tables.there(t), tables.there(y), *bound, fast), (t, y, loss, prime, chain))


def test_cross_entropy_with_all_behind_it(tables, rng):
    loss, prime = losses.PAIRS["softmax_cross_entropy"]
    bound = [ops.implementation(tables.backend, "auto", f) for f in (loss, prime)]
    for shape, labels in (
        ((1, 2), (1,)),
        ((128, 10), (128,)),
        ((9, 64), (9,)),
        ((4, 2, 3), (4, 2)),
        ((900, 7), (900,)),
    ):
        y, t = (5 * tables.numbers(*shape)).astype(tables.dtype), rng.integers(0, shape[-1], labels)
        there = tables.backend.asarray(t), tables.there(y)
        compare_sums(tables, fusion.whole, (*there, *bound, None), (t, y, loss, prime, None))
    y[0, 0] = np.nan
    with tables.backend.scope():
        error, *_ = ops.implementation(tables.backend, "auto", fusion.whole)(
            tables.backend.asarray(t), tables.backend.asarray(y), *bound, None
        )
    assert np.isnan(tables.backend.to_numpy(error))


@pytest.mark.parametrize("name", ["mae", "hinge", "binary_cross_entropy"])
def test_other_losses_are_left_to_the_library(tables, name):
    t, y = tables.numbers(4, 3), tables.numbers(4, 3)
    bound = [ops.implementation(tables.backend, "auto", f) for f in losses.PAIRS[name]]
    with tables.backend.scope():
        *_, sums = ops.implementation(tables.backend, "auto", fusion.whole)(
            tables.there(t), tables.there(y), *bound, None
        )
    assert sums is None


# -- the train step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    ("kept", "cast"), [("uint8", "real"), ("uint8", "int64"), ("int64", "int64"), ("int32", "real"), ("", "real")]
)
def test_rows_of_a_batch(tables, rng, kept, cast, shuffled):
    backend = tables.backend
    data = (rng.random((20, 3, 2)) * 100).astype(kept or tables.dtype)
    order = rng.permutation(20)
    dtype = np.dtype(tables.dtype if cast == "real" else cast)
    table = np.arange(12.0, dtype=tables.dtype).reshape(4, 3)
    with backend.scope():
        arguments = (
            backend.asarray(order) if shuffled else None,
            backend.asarray(np.array(2, np.int64)),
            backend.asarray(np.arange(4)),
            6,
            backend.asarray(table),
        )
        parts = [(backend.asarray(data), dtype), (backend.asarray(data[:, 0, 0].copy()), dtype)]
        both, row = ops.implementation(backend, "auto", batches.gathered)(parts, *arguments)
    expected = data[order[12:16]] if shuffled else data[12:16]
    for found, wanted in zip(both, (expected, expected[:, 0, 0]), strict=True):
        assert found.dtype == dtype
        assert np.array_equal(backend.to_numpy(found), wanted.astype(dtype))
    assert np.array_equal(backend.to_numpy(row), table[2:3])


@pytest.mark.parametrize("total", [3.5, np.inf, np.nan])
def test_update_counters(tables, total):
    backend = tables.backend
    old = [np.array(7), np.array(2), np.array(total), np.array(5)]
    error = np.array(0.25, tables.dtype)
    with backend.scope():
        found = ops.implementation(backend, "auto", step.update_counters)(
            *map(backend.asarray, old), backend.asarray(error), 16
        )
    number, position, new_total, finite = map(backend.to_numpy, found)
    assert (number, position, finite) == (8, 3, 6 if np.isfinite(total) else 5)
    assert np.array_equal(new_total, total + 4.0, equal_nan=True)


def test_copies_of_more_arrays_than_fit_in_one_launch(tables):
    backend = tables.backend
    sources = [tables.numbers(*shape) for shape in [(), (3,), (4, 5), (0, 2)] * 20]
    sources += [np.arange(size, dtype=np.uint8) for size in (5, 8)]
    with backend.scope():
        targets = [backend.asarray(np.zeros_like(a)) for a in sources]
        pairs = [(t, tables.there(a)) for t, a in zip(targets, sources, strict=True)]
        sources.append(np.arange(8, dtype=np.uint8))
        targets.append(backend.asarray(np.zeros(9, np.uint8))[1:])  # not aligned to a word
        pairs.append((targets[-1], backend.asarray(sources[-1])))
        backend.driver.copy(pairs)
    for target, source in zip(targets, sources, strict=True):
        assert np.array_equal(backend.to_numpy(target), source)


# -- optimizers --------------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    portnn.SGD(0.1),
    portnn.SGD(0.1, momentum=0.9),
    portnn.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    portnn.AdaGrad(0.1, clip_norm=1.0),
    portnn.RMSprop(0.1, decay=0.8),
    portnn.Adam(0.1, weight_decay=0.1),
    portnn.AdamW(0.1, clip_value=0.5),
]


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [False, True], ids=["numbers", "numbers on the device"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_optimizers_with_more_parameters_than_fit_in_one_launch(tables, optimizer, on_device):
    shapes = [(3, 4), (1, 4), (5,), (2, 2, 2, 3)] * 13
    weights = [tables.numbers(*shape) for shape in shapes]
    mine, theirs = list(map(tables.there, weights)), weights
    update = ops.implementation(tables.backend, "auto", type(optimizer).update)
    slots, plain_slots = optimizer.slots(mine), optimizer.slots(theirs)
    for k in range(3):
        gradients = [tables.numbers(*shape) for shape in shapes]
        hyper = optimizer.hyper(k)
        given = [tables.backend.asarray(np.array(h, tables.dtype)) for h in hyper] if on_device else hyper
        with tables.backend.scope():
            mine, slots = update(optimizer, mine, list(map(tables.there, gradients)), slots, given)
        theirs, plain_slots = optimizer.update(theirs, gradients, plain_slots, hyper)
    tables.close(mine, theirs, 10.0)
    for kind, arrays in plain_slots.items():
        tables.close(slots[kind], arrays, 10.0)
