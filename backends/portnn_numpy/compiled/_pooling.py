"""Pooling by windows: each pixel is read once. Images are stored as (C, H, W, N), the batch in the innermost loop."""

from functools import lru_cache
from math import prod
from operator import mul
from typing import Any

import numpy as np
from numba import prange

from portnn_numpy import layout
from portnn_numpy.compiled._activations import TANH
from portnn_numpy.compiled.jit import LEAST, Array, loop
from portnn_numpy.namespace import FEW

LEAST_BATCH = 16  # samples: the innermost loops are over them
MOST_KEPT = 1 << 17  # windows: the places of more are computed for each call, which takes little of its time
Sizes = tuple[int, ...]


@loop()
def largest_of(x: Array, y: Array, places: Array, offsets: Array) -> None:
    n = y.shape[1]
    for w in prange(places.shape[0]):
        largest, first = y[w], places[w]
        largest[:] = x[first : first + n]
        for offset in offsets[1:]:
            seen = x[first + offset : first + offset + n]
            for t in range(n):
                v, m = seen[t], largest[t]
                largest[t] = v if v > m or v != v else m  # NaN wins, as in numpy.maximum


@loop()
def largest_backward(x: Array, y: Array, d: Array, dx: Array, places: Array, offsets: Array, channels: int) -> bool:
    """Returns whether there was no NaN: errors of windows with NaN are not assigned here.

    Windows may overlap, but not those of two channels.
    """
    n, one, zero, windows, nans = y.shape[1], y.dtype.type(1), y.dtype.type(0), places.shape[0] // channels, 0
    for c in prange(channels):
        free = np.empty(n, y.dtype)  # 1 for windows whose error is not assigned yet
        nan = np.int32(0)
        for w in range(c * windows, (c + 1) * windows):
            largest, error, first = y[w], d[w], places[w]
            free[:] = one
            for t in range(n):
                nan |= np.int32(largest[t] != largest[t])
            for offset in offsets:
                seen = x[first + offset : first + offset + n]
                into = dx[first + offset : first + offset + n]
                for t in range(n):
                    hit = free[t] if seen[t] == largest[t] else zero
                    into[t] += error[t] * hit
                    free[t] -= hit
        nans += int(nan)
    return nans == 0


@loop()
def mean_of(x: Array, y: Array, places: Array, offsets: Array, shares: Array) -> None:
    n = y.shape[1]
    for w in prange(places.shape[0]):
        mean, first, share = y[w], places[w], shares[w % shares.shape[0]]
        mean[:] = x[first : first + n]
        for offset in offsets[1:-1]:
            seen = x[first + offset : first + offset + n]
            for t in range(n):
                mean[t] += seen[t]
        if offsets.shape[0] > 1:
            last = x[first + offsets[-1] : first + offsets[-1] + n]
            for t in range(n):
                mean[t] = (mean[t] + last[t]) * share


@loop()
def mean_backward(d: Array, dx: Array, places: Array, offsets: Array, shares: Array, channels: int) -> None:
    n, windows = d.shape[1], places.shape[0] // channels
    for c in prange(channels):
        for w in range(c * windows, (c + 1) * windows):
            error, first, share = d[w], places[w], shares[w % shares.shape[0]]
            for offset in offsets:
                into = dx[first + offset : first + offset + n]
                for t in range(n):
                    into[t] += error[t] * share


# -- a derivative with the chain rule of the activation before, and the sums of its columns ---------------------------


@loop(contract=False)
def mean_chain(
    y: Array, d: Array, out: Array, sums: Array, places: Array, offsets: Array, shares: Array, kind: int
) -> None:
    """``mean_backward`` for windows that do not overlap, then the chain rule for the activation's Y, which was pooled.

    sums (C, N) are those of the result.
    """
    channels, n, one, zero = sums.shape[0], d.shape[1], y.dtype.type(1), y.dtype.type(0)
    windows, most = places.shape[0] // channels, max(1, FEW // offsets.shape[0])
    for c in prange(channels):
        whole = sums[c]
        part = np.zeros(n, y.dtype)
        for w in range(windows):
            error, first = d[c * windows + w], places[c * windows + w]
            share = shares[w % shares.shape[0]]
            for offset in offsets:
                seen, into = y[first + offset : first + offset + n], out[first + offset : first + offset + n]
                if kind == TANH:
                    for t in range(n):
                        v = error[t] * share * (one - seen[t] * seen[t])
                        into[t] = v
                        part[t] += v
                else:
                    for t in range(n):
                        v = error[t] * share
                        v = v if seen[t] > zero else zero * v
                        into[t] = v
                        part[t] += v
            if w % most == most - 1 or w == windows - 1:
                for t in range(n):
                    whole[t] += part[t]
                    part[t] = zero


@loop(contract=False)
def largest_chain(
    y: Array, d: Array, out: Array, sums: Array, places: Array, offsets: Array, p: Array, kind: int
) -> bool:
    """``largest_backward`` in the same way, p being what was pooled; False where there is NaN."""
    channels, n, one, zero = sums.shape[0], d.shape[1], y.dtype.type(1), y.dtype.type(0)
    windows, most, nans = places.shape[0] // channels, max(1, FEW // offsets.shape[0]), 0
    for c in prange(channels):
        whole = sums[c]
        part, free, nan = np.zeros(n, y.dtype), np.empty(n, y.dtype), np.int32(0)
        for w in range(windows):
            largest, error, first = p[c * windows + w], d[c * windows + w], places[c * windows + w]
            free[:] = one
            for t in range(n):
                nan |= np.int32(largest[t] != largest[t])
            for offset in offsets:
                seen, into = y[first + offset : first + offset + n], out[first + offset : first + offset + n]
                if kind == TANH:
                    for t in range(n):
                        hit = free[t] if seen[t] == largest[t] else zero
                        v = error[t] * hit * (one - seen[t] * seen[t])
                        free[t] -= hit
                        into[t] = v
                        part[t] += v
                else:
                    for t in range(n):
                        hit = free[t] if seen[t] == largest[t] else zero
                        v = error[t] * hit
                        v = v if seen[t] > zero else zero * v
                        free[t] -= hit
                        into[t] = v
                        part[t] += v
            if w % most == most - 1 or w == windows - 1:
                for t in range(n):
                    whole[t] += part[t]
                    part[t] = zero
        nans += int(nan)
    return nans == 0


@loop(contract=False)
def chain(y: Array, d: Array, out: Array, sums: Array, kind: int) -> None:
    """The chain rule for rows (C, M), and sums (C, FEW) of the results: column j is the sum of j, j + FEW, ..."""
    size, one, zero = y.shape[1], y.dtype.type(1), y.dtype.type(0)
    for c in prange(y.shape[0]):
        seen, error, into, whole = y[c], d[c], out[c], sums[c]
        part = np.zeros(FEW, y.dtype)
        if kind == TANH:
            for i in range(size):
                into[i] = error[i] * (one - seen[i] * seen[i])
        else:
            for i in range(size):
                into[i] = error[i] if seen[i] > zero else zero * error[i]
        for first in range(0, size, FEW * FEW):
            last = min(first + FEW * FEW, size)
            for i in range(first, last - FEW + 1, FEW):
                line = into[i : i + FEW]
                for j in range(FEW):
                    part[j] += line[j]
            rest = (last - first) % FEW
            for j in range(rest):
                part[j] += into[last - rest + j]
            for j in range(FEW):
                whole[j] += part[j]
                part[j] = zero


def check_fit(what: str, a: Array, x: Array, image: Sizes) -> None:
    """Checks a shape: the loops do not, and would read past the end of an array."""
    expected = (x.shape[0], *image, x.shape[-1])
    if a.shape != expected:
        raise ValueError(f"{what} has shape {a.shape}, but the pooling needs {expected}")


def suits(images: Array) -> bool:
    """Whether compiled loops pay: the batch, their innermost loop, is large enough."""
    return images.shape[0] >= LEAST_BATCH and images.size >= LEAST and images.dtype.char in "fd"


def windows(source: Array, plan: Any) -> tuple[Array, Array]:
    """The offset in (C, H, W, N), flattened, of each window (C, H', W'), and the offsets of its pixels from there."""
    found = _windows if source.shape[0] * prod(plan.output) <= MOST_KEPT else _windows.__wrapped__
    return found(source.shape, plan.output, plan.stride, plan.starts)


@lru_cache(maxsize=64)  # up to 1 MB each
def _windows(shape: Sizes, output: Sizes, stride: Sizes, pixels: tuple[Sizes, ...]) -> tuple[Array, Array]:
    steps = [prod(shape[axis + 1 :]) for axis in range(len(shape) - 1)]  # the stride of each axis, in elements
    places = np.zeros(1, np.int64)
    for size, step in zip((shape[0], *output), (steps[0], *map(mul, steps[1:], stride)), strict=True):
        places = (places[:, None] + np.arange(size) * step).reshape(-1)
    return places, np.array([sum(map(mul, pixel, steps[1:])) for pixel in pixels], np.int64)


def lines(a: Array) -> Array:
    """(C, H, W, N) -> a line of N values per pixel."""
    return a.reshape(-1, a.shape[-1])


def shares(plan: Any, dtype: Any) -> Array:
    """1 / (number of a window's pixels that are not padding), for each window of one channel, or one for all."""
    if not plan.is_padded:
        return _share(prod(plan.kernel), dtype)
    share = np.asarray(layout.shares(plan, dtype), dtype)
    return np.array(np.broadcast_to(share[..., 0], plan.output)).reshape(-1)


@lru_cache(maxsize=64)
def _share(pixels: int, dtype: Any) -> Array:
    return np.array([1.0 / pixels], dtype)
