"""Products of matrices divided among the threads, each part by BLAS on one, then bias and activation from the cache.

OpenBLAS is called from compiled code, at the address of its function: Numba could not cache code that contains one.
"""

import ctypes
from functools import lru_cache
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from portnn_numpy import blas
from portnn_numpy.compiled import pool
from portnn_numpy.compiled._activations import BIAS, KINDS, RELU, _tanh
from portnn_numpy.compiled.jit import Array, loop, ran, writable

LEAST_WORK = 1 << 20  # multiplications: below it, dividing a product costs more than it saves
# From how many multiplications on a product has how many parts: each part of the one operand reads all of the other.
PARTS = ((1 << 29, 16), (1 << 27, 8), (1 << 24, 4), (LEAST_WORK, 2))
WHOLE = 16  # rows or columns of a part are a multiple of this
ROW_MAJOR, PLAIN, TURNED = 101, 111, 112  # cblas.h


@intrinsic
def _gemm(kinds: Any, routine: Any, order: Any, turns: Any, sizes: Any, a: Any, b: Any, c: Any, one: Any) -> Any:
    """C = A B by cblas_sgemm or cblas_dgemm at an address; ``turns`` and ``sizes`` (m, n, k, lda, ldb, ldc), tuples."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        routine, order, turns, sizes, a, b, c, one = arguments
        real, word, long = one.type, ir.IntType(32), ir.IntType(64)
        pointer = real.as_pointer()
        kinds = [word] * 3 + [long] * 3 + [real, pointer, long, pointer, long, real, pointer, long]
        call = builder.inttoptr(routine, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        a, b, c = (builder.inttoptr(address, pointer) for address in (a, b, c))
        order, *turns = (builder.trunc(x, word) for x in (order, *(builder.extract_value(turns, i) for i in range(2))))
        m, n, k, lda, ldb, ldc = (builder.extract_value(sizes, i) for i in range(6))
        builder.call(call, [order, *turns, m, n, k, one, a, lda, b, ldb, ir.Constant(real, 0.0), c, ldc])
        return context.get_dummy_value()

    long = types.int64
    return types.void(long, long, types.UniTuple(long, 2), types.UniTuple(long, 6), long, long, long, one), code


@loop(0)
def multiply(
    c: Array, routine: int, a: tuple[int, int, int], b: tuple[int, int, int], k: int,
    cuts: Array, by_rows: bool, bias: Array, kind: int,
) -> None:  # fmt: skip
    """C = f(A B + bias), A and B given by their address, leading dimension, and whether they are turned."""
    zero, size, n, ldc = c.dtype.type(0), c.itemsize, c.shape[1], c.shape[1]
    turns = (TURNED if a[2] else PLAIN, TURNED if b[2] else PLAIN)
    for part in prange(cuts.shape[0] - 1):
        first, last = cuts[part], cuts[part + 1]
        at_a, at_b, at_c, rows, columns = a[0], b[0], c.ctypes.data, c.shape[0], n
        top, left = 0, 0
        if by_rows:
            at_a, rows, top = at_a + first * size * (1 if a[2] else a[1]), last - first, first
        else:
            at_b, columns, left = at_b + first * size * (b[1] if b[2] else 1), last - first, first
        at_c += (top * ldc + left) * size
        _gemm(routine, ROW_MAJOR, turns, (rows, columns, k, a[1], b[1], ldc), at_a, at_b, at_c, c.dtype.type(1))
        if kind:
            own = bias[left : left + columns]
            for i in range(top, top + rows):
                row = c[i, left : left + columns]
                if kind == BIAS:
                    for j in range(columns):
                        row[j] += own[j]
                elif kind == RELU:
                    for j in range(columns):
                        z = row[j] + own[j]
                        row[j] = zero if z < zero else z  # NaN stays NaN
                else:
                    for j in range(columns):
                        row[j] = _tanh(row[j] + own[j])


def product(a: Array, b: Array, bias: Array | None = None, activation: str | None = None) -> Array | None:
    """f(A B + bias) for large matrices within a public call; None where NumPy should compute it.

    ``activation`` is None, "relu" or, in float32, "tanh". The parts depend on the shapes only.
    """
    (m, k), n = a.shape, b.shape[1]
    work = m * k * n
    if work < LEAST_WORK or not pool.alone():
        return None
    if a.dtype != b.dtype or a.dtype.char not in "fd" or not a.dtype.isnative:
        return None
    if b.shape[0] != k or (bias is not None and (bias.size != n or bias.dtype != a.dtype)):
        return None  # NumPy says what is wrong
    kind = 0 if bias is None else KINDS[activation]
    added = np.empty(0, a.dtype) if bias is None else writable(bias).reshape(-1)
    operands, routine = (_operand(a), _operand(b)), blas.product_address(a.dtype.char)
    if operands[0] is None or operands[1] is None or not routine:
        return None
    c, cuts = np.empty((m, n), a.dtype), _cuts(m, n, work)
    return c if ran(multiply, c, routine, *operands, k, cuts, m >= n, added, kind) else None


def _operand(a: Array) -> tuple[int, int, int] | None:
    """The address, the leading dimension, and 1 if the matrix is stored by columns; None if BLAS cannot read it."""
    size, (down, along) = a.itemsize, a.strides
    if not a.flags.aligned or not a.dtype.isnative:
        return None
    if along == size and down >= a.shape[1] * size and down % size == 0:
        return _address(a), down // size, 0
    if down == size and along >= a.shape[0] * size and along % size == 0:
        return _address(a.T), along // size, 1
    return None


def _address(a: Array) -> int:
    """``a.ctypes.data``, in a quarter of the time for a contiguous array that can be written to."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(a))
    except (TypeError, ValueError):
        return int(a.ctypes.data)


@lru_cache(maxsize=256)
def _cuts(m: int, n: int, work: int) -> Array:
    """Where the longer side of the result is cut."""
    length = max(m, n)
    parts = next(parts for least, parts in PARTS if work >= least)
    part = -(-length // (parts * WHOLE)) * WHOLE
    return np.array([*range(0, length, part), length], np.int64)
