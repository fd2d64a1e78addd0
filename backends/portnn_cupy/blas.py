"""Matrix products by a cuBLAS handle of our own.

While a stream is captured into a graph CuPy refuses matrix products. cuBLAS does not: it only needs a workspace that
lives as long as the graph. So the library is called directly, through ctypes.
"""

import ctypes
import ctypes.util
import threading
from functools import cache
from math import prod
from typing import Any

import cupy

Array = Any

WORKSPACE = 32 << 20  # bytes: NVIDIA's recommendation for Hopper, and more than other GPUs need
PER_THREAD_STREAM = 2  # cudaStreamPerThread: one handle, but a different stream in each thread
LARGEST = 2**31 - 1  # cuBLAS takes 32-bit sizes
STATUS = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED",
    3: "CUBLAS_STATUS_ALLOC_FAILED",
    7: "CUBLAS_STATUS_INVALID_VALUE",
    8: "CUBLAS_STATUS_ARCH_MISMATCH",
    11: "CUBLAS_STATUS_MAPPING_ERROR",
    13: "CUBLAS_STATUS_EXECUTION_FAILED",
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    15: "CUBLAS_STATUS_NOT_SUPPORTED",
    16: "CUBLAS_STATUS_LICENSE_ERROR",
}
NO_TRANSPOSE, TRANSPOSE = 0, 1  # cublasOperation_t
DEFAULT_MATH = 0  # cublasMath_t: products of float32 are float32, never TF32
ROUTINES = {"float32": ("cublasSgemm_v2", ctypes.c_float), "float64": ("cublasDgemm_v2", ctypes.c_double)}

_pointer, _int, _size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_GEMM = [_pointer, _int, _int, _int, _int, _int, _pointer, _pointer, _int, _pointer, _int, _pointer, _pointer, _int]
_ARGUMENTS = {
    "cublasCreate_v2": [_pointer],
    "cublasDestroy_v2": [_pointer],
    "cublasSetStream_v2": [_pointer, _pointer],
    "cublasSetWorkspace_v2": [_pointer, _pointer, _size],
    "cublasSetMathMode": [_pointer, _int],
    "cublasSgemm_v2": _GEMM,
    "cublasDgemm_v2": _GEMM,
}


def load_library() -> Any:
    """Returns cuBLAS, found as CuPy finds it; RuntimeError, with every place searched, if there is none."""
    refusals = []
    try:
        from cuda import pathfinder

        return _declared(ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path))
    except Exception as error:  # no finder, or the finder failed: try the loader's search path
        refusals.append(f"{type(error).__name__}: {error}")
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    for name in (f"libcublas.so.{major}", f"cublas64_{major}.dll", ctypes.util.find_library("cublas")):
        try:
            return _declared(ctypes.CDLL(name or "libcublas.so"))
        except (OSError, AttributeError) as error:
            refusals.append(str(error))
    raise RuntimeError(f"cuBLAS was not found: {'; '.join(refusals)}")


def _declared(library: Any) -> Any:
    """Declares the routines' types to ctypes: a pointer truncated to 32 bits would crash the process."""
    for name, arguments in _ARGUMENTS.items():
        routine = getattr(library, name)
        routine.argtypes, routine.restype = arguments, _int
    return library


class Blas:
    """Products by cuBLAS, with a handle and a workspace for each stream that uses them."""

    def __init__(self, library: Any):
        self.library = library
        self.handles: dict[tuple[int, int, int], tuple[Any, ...]] = {}
        self.lock = threading.Lock()
        self.gemm = {
            dtype: (getattr(library, routine), ctypes.pointer(number(1.0)), ctypes.pointer(number(0.0)))
            for dtype, (routine, number) in ROUTINES.items()
        }

    def matmul(self, a: Array, b: Array) -> Array:
        """The standard's ``matmul``: one call of cuBLAS for two float32 or float64 arrays, ``b`` of one or two axes."""
        if _one_call(a, b):
            return self._product(a, b)
        try:
            return cupy.matmul(a, b)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"the product of {a.shape} {a.dtype} and {b.shape} {b.dtype} cannot be captured into a graph: both "
                "must be float32, or both float64, and the second must have one or two axes"
            ) from error

    def _product(self, a: Array, b: Array) -> Array:
        rows, k, columns = a.shape[:-1], a.shape[-1], b.shape[1:]
        if k != b.shape[0]:
            raise ValueError(
                f"matmul of shapes {a.shape} and {b.shape}: the last axis of the first has length {k}, the first axis "
                f"of the second {b.shape[0]}; they must be equal"
            )
        m, n = prod(rows), prod(columns)
        out = cupy.empty((*rows, *columns), a.dtype)
        if k == 0:
            out.fill(0.0)  # empty sums
        elif out.size:
            self._gemm(a if a.ndim == 2 else a.reshape(m, k), b if b.ndim == 2 else b.reshape(k, n), out, m, n, k)
        return out

    def _gemm(self, a: Array, b: Array, out: Array, m: int, n: int, k: int) -> None:
        # cuBLAS takes column-major matrices. A C-contiguous array read so is its transpose, and out = a b becomes
        # out^T = b^T a^T: the operands are swapped, and nothing is copied.
        a, a_operation, a_step = operand(a)
        b, b_operation, b_step = operand(b)
        gemm, one, zero = self.gemm[out.dtype.name]
        handle, at_a, at_b, at_out = self.handle(), a.data.ptr, b.data.ptr, out.data.ptr
        _check(
            gemm(handle, b_operation, a_operation, n, m, k, one, at_b, b_step, at_a, a_step, zero, at_out, n), "gemm"
        )

    def handle(self) -> Any:
        """The handle for the current stream of the current device; the first call creates it, which is slow."""
        stream = cupy.cuda.get_current_stream()
        own = threading.get_ident() if stream.ptr == PER_THREAD_STREAM else 0
        key = cupy.cuda.get_device_id(), stream.ptr, own
        if key not in self.handles:
            with self.lock:
                if key not in self.handles:
                    self.handles[key] = self._open(stream)
        return self.handles[key][0]

    def _open(self, stream: Any) -> tuple[Any, ...]:
        library, handle = self.library, ctypes.c_void_p()
        workspace = cupy.cuda.Memory(WORKSPACE)  # outside the pools: it outlives those of the graphs
        _check(library.cublasCreate_v2(ctypes.byref(handle)), "create")
        _check(library.cublasSetStream_v2(handle, stream.ptr), "set stream")  # resets the workspace, so it comes first
        _check(library.cublasSetWorkspace_v2(handle, workspace.ptr, WORKSPACE), "set workspace")
        _check(library.cublasSetMathMode(handle, DEFAULT_MATH), "set math mode")
        return handle, workspace, stream  # kept alive, or another stream could get the same address

    def close(self) -> None:
        """Destroys the handles and frees the workspaces."""
        while self.handles:
            _, (handle, *_) = self.handles.popitem()
            _check(self.library.cublasDestroy_v2(handle), "destroy")


@cache
def shared() -> Blas:
    """The shared instance, created at the first call; it has a handle for each stream."""
    return Blas(load_library())


def matmul(a: Array, b: Array) -> Array:
    """The standard's ``matmul``, by the shared handles."""
    return shared().matmul(a, b)


def operand(x: Array) -> tuple[Array, int, int]:
    """Returns a matrix as cuBLAS can read it, with its operation and its leading dimension.

    Where the rows, or the columns, are contiguous in memory, the array is used without a copy; else it is copied.
    """
    rows, columns = x.shape
    down, along = x.strides
    if step := _line_step(rows, columns, down, along, x.itemsize):
        return x, NO_TRANSPOSE, step
    if step := _line_step(columns, rows, along, down, x.itemsize):
        return x, TRANSPOSE, step
    return cupy.ascontiguousarray(x), NO_TRANSPOSE, columns


def _line_step(lines: int, length: int, step: int, within: int, size: int) -> int:
    """The leading dimension in elements; 0 if lines are not contiguous, overlap or run backwards. Strides in bytes."""
    if length > 1 and within != size:
        return 0
    elements, rest = divmod(step, size)
    return elements if rest == 0 and length <= elements <= LARGEST else 0


def _one_call(a: Array, b: Array) -> bool:
    if not (isinstance(a, cupy.ndarray) and isinstance(b, cupy.ndarray)):
        return False  # CuPy raises a clear error
    fits = a.dtype == b.dtype and a.dtype.name in ROUTINES and a.ndim > 0 and 0 < b.ndim <= 2
    return fits and max(prod(a.shape[:-1]), *b.shape) <= LARGEST


def _check(status: int, call: str) -> None:
    if status != 0:
        raise RuntimeError(f"cuBLAS failed to {call}: {STATUS.get(status, 'an unknown status')} ({status})")
