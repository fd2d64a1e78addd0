"""The GPU backend's kernels and cuBLAS calls without a GPU: CUDA is compiled for the host, NumPy emulates cuBLAS."""

import importlib.util
import shutil
import subprocess

import numpy as np
import pytest

import host_kernels
import stand_in_cupy
from portnn import random
from portnn_cupy import kernels, reductions
from portnn_cupy.kernels import source
from stand_in_cupy import Tape

# -- random words ------------------------------------------------------------------------------------------------------

SOURCES = {dtype: source(real) for dtype, real in (("float32", "float"), ("float64", "double"))}
ALL = {
    **SOURCES,
    "float32, sums": reductions.source(kernels.head("float")),
    "float64, sums": reductions.source(kernels.head("double")),
}


@pytest.fixture
def on_the_host():
    """The Philox kernel compiled for the host: ``run(key, step, n)`` passes the step by value, if ``at`` by address."""
    if host_kernels.COMPILER is None:
        pytest.skip(host_kernels.REASON)
    kernel = host_kernels.Module(SOURCES["float32"], threads=(2, 3)).get_function("philox_bits")

    def run(key, step, n, *, at=False):
        out = np.full(n + 1, -1, np.int64)
        first, second = (np.uint64(word) for word in key)
        where, value = (np.array(step, np.int64), np.uint64(12345)) if at else (np.uint64(0), np.uint64(step))
        kernel((1,), (1,), (first, second, where, value, np.int64(n), out))
        assert out[n] == -1, "written past the end"
        return out[:n]

    return run


KEYS = [(0, 0), (1, 2), (2**64 - 1, 2**63 + 5), random.key(7, "5.mask")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("step", [0, 1, 2**40 + 3])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 63, 2047, 2048, 2049, 5000])
def test_the_kernel_gives_numpys_bits(on_the_host, key, step, n):
    expected = random.bits(key, step, n)
    assert np.array_equal(on_the_host(key, step, n), expected)
    assert np.array_equal(on_the_host(key, step, n, at=True), expected)


def test_the_comparison_would_see_another_stream(on_the_host):
    assert not np.array_equal(on_the_host((1, 2), 3, 9), random.bits((1, 2), 4, 9))
    assert not np.array_equal(on_the_host((1, 2), 3, 9), random.bits((2, 1), 3, 9))


ARCHITECTURES = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_the_kernels(architecture, dtype, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on PATH: the kernels cannot be compiled for a GPU")
    (tmp_path / "kernels.cu").write_text(ALL[dtype])
    command = [nvcc, f"-arch={architecture}", "-std=c++17", "-Werror", "all-warnings", "-cubin", "kernels.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "nsupported gpu architecture" in done.stderr:
        pytest.skip(f"this nvcc does not know {architecture}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels.cubin").stat().st_size > 0


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_kernels(architecture, dtype):
    """Compiles them as CuPy does; needs CuPy and NVRTC, but no GPU."""
    nvrtc = pytest.importorskip(
        "cupy_backends.cuda.libs.nvrtc", reason="CuPy, which provides the NVRTC bindings, is not installed"
    )
    try:
        known = nvrtc.getSupportedArchs()
    except Exception as error:  # the library is loaded at the first call
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    if int(architecture.removeprefix("sm_")) not in known:
        pytest.skip(f"this NVRTC does not know {architecture}")
    program = nvrtc.createProgram(ALL[dtype], "portnn.cu", [], [])
    try:
        nvrtc.compileProgram(program, [f"-arch={architecture}", "-std=c++14", "-ftz=true"])
        assert len(nvrtc.getCUBIN(program)) > 0
    finally:
        nvrtc.destroyProgram(program)


@pytest.fixture
def stand_in(monkeypatch):
    return stand_in_cupy.install(monkeypatch)


@pytest.mark.parametrize("n", [0, 1, 9, 4097])
@pytest.mark.parametrize("step", [0, 5])
def test_random_bits_of_the_backend(stand_in, n, step):
    backend = stand_in.backend.CupyBackend()
    key = random.key(3, "1.mask")
    for given in (step, np.int64(step), backend.asarray(np.array(step)), backend.asarray(np.array(step, np.int32))):
        bits = backend.random_bits(key, given, n)
        assert backend.owns(bits)
        assert bits.dtype == np.int64
        assert np.array_equal(backend.to_numpy(bits), random.bits(key, step, n))


def test_a_captured_step_number_is_read_by_the_replay(stand_in):
    """The kernel gets the address of the step number, not its value."""
    backend = stand_in.backend.CupyBackend()
    step = backend.asarray(np.array(0))
    out = backend.asarray(np.zeros(5, np.int64))
    with backend.scope():
        graph = backend.driver.capture(lambda: backend.driver.copy([(out, backend.random_bits((1, 2), step, 5))]))
        for k in (0, 3, 4):
            step[...] = k
            backend.driver.launch(graph)
            assert np.array_equal(backend.to_numpy(out), random.bits((1, 2), k, 5))


# -- products ----------------------------------------------------------------------------------------------------------


def layouts(rng, shape, dtype):
    """Matrices of one shape, by name, in every layout that cuBLAS can read and in some that it cannot."""
    m, n = shape
    values = rng.standard_normal(shape).astype(dtype)

    def put(view):
        view[...] = values
        return view

    return {
        "rows": put(np.empty((m, n), dtype)),
        "columns": put(np.empty((n, m), dtype).T),
        "rows of a wider matrix": put(np.empty((m, n + 3), dtype)[:, 1 : n + 1]),
        "columns of a taller matrix": put(np.empty((n, m + 2), dtype).T[1 : m + 1]),
        "every second column": put(np.empty((m, 2 * n), dtype)[:, ::2]),
        "every second row": put(np.empty((2 * m, n), dtype)[::2]),
        "backwards": put(np.empty((m, n), dtype)[::-1, ::-1]),
        "one row repeated": np.broadcast_to(values[:1], shape),
        "one column repeated": np.broadcast_to(values[:, :1], shape),
    }


COPIED = {"every second column", "backwards", "one row repeated", "one column repeated"}


@pytest.fixture
def matmul(stand_in):
    """The backend's product of plain arrays; ``matmul.own`` tells whether our own cuBLAS handle computed it."""
    blas = stand_in.blas.Blas(stand_in.library)

    def product(a, b):
        del stand_in.log[:], stand_in.cublas.calls[:]
        a, b = (x.view(stand_in.cupy.ndarray) for x in (a, b))
        out = blas.matmul(a, b)
        product.own = not stand_in.log
        product.gemms = [call for call in stand_in.cublas.calls if call[0] == "gemm"]
        assert isinstance(out, stand_in.cupy.ndarray)
        assert np.may_share_memory(out, a) is np.may_share_memory(out, b) is False
        return np.asarray(out.view(np.ndarray))

    return product


def close(got, expected, dtype):
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype == dtype
    assert np.allclose(got, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(2, 3, 4), (4, 3, 2), (1, 5, 3), (5, 1, 3), (3, 5, 1), (1, 5, 1), (1, 1, 1)])
def test_products_of_every_layout(stand_in, matmul, dtype, sizes):
    m, k, n = sizes
    rng = np.random.default_rng(1)
    for left, a in layouts(rng, (m, k), dtype).items():
        for right, b in layouts(rng, (k, n), dtype).items():
            close(matmul(a, b), a @ b, dtype)
            assert matmul.own, (left, right)
            assert len(matmul.gemms) == 1, (left, right)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (4, 4)])
def test_what_lies_in_lines_is_not_copied(stand_in, shape):
    for name, x in layouts(np.random.default_rng(0), shape, np.float32).items():
        read, operation, step = stand_in.blas.operand(x.view(stand_in.cupy.ndarray))
        assert np.may_share_memory(read, x) is (name not in COPIED), name
        assert operation == ("column" in name.split()[0]), name
        assert step >= (read.shape[0] if operation else read.shape[1])


def test_vectors_with_gaps_are_not_copied(stand_in, matmul):
    """A column with any stride is a matrix whose rows have length 1."""
    rng = np.random.default_rng(4)
    v = rng.standard_normal(12)[::3]  # (4,)
    column = np.lib.stride_tricks.as_strided(v, (4, 1), (v.strides[0], 1000))
    for x in (column, column.T):
        read, _, _ = stand_in.blas.operand(x.view(stand_in.cupy.ndarray))
        assert np.may_share_memory(read, v)
    a = rng.standard_normal((2, 4))
    close(matmul(a, column), a @ column, np.float64)
    close(matmul(column.T, a.T), column.T @ a.T, np.float64)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((2, 1, 2, 3), (3, 4))],
)
def test_products_of_other_ranks(matmul, a, b):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(a), rng.standard_normal(b)
    close(matmul(a, b), np.asarray(a @ b), np.float64)
    assert matmul.own
    close(matmul(a[..., ::-1], b[::-1]), np.asarray(a[..., ::-1] @ b[::-1]), np.float64)


def test_a_transposed_batch_becomes_rows(matmul):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((3, 4, 5)).transpose(2, 0, 1), rng.standard_normal((4, 2))
    close(matmul(a, b), a @ b, np.float64)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((2, 3), (3, 0)),
        ((0, 0), (0, 0)),
        ((0,), (0,)),
        ((4, 0, 3), (3, 2)),
        ((2, 0), (0,)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_nothing(matmul, a, b, dtype):
    a, b = np.ones(a, dtype), np.ones(b, dtype)
    close(matmul(a, b), np.asarray(a @ b), dtype)
    assert matmul.gemms == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3), np.float32), np.ones((3, 2), np.float64)),
        (np.ones((2, 3), np.int64), np.ones((3, 2), np.int64)),
        (np.ones((2, 3), np.complex64), np.ones((3, 2), np.complex64)),
        (np.ones((5, 2, 3)), np.ones((5, 3, 2))),
        (np.ones((2, 3)), np.ones((5, 3, 2))),
    ],
)
def test_other_products_are_cupys(stand_in, matmul, a, b):
    assert np.array_equal(matmul(a, b), a @ b)
    assert not matmul.own


def test_a_batched_product_within_a_capture_is_an_error(stand_in):
    backend = stand_in.backend.CupyBackend()
    x = backend.asarray(np.ones((5, 2, 2)))
    with backend.scope(), pytest.raises(NotImplementedError, match=r"\(5, 2, 2\) float64 .* cannot be captured"):
        backend.driver.capture(lambda: backend.xp.matmul(x, x))
    assert Tape.current is None


def test_shapes_that_do_not_fit(matmul):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 5\): the last axis .* length 3, .* second 4; they must"):
        matmul(np.ones((2, 3)), np.ones((4, 5)))


def test_host_arrays_are_left_to_cupys_words(stand_in, monkeypatch):
    def refuse(a, b):
        raise TypeError("Unsupported type numpy.ndarray")

    monkeypatch.setattr(stand_in.cupy, "matmul", refuse)
    with pytest.raises(TypeError, match="Unsupported type"):
        stand_in.blas.Blas(stand_in.library).matmul(np.ones((2, 2)), np.ones((2, 2)))


def test_a_handle_is_made_in_the_order_cublas_wants(stand_in):
    blas = stand_in.blas.Blas(stand_in.library)
    stream = stand_in.cupy.cuda.Stream(non_blocking=True)
    with stream:
        first = blas.handle()
        assert blas.handle() is first
    names = [call[0] for call in stand_in.cublas.calls]
    assert names == ["create", "stream", "workspace", "math mode"]  # a new stream resets the workspace
    assert stand_in.cublas.calls[1] == ("stream", first.value, stream.ptr)
    assert stand_in.cublas.calls[2] == ("workspace", first.value, 4096, 32 << 20)
    assert stand_in.cublas.calls[3] == ("math mode", first.value, 0)  # CUBLAS_DEFAULT_MATH: no TF32
    second = blas.handle()  # for the default stream
    assert second is not first
    assert ("stream", second.value, None) in stand_in.cublas.calls
    blas.close()
    assert {call for call in stand_in.cublas.calls if call[0] == "destroy"} == {
        ("destroy", first.value),
        ("destroy", second.value),
    }


def test_the_backends_handle_is_there_from_the_start(stand_in):
    """A handle cannot be created during a capture."""
    backend = stand_in.backend.CupyBackend()
    del stand_in.cublas.calls[:]
    x = backend.asarray(np.ones((2, 2)))
    with backend.scope():
        backend.driver.capture(lambda: backend.xp.matmul(x, x))
    assert [call[0] for call in stand_in.cublas.calls] == ["gemm"]


@pytest.mark.parametrize(
    ("status", "name"), [(1, "NOT_INITIALIZED"), (7, "INVALID_VALUE"), (13, "EXECUTION_FAILED"), (99, "unknown")]
)
def test_cublas_errors_have_names(stand_in, status, name):
    blas = stand_in.blas.Blas(stand_in.library)
    blas.handle()
    stand_in.cublas.status = status
    x = np.ones((2, 2)).view(stand_in.cupy.ndarray)
    with pytest.raises(RuntimeError, match=rf"cuBLAS failed to gemm: .*{name}.* \({status}\)"):
        blas.matmul(x, x)


def test_where_cublas_is_looked_for(monkeypatch, stand_in):
    tried = []

    def refuse(name):
        tried.append(name)
        raise OSError(f"{name}: cannot open shared object file")

    source = second_copy(stand_in.blas)
    monkeypatch.setattr(source.ctypes, "CDLL", refuse)
    monkeypatch.setattr(source.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(RuntimeError, match=r"cuBLAS was not found: .*; libcublas.so.12: cannot open"):
        source.load_library()
    assert "libcublas.so.12" in tried  # the CUDA version that CuPy reports, here 12.9


def second_copy(module):
    """A fresh copy of the module, because the stand-in replaced a function in the first one."""
    spec = importlib.util.spec_from_file_location("portnn_cupy_blas_again", module.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh
