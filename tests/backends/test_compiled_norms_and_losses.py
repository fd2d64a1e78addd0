"""The compiled loops of normalization, large losses and large batches, compared with the portable functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portnn
from drawn_arrays import laid_out, numbers
from portnn import losses, ops
from portnn.training import batches
from portnn_numpy import compiled
from portnn_numpy.backend import NumpyBackend

pytestmark = pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}")
if compiled.trouble() is None:
    from portnn_numpy.compiled import _batches, _losses, _normalization, jit, training
    from portnn_numpy.compiled import losses as fast_losses
    from portnn_numpy.compiled import ops as fast
CPU = NumpyBackend()
drawn = settings(max_examples=60, deadline=None)
dtypes = st.sampled_from(["float32", "float64"])


@pytest.fixture(autouse=True, params=["alone", "within a public call"])
def where(request, monkeypatch):
    """Loops on one thread, and as in a public call. They are used on small arrays, too."""
    for module, name in (
        (_normalization, "LEAST"),
        (fast, "LEAST"),
        (_losses, "LARGE"),
        (_losses, "LEAST"),
        (_batches, "LEAST"),
    ):
        monkeypatch.setattr(module, name, 1)
    with np.errstate(all="ignore"):
        if request.param == "alone":
            yield
            return
        import numba

        from portnn_numpy.compiled import pool

        with pool.Scope(np.errstate()):
            if pool.alone():
                pool._mine.threads = numba.get_num_threads()
            yield


layouts = st.sampled_from(["channels first", "channels first", "batch fastest", "as it is", "with gaps", "read-only"])


def exact(name):
    """The portable routine in float64."""
    table = ops.bind(CPU, "portable")
    return lambda *given: getattr(table, name)(*(a.astype("f8") if isinstance(a, np.ndarray) else a for a in given))


def close(found, expected, dtype, scale=1.0):
    assert found.shape == expected.shape
    assert found.dtype == dtype
    tight = {"float32": 2e-6, "float64": 1e-13}[dtype] * scale
    assert np.abs(found - expected).max(initial=0.0) <= tight * max(1.0, np.abs(expected).max(initial=0.0))


# -- normalization -----------------------------------------------------------------------------------------------------

shapes = st.one_of(
    st.tuples(st.integers(1, 300), st.integers(1, 200)),
    st.tuples(st.integers(1, 70), st.integers(1, 9), st.integers(1, 9), st.integers(1, 80)),
)


@st.composite
def cases(draw):
    """A shape, and the axes of a batch, layer or group normalization; for the last one (N, pixels, groups, C / groups)."""
    shape = draw(shapes)
    kind = (
        draw(st.sampled_from(["batch", "layer", "group"]))
        if len(shape) == 4
        else draw(st.sampled_from(["batch", "layer"]))
    )
    return shape, {"batch": tuple(range(len(shape) - 1)), "layer": (len(shape) - 1,), "group": (1, 3)}[kind]


@drawn
@given(cases(), layouts, layouts, dtypes, st.floats(0.1, 30.0), st.integers(0, 99))
def test_normalize(case, layout, other, dtype, offset, seed):
    shape, axes = case
    x, d = offset + numbers(seed, *shape, dtype=dtype), numbers(seed + 1, *shape, dtype=dtype)
    found = fast.normalize(laid_out(x, layout), axes, 1e-3)
    if found is NotImplemented:
        return
    expected = exact("normalize")(x, axes, 1e-3)
    for a, b, scale in zip(found, expected, (10.0 * offset + 1.0, 5.0, 1.0, 10.0), strict=True):
        close(a, b, dtype, scale)
    z, scale = found[:2]
    dx = fast.normalize_backward(laid_out(d, other), z, scale, axes)
    close(dx, exact("normalize_backward")(d, z, scale, axes), dtype, 4.0)


@drawn
@given(shapes, layouts, layouts, dtypes, st.integers(0, 99))
def test_scaled(shape, layout, other, dtype, seed):
    x, d = numbers(seed, *shape, dtype=dtype), numbers(seed + 1, *shape, dtype=dtype)
    w, b = numbers(seed + 2, shape[-1], dtype=dtype), numbers(seed + 3, shape[-1], dtype=dtype)
    w.flags.writeable = layout != "read-only"
    y = fast.scaled(laid_out(x, layout), w, b)
    if y is not NotImplemented:
        close(y, exact("scaled")(x, w, b), dtype)
    found = fast.scaled_backward(laid_out(d, other), laid_out(x, layout), w)
    if found is not NotImplemented:
        for a, b in zip(found, exact("scaled_backward")(d, x, w), strict=True):
            close(a, b, dtype, 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axes", "layout"),
    [
        ((300, 1), (0,), "as it is"),
        ((128, 512), (0,), "as it is"),
        ((128, 512), (1,), "as it is"),
        ((37, 7, 5, 12), (0, 1, 2), "channels first"),
        ((37, 35, 2, 6), (1, 3), "channels first"),
        ((37, 7, 5, 70), (3,), "as it is"),
    ],
)
def test_the_uses_of_normalize_have_a_loop(shape, axes, layout, dtype):
    x = laid_out(numbers(0, *shape, dtype=dtype), layout)
    z, scale, mean, variance = fast.normalize(x, axes, 1e-5)
    assert z.strides == x.strides
    assert scale.shape == mean.shape == variance.shape == tuple(1 if i in axes else n for i, n in enumerate(shape))
    assert fast.normalize_backward(x, z, scale, axes).strides == x.strides
    w = np.ones(shape[-1], dtype)
    assert fast.scaled(x, w, w).strides == x.strides
    if shape[-1] >= 16 or shape[-1] == 1 or (layout == "channels first" and axes == (0, 1, 2)):
        assert fast.scaled_backward(x, x, w)[0].strides == x.strides


def test_what_has_no_loop():
    x, w = numbers(0, 40, 6, 6, 20), np.ones(20, np.float32)
    image = laid_out(x, "channels first")
    for a, axes in ((x, (0, 2)), (image, (0, 3)), (x[..., :3], (3,)), (x.astype("f2"), (3,)), (x[::2], (1,))):
        assert fast.normalize(a, axes, 1e-5) is NotImplemented
    assert fast.normalize_backward(x[:1], x, np.ones((1, 1, 1, 20), "f"), (0, 1, 2)) is NotImplemented
    assert fast.scaled(x, w.astype("f8"), w) is NotImplemented
    assert fast.scaled_backward(x.astype("f8"), x, w) is NotImplemented
    for wrong in (w[:19], np.ones(21, "f"), w.reshape(1, 20)):  # a loop would read what is behind the array
        assert fast.scaled(x, wrong, wrong) is NotImplemented
        assert fast.scaled_backward(x, x, wrong) is NotImplemented
        assert fast.normalize_backward(x, x, wrong.reshape(1, 1, 1, -1)[..., :19], (0, 1, 2)) is NotImplemented


@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_a_constant_far_from_zero_and_nan(axes):
    x = np.full((300, 300), 1e10 / 3, np.float32)
    z, _, mean, variance = fast.normalize(x, axes, 1e-5)
    assert np.abs(z).max() < 1e-3
    assert np.abs(variance).max() < 1e-3
    assert np.abs(mean / x[0, 0] - 1.0).max() < 1e-6
    for wild in (np.nan, np.inf, -np.inf):
        x = numbers(1, 300, 300)
        x[7, 7] = wild
        z = fast.normalize(x, axes, 1e-5)[0]
        expected = np.zeros((300, 300), bool)
        expected[(slice(None), 7) if axes == (0,) else 7] = True
        assert np.array_equal(np.isnan(z), expected)


def test_a_million_numbers_are_added_as_accurately_as_in_pairs():
    x = np.full((1 << 20, 1), 0.1, np.float32).reshape(1, -1)
    x[0, ::3] = 100.0
    for a, axes in ((x, (1,)), (np.repeat(x.T, 16, axis=1), (0,))):
        _, _, mean, variance = fast.normalize(a, axes, 1e-5)
        assert np.abs(mean / x.astype("f8").mean() - 1.0).max() < 3e-7
        assert np.abs(variance / x.astype("f8").var() - 1.0).max() < 1e-6


# -- losses --------------------------------------------------------------------------------------------------------------

NAMES = ("mse", "binary_cross_entropy", "softmax_cross_entropy")


def pair(name):
    return getattr(losses, name), getattr(losses, f"{name}_prime")


def targets(name, seed, shape, kind):
    rng = np.random.default_rng(seed)
    if name != "softmax_cross_entropy":
        return rng.random(shape).astype("float32") if kind != "labels" else rng.integers(0, 2, shape).astype("float32")
    labels = rng.integers(0, shape[-1], shape[:-1])
    if kind == "labels":
        return labels
    rows = np.eye(shape[-1], dtype="float32")[labels]
    return (0.8 * rows + 0.2 / shape[-1]).astype("float32") if kind == "probabilities" else rows


@drawn
@given(
    st.sampled_from(NAMES),
    st.one_of(
        st.tuples(st.integers(16, 300), st.integers(2, 40)),
        st.tuples(st.integers(16, 80), st.integers(1, 5), st.integers(1, 5), st.integers(2, 12)),
    ),
    layouts,
    layouts,
    st.sampled_from(["rows", "probabilities", "labels"]),
    st.floats(0.1, 30.0),
    st.integers(0, 99),
)
def test_losses(name, shape, layout, other, kind, scale, seed):
    y, t = (scale * numbers(seed, *shape)).astype("float32"), targets(name, seed, shape, kind)
    wanted = laid_out(t, other if t.ndim == y.ndim else "read-only" if other == "read-only" else "as it is")
    loss, prime = pair(name)
    found = _losses.computed(name, wanted, laid_out(y, layout))
    if found is None:
        assert layout == "with gaps"
        assert name != "softmax_cross_entropy"
        return
    expected = loss(t if t.dtype.kind == "i" else t.astype("f8"), y.astype("f8"))
    slope = prime(t if t.dtype.kind == "i" else t.astype("f8"), y.astype("f8"))
    assert found[0].dtype == found[1].dtype == np.float32
    assert abs(found[0] - expected) <= 2e-6 * abs(expected) + 1e-7
    assert found[1].shape == y.shape
    assert np.abs(found[1] - slope).max() <= 1e-6 * np.abs(slope).max() + 1e-9
    if name != "mse":
        assert getattr(fast_losses, name)(wanted, y) == pytest.approx(found[0], rel=1e-6)
        assert np.allclose(getattr(fast_losses, f"{name}_prime")(wanted, y), found[1], rtol=1e-6, atol=1e-9)
    assert training.whole(wanted, y, loss, prime, None)[1].shape == y.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 3e38, -3e38, 100.0, -100.0, 0.0, -0.0])
def test_losses_of_extreme_outputs(name, wild):
    """NaN and infinity come out where the portable functions have them."""
    loss, prime = pair(name)
    for kind in ("rows", "labels"):
        for at in range(3):
            y, t = numbers(0, 40, 3), targets(name, 1, (40, 3), kind)
            y[17, at] = wild
            error, d = _losses.computed(name, t, y)
            expected, slope = loss(t, y), prime(t, y)
            assert np.isnan(error) == np.isnan(expected)
            assert np.isinf(error) == np.isinf(expected)
            if np.isfinite(expected):
                assert error == pytest.approx(expected, rel=1e-5)
            assert np.array_equal(np.isnan(d), np.isnan(slope))
            assert np.allclose(d, slope, rtol=1e-5, atol=1e-7, equal_nan=True)


def test_losses_that_are_left_to_numpy(monkeypatch):
    y, t = numbers(0, 40, 3), targets("softmax_cross_entropy", 0, (40, 3), "rows")
    labels = targets("softmax_cross_entropy", 0, (40, 3), "labels")
    assert _losses.computed("mae", t, y) is None
    for name in NAMES:
        assert _losses.computed(name, t, y.astype("f8")) is None
        assert _losses.computed(name, t[:, :2], y) is None
    for wrong in (3, -1, 1 << 40):
        labels[11] = wrong
        assert _losses.computed("softmax_cross_entropy", labels, y) is None
    assert _losses.computed("softmax_cross_entropy", t[:9], y[:9]) is None
    for name in NAMES[1:]:
        for function in (name, f"{name}_prime"):
            assert getattr(fast_losses, function)(t, y, np.ones(40, "f")) is NotImplemented
    assert training.whole(t, np.repeat(y, 9, 0), losses.mse, losses.mae_prime, None) is NotImplemented
    assert training.whole(t, np.repeat(y, 9, 0), lambda a, b: 0, losses.mse_prime, None) is NotImplemented
    monkeypatch.setattr(_losses, "LARGE", jit.SHARED)
    assert _losses.computed("mse", t, y) is None


def test_a_loop_that_does_not_compile(monkeypatch):
    """NumPy's functions take the place of each, as ``jit.ran`` tells."""
    y, t = numbers(0, 40, 30), numbers(1, 40, 30)
    for module in (_losses, training, fast):
        monkeypatch.setattr(module, "ran", lambda *given: False)
    for name in NAMES:
        assert _losses.computed(name, t, y) is None
        assert training.whole(t, y, *pair(name), None) is NotImplemented
    for name in NAMES[1:]:
        assert getattr(fast_losses, name)(t, y) is NotImplemented
        assert getattr(fast_losses, f"{name}_prime")(t, y) is NotImplemented
    assert training.taken(y, np.arange(3), y.dtype) is NotImplemented
    assert fast.normalize(y, (0,), 1e-5) is NotImplemented
    assert fast.normalize_backward(y, y, y[:1], (0,)) is NotImplemented
    assert fast.scaled(y, y[0], y[1]) is NotImplemented
    assert fast.scaled_backward(y, y, y[0]) is NotImplemented


def test_the_chain_rule_behind_a_loss():
    y, t = np.tanh(numbers(0, 40, 30)), numbers(1, 40, 30)
    error, d, sums = training.whole(t, y, *pair("mse"), portnn.activations.tanh_chain)
    assert error == pytest.approx(losses.mse(t, y), rel=1e-6)
    assert np.allclose(d, losses.mse_prime(t, y) * (1.0 - y * y), rtol=1e-5, atol=1e-9)
    assert sums is None


# -- the rows of a batch ---------------------------------------------------------------------------------------------------


@drawn
@given(
    st.sampled_from(["uint8", "float32", "float64", "int16", "bool"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([(7,), (3, 4), (2, 3, 4), ()]),
    st.sampled_from(["as it is", "read-only", "batch fastest"]),
    st.integers(0, 50),
    st.integers(0, 99),
)
def test_rows_are_those_that_numpy_takes(kind, dtype, shape, layout, n, seed):
    data = (100 * np.random.default_rng(seed).random((60, *shape))).astype(kind)
    data = laid_out(data, layout) if data.ndim > 1 else data
    which = np.random.default_rng(seed + 1).permutation(60)[:n]
    expected = data[which].astype(dtype)
    found = training.taken(data, which, np.dtype(dtype))
    if found is NotImplemented:
        assert n == 0 or kind in ("int16", "bool") or not data.flags.carray
        found = batches.taken(data, which, np.dtype(dtype))
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


def test_rows_that_do_not_exist():
    data = numbers(0, 60, 5)
    for which in ([0, 60], [-61], [1 << 40], [-1]):
        assert training.taken(data, np.array(which), data.dtype) is NotImplemented
    assert training.taken(data, np.array([0], np.int32), data.dtype) is NotImplemented


def test_relu_alone(monkeypatch):
    from portnn_numpy.compiled import activations

    monkeypatch.setattr(activations, "SHARED", 1)
    x = numbers(0, 60, 8, 8, 7)
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    for layout in ("as it is", "channels first", "read-only"):
        y = activations.relu(laid_out(x, layout))
        assert np.array_equal(y, np.maximum(x, 0.0), equal_nan=True)
    assert activations.relu(laid_out(x, "with gaps")) is NotImplemented


def test_the_table_has_them():
    """The functions are those that layers and networks call."""
    table = ops.bind(CPU, "auto")
    x = laid_out(numbers(0, 64, 8, 8, 8), "channels first")
    z, scale, *_ = table.normalize(x, (0, 1, 2), 1e-5)
    assert np.array_equal(z, fast.normalize(x, (0, 1, 2), 1e-5)[0])
    assert np.array_equal(
        table.normalize_backward(x, z, scale, (0, 1, 2)), fast.normalize_backward(x, z, scale, (0, 1, 2))
    )
