"""CuPy's reductions on the GPU in software as on a real one: by CUB, of whole arrays, of segments and in blocks."""

import numpy as np
import pytest

import software_gpu
from software_gpu import control

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not software_gpu.is_wanted(), reason="no GPU in software: PORTNN_SOFTWARE_GPU is not set"),
]
SIZES = [(1,), (4096,), (4097,), (3, 5), (2, 700, 3), (3, 70001)]
KINDS = ["f4", "f8", "i4", "i8", "u1", "?", "c8"]


def values(kind, shape):
    rng = np.random.default_rng(len(shape))
    if kind == "c8":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(kind)
    return (rng.standard_normal(shape) * 10).astype(kind) if kind[0] == "f" else rng.integers(0, 2, shape).astype(kind)


def ran(work):
    with control.log() as lines:
        result = work()
    return result, [line.removeprefix("run ") for line in lines if line.startswith("run ")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["sum", "prod", "min", "max", "argmin", "argmax"])
def test_of_whole_arrays(cupy, backend, name, kind):
    if kind == "c8" and name not in ("sum", "prod"):
        pytest.skip("CuPy reduces complex numbers so by kernels of its own")
    for shape in SIZES:
        x = values(kind, shape)
        if name == "prod":
            x = x / (1 + np.abs(x)) + 0.5 if kind[0] in "fc" else x
            x = x.astype(kind)
        found, launched = ran(lambda x=x: getattr(cupy.asarray(x), name)())
        expected = getattr(x, name)()
        assert found.dtype == expected.dtype
        assert np.allclose(found.get(), expected, rtol=2e-5), (shape, found.get(), expected)
        if kind in ("f4", "f8", "i8"):
            assert any(line.startswith(f"CUB {name}") for line in launched), launched
            assert len(launched) - (name in ("argmin", "argmax")) <= 1 + (x.size > 4096) + 1


@pytest.mark.parametrize("kind", ["f4", "f8", "i8"])
@pytest.mark.parametrize("name", ["sum", "prod", "min", "max", "mean"])
def test_of_segments(cupy, backend, name, kind):
    for shape, axis in (((3, 5), 1), ((2, 7, 3), (1, 2)), ((4, 1), 1), ((3, 7001), -1)):
        x = values(kind, shape)
        x = x / 20 + 1 if name == "prod" and kind[0] == "f" else x
        x = x.astype(kind)
        found, launched = ran(lambda x=x, axis=axis: getattr(cupy.asarray(x), name)(axis=axis))
        assert np.allclose(found.get(), getattr(x, name)(axis=axis), rtol=1e-3 if name == "prod" else 2e-5, atol=1e-4)
        assert kind == "i8" or any(line.endswith("of segments") for line in launched), launched


@pytest.mark.parametrize("name", ["argmin", "argmax", "any", "all", "count_nonzero"])
@pytest.mark.parametrize("shape", [(3, 70001), (2, 512), (2, 4097)])
def test_in_blocks(cupy, backend, name, shape):
    """Those that CuPy compiles with CUB's headers: a block for each segment, in tiles."""
    x = values("f4", shape)
    x[0, shape[1] // 2] = 0.0 if name != "argmax" else 99.0
    given = x if name.startswith("arg") else x > 0
    for order in (0, 1):
        with control.settings(order=order, races=shape[1] < 600):
            found, launched = ran(lambda: getattr(cupy, name)(cupy.asarray(given), axis=1))
        assert np.array_equal(found.get(), getattr(np, name)(given, axis=1))
        assert any("cub" in line for line in launched), launched


def test_in_blocks_of_a_kernel_of_ones_own(cupy, backend):
    """Of a whole array: in two passes, through memory that lives no longer."""
    squares = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "squares")
    x = values("f8", (3, 70001))
    found, launched = ran(lambda: squares(cupy.asarray(x)))
    assert float(found) == pytest.approx(float((x * x).sum()), rel=1e-12)
    assert launched[1:] == ["squares_pass1", "squares_pass2"]


@pytest.mark.parametrize("name", ["min", "max", "argmin", "argmax"])
def test_nan_wins(cupy, backend, name):
    for at in (0, 3, 4999):
        x = np.arange(5000.0)
        x[at] = np.nan
        found, expected = getattr(cupy.asarray(x), name)(), getattr(x, name)()
        assert np.array_equal(found.get(), expected, equal_nan=True)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_sums_along_an_array(cupy, backend, name):
    x = 1 + values("f8", (5001,)) / 1000
    found, launched = ran(lambda: getattr(cupy, name)(cupy.asarray(x)))
    assert np.allclose(found.get(), getattr(np, name)(x), rtol=1e-12)
    assert launched[-1] == f"CUB {name}"


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "?", "u1"])
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 50), (2, 3, 4)])
def test_sorting(cupy, backend, kind, shape):
    x = values(kind, shape)
    if kind[0] == "f":
        x.flat[0] = np.nan
    for axis in range(-1, x.ndim):
        assert np.array_equal(
            cupy.sort(cupy.asarray(x), axis=axis).get(), np.sort(x, axis=axis), equal_nan=kind[0] == "f"
        )
        places = cupy.argsort(cupy.asarray(x), axis=axis).get()
        assert np.array_equal(places, np.argsort(x, axis=axis, kind="stable"))


def test_the_nodes_of_reductions(cupy, backend):
    """One for few numbers, two for many, as CUB launches them; in each replay the memory that they work in is there."""
    x, y = cupy.arange(4096.0), cupy.arange(5000.0)
    with backend.scope():
        memory, found = backend.driver.new_memory(backend), []
        with backend.driver.using(memory):
            graph = backend.driver.capture(lambda: found.extend((x.sum(), y.sum(), y.reshape(5, 1000).max(axis=1))))
        assert control.nodes(graph) == ["CUB sum", "CUB sum, tiles", "CUB sum", "CUB max of segments"]
        y += 1
        for _ in range(2):
            backend.driver.launch(graph)
        assert [float(found[0]), float(found[1])] == [4095 * 2048.0, 5001 * 2500.0]
        assert found[2].get().tolist() == [1000.0, 2000.0, 3000.0, 4000.0, 5000.0]


def test_memory_of_a_reduction_that_was_freed(cupy, backend):
    """A graph whose pool is emptied reads and writes memory that is gone."""
    x, pool = cupy.arange(5000.0), cupy.cuda.MemoryPool()
    with backend.scope():
        with cupy.cuda.using_allocator(pool.malloc):
            graph = backend.driver.capture(lambda: x.sum())
        backend.driver.launch(graph)
        assert control.faults() == []
        pool.free_all_blocks()
        with pytest.raises(Exception, match="CUB sum"):
            backend.driver.launch(graph)
        assert any("CUB sum, tiles writes, as its workspace," in fault for fault in control.faults())


def test_half_precision_is_refused(cupy, backend):
    cupy.asarray(np.ones(3, np.float16)).sum()
    assert control.faults() == ["CUB and Thrust in software have no numbers of type 8 (8: half precision)"]
