"""Normalization, and the scale and shift after it, with few passes over memory.

An array is seen as (A, K, B), C-contiguous, and the sums are over K. They are made by units of work that mostly fit in
a cache: for each of the A up to LANES of the B side by side, K lines one after another. Where B is 1, the K numbers
themselves are put side by side, as lines of LANES and a shorter one, and the sums of the lanes are added in the end.
"""

from typing import Any

import numpy as np
from numba import prange

from portnn_numpy.compiled.jit import LEAST, Array, jit, loop, memory_order, writable
from portnn_numpy.namespace import FEW

LANES = 64  # sums that are made side by side
LEAST_WIDTH = 16  # of B, unless it is 1: the innermost loops are over it
WORK = 1 << 12  # elements: smaller units are taken together
Sizes = tuple[int, int, int]
Place = tuple[int, int, int, int, int, bool]


@loop()
def normalize(x: Array, z: Array, sizes: Sizes, epsilon: Any, scale: Array, mean: Array, variance: Array) -> None:
    """``ops.normalize`` for flat arrays; the last three are (A * B,)."""
    real, n = x.dtype.type, x.dtype.type(sizes[1])
    together, parts = _division(sizes)
    for part in prange(parts):
        room, wide = np.zeros((6, LANES), x.dtype), np.zeros(LANES, np.float64)
        means, rests, variances, scales, lanes, zeros = room[0], room[1], room[2], room[3], room[4], room[5]
        for unit in range(part * together, min((part + 1) * together, _units(sizes))):
            place, own = _place(sizes, unit), _own(sizes, unit)
            _sum(x, x, False, place, zeros, zeros, means, lanes, wide)
            means /= n
            _sum(x, x, False, place, means, zeros, rests, lanes, wide)
            rests /= n
            _sum(x, x, True, place, means, rests, variances, lanes, wide)
            variances /= n
            for j in range(LANES):
                scales[j] = real(1) / np.sqrt(variances[j] + epsilon)
            first, lines, width, step, left, _ = place
            for line in range(lines + 1):
                length, at = width if line < lines else left, first + line * step
                seen, into = x[at : at + length], z[at : at + length]
                for j in range(length):
                    into[j] = (seen[j] - means[j] - rests[j]) * scales[j]
            for j in range(own[1]):
                scale[own[0] + j], variance[own[0] + j] = scales[j], variances[j]
                mean[own[0] + j] = means[j] + rests[j]


@loop()
def backward(d: Array, z: Array, out: Array, sizes: Sizes, factor: Array, sums: Array, centers: bool) -> None:
    """out = d * factor, and sums (2, A * B) of d and of d * z; with ``centers`` ``ops.normalize_backward``."""
    n = d.dtype.type(sizes[1])
    together, parts = _division(sizes)
    for part in prange(parts):
        room, wide = np.zeros((5, LANES), d.dtype), np.zeros(LANES, np.float64)
        means, along, factors, lanes, zeros = room[0], room[1], room[2], room[3], room[4]
        for unit in range(part * together, min((part + 1) * together, _units(sizes))):
            place, own = _place(sizes, unit), _own(sizes, unit)
            _sum(d, d, False, place, zeros, zeros, means, lanes, wide)
            _sum(d, z, True, place, zeros, zeros, along, lanes, wide)
            for j in range(LANES):
                factors[j] = factor[own[0] + min(j, own[1] - 1)]
            for j in range(own[1]):
                sums[0, own[0] + j], sums[1, own[0] + j] = means[j], along[j]
            means /= n
            along /= n
            first, lines, width, step, left, _ = place
            for line in range(lines + 1):
                length, at = width if line < lines else left, first + line * step
                error, seen, into = d[at : at + length], z[at : at + length], out[at : at + length]
                if centers:
                    for j in range(length):
                        into[j] = (error[j] - means[j] - seen[j] * along[j]) * factors[j]
                else:
                    for j in range(length):
                        into[j] = error[j] * factors[j]


@loop()
def scaled(x: Array, y: Array, weights: Array, bias: Array, each: bool) -> None:
    """Rows of x times ``weights``, plus ``bias``: these are rows too, or a number for ``each`` row."""
    for i in prange(x.shape[0]):
        row, into = x[i], y[i]
        if each:
            w, b = weights[i], bias[i]
            for j in range(row.shape[0]):
                into[j] = row[j] * w + b
        else:
            for j in range(row.shape[0]):
                into[j] = row[j] * weights[j] + bias[j]


@jit
def _units(sizes: Sizes) -> int:
    return sizes[0] * ((sizes[2] + LANES - 1) // LANES)


@jit
def _division(sizes: Sizes) -> tuple[int, int]:
    """How many units are taken together, and how many times."""
    together = max(1, WORK // (sizes[1] * min(sizes[2], LANES)))
    return together, (_units(sizes) + together - 1) // together


@jit
def _place(sizes: Sizes, unit: int) -> Place:
    """Where a unit begins, how many lines it has, their width and distance, the width of one more; whether B is 1."""
    _, k, b = sizes
    if b == 1:
        return unit * k, k // LANES, LANES, LANES, k % LANES, True
    across = (b + LANES - 1) // LANES
    left = unit % across * LANES
    return unit // across * k * b + left, k, min(LANES, b - left), b, 0, False


@jit
def _own(sizes: Sizes, unit: int) -> tuple[int, int]:
    """Which of the A * B sums are a unit's: the first, and how many."""
    b = sizes[2]
    if b == 1:
        return unit, 1
    across = (b + LANES - 1) // LANES
    left = unit % across * LANES
    return unit // across * b + left, min(LANES, b - left)


@jit
def _sum(
    x: Array, y: Array, times: bool, place: Place, less: Array, rest: Array, sums: Array, lanes: Array, wide: Array
) -> None:
    """The sums in each lane of x - less - rest, or of its products with y - less - rest, FEW at a time."""
    first, lines, width, step, left, joined = place
    wide[:] = 0
    for start in range(0, lines + 1, FEW):
        lanes[:] = 0
        for line in range(start, min(start + FEW, lines + 1)):
            length, at = width if line < lines else left, first + line * step
            seen, other = x[at : at + length], y[at : at + length]
            if times:
                for j in range(length):
                    lanes[j] += (seen[j] - less[j] - rest[j]) * (other[j] - less[j] - rest[j])
            else:
                for j in range(length):
                    lanes[j] += seen[j] - less[j] - rest[j]
        for j in range(LANES):
            wide[j] += lanes[j]
    if joined:  # the lanes are added in pairs, and each gets the sum
        half = LANES // 2
        while half:
            for j in range(half):
                wide[j] += wide[half + j]
            half //= 2
        wide[:] = wide[0]
    sums[:] = wide


# -- arrays as the loops take them -------------------------------------------------------------------------------------


def form(x: Array, axes: Any) -> tuple[list[int], Sizes] | None:
    """The memory order of a large array, and its (A, K, B); None unless the axes lie side by side in memory.

    Also None where the innermost loops would be short.
    """
    if x.size < LEAST or x.dtype.char not in "fd" or not x.dtype.isnative:
        return None
    order = memory_order(x)
    if not x.transpose(order).flags.c_contiguous:
        return None
    sizes, last = [1, 1, 1], 0
    for axis in order:
        if x.shape[axis] == 1:
            continue
        place = 1 if axis in axes else 2 if last else 0
        if place < last:
            return None
        sizes[place], last = sizes[place] * x.shape[axis], place
    a, k, b = sizes
    return None if (k < LANES if b == 1 else b < LEAST_WIDTH) else (order, (a, k, b))


def line(a: Array, order: list[int]) -> Array:
    """The numbers of an array in that order of its axes; a copy where it is stored in another."""
    return writable(a.transpose(order)).reshape(-1)


def kept(values: Array, order: list[int], axes: tuple[int, ...], like: Array) -> Array:
    """Values (A * B,) in the shape of an array of which the axes are kept with length 1."""
    shape = [1 if axis in axes else like.shape[axis] for axis in order]
    return values.reshape(shape).transpose([order.index(axis) for axis in range(like.ndim)])
