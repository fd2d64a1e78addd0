"""Convolution without patches, for kernels too small for BLAS to be efficient: each output pixel gathers its inputs.

Images are stored as (C, H, W, N), so a pixel of a channel is a line of N values. A table lists for each pixel of the
output the lines of the input that it is a sum of, each with its row of the weights; stride, dilation and padding are in
the table, not in the loops. The table of dE/dX is the inverse: for each input pixel the pixels of dE/dY that it
contributed to. The loops keep the sums of six filters for 2 * LANES samples in registers while they go through a
pixel's list.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numba import prange, uintp

from portnn_numpy import layout
from portnn_numpy.compiled import _strips as strips
from portnn_numpy.compiled._activations import KINDS, finish
from portnn_numpy.compiled.jit import SHARED, Array, jit, loop, ran, turned, writable
from portnn_numpy.compiled.pool import alone
from portnn_numpy.compiled.vectors import LANES, Tile, add, add_product, load, store, zeros
from portnn_numpy.ops import patches

SIX = 6  # filters: twelve registers for the sums of 2 * LANES samples, and three to work with
TILE = 2 * LANES
_TILE = Tile(SIX, 2)
tile_zeros, tile_add, tile_store = _TILE.zeros, _TILE.add, _TILE.store
TAPS = 4 if LANES == 16 else 2  # lines of X at once: with AVX-512 there are 32 registers, else 16
LONGEST = 384 * TAPS  # numbers
MOST_WORK = 2560  # taps times filters of a group: above it, patches and BLAS are faster if BLAS has all its threads
FEWEST_CHANNELS = 4  # for dE/dX: with fewer, too many of the six sums are wasted
LARGEST_TABLE = 1 << 21  # lines
MANY_TAPS, RUN_PARTS = 128, 8  # see ``gradient_tasks``
ONES = np.ones(LANES, np.float32)
LARGEST_SUMS = 1 << 20  # numbers: sums that do not stay in the cache take longer than patches and BLAS


class Table(NamedTuple):
    """For each target pixel p, entries first[p] to first[p + 1]: lines of the source, and their rows of the weights."""

    first: Array
    lines: Array
    rows: Array


@loop(0)
def _gather(
    x: Array, w: Array, y: Array, first: Array, lines: Array, rows: Array, n: int, blocks: Array, bias: Array, kind: int
) -> None:
    """y (F, P, N) from x (C, Q, N), each flattened, and w (B, T * 6), six filters per block; f(y + bias), if F
    biases are given."""
    pixels, one = first.shape[0] - 1, uintp(1)
    size = uintp(pixels * n)
    for p in prange(pixels):
        for block in range(w.shape[0]):
            v, o = w[block], uintp(blocks[block]) * size + uintp(p * n)
            for tile in range(0, n, TILE):
                s = uintp(min(tile, n - TILE))  # the last tile may overlap with the one before it
                sums = tile_zeros()
                for e in range(first[p], first[p + 1]):
                    i = uintp(lines[uintp(e)]) + s
                    sums = tile_add(sums, x, i, v, uintp(rows[uintp(e)]) * uintp(SIX), one)
                tile_store(y, o + s, size, sums)
        for f in range(bias.shape[0]):
            o = f * pixels * n + p * n
            finish(y[o : o + n], bias[f], kind)


if TAPS == 4:

    @jit
    def _read(x: Array, at: Any, s: int) -> Any:
        """The lanes of each tap's line."""
        return load(x, at[0] + s), load(x, at[1] + s), load(x, at[2] + s), load(x, at[3] + s)

    @jit
    def _added(t: Any, x: Any, y: Any) -> Any:
        """The sums of a filter with each tap."""
        return (
            add_product(t[0], x[0], y),
            add_product(t[1], x[1], y),
            add_product(t[2], x[2], y),
            add_product(t[3], x[3], y),
        )

    @jit
    def _starts(taps: Array, tap: int, start: int) -> Any:
        first, second = uintp(taps[tap] + start), uintp(taps[tap + 1] + start)
        return first, second, uintp(taps[tap + 2] + start), uintp(taps[tap + 3] + start)

    @jit
    def _none() -> Any:
        return zeros(), zeros(), zeros(), zeros()

    @jit
    def _put(sums: Array, tap: int, k: int, t: Any) -> None:
        _add(sums[tap], k, t[0])
        _add(sums[tap + 1], k, t[1])
        _add(sums[tap + 2], k, t[2])
        _add(sums[tap + 3], k, t[3])
else:

    @jit
    def _read(x: Array, at: Any, s: int) -> Any:
        return load(x, at[0] + s), load(x, at[1] + s)

    @jit
    def _added(t: Any, x: Any, y: Any) -> Any:
        return add_product(t[0], x[0], y), add_product(t[1], x[1], y)

    @jit
    def _starts(taps: Array, tap: int, start: int) -> Any:
        return uintp(taps[tap] + start), uintp(taps[tap + 1] + start)

    @jit
    def _none() -> Any:
        return zeros(), zeros()

    @jit
    def _put(sums: Array, tap: int, k: int, t: Any) -> None:
        _add(sums[tap], k, t[0])
        _add(sums[tap + 1], k, t[1])


@jit
def _add(sums: Array, k: int, t: Any) -> None:
    store(sums, k, add(load(sums, k), t))


@loop(0)
def gradient_sums(
    x: Array, d: Array, sums: Array, taps: Array, runs: Array, size: int, blocks: Array, tasks: Array
) -> None:
    """sums (S, T, B * 6 * LANES), zero at first, from x (C, padded, N) and d (F, P, N), for blocks of filters.

    T is a multiple of TAPS. ``runs`` holds where a line of d begins, where the line of x at tap 0 begins, and their
    length; ``taps`` the offsets of the lines of x at the other taps; ``tasks`` which runs and which taps are added up
    in which of the S.
    """
    for task in prange(tasks.shape[0]):
        own = sums[tasks[task, 4]]
        for r in range(tasks[task, 0], tasks[task, 1]):
            run = runs[r]
            n = run[2]
            whole = n - n % LANES
            for block in range(blocks.shape[0]):
                o0 = uintp(run[0] + blocks[block] * size)
                o1, o2, o3 = o0 + uintp(size), o0 + uintp(2 * size), o0 + uintp(3 * size)
                o4, o5, q = o0 + uintp(4 * size), o0 + uintp(5 * size), uintp(block * SIX * LANES)
                for tap in range(tasks[task, 2], tasks[task, 3], TAPS):
                    at = _starts(taps, tap, run[1])
                    a = b = c = e = f = g = _none()
                    for t in range(0, whole, LANES):
                        s = uintp(t)
                        seen = _read(x, at, s)
                        a = _added(a, seen, load(d, o0 + s))
                        b = _added(b, seen, load(d, o1 + s))
                        c = _added(c, seen, load(d, o2 + s))
                        e = _added(e, seen, load(d, o3 + s))
                        f = _added(f, seen, load(d, o4 + s))
                        g = _added(g, seen, load(d, o5 + s))
                    _put(own, tap, q, a)
                    _put(own, tap, q + uintp(LANES), b)
                    _put(own, tap, q + uintp(2 * LANES), c)
                    _put(own, tap, q + uintp(3 * LANES), e)
                    _put(own, tap, q + uintp(4 * LANES), f)
                    _put(own, tap, q + uintp(5 * LANES), g)
                    for t in range(whole, n):  # less than a vector
                        for six in range(SIX):
                            y = d[o0 + uintp(six * size + t)]
                            for i in range(TAPS):
                                own[tap + i, q + uintp(six * LANES)] += x[uintp(taps[tap + i] + run[1] + t)] * y


@loop(0)
def copied(p: Array, x: Array, starts: Array, runs: Array) -> None:
    """The patches (T, P * N) of the lines of x, flattened: see ``line_table``."""
    for tap in prange(p.shape[0]):
        row, start = p[tap], starts[tap]
        for r in range(runs.shape[0]):
            to, first, n = runs[r, 0], start + runs[r, 1], runs[r, 2]
            row[to : to + n] = x[first : first + n]


# -- tables ----------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What a table depends on: a plan in hashable form."""

    image: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    kernel: tuple[int, ...]
    last: tuple[int, ...]  # the offset of the kernel's last pixel: dilation * (kernel - 1)

    @property
    def taps(self) -> Array:
        """The offset of each pixel of the kernel, (h*w, axes)."""
        steps = [end // (k - 1) if k > 1 else 1 for k, end in zip(self.kernel, self.last, strict=True)]
        return np.indices(self.kernel).reshape(len(self.kernel), -1).T * steps


def shape_of(plan: Any) -> Shape:
    before = tuple(before for before, _ in plan.padding)
    return Shape(plan.image, plan.output, plan.stride, before, plan.kernel, plan.starts[-1])


@lru_cache(maxsize=8)  # up to 19 MB each
def forward_table(shape: Shape, channels: int, n: int) -> Table:
    """Output pixels gather input pixels of every channel."""
    outputs, inputs, taps = _pairs(shape)
    return _table(outputs, prod(shape.output), inputs, prod(shape.image), taps, channels, n)


@lru_cache(maxsize=8)  # up to 17 MB each
def backward_table(shape: Shape, filters: int, n: int) -> Table:
    """Input pixels gather the output pixels, of every filter, that they contributed to."""
    outputs, inputs, taps = _pairs(shape)
    order = np.argsort(inputs, kind="stable")
    parts = inputs[order], prod(shape.image), outputs[order], prod(shape.output), taps[order]
    return _table(*parts, filters, n)


def _pairs(shape: Shape) -> tuple[Array, Array, Array]:
    """All pairs of an output pixel and an input pixel in its window, with the tap, sorted by output pixel."""
    outputs = np.indices(shape.output).reshape(len(shape.output), -1).T  # (P, axes)
    corners = outputs * np.array(shape.stride) - np.array(shape.before)
    places = corners[:, None, :] + shape.taps  # (P, T, axes)
    inside = ((places >= 0) & (places < np.array(shape.image))).all(axis=-1)
    output, tap = np.nonzero(inside)
    inputs = np.ravel_multi_index(tuple(places[inside].T), shape.image)
    return output, inputs, tap


def _table(
    targets: Array, pixels: int, sources: Array, source_pixels: int, taps: Array, channels: int, n: int
) -> Table:
    lists = np.bincount(targets, minlength=pixels) * channels
    first, each = np.concatenate([[0], np.cumsum(lists)]), np.arange(channels)
    lines = ((sources[:, None] + each * source_pixels) * n).reshape(-1)
    rows = (taps[:, None] * channels + each).reshape(-1)
    return Table(first, lines.astype(np.int32), rows.astype(np.int32))


@lru_cache(maxsize=8)  # up to 9 MB each
def line_table(shape: Shape, padded: tuple[int, ...], channels: int, n: int) -> tuple[Array, Array]:
    """The offset in (C, padded, N) of the line of each tap of each channel, tap 0 at 0, a multiple of TAPS of them; and
    the lines of output pixels: their offset in (H', W', N), that in the padded input, and their length.

    With stride 1 along the last axis a line continues from pixel to pixel.
    """
    steps = [prod(padded[axis + 1 :]) * n for axis in range(len(padded))]
    first = shape.taps @ np.array(steps)
    starts = (first[:, None] + np.arange(channels) * prod(padded) * n).reshape(-1)
    starts = np.append(starts, np.resize(starts, -starts.size % TAPS))  # computed and discarded
    along = shape.stride[-1] == 1
    sizes = shape.output[:-1] if along else shape.output
    corners = np.indices(sizes).reshape(len(sizes), prod(sizes))
    sources = np.array(shape.stride[: len(sizes)]) * np.array(steps[: len(sizes)]) @ corners
    length = shape.output[-1] * n if along else n
    runs = [
        (target * length + start, source + start, stop - start)
        for target, source in enumerate(sources.tolist())
        for start, stop in _cuts(length)
    ]
    return starts, np.array(runs, np.int64)


@lru_cache(maxsize=64)
def gradient_tasks(taps: int, runs: int, threads: int) -> Array:
    """How the sums are divided among threads: (first run, last, first tap, last, where they are added up) for each.

    Many taps are divided, each with all its runs: its sum is the same whoever adds it. Few taps share the runs in
    parts, each with sums of its own, as many whatever the number of threads.
    """
    if taps >= MANY_TAPS:
        cuts = [TAPS * (taps // TAPS * i // threads) for i in range(threads + 1)]
        return np.array([(0, runs, a, b, 0) for a, b in pairwise(cuts)], np.int64)
    parts = min(RUN_PARTS, runs)
    cuts = [runs * i // parts for i in range(parts + 1)]
    return np.array([(a, b, 0, taps, i) for i, (a, b) in enumerate(pairwise(cuts))], np.int64)


def _cuts(length: int) -> list[tuple[int, int]]:
    """Divides a line into equal parts, whole vectors except for the last, short enough to stay in the cache."""
    parts = -(-length // LONGEST)
    part = -(-length // (parts * LANES)) * LANES
    return [(start, min(start + part, length)) for start in range(0, length, part)]


# -- around the loops -------------------------------------------------------------------------------------------------


class Seen:
    """What dE/dW needs of the images: the images themselves, (groups, C/groups, H, W, N).

    Iterating over it gives their patches, for the routines without a compiled loop.
    """

    def __init__(self, source: Array, plan: Any):
        self.source, self.plan = source, plan

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Array]:
        groups, channels = self.source.shape[:2]
        x = layout.channels_last(self.source.reshape(groups * channels, *self.source.shape[2:]))
        return iter(patches_of(x, self.plan, groups) or patches(x, self.plan, groups))


def lines_of(x: Array) -> Array:
    """Images (N, H, W, C) as (C, H, W, N), contiguous."""
    lines = turned(x.reshape(len(x), -1)) if x.flags.c_contiguous and x.shape[-1] * len(x) < x.size else None
    if lines is None:
        return writable(layout.channels_first(x))
    return np.ascontiguousarray(np.moveaxis(lines.reshape(*x.shape[1:], len(x)), -2, 0))


def patches_of(x: Array, plan: Any, groups: int) -> list[Array] | None:
    """``ops.patches``, copied by all threads; None where NumPy should copy them."""
    if not alone() or x.size * len(plan.windows) < SHARED or x.dtype.char not in "fd" or not x.dtype.isnative:
        return None
    check_fit("X", x, (x.shape[0], *plan.image, x.shape[-1]))
    n, size = x.shape[0], x.shape[-1] // groups
    source = layout.padded(lines_of(x), plan, 0.0).reshape(groups, -1)
    starts, runs = line_table(shape_of(plan), plan.padded, size, n)
    p = np.empty((groups, len(plan.windows) * size, prod(plan.output) * n), x.dtype)
    return list(p) if all(ran(copied, p[g], source[g], starts, runs) for g in range(groups)) else None


def suits(x: Array, weights: Array, plan: Any, groups: int) -> bool:
    """Whether gathering is faster than patches and BLAS."""
    taps, n = weights.size // weights.shape[-1], x.shape[0]
    pixels = max(prod(plan.output), prod(plan.image))
    return (
        n >= TILE
        and x.dtype == weights.dtype == np.float32
        and len(plan.windows) > 1
        and (alone() or weights.size <= MOST_WORK * groups)
        and pixels * (taps + 1) <= LARGEST_TABLE
        and x.size < 1 << 31
    )


def sums_fit(taps: int, filters: int) -> bool:
    """Whether the sums of dE/dW stay in the cache."""
    return taps * filters * LANES <= LARGEST_SUMS


def check_fit(what: str, a: Array, expected: tuple[int, ...]) -> None:
    """Checks a shape: the loops do not, and would read past the end of an array."""
    if a.shape != expected:
        raise ValueError(f"{what} has shape {a.shape}, but the convolution needs {expected}")


def convolved(
    x: Array, weights: Array, plan: Any, groups: int, bias: Array | None = None, activation: str | None = None
) -> tuple[Array, Any] | None:
    """``ops.convolution``, with bias and activation, by name, in the same pass; None where NumPy should compute it."""
    if not suits(x, weights, plan, groups):
        return None
    check_fit("X", x, (x.shape[0], *plan.image, weights.shape[-2] * groups))
    check_fit("the weights", weights, (*plan.kernel, *weights.shape[-2:]))
    n, size, channels = x.shape[0], weights.shape[-1] // groups, weights.shape[-2]
    source = lines_of(x).reshape(groups, channels, *plan.image, n)
    added = np.empty((groups, 0), np.float32) if bias is None else np.array(bias).reshape(groups, size)
    w = weights.reshape(-1, groups, size).transpose(1, 0, 2)
    if strips.suits(plan, channels, size):
        before = tuple(before for before, _ in plan.padding)
        y = strips.convolved(source, w, plan.kernel, before, plan.output, added, activation)
    else:
        table = forward_table(shape_of(plan), channels, n)
        y = gathered(source, w, table, added, activation)
    if y is None:
        return None
    return layout.channels_last(y.reshape(groups * size, *plan.output, n)), Seen(source, plan)


def gathered(source: Array, weights: Array, table: Table, bias: Array, activation: Any) -> Any:
    """(G, C, ..., N) and weights (G, T, F) -> f((G, F, P, N) + bias); None where the loop does not compile.

    The biases (G, F), or none, (G, 0); ``activation`` is the name of f, ReLU or tanh, or None.
    """
    groups, n, (taps, filters) = len(source), source.shape[-1], weights.shape[1:]
    pixels, blocks = table.first.size - 1, filter_blocks(filters)
    y = np.empty((groups, max(filters, SIX), pixels, n), np.float32)
    for g in range(groups):
        w = np.zeros((blocks.size, taps, SIX), np.float32)
        for block, first in enumerate(blocks.tolist()):
            w[block, :, :filters] = weights[g, :, first : first + SIX]
        arrays = source[g].reshape(-1), w.reshape(blocks.size, -1), y[g].reshape(-1)
        if not ran(_gather, *arrays, *table, n, blocks, bias[g], KINDS[activation]):
            return None
    return y if filters >= SIX else np.ascontiguousarray(y[:, :filters])


@lru_cache(maxsize=64)
def filter_blocks(filters: int) -> Array:
    """The first filters of blocks of six; the last block overlaps with the one before it, if necessary."""
    return np.minimum(np.arange(0, filters, SIX), max(filters - SIX, 0))
