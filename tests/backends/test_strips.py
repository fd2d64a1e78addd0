"""Convolutions of many channels with many filters, whose inputs are copied first; bias and activation in the same pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_arrays import numbers
from portnn import activations, get_backend, ops
from portnn.ops.windows import window_plan
from portnn.training import fusion
from portnn_numpy import blas, compiled

pytestmark = pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}")
drawn = settings(max_examples=40, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def within_a_public_call():
    """Outside of one, such convolutions are left to BLAS."""
    from portnn_numpy.compiled import pool

    with pool.Scope(np.errstate(all="ignore")):
        if not blas.can_be_told():
            pytest.skip("NumPy's BLAS cannot be told to use one thread")
        yield


@pytest.fixture
def used(monkeypatch):
    """How often the loop has run."""
    from portnn_numpy.compiled import _strips

    calls, loop = [], _strips.strips
    monkeypatch.setattr(_strips, "strips", lambda *a: (calls.append(1), loop(*a))[1])
    return calls


def tables():
    return ops.bind(get_backend("cpu"), "auto"), ops.bind(get_backend("cpu"), "portable")


def close(a, b):
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


@st.composite
def convolutions(draw):
    kernel = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    image = draw(st.integers(4, 7)), draw(st.integers(4, 7))
    plan = window_plan(image, kernel, 1, draw(st.sampled_from(["valid", "same", 1, ((0, 2), (3, 0)), 5])))
    least = -(-128 // int(np.prod(kernel)))
    groups = draw(st.sampled_from([1, 1, 2]))
    channels, filters = draw(st.integers(max(24, least), 70)), draw(st.integers(max(24, least), 70))
    return plan, groups, groups * channels, groups * filters, draw(st.sampled_from([32, 33, 40, 63, 64]))


@drawn
@given(convolutions(), st.integers(0, 99))
def test_against_the_portable_functions(case, seed):
    plan, groups, channels, filters, n = case
    fast, portable = tables()
    x, w = numbers(seed, n, *plan.image, channels), numbers(seed + 1, *plan.kernel, channels // groups, filters)
    y, _ = fast.convolution(x, w, plan, groups)
    close(y, portable.convolution(x, w, plan, groups)[0])
    d = numbers(seed + 2, *y.shape)
    close(fast.convolution_backward(w, d, plan, groups), portable.convolution_backward(w, d, plan, groups))


def test_the_loop_is_used(used):
    fast, _ = tables()
    plan = window_plan((6, 6), (3, 3))
    x, w, d = numbers(0, 32, 6, 6, 24), numbers(1, 3, 3, 24, 24), numbers(2, 32, 4, 4, 24)
    fast.convolution(x, w, plan, 1)
    assert len(used) == 1
    fast.convolution_backward(w, d, plan, 1)
    assert len(used) == 2
    for strided in (window_plan((6, 6), (3, 3), 2), window_plan((6, 6), (3, 3), 1, "valid", 2)):
        fast.convolution(x, w, strided, 1)
    fast.convolution(x[..., :2], w[:, :, :2], plan, 1)
    assert len(used) == 2


def test_nan_and_infinity_reach_the_pixels_that_they_belong_to():
    fast, portable = tables()
    plan = window_plan((7, 7), (3, 3), 1, "same")
    x, w = numbers(0, 40, 7, 7, 24), numbers(1, 3, 3, 24, 30)
    x[3, 2, 2, 5], x[9, 0, 6, 1], x[20, 6, 6, 0] = np.nan, np.inf, -np.inf
    y, expected = fast.convolution(x, w, plan, 1)[0], portable.convolution(x, w, plan, 1)[0]
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(y), kind(expected))


@pytest.mark.parametrize(("channels", "filters", "groups"), [(24, 27, 1), (2, 9, 1), (4, 10, 2), (3, 2, 1)])
@pytest.mark.parametrize("activation", [activations.tanh, activations.relu, None])
@pytest.mark.parametrize("pooling", [None, "MaxPoolLayer", "AvgPoolLayer"])
def test_bias_and_activation_in_the_same_pass(channels, filters, groups, activation, pooling):
    """The bits are those of one pass after the other."""
    fast, _ = tables()
    n, plan = 35, window_plan((10, 12), (3, 3), 1, "same")
    windows = None if pooling is None else (pooling, window_plan(plan.output, (2, 2), 2))
    x, w = numbers(0, n, 10, 12, channels), numbers(1, 3, 3, channels // groups, filters)
    x[0, 0, 0, 0] = np.nan
    given_ = x, w, numbers(2, filters), activation, plan, groups, windows, True, fast
    found = ops.implementation(get_backend("cpu"), "auto", fusion.convolved)
    assert found is not fusion.convolved
    for one, other in zip(found(*given_)[:2], fusion.convolved(*given_)[:2], strict=True):
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other, equal_nan=True)


def test_a_bias_of_another_dtype_is_added_by_numpy():
    fast, _ = tables()
    plan = window_plan((10, 12), (3, 3))
    x, w, bias = numbers(0, 32, 10, 12, 3), numbers(1, 3, 3, 3, 8), numbers(2, 8).astype(np.float64)
    given_ = x, w, bias, activations.relu, plan, 1, None, True, fast
    found = ops.implementation(get_backend("cpu"), "auto", fusion.convolved)
    assert np.array_equal(found(*given_)[0], fusion.convolved(*given_)[0])
