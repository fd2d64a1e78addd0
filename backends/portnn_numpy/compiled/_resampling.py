"""Images resampled by a map each, in one pass over the pixels of the result. Images are (N, H, W, C), C-contiguous.

A pixel of weight 0 is not read: it may be infinite or NaN. Most pixels of the result come from between four pixels of
the image, all with a weight; the others take the longer way.
"""

import numpy as np
from numba import prange

from portnn_numpy.compiled.jit import LEAST, Array, loop


@loop(1 << 13, contract=False)
def gather(x: Array, maps: Array, y: Array) -> None:
    n, height, width, channels = x.shape
    zero, real = x.dtype.type(0), x.dtype.type
    for s in prange(n):
        m = maps[s]
        for i in range(height):
            for j in range(width):
                u, v = m[0, 0] * i + m[0, 1] * j + m[0, 2], m[1, 0] * i + m[1, 1] * j + m[1, 2]
                top, left = np.floor(u), np.floor(v)
                a, b = u - top, v - left
                if a > 0.0 and b > 0.0 and 0.0 <= top < height - 1 and 0.0 <= left < width - 1:
                    p, q = int(top), int(left)
                    w, e = real((1.0 - a) * (1.0 - b)), real((1.0 - a) * b)
                    f, g = real(a * (1.0 - b)), real(a * b)
                    for c in range(channels):
                        above = w * x[s, p, q, c] + e * x[s, p, q + 1, c]
                        y[s, i, j, c] = above + f * x[s, p + 1, q, c] + g * x[s, p + 1, q + 1, c]
                    continue
                for c in range(channels):
                    y[s, i, j, c] = zero
                if not (-1.0 < u < height and -1.0 < v < width):
                    continue
                for p in range(max(int(top), 0), min(int(top) + 2, height)):
                    for q in range(max(int(left), 0), min(int(left) + 2, width)):
                        weight = real((1.0 - abs(u - p)) * (1.0 - abs(v - q)))
                        if weight > zero:
                            for c in range(channels):
                                y[s, i, j, c] += weight * x[s, p, q, c]


@loop(1 << 13, contract=False)
def scatter(d: Array, maps: Array, dx: Array) -> None:
    """``dx`` is zeros before."""
    n, height, width, channels = d.shape
    zero, real = d.dtype.type(0), d.dtype.type
    for s in prange(n):
        m = maps[s]
        for i in range(height):
            for j in range(width):
                u, v = m[0, 0] * i + m[0, 1] * j + m[0, 2], m[1, 0] * i + m[1, 1] * j + m[1, 2]
                if not (-1.0 < u < height and -1.0 < v < width):
                    continue
                first, left = int(np.floor(u)), int(np.floor(v))
                for p in range(max(first, 0), min(first + 2, height)):
                    for q in range(max(left, 0), min(left + 2, width)):
                        weight = real((1.0 - abs(u - p)) * (1.0 - abs(v - q)))
                        if weight > zero:
                            for c in range(channels):
                                dx[s, p, q, c] += weight * d[s, i, j, c]


def suits(images: Array, maps: Array) -> bool:
    """Whether compiled loops pay; and, since they check nothing, that each image has its map."""
    if maps.shape != (images.shape[0], 2, 3):
        raise ValueError(f"maps have shape {maps.shape}, but {images.shape[0]} images need {(images.shape[0], 2, 3)}")
    return images.size >= LEAST and images.dtype.char in "fd"
