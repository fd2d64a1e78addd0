"""Column sums on a GPU: many blocks, whatever the shape, close to the exact sum, and the same bits each time."""

import numpy as np
import pytest

pytestmark = pytest.mark.gpu
LIMITS = {"float32": 2e-6, "float64": 4e-15}
SHAPES = [(1, 1), (3, 5), (128, 10), (127, 100), (700, 3), (5000, 6), (20_001, 1), (4000, 33), (257, 256), (300, 257)]


@pytest.fixture
def launched(backend, monkeypatch):
    """What is launched, as (kernel, blocks)."""
    from portnn_cupy import launch

    seen, together = [], launch._together

    def spied(name, real):
        kernel = together(name, real)
        return lambda grid, block, arguments: (seen.append((name, grid[0])), kernel(grid, block, arguments))

    monkeypatch.setattr(launch, "_together", spied)
    return seen


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_columns(backend, launched, shape, dtype):
    from portnn_cupy import sums

    x, z = (np.random.default_rng(seed).standard_normal(shape).astype(dtype) for seed in (1, 2))
    with backend.scope():
        there, others = backend.asarray(x), backend.asarray(z)
        found = [sums.summed(there, *shape), *sums.summed_with(there, others, *shape, 2.0)]
        again = [sums.summed(there, *shape), *sums.summed_with(there, others, *shape, 2.0)]
    x, z = x.astype(np.longdouble), z.astype(np.longdouble)
    expected = [x.sum(axis=0), x.sum(axis=0) / 2, (x * z).sum(axis=0) / 2]
    for ours, twice, exact in zip(found, again, expected, strict=True):
        ours = backend.to_numpy(ours)
        assert np.array_equal(ours, backend.to_numpy(twice))
        assert np.abs(ours - exact).max() <= LIMITS[dtype] * max(1.0, np.abs(x).sum(axis=0).max() / 8)
    _, parts = sums.shape_of(*shape, sums.LANES)
    assert parts == 1 or launched[0][1] > 1
    assert not backend.to_numpy(sums.tickets()).any()  # as the next launch needs them


def test_many_rows_are_many_blocks(backend, launched):
    """The channels of LeNet's first convolution: CuPy would sum them on one block."""
    x = backend.asarray(np.ones((128, 28, 28, 6), np.float32))
    with backend.scope():
        from portnn import ops

        total = ops.bind(backend, "auto").total(x, (0, 1, 2))
    assert backend.to_numpy(total).tolist() == [128 * 28 * 28] * 6
    ((name, blocks),) = launched
    assert name == "sum_columns"
    assert blocks >= 100


def test_infinity_and_nan_are_seen(backend):
    from portnn_cupy import sums

    x = np.ones((6000, 3), np.float32)
    x[5000, 0], x[1, 1] = np.inf, np.nan
    with backend.scope():
        found = backend.to_numpy(sums.summed(backend.asarray(x), *x.shape))
    assert np.isposinf(found[0])
    assert np.isnan(found[1])
    assert found[2] == 6000


@pytest.mark.parametrize("dtype", LIMITS)
def test_batch_norm_is_three_launches_and_two(backend, launched, dtype):
    from portnn import ops
    from portnn.backend import get_backend

    rng, fused, plain = np.random.default_rng(3), ops.bind(backend, "auto"), ops.bind(get_backend(np), "portable")
    x, d = ((rng.standard_normal((16, 12, 12, 5)) + 3.0).astype(dtype) for _ in range(2))
    axes = (0, 1, 2)
    with backend.scope():
        found = fused.normalize(backend.asarray(x), axes, 1e-5)
        names = [name for name, _ in launched]
        back = fused.normalize_backward(backend.asarray(d), *found[:2], axes)
    assert names == ["sum_columns", "sum_squares"]  # and one that standardizes each number
    assert [name for name, _ in launched[2:]] == ["sum_columns"]
    assert all(blocks > 1 for _, blocks in launched)
    expected = plain.normalize(x, axes, 1e-5)
    pairs = zip((*found, back), (*expected, plain.normalize_backward(d, *expected[:2], axes)), strict=True)
    for ours, theirs in pairs:
        limit = 1e-5 if dtype == "float32" else 1e-12
        assert np.abs(backend.to_numpy(ours) - theirs).max() <= limit * max(1.0, np.abs(theirs).max())
