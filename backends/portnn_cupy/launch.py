"""Kernels, compiled at first use, and their launch."""

from functools import cache
from typing import Any

import cupy
import numpy as np

from portnn_cupy import convolutions, kernels, reductions

Array = Any
THREADS = 256
MOST_BLOCKS = 1 << 12  # in all rows; each thread loops over the rest
NULL = np.uint64(0)  # a null pointer; CuPy turns None into the address 0xffffffff (its issue 9046)
REALS = {"float32": "float", "float64": "double"}
_loaded: dict[str, None] = {}  # of which reals there are kernels already, in order


def launch(name: str, dtype: Any, n: int, *arguments: Any, rows: int = 1) -> None:
    """Runs a kernel over n elements on the current stream, with ``rows`` rows of blocks.

    Without a dtype it is a kernel that computes no reals: taken from what is loaded, since a capture can load nothing.
    """
    if n:
        blocks = min(-(-n // THREADS), max(1, MOST_BLOCKS // rows))
        real = next(iter(_loaded), "float") if dtype is None else REALS[np.dtype(dtype).name]
        _kernel(name, real)((blocks, rows), (THREADS,), arguments)


def launch_blocks(name: str, dtype: Any, blocks: int | tuple[int, ...], *arguments: Any) -> None:
    """Runs a kernel whose threads work together, in so many blocks along up to three axes, on the current stream."""
    grid = blocks if isinstance(blocks, tuple) else (blocks,)
    _together(name, REALS[np.dtype(dtype).name])(grid, (THREADS,), arguments)


@cache
def _kernel(name: str, real: str) -> Any:
    kernel = _module(kernels.source(real)).get_function(name)
    _loaded.setdefault(real)
    return kernel


@cache
def _together(name: str, real: str) -> Any:
    source = convolutions.source if name in convolutions.NAMES else reductions.source
    return _module(source(kernels.head(real))).get_function(name)


@cache
def _module(source: str) -> Any:
    return cupy.RawModule(code=source, options=("-std=c++14",))


def in_order(x: Array) -> Array:
    """The array C-contiguous, as kernels need it; a copy where it is not."""
    return cupy.ascontiguousarray(x)
