"""The launch of the kernels that sum columns, by many blocks, to the same bits each time: see ``reductions.py``."""

import threading
from functools import cache
from typing import Any

import cupy
import numpy as np

from portnn_cupy.blas import PER_THREAD_STREAM
from portnn_cupy.launch import NULL, THREADS, launch_blocks

Array = Any
LANES = 32  # columns of a strip: of float32, a row of it is one line of memory
ROWS_A_THREAD = 16  # with fewer another block is not worth its while
MOST_BLOCKS = 256
ONE_STRIP = THREADS  # columns at most, where a kernel needs all of them in one block


def shape_of(R: int, C: int, lanes: int) -> tuple[int, int]:
    """The columns of a strip, and the parts of its rows. They follow from the shape alone, as the bits of a sum do."""
    lanes = min(C, lanes)
    strips, groups = -(-C // lanes), THREADS // lanes
    return lanes, max(1, min(R // (groups * ROWS_A_THREAD), MOST_BLOCKS // strips))


def launch_rows(name: str, dtype: Any, R: int, C: int, *arguments: Any, lanes: int = LANES) -> None:
    """Runs a kernel over R rows of C columns; its last arguments, those of ``TILES``, are added."""
    lanes, parts = shape_of(R, C, lanes)
    memory, counters = (cupy.empty(2 * parts * C, dtype), tickets()) if parts > 1 else (NULL, NULL)
    tiles = memory, counters, np.int64(lanes), np.int64(parts)
    launch_blocks(name, dtype, -(-C // lanes) * parts, *arguments, *tiles)


def tickets() -> Any:
    """Counters of the current stream, all zero between two launches: those of a stream follow one another."""
    stream = cupy.cuda.get_current_stream().ptr
    return _tickets(cupy.cuda.get_device_id(), stream, threading.get_ident() if stream == PER_THREAD_STREAM else 0)


@cache
def _tickets(device: int, stream: int, thread: int) -> Any:
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):  # they outlive every graph's memory
        return cupy.zeros(MOST_BLOCKS, np.uint32)


def summed(x: Array, R: int, C: int, size: float = 1.0) -> Array:
    """The sums (C,) of the columns of R rows, divided by ``size``."""
    out = cupy.empty(C, x.dtype)
    launch_rows("sum_columns", x.dtype, R, C, x, NULL, out, NULL, x.dtype.type(size), np.int64(R), np.int64(C))
    return out


def summed_with(x: Array, others: Array, R: int, C: int, size: float = 1.0) -> tuple[Array, Array]:
    """The sums (C,) of x and of x times others, divided by ``size``."""
    out = cupy.empty(C, x.dtype), cupy.empty(C, x.dtype)
    launch_rows("sum_columns", x.dtype, R, C, x, others, *out, x.dtype.type(size), np.int64(R), np.int64(C))
    return out
