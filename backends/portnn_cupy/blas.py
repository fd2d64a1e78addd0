"""Matrix products by an own cuBLAS handle.

CuPy's own product refuses to be captured into a CUDA graph. A handle of our own, with a stream and a workspace of its own,
may be captured: all that cuBLAS then does is launch kernels. Its functions are called through ctypes.
"""

import ctypes
import ctypes.util
from math import prod
from typing import Any

import cupy

WORKSPACE = 32 << 20  # bytes; what NVIDIA recommends for Hopper, and more than others need
STATUS = {
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
}
NO_TRANSPOSE, TRANSPOSE = 0, 1  # cublasOperation_t
DEFAULT_MATH, PEDANTIC = 0, 2  # cublasMath_t: plain float32, never TF32

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


def load() -> Any:
    """Returns the cuBLAS library that belongs to this CuPy, its functions declared."""
    library = ctypes.CDLL(_path())
    for name, arguments in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _int
    return library


def _path() -> str:
    try:
        from cuda import pathfinder

        return str(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    except Exception as error:  # no pathfinder, or it found none: the loader's own search is left
        path = ctypes.util.find_library("cublas")
        if path is None:
            raise OSError(f"libcublas was not found ({error})") from error
        return path


class Blas:
    """A cuBLAS handle bound to one stream of one device."""

    def __init__(self, stream: Any):
        self.library = load()
        self.handle = _pointer()
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self.workspace = cupy.empty(WORKSPACE, cupy.uint8)
        self._call("cublasSetStream_v2", self.handle, stream.ptr)  # resets the workspace: first the stream
        self._call("cublasSetWorkspace_v2", self.handle, self.workspace.data.ptr, WORKSPACE)
        self._call("cublasSetMathMode", self.handle, DEFAULT_MATH)
        self.gemm = {
            cupy.dtype("float32"): ("cublasSgemm_v2", ctypes.c_float(1), ctypes.c_float(0)),
            cupy.dtype("float64"): ("cublasDgemm_v2", ctypes.c_double(1), ctypes.c_double(0)),
        }

    def matmul(self, a: Any, b: Any) -> Any:
        """``cupy.matmul`` for operands of one floating dtype, b of two axes at the most; else it is left to CuPy."""
        if a.dtype != b.dtype or a.dtype not in self.gemm or not (a.ndim >= 1 and 1 <= b.ndim <= 2) or a.shape[-1] != b.shape[0]:
            return cupy.matmul(a, b)  # refused within a capture, and right in its errors elsewhere
        rows = a.reshape(-1, a.shape[-1]) if a.ndim != 2 else a
        columns = b.reshape(-1, 1) if b.ndim == 1 else b
        product = self._product(rows, columns)
        return product.reshape(a.shape[:-1] + b.shape[1:]) if a.ndim != 2 or b.ndim != 2 else product

    def _product(self, a: Any, b: Any) -> Any:
        (m, k), n = a.shape, b.shape[1]
        if prod((m, k, n)) == 0:
            return cupy.zeros((m, n), a.dtype)
        out = cupy.empty((m, n), a.dtype)
        a, a_operation, a_stride = _as_cublas_reads(a)
        b, b_operation, b_stride = _as_cublas_reads(b)
        name, one, zero = self.gemm[a.dtype]
        # cuBLAS counts columns first, so it is asked for out^T = b^T a^T, whose memory is that of out.
        self._call(
            name, self.handle, b_operation, a_operation, n, m, k,
            ctypes.addressof(one), b.data.ptr, b_stride, a.data.ptr, a_stride, ctypes.addressof(zero), out.data.ptr, n,
        )  # fmt: skip
        return out

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status} ({STATUS.get(status, 'unknown')})")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.cublasDestroy_v2(self.handle)


def _as_cublas_reads(x: Any) -> tuple[Any, int, int]:
    """The matrix, whether its rows lie apart in memory (transposed), and the step between rows, or columns."""
    if x.flags.c_contiguous:
        return x, NO_TRANSPOSE, x.shape[1]
    if x.flags.f_contiguous:
        return x, TRANSPOSE, x.shape[0]
    return cupy.ascontiguousarray(x), NO_TRANSPOSE, x.shape[1]
