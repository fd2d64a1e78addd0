"""Convolution of many channels with many filters: the inputs of a row of pixels are copied side by side first.

The lines that a pixel is a sum of lie far apart in (C, H, W, N), often by a multiple of a power of two, so that few of
them fit in the nearest cache at once, and every block of filters would read them again. Copied, column after column of
the rows that the kernel covers, all that a pixel needs is one run of memory, and that of the next pixel begins one
column later. This is for two axes and stride 1; ``_convolution.py`` has the others.
"""

from math import prod
from typing import Any

import numpy as np
from numba import prange, uintp

from portnn_numpy.compiled._activations import KINDS, finish
from portnn_numpy.compiled.jit import Array, loop, ran
from portnn_numpy.compiled.vectors import LANES, Tile, load, store

HEIGHT, WIDTH = 8 if LANES == 16 else 6, 2  # with AVX-512 there are 32 registers, else 16
TILE = WIDTH * LANES
_TILE = Tile(HEIGHT, WIDTH)
tile_zeros, tile_add, tile_store = _TILE.zeros, _TILE.add, _TILE.store
MANY_TAPS, MANY_FILTERS = 128, 24  # with fewer, copying does not pay
LINE = 64  # bytes of a line of the cache
Sizes = tuple[int, ...]


@loop(0)
def strips(x: Array, w: Array, y: Array, sizes: Any, before: Any, blocks: Array, bias: Array, kind: int) -> None:
    """y (F, H', W', N) from x (C, H, W, N), flattened, and w (B, w * h * C * HEIGHT); f(y + bias), if F are given.

    ``sizes`` are C, H, W, H', W', N, h and w; ``before`` is the padding above and on the left.
    """
    channels, height, width, rows, columns, n, h, across = sizes
    size = uintp(rows * columns * n)
    for i in prange(rows):
        low, high = max(0, before[0] - i), min(h, height + before[0] - i)  # the rows of the kernel inside the image
        seen = max(0, high - low)
        column = seen * channels * TILE
        memory = np.empty(width * column + LINE // 4, np.float32)
        strip = memory[-memory.ctypes.data % LINE // 4 :]
        for tile in range(0, n, TILE):
            s = min(tile, n - TILE)  # the last tile may overlap with the one before it
            for r in range(seen):
                for c in range(channels):
                    a = uintp((c * height + i - before[0] + low + r) * width * n + s)
                    b = uintp((r * channels + c) * TILE)
                    for _ in range(width):
                        for v in range(WIDTH):
                            store(strip, b + uintp(v * LANES), load(x, a + uintp(v * LANES)))
                        a, b = a + uintp(n), b + uintp(column)
            for j in range(columns):
                left, right = max(0, before[1] - j), min(across, width + before[1] - j)
                o = uintp((i * columns + j) * n + s)
                for block in range(w.shape[0]):
                    sums, v = tile_zeros(), w[block]
                    if seen == h:  # all columns are one run of weights too
                        a, b = (j - before[1] + left) * column, left * h * channels * HEIGHT
                        sums = tile_add(sums, strip, uintp(a), v, uintp(b), uintp(max(0, right - left) * h * channels))
                    else:
                        for k in range(left, right):
                            a, b = (j - before[1] + k) * column, (k * h + low) * channels * HEIGHT
                            sums = tile_add(sums, strip, uintp(a), v, uintp(b), uintp(seen * channels))
                    tile_store(y, uintp(blocks[block]) * size + o, size, sums)
            last = n if tile + TILE >= n else min(tile + TILE, n - TILE)  # the next tile begins here
            for f in range(bias.shape[0]):
                for j in range(columns):
                    o = ((f * rows + i) * columns + j) * n
                    finish(y[o + s : o + last], bias[f], kind)


def suits(plan: Any, channels: int, filters: int) -> bool:
    """Whether a convolution of this plan, or its dE/dX, is best computed here."""
    return (
        len(plan.kernel) == 2
        and plan.stride == (1, 1)
        and plan.starts[-1] == tuple(k - 1 for k in plan.kernel)  # no dilation
        and channels * prod(plan.kernel) >= MANY_TAPS
        and filters >= MANY_FILTERS
    )


def convolved(
    source: Array, weights: Array, kernel: Sizes, before: Sizes, output: Sizes, bias: Array, activation: str | None
) -> Array | None:
    """(G, C, H, W, N) and weights (G, h*w*C, F) -> f((G, F, H', W', N) + bias); None where the loop does not compile.

    The biases (G, F), or none, (G, 0); ``activation`` is the name of f, ReLU or tanh, or None.
    """
    groups, channels, *image, n = source.shape
    filters = weights.shape[-1]
    y = np.empty((groups, filters, *output, n), np.float32)
    blocks = np.minimum(np.arange(0, filters, HEIGHT), filters - HEIGHT)  # the last overlaps with the one before it
    sizes = (channels, *image, *output, n, *kernel)
    for g in range(groups):
        w = weights[g].reshape(*kernel, channels, filters).transpose(1, 0, 2, 3).reshape(-1, filters)
        w = np.stack([w[:, first : first + HEIGHT] for first in blocks.tolist()]).reshape(blocks.size, -1)
        if not ran(
            strips, source[g].reshape(-1), w, y[g].reshape(-1), sizes, before, blocks, bias[g], KINDS[activation]
        ):
            return None
    return y
