"""Products divided among threads, compared with products in float64, for operands of every layout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_arrays import numbers
from portnn import activations
from portnn.ops import bind
from portnn_numpy import blas, compiled
from portnn_numpy.backend import LARGE, NumpyBackend

pytestmark = [
    pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}"),
    pytest.mark.skipif(not blas.can_be_told(), reason="NumPy's BLAS cannot be told to use one thread"),
]
if compiled.trouble() is None:
    import numba

    from portnn_numpy.compiled import _products, ops, pool
    from portnn_numpy.compiled._products import LEAST_WORK, product
CPU = NumpyBackend()
EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}


@pytest.fixture(autouse=True, scope="module")
def within():
    """Within a public call, with all of Numba's threads."""
    pool.enter()
    pool._mine.threads = numba.get_num_threads()
    yield
    pool.leave()


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def offset(a):
    """A window of a larger matrix, whose rows are farther apart."""
    large = np.full((a.shape[0] + 3, a.shape[1] + 5), np.nan, a.dtype)
    large[1:-2, 2:-3] = a
    return large[1:-2, 2:-3]


def unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    room[...] = a
    return room


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


# What BLAS can read, and what NumPy must compute.
READ = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "offset": offset,
    "offset, turned": lambda a: offset(a.T).T,
    "read-only": read_only,
}
LEFT = {
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "every other row and column": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2],
    "columns backwards": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "rows backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "other byte order": swapped,
    "unaligned": unaligned,
}
layouts = st.sampled_from([*READ, *READ, *LEFT])


@st.composite
def shapes(draw):
    """(m, k, n) around the least work of a product that is divided."""
    m, k = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    exact = LEAST_WORK / (m * k)
    n = max(1, int(exact * draw(st.sampled_from([0.5, 1.0, 1.0, 1.3, 2.0]))) + draw(st.integers(-1, 1)))
    return draw(st.permutations([m, k, min(n, 2000)]))


def close(found, a, b, bias=None, activation=None):
    """To the rounding of sums of as many terms, in any order."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    exact = a @ b if bias is None else a @ b + bias.astype(np.float64).reshape(-1)
    if activation is not None:
        exact = activations.PAIRS[activation][0](exact)
    scale = np.abs(a) @ np.abs(b) + 1.0 + (0.0 if bias is None else np.abs(bias).max())
    assert found.shape == exact.shape
    epsilon = EPSILON[found.dtype.name]
    assert (np.abs(found - exact) <= epsilon * (np.sqrt(a.shape[1]) * 2 + 4) * scale).all()


@settings(max_examples=80, deadline=None)
@given(
    shapes(),
    layouts,
    layouts,
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([None, "(n,)", "(1, n)", "read-only", "with gaps"]),
    st.sampled_from([None, "relu", "tanh"]),
    st.integers(0, 99),
)
def test_product(shape, left, right, dtype, bias, activation, seed):
    m, k, n = shape
    a, b = numbers(seed, m, k, dtype=dtype), numbers(seed + 1, k, n, dtype=dtype)
    given_a, given_b = ({**READ, **LEFT}[layout](x) for layout, x in ((left, a), (right, b)))
    own = None
    if bias is not None:
        own = numbers(seed + 2, n, dtype=dtype)
        own = {"(1, n)": own.reshape(1, n), "read-only": read_only(own), "with gaps": np.repeat(own, 2)[::2]}.get(
            bias, own
        )
    else:
        activation = None
    if activation == "tanh" and dtype == "float64":
        activation = None  # ``ops.affine`` does not ask for it
    before = given_a.copy(), given_b.copy()
    found = product(given_a, given_b, own, activation)
    # A matrix of one row or column can be read whatever the strides of that axis.
    if (found is None) != (m * k * n < LEAST_WORK):
        assert {left, right} & LEFT.keys() or 1 in shape
    if m * k * n < LEAST_WORK or {left, right} & {"other byte order", "unaligned"}:
        assert found is None
    if found is not None:
        close(found, a, b, own, activation)
        assert found.dtype == dtype
        assert found.flags.c_contiguous
    assert np.array_equal(before[0], given_a)
    assert np.array_equal(before[1], given_b)
    with np.errstate(all="ignore"):
        close(CPU.xp.matmul(given_a, given_b).astype(dtype), a, b)  # whichever way it goes


@pytest.mark.parametrize("shape", [(1024, 64, 64), (64, 1024, 64), (64, 64, 1024), (8, 70_000, 7), (1, 1024, 1024)])
@pytest.mark.parametrize("right", READ)
@pytest.mark.parametrize("left", READ)
def test_layouts_that_blas_reads_are_divided(left, right, shape):
    """The test above would mean nothing if all were left to NumPy."""
    m, k, n = shape
    a, b = numbers(0, m, k), numbers(1, k, n)
    found = product(READ[left](a), READ[right](b))
    close(found, a, b)


@pytest.mark.parametrize("layout", LEFT)
def test_layouts_that_blas_does_not_read_are_left_to_numpy(layout):
    a, b = numbers(0, 200, 100), numbers(1, 100, 200)
    assert product(LEFT[layout](a), b) is None
    assert product(a, LEFT[layout](b)) is None


@pytest.mark.parametrize("layout", READ)
def test_the_address_of_an_operand(layout):
    a = READ[layout](numbers(0, 7, 5))
    address, leading, turned = _products._operand(a)
    assert address == a.ctypes.data
    assert (leading, turned) == ((a.strides[0] // 4, 0) if a.strides[1] == 4 else (a.strides[1] // 4, 1))


@pytest.mark.parametrize("parts", _products.PARTS if compiled.trouble() is None else [])
@pytest.mark.parametrize("by_rows", [True, False])
def test_each_number_of_parts(parts, by_rows):
    """Odd sizes: the last part is a shorter one."""
    least, most = parts
    k = 61
    short = 127
    long = -(-least // (short * k)) + 1
    m, n = (long, short) if by_rows else (short, long)
    cuts = _products._cuts(m, n, m * k * n)
    assert (cuts[0], cuts[-1]) == (0, max(m, n))
    assert (np.diff(cuts) > 0).all()
    assert len(cuts) - 1 <= most
    if least <= 1 << 24:  # the larger ones take as long as all others together
        a, b = numbers(0, m, k), numbers(1, k, n)
        bias = numbers(2, n)
        close(product(a, b, bias, "relu"), a, b, bias, "relu")


@pytest.mark.parametrize("shape", [(0, 5, 5), (5, 0, 5), (5, 5, 0), (0, 0, 0)])
def test_sizes_of_zero(shape):
    m, k, n = shape
    assert np.array_equal(CPU.xp.matmul(np.ones((m, k), np.float32), np.ones((k, n), np.float32)), np.zeros((m, n)))


def test_small_products_and_other_dtypes_are_left_to_numpy():
    a, b = numbers(0, 128, 64), numbers(1, 64, 127)
    assert a.size * b.shape[1] < LEAST_WORK
    assert LARGE == LEAST_WORK
    assert product(a, b) is None
    large = numbers(0, 128, 128), numbers(1, 128, 128)
    assert product(*large) is not None
    assert product(large[0], large[1].astype("float64")) is None
    for dtype in ("float16", "int64", "complex64", "longdouble"):
        assert product(*(x.astype(dtype) for x in large)) is None, dtype


def test_outside_of_a_public_call_it_is_left_to_numpy():
    pool.leave()
    try:
        assert product(numbers(0, 128, 128), numbers(1, 128, 128)) is None
    finally:
        pool.enter()


@pytest.mark.parametrize(("left", "right"), [((200, 100), (99, 200)), ((2000, 3), (2000, 3)), ((200, 100), (200, 100))])
def test_matrices_that_do_not_fit_raise_numpys_error(left, right):
    a, b = np.ones(left, np.float32), np.ones(right, np.float32)
    assert product(a, b) is None
    with pytest.raises(ValueError, match=r"not aligned|mismatch"):
        CPU.xp.matmul(a, b)


def test_a_bias_that_does_not_fit_is_left_to_numpy():
    a, b = numbers(0, 128, 128), numbers(1, 128, 128)
    for bias in (numbers(2, 127), numbers(2, 1), numbers(2, 128, dtype="float64"), numbers(2, 2, 128)):
        assert product(a, b, bias) is None
    with pytest.raises(ValueError, match="broadcast"):
        a @ b + numbers(2, 127)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_nan_and_infinity_propagate(dtype, activation):
    if (activation, dtype) == ("tanh", "float64"):
        pytest.skip("``ops.affine`` leaves it to NumPy")
    a, b, bias = numbers(0, 257, 129, dtype=dtype), numbers(1, 129, 131, dtype=dtype), numbers(2, 131, dtype=dtype)
    a[3, 7], a[200, 0], bias[5] = np.nan, np.inf, -np.inf
    found = product(a, b, bias, activation)
    with np.errstate(all="ignore"):
        expected = np.asarray(a, np.float64) @ b + bias
        if activation is not None:
            expected = activations.PAIRS[activation][0](expected)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    assert np.isnan(found[3]).all()


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("shape", [(257, 129), (7, 41, 129), (2, 3, 50, 129)])
def test_affine(shape, activation):
    """Of rows, and of samples with further axes."""
    x, w, bias = numbers(0, *shape), numbers(1, 129, 131), numbers(2, 1, 131)
    function = None if activation is None else activations.PAIRS[activation][0]
    found = ops.affine(x, w, bias, function)
    assert found.shape == (*shape[:-1], 131)
    close(found.reshape(-1, 131), x.reshape(-1, 129), w, bias, activation)


def test_affine_without_a_bias_is_a_product():
    x, w = numbers(0, 257, 129), numbers(1, 129, 131)
    close(ops.affine(x, w, None, None), x, w)


def test_an_activation_goes_with_a_bias():
    """Without one it is not applied: the portable routine does not either."""
    x, w = numbers(0, 257, 129), numbers(1, 129, 131)
    expected = bind(CPU, "portable").affine(x, w, None, activations.relu)
    assert (expected < 0.0).any()
    assert np.allclose(ops.affine(x, w, None, activations.relu), expected, atol=1e-4)


def test_tanh_in_float64_is_numpys():
    x, w, bias = (numbers(i, *s, dtype="float64") for i, s in enumerate(((257, 129), (129, 131), (1, 131))))
    assert ops.affine(x, w, bias, activations.tanh) is NotImplemented
