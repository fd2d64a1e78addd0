"""Philox 4x64-10 on the GPU, bit for bit the words that NumPy's generator gives.

It turns a counter of four 64-bit words and a key of two into four random words, in ten rounds of two long products.
NumPy adds one to the counter before each draw. Here each thread makes one draw: eight numbers.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from typing import Any

import numpy as np

Array = Any
PER_THREAD = 8

# A part of the kernels' source (``kernels.py``), which is C but for CUDA's names.
PHILOX = r"""
/* The four words of draw number ``draw``. */
INSIDE void philox(number draw, word key0, word key1, word step, word *words)
{
    word counter0 = draw + 1, counter1 = 0, counter2 = step, counter3 = 0;
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
    words[0] = counter0, words[1] = counter1, words[2] = counter2, words[3] = counter3;
}

/* Words of 32 bits, eight a thread. ``step_at``: where the step's number stands on the device, or nothing. */
KERNEL void philox_bits(word key0, word key1, const number *step_at, word step, number n, number *out)
{
    EACH(draw, (n + 7) / 8) {
        word words[4];
        philox(draw, key0, key1, step_at ? (word)*step_at : step, words);
        for (int i = 0; i < 8 && draw * 8 + i < n; ++i)
            out[draw * 8 + i] = (number)((words[i / 2] >> (i % 2 * 32)) & 0xFFFFFFFFULL);
    }
}
"""


def random_bits(key: tuple[int, int], step: Any, n: int) -> Array:
    """Returns ``n`` words of 32 bits as int64 (n,). ``step``: an int, or a 0-d array, which only the device reads."""
    import cupy

    from portnn_cupy.launch import launch

    out = cupy.empty(n, np.int64)
    launch("philox_bits", np.float32, -(-n // PER_THREAD), *words(key, step), np.int64(n), out)
    return out


def words(key: tuple[int, int], step: Any) -> tuple[Any, ...]:
    """Key and step as a kernel takes them: a step that lies on the device by its place, any other by its value."""
    import cupy

    from portnn_cupy.launch import NULL

    on_device = isinstance(step, cupy.ndarray)
    place = step.astype(np.int64, copy=False) if on_device else NULL
    return np.uint64(key[0]), np.uint64(key[1]), place, np.uint64(0 if on_device else step)
