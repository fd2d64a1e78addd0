"""Philox 4x64-10 on the GPU, bit for bit the words of NumPy's generator.

It turns a counter of four 64-bit words and a key of two into four random words, in ten rounds of two 128-bit products.
NumPy increments the counter before each draw. Here each thread makes one draw: eight 32-bit words.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from typing import Any

import cupy
import numpy as np

from portnn_cupy.launch import NULL, launch

Array = Any
PER_THREAD = 8


def random_bits(key: tuple[int, int], step: Any, n: int) -> Array:
    """Returns ``n`` 32-bit words as int64 (n,). ``step`` is an int, or a 0-d array read on the device."""
    out = cupy.empty(n, np.int64)
    launch("philox_bits", np.float32, -(-n // PER_THREAD), *words(key, step), np.int64(n), out)
    return out


def words(key: tuple[int, int], step: Any) -> tuple[Any, ...]:
    """Key and step as a kernel takes them: a step on the device by its address, any other by value."""
    on_device = isinstance(step, cupy.ndarray)
    place = step.astype(np.int64, copy=False) if on_device else NULL
    return np.uint64(key[0]), np.uint64(key[1]), place, np.uint64(0 if on_device else step)
