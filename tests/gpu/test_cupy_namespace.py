"""Each function of the thin namespace, captured on a GPU: what layers and metrics may call, users' own as well."""

import warnings

import numpy as np
import pytest

from portnn.backend import STANDARD, namespace

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error")]
X = np.array([[-1.5, 0.0, 2.0], [np.nan, -np.inf, 0.5]])
ROWS = np.arange(6.0).reshape(2, 3)


def each(names, call):
    """A row for each name, with the function of that name."""
    return {name: lambda xp, x, a, name=name: call(getattr(xp, name), xp, x, a) for name in names.split()}


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
    "floor_divide": lambda xp, x, a: xp.floor_divide(a, a + 1.0),
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
    "acosh": lambda xp, x, a: xp.acosh(a + 1.0),
    "argmin": lambda xp, x, a: xp.argmin(a, axis=0),
    "argsort": lambda xp, x, a: xp.argsort(x, axis=-1),
    "argsort, stable": lambda xp, x, a: xp.argsort(a % 2.0, axis=1, stable=True),
    "argsort of one axis": lambda xp, x, a: xp.argsort(a[0, :]),
    "bitwise_invert": lambda xp, x, a: xp.bitwise_invert(xp.astype(a, xp.int64)),
    "broadcast_arrays": lambda xp, x, a: xp.broadcast_arrays(x, a[:1, :])[1] * 1.0,
    "count_nonzero": lambda xp, x, a: xp.count_nonzero(a, axis=1),
    "cumulative_prod": lambda xp, x, a: xp.cumulative_prod(a + 1.0, axis=1),
    "cumulative_sum": lambda xp, x, a: xp.cumulative_sum(a, axis=1),
    "cumulative_sum of one axis": lambda xp, x, a: xp.cumulative_sum(a[0, :]),
    "diff": lambda xp, x, a: xp.diff(a, axis=1),
    "empty_like": lambda xp, x, a: xp.empty_like(a) * 0.0 == 5.0,
    "eye": lambda xp, x, a: xp.eye(3, dtype=x.dtype),
    "imag": lambda xp, x, a: xp.imag(a + 1j * a),
    "logical_not": lambda xp, x, a: xp.logical_not(a > 1.0),
    "logical_xor": lambda xp, x, a: xp.logical_xor(a > 1.0, x > 0.0),
    "matrix_transpose": lambda xp, x, a: xp.matrix_transpose(a) * 2.0,
    "max of all": lambda xp, x, a: xp.max(x),
    "mean of all": lambda xp, x, a: xp.mean(a),
    "meshgrid": lambda xp, x, a: xp.meshgrid(a[0, :], a[1, :])[0] + 1.0,
    "moveaxis": lambda xp, x, a: xp.moveaxis(a, 0, 1) + 1.0,
    "searchsorted": lambda xp, x, a: xp.searchsorted(a[0, :], a[1, :] / 3),
    "sort": lambda xp, x, a: xp.sort(x, axis=-1),
    "sort by another axis": lambda xp, x, a: xp.sort(x, axis=0),
    "sort of one axis": lambda xp, x, a: xp.sort(x[1, :]),
    "std": lambda xp, x, a: xp.std(a, axis=1),
    "sum of all": lambda xp, x, a: xp.sum(a),
    "sum of the last axis": lambda xp, x, a: xp.sum(a, axis=-1, keepdims=True),
    "take_along_axis": lambda xp, x, a: xp.take_along_axis(x, xp.argmax(a, axis=1, keepdims=True), axis=1),
    "tensordot of axes": lambda xp, x, a: xp.tensordot(xp.stack([a, a + 1.0]), a, axes=((2, 1), (-1, 0))),
    "tensordot of one axis": lambda xp, x, a: xp.tensordot(a, xp.permute_dims(a, (1, 0)), axes=1),
    "tensordot of none": lambda xp, x, a: xp.tensordot(a, a[0, :], axes=0),
    "tensordot of two axes": lambda xp, x, a: xp.tensordot(a, xp.stack([a, a], axis=2), axes=2),
    "triu": lambda xp, x, a: xp.triu(a),
    "var": lambda xp, x, a: xp.var(a, axis=(0, 1)),
    "vecdot": lambda xp, x, a: xp.vecdot(a, x),
    "vecdot of another axis": lambda xp, x, a: xp.vecdot(a, a[:, :1], axis=0),
    "vecdot of integers": lambda xp, x, a: xp.vecdot(xp.astype(a, xp.int32), xp.astype(a, xp.int32)),
    **each(
        "acos asin asinh atan atanh ceil conj cos cosh floor isinf log10 log2 negative positive real reciprocal round signbit "
        "sin sinh square tan trunc",
        lambda f, xp, x, a: f((a + 0.25) / 6),
    ),
    **each(
        "add atan2 copysign divide equal greater greater_equal hypot less less_equal logaddexp multiply "
        "nextafter not_equal remainder subtract",
        lambda f, xp, x, a: f(x, a + 1.0),
    ),
    **each(
        "bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor",
        lambda f, xp, x, a: f(xp.astype(a, xp.int64), xp.astype(a > 1.0, xp.int64)),
    ),
}
# Of these the shape of the result depends on values, so the host has to read them.
READING = {
    "nonzero": lambda xp, x, a: xp.nonzero(a)[0],
    "unique_all": lambda xp, x, a: xp.unique_all(a)[0],
    "unique_counts": lambda xp, x, a: xp.unique_counts(a)[0],
    "unique_inverse": lambda xp, x, a: xp.unique_inverse(a)[0],
    "unique_values": lambda xp, x, a: xp.unique_values(a),
    "a mask": lambda xp, x, a: a[a > 1.0],
    "asarray of the host": lambda xp, x, a: xp.asarray(ROWS),
}
# Constants, dtypes and what is asked of them, and whole namespaces.
OTHERS = """
    e inf nan newaxis pi bool complex64 complex128 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64
    can_cast finfo iinfo isdtype result_type from_dlpack linalg fft __array_namespace_info__
"""


def test_every_function_is_here(backend):
    rows = {name.split(",")[0].split(" of ")[0].split(" by ")[0].split(" from ")[0] for name in [*CALLS, *READING]}
    assert set(STANDARD.split()) - rows - set(OTHERS.split()) == set()
    assert rows >= {name for name in STANDARD.split() if callable(getattr(backend.xp, name, None))} - set(
        OTHERS.split()
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("which", ["xp", "namespace"])
def test_each_function(backend, name, which):
    """Those of the backend's namespace, and of the one that losses and metrics ask an array for; twice the same bits."""
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
        for _ in range(2):
            backend.driver.launch(graph)
            found.append(backend.to_numpy(found[0]))
    assert np.array_equal(found[1], found[2], equal_nan=True)
    found = found[1]
    assert found.dtype == expected.dtype
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", READING)
def test_what_reads_on_the_host_cannot_be_captured(backend, name):
    with backend.scope():
        x, a = backend.asarray(X), backend.asarray(ROWS)
        READING[name](backend.xp, x, a)  # compiles
        with pytest.raises(Exception, match=r"captur|CAPTUR"):
            backend.driver.capture(lambda: READING[name](backend.xp, x, a))
