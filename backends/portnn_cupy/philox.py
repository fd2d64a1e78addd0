"""Philox 4x64-10 on the GPU, bit for bit the words that NumPy's generator gives.

It turns a counter of four 64-bit words and a key of two into four random words, in ten rounds of two long products.
NumPy adds one to the counter before each draw. Here each thread makes one draw: eight numbers.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from functools import cache
from typing import Any

import numpy as np

Array = Any
THREADS, PER_THREAD = 256, 8

# But for four names of CUDA's it is C, so that a test can compile and run it on the host.
SOURCE = r"""
#ifndef KERNEL
#define KERNEL extern "C" __global__
#endif

typedef unsigned long long word;

KERNEL void philox_bits(word key0, word key1, const long long *step_at, word step, long long n, long long *out)
{
    long long draw = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (draw * 8 >= n) return;

    word counter0 = draw + 1, counter1 = 0, counter2 = step_at ? (word)*step_at : step, counter3 = 0;
    for (int round = 0; round < 10; ++round) {
        word high0 = __umul64hi(0xD2E7470EE14C6C93ULL, counter0), low0 = 0xD2E7470EE14C6C93ULL * counter0;
        word high2 = __umul64hi(0xCA5A826395121157ULL, counter2), low2 = 0xCA5A826395121157ULL * counter2;
        counter0 = high2 ^ counter1 ^ key0;
        counter1 = low2;
        counter2 = high0 ^ counter3 ^ key1;
        counter3 = low0;
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }

    word words[4] = {counter0, counter1, counter2, counter3};
    for (int i = 0; i < 8 && draw * 8 + i < n; ++i)
        out[draw * 8 + i] = (long long)((words[i / 2] >> (i % 2 * 32)) & 0xFFFFFFFFULL);
}
"""


def random_bits(key: tuple[int, int], step: Any, n: int) -> Array:
    """Returns ``n`` words of 32 bits as int64 (n,). ``step``: an int, or a 0-d array, which only the device reads."""
    import cupy

    out = cupy.empty(n, np.int64)
    on_device = isinstance(step, cupy.ndarray)
    if n:
        first, second = (np.uint64(word) for word in key)
        place = step.astype(np.int64, copy=False) if on_device else None
        number = np.uint64(0 if on_device else step)
        blocks = -(-n // (THREADS * PER_THREAD))
        _kernel()((blocks,), (THREADS,), (first, second, place, number, np.int64(n), out))
    return out


@cache
def _kernel() -> Any:
    import cupy

    return cupy.RawKernel(SOURCE, "philox_bits")
