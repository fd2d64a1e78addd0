"""The GPU backend's kernels, compiled for every GPU, and its cuBLAS calls."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import software_gpu
from portnn import random
from portnn_cupy import kernels
from software_gpu import control

# -- kernels -----------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def tool():
    """tools/kernel_resources.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("kernel_resources", ROOT / "tools" / "kernel_resources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = tool()
ALL = {f"{dtype}, {name}": code for dtype, real in TOOL.REALS.items() for name, code in TOOL.sources(real).items()}
ARCHITECTURES = TOOL.ARCHITECTURES


def test_all_kernels_are_compiled():
    """What is written anywhere in the backend's package is in one of the sources."""
    written = "".join(path.read_text() for path in Path(kernels.__file__).parent.glob("*.py"))
    for real in TOOL.REALS.values():
        compiled = " ".join(TOOL.sources(real).values())
        for name in re.findall(r"^KERNEL void (\w+)\(", written, re.MULTILINE):
            assert f"KERNEL void {name}(" in compiled


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


# -- what they take ----------------------------------------------------------------------------------------------------

SPILLS = """
extern "C" __global__ void __launch_bounds__(1024, 2) spills(const double *x, double *y)
{
    double a[40];
    for (int i = 0; i < 40; ++i) a[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 40; ++i) for (int k = 0; k < 40; ++k) y[(i * 40 + k) * 1024 + threadIdx.x] = a[i] * a[k];
}"""


@pytest.fixture(scope="module")
def compilers():
    """For each architecture a compiler, of those that are installed."""
    found = TOOL.compilers(TOOL.installed())
    if not found:
        pytest.skip("no NVRTC is installed, of CUDA 12 or later")
    return found


@pytest.fixture(scope="module")
def measured(compilers):
    return TOOL.measure(compilers)


def test_no_kernel_spills_registers(measured):
    """For every architecture that the compilers at hand know."""
    for kernel, cells in measured.items():
        for (architecture, dtype), usage in cells.items():
            assert usage.spilled == 0, (kernel, architecture, dtype)
            assert usage.registers * 256 <= 65536, (kernel, architecture, dtype)  # a block of 256 threads has room
            assert usage.shared <= 48 << 10, (kernel, architecture, dtype)


def test_a_kernel_that_spills_would_be_seen(compilers):
    usage = compilers["sm_90"].usage(SPILLS, "sm_90")["spills"]
    assert usage.spilled > 0
    assert usage.registers <= 32
    with pytest.raises(RuntimeError, match=r"NVRTC .*, sm_90: [\s\S]*undefined"):
        compilers["sm_90"].usage("int wrong = here;", "sm_90")


def test_the_page_has_every_kernel_and_what_it_takes(compilers, measured):
    """The table of docs/gpu.md: a row for each kernel; where the compiler is the page's, the page's figures."""
    page = TOOL.PAGE.read_text().split(TOOL.BEGIN)[1].split(TOOL.END)[0]
    head = re.search(r"^\| kernel \| (.*) \| shared memory \|$", page, re.MULTILINE).group(1).split(" | ")
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)}
    assert set(rows) == set(measured)
    assert head == list(ARCHITECTURES)
    for architecture, nvrtc in compilers.items():
        if not re.search(rf"{architecture}(?:, sm_\d+)* by NVRTC {re.escape(nvrtc.version)}\b", page):
            continue  # another version of the compiler
        for kernel, cells in measured.items():
            registers = " / ".join(str(cells[architecture, dtype].registers) for dtype in TOOL.REALS)
            assert rows[kernel][head.index(architecture)] == registers, (kernel, architecture)


@pytest.mark.gpu
@pytest.mark.parametrize("n", [0, 1, 9, 4097])
@pytest.mark.parametrize("step", [0, 5])
def test_random_bits_of_the_backend(backend, n, step):
    key = random.key(3, "1.mask")
    for given in (step, np.int64(step), backend.asarray(np.array(step)), backend.asarray(np.array(step, np.int32))):
        bits = backend.random_bits(key, given, n)
        assert backend.owns(bits)
        assert bits.dtype == np.int64
        assert np.array_equal(backend.to_numpy(bits), random.bits(key, step, n))


@pytest.mark.gpu
def test_the_comparison_would_see_another_stream(backend):
    bits = backend.to_numpy(backend.random_bits((1, 2), 3, 9))
    assert not np.array_equal(bits, random.bits((1, 2), 4, 9))
    assert not np.array_equal(bits, random.bits((2, 1), 3, 9))


@pytest.mark.gpu
def test_a_captured_step_number_is_read_by_the_replay(backend):
    """The kernel gets the address of the step number, not its value."""
    step = backend.asarray(np.array(0))
    out = backend.asarray(np.zeros(5, np.int64))
    with backend.scope():
        memory = backend.driver.new_memory(backend)
        backend.driver.copy([(out, backend.random_bits((1, 2), step, 5))])  # loads the kernels
        with backend.driver.using(memory):
            graph = backend.driver.capture(lambda: backend.driver.copy([(out, backend.random_bits((1, 2), step, 5))]))
        for k in (0, 3, 4):
            step[...] = k
            backend.driver.launch(graph)
            assert np.array_equal(backend.to_numpy(out), random.bits((1, 2), k, 5))


# -- products ----------------------------------------------------------------------------------------------------------


def layouts(cupy, rng, shape, dtype):
    """Matrices of one shape, by name, in every layout that cuBLAS can read and in some that it cannot."""
    m, n = shape
    values = cupy.asarray(rng.standard_normal(shape).astype(dtype))

    def put(view):
        view[...] = values
        return view

    return {
        "rows": put(cupy.empty((m, n), dtype)),
        "columns": put(cupy.empty((n, m), dtype).T),
        "rows of a wider matrix": put(cupy.empty((m, n + 3), dtype)[:, 1 : n + 1]),
        "columns of a taller matrix": put(cupy.empty((n, m + 2), dtype).T[1 : m + 1]),
        "every second column": put(cupy.empty((m, 2 * n), dtype)[:, ::2]),
        "every second row": put(cupy.empty((2 * m, n), dtype)[::2]),
        "backwards": put(cupy.empty((m, n), dtype)[::-1, ::-1]),
        "one row repeated": cupy.broadcast_to(values[:1], shape),
        "one column repeated": cupy.broadcast_to(values[:, :1], shape),
    }


COPIED = {"every second column", "backwards", "one row repeated", "one column repeated"}


class Noted:
    """cuBLAS, which notes the name and the arguments of each call; ``status`` is what it answers instead of working."""

    def __init__(self, library):
        self.library, self.calls, self.status = library, [], None

    def __getattr__(self, name):
        routine = getattr(self.library, name)

        def called(*arguments):
            self.calls.append((name, *(getattr(a, "value", a) for a in arguments)))
            return routine(*arguments) if self.status is None else self.status

        return called

    def names(self):
        return [name for name, *_ in self.calls]


@pytest.fixture
def library(backend):
    from portnn_cupy.blas import load_library

    return Noted(load_library())


@pytest.fixture
def blas(library):
    from portnn_cupy.blas import Blas

    made = Blas(library)
    yield made
    library.status = None
    made.close()


@pytest.fixture
def matmul(blas, library, cupy):
    """The backend's product of arrays; ``matmul.gemms`` are its calls of cuBLAS through our own handle."""

    def product(a, b):
        blas.handle()
        del library.calls[:]
        out = blas.matmul(cupy.asarray(a), cupy.asarray(b))
        product.gemms = [call for call in library.calls if "gemm" in call[0]]
        assert isinstance(out, cupy.ndarray)
        return out.get()

    return product


def close(got, expected, dtype):
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype == dtype
    assert np.allclose(got, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(2, 3, 4), (4, 3, 2), (1, 5, 3), (5, 1, 3), (3, 5, 1), (1, 5, 1), (1, 1, 1)])
def test_products_of_every_layout(cupy, matmul, dtype, sizes):
    m, k, n = sizes
    rng = np.random.default_rng(1)
    for left, a in layouts(cupy, rng, (m, k), dtype).items():
        for right, b in layouts(cupy, rng, (k, n), dtype).items():
            close(matmul(a, b), a.get() @ b.get(), dtype)
            assert len(matmul.gemms) == 1, (left, right)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (4, 4)])
def test_what_lies_in_lines_is_not_copied(cupy, shape):
    from portnn_cupy.blas import operand

    for name, x in layouts(cupy, np.random.default_rng(0), shape, np.float32).items():
        read, operation, step = operand(x)
        assert cupy.may_share_memory(read, x) is (name not in COPIED), name
        assert operation == ("column" in name.split()[0]), name
        assert step >= (read.shape[0] if operation else read.shape[1])


@pytest.mark.gpu
def test_vectors_with_gaps_are_not_copied(cupy, matmul):
    """A column with any stride is a matrix whose rows have length 1."""
    from portnn_cupy.blas import operand

    rng = np.random.default_rng(4)
    v = cupy.asarray(rng.standard_normal(12))[::3]  # (4,)
    column = cupy.lib.stride_tricks.as_strided(v, (4, 1), (v.strides[0], 1000))
    for x in (column, column.T):
        assert operand(x)[0] is x
    a = rng.standard_normal((2, 4))
    close(matmul(a, column), a @ column.get(), np.float64)
    close(matmul(column.T, a.T), column.get().T @ a.T, np.float64)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((2, 1, 2, 3), (3, 4))],
)
@pytest.mark.gpu
def test_products_of_other_ranks(matmul, a, b):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(a), rng.standard_normal(b)
    close(matmul(a, b), np.asarray(a @ b), np.float64)
    assert len(matmul.gemms) == 1
    close(matmul(a[..., ::-1], b[::-1]), np.asarray(a[..., ::-1] @ b[::-1]), np.float64)


@pytest.mark.gpu
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
@pytest.mark.gpu
def test_products_of_nothing(matmul, a, b, dtype):
    a, b = np.ones(a, dtype), np.ones(b, dtype)
    close(matmul(a, b), np.asarray(a @ b), dtype)
    assert matmul.gemms == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3), np.float32), np.ones((3, 2), np.float64)),
        (np.ones((2, 3), np.int64), np.ones((3, 2), np.int64)),
        (np.ones((5, 2, 3)), np.ones((5, 3, 2))),
        (np.ones((2, 3)), np.ones((5, 3, 2))),
    ],
)
@pytest.mark.gpu
def test_other_products_are_cupys(matmul, a, b):
    assert np.array_equal(matmul(a, b), a @ b)
    assert not matmul.gemms


@pytest.mark.gpu
def test_a_batched_product_within_a_capture_is_an_error(backend):
    x = backend.asarray(np.ones((5, 2, 2)))
    with backend.scope(), pytest.raises(NotImplementedError, match=r"\(5, 2, 2\) float64 .* cannot be captured"):
        backend.driver.capture(lambda: backend.xp.matmul(x, x))
    with backend.scope():
        assert not backend.stream.is_capturing()


@pytest.mark.gpu
def test_shapes_that_do_not_fit(matmul):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 5\): the last axis .* length 3, .* second 4; they must"):
        matmul(np.ones((2, 3)), np.ones((4, 5)))


@pytest.mark.gpu
def test_host_arrays_are_left_to_cupys_words(blas):
    with pytest.raises(TypeError, match=r"numpy\.ndarray"):
        blas.matmul(np.ones((2, 2)), np.ones((2, 2)))


@pytest.mark.gpu
def test_a_handle_is_made_in_the_order_cublas_wants(blas, library, cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        first = blas.handle()
        assert blas.handle() is first
    create, of_stream, workspace, math_mode = library.calls
    assert create[0] == "cublasCreate_v2"
    assert of_stream == ("cublasSetStream_v2", first.value, stream.ptr)
    assert workspace[:2] == ("cublasSetWorkspace_v2", first.value)  # a new stream resets the workspace
    assert workspace[3] == 32 << 20
    assert math_mode == ("cublasSetMathMode", first.value, 0)  # CUBLAS_DEFAULT_MATH: no TF32
    second = blas.handle()  # for the default stream
    assert second is not first
    assert ("cublasSetStream_v2", second.value, 0) in library.calls
    blas.close()
    destroyed = {call for call in library.calls if call[0] == "cublasDestroy_v2"}
    assert destroyed == {("cublasDestroy_v2", first.value), ("cublasDestroy_v2", second.value)}


@pytest.mark.gpu
@pytest.mark.skipif(not software_gpu.is_wanted(), reason="only a GPU in software says what it is asked to do")
def test_the_backends_handle_is_there_from_the_start(backend):
    """A handle cannot be created during a capture."""
    with control.log() as lines:
        made = type(backend)()
        x = made.asarray(np.ones((2, 2)))
        with made.scope():
            made.driver.capture(lambda: made.xp.matmul(x, x))
    begun = lines.index(next(line for line in lines if line.startswith("begin capture")))
    assert "create a cuBLAS handle" in lines[:begun]
    assert [line for line in lines[begun:] if "handle" in line or "product" in line] == ["record product 2 x 2 x 2"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("status", "name"), [(1, "NOT_INITIALIZED"), (7, "INVALID_VALUE"), (13, "EXECUTION_FAILED"), (99, "unknown")]
)
def test_cublas_errors_have_names(blas, library, cupy, status, name):
    blas.handle()
    library.status = status
    x = cupy.ones((2, 2))
    with pytest.raises(RuntimeError, match=rf"cuBLAS failed to gemm: .*{name}.* \({status}\)"):
        blas.matmul(x, x)


@pytest.mark.gpu
def test_where_cublas_is_looked_for(backend, cupy, monkeypatch):
    import portnn_cupy.blas as module

    tried = []

    def refuse(name):
        tried.append(name)
        raise OSError(f"{name}: cannot open shared object file")

    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    monkeypatch.setattr(module.ctypes, "CDLL", refuse)
    monkeypatch.setattr(module.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(RuntimeError, match=rf"cuBLAS was not found: .*; libcublas.so.{major}: cannot open"):
        module.load_library()
    assert f"libcublas.so.{major}" in tried  # CuPy's own version of CUDA
