"""Convolutions without patches in memory: which ones, and how the kernels of ``convolutions.py`` are launched.

For each pixel of Y and each group, with K = h w C / groups values in a patch and F / groups filters, patches written to
memory and read again are 2 K numbers, and Y, which is written, read for the bias and written again, 2 F / groups that
can be spared as well. There are K F / groups multiplications. So a convolution without patches moves

    2 / (F / groups) + 2 / K

numbers less for each multiplication. It is taken where these are 2 / ``up_to`` or more: for few filters, or a small
patch. In the time of moving one float32 an H200 can make 28 multiplications, by its data sheet: with ``up_to`` = 32
patches take 1.75 times the time of the multiplications themselves, as quick as they can be, and beyond that cuBLAS,
which multiplies faster than these kernels, may make up for them. It is an estimate: from where on which way is the
quicker one has not been measured on a GPU.
"""

from functools import cache
from math import prod
from typing import Any

import cupy
import numpy as np

from portnn_cupy.convolutions import FIELDS, PIXELS, SPACE
from portnn_cupy.launch import NULL, REALS, THREADS, in_order, launch_blocks
from portnn_cupy.shapes import are_apart, window_of
from portnn_cupy.sums import MOST_BLOCKS, tickets

Array = Any
UP_TO = 32.0
MOST_TIMES = 4  # the chain rule may be computed, to spare a pass for it
MOST_LANES = 16  # threads along the filters: 64 filters in a tile
LARGEST = 1 << 30  # numbers of an array: the kernels count in 32 bits
MOST_GROUPS = 65535  # blocks along the grid's third axis
GEOMETRY = np.dtype([(name, np.int32) for name in FIELDS])
WINDOW = ["H", "W", "C", "kh", "kw", "oh", "ow", "sh", "sw", "ph", "pw", "dh", "dw"]  # in the order of ``window_of``
POOLING = {"MaxPoolLayer": 1, "AvgPoolLayer": 2}


class Settings:
    """``up_to`` of the formula above: 0 for no convolution, infinity for all. ``backend.direct_up_to`` sets it."""

    up_to = UP_TO


class Seen:
    """What dE/dW needs of X: X itself."""

    def __init__(self, x: Array, groups: int):
        self.x, self.groups = x, groups


def suits(x: Array, weights: Array, plan: Any, groups: int) -> bool:
    """Whether a convolution runs without patches."""
    *_, channels, filters = weights.shape
    y = x.shape[0] * prod(plan.output) * filters
    return _fits(x, weights, y, groups) and _pays(filters // groups, prod(plan.kernel) * channels)


def suits_backward(weights: Array, output_error: Array, plan: Any, groups: int) -> bool:
    """The same for dE/dX. With a stride most terms of its sums are zeros, which the kernel adds all the same."""
    *_, channels, filters = weights.shape
    x = output_error.shape[0] * prod(plan.image) * channels * groups
    terms = prod(plan.kernel) * (filters // groups)
    return _fits(output_error, weights, x, groups) and _pays(channels, terms, prod(plan.stride))


def _fits(x: Array, weights: Array, answers: int, groups: int) -> bool:
    is_known = x.dtype.name in REALS and x.dtype == weights.dtype and groups <= MOST_GROUPS
    return is_known and x.size > 0 and max(x.size, weights.size, answers) <= LARGEST


def _pays(columns: int, rows: int, work: int = 1) -> bool:
    return (1 / columns + 1 / rows) * Settings.up_to >= work


# -- the convolution and its derivatives -------------------------------------------------------------------------------


def convolved(
    x: Array,
    weights: Array,
    bias: Any,
    kind: int,
    plan: Any,
    groups: int,
    pooling: tuple[str, Any] | None = None,
    keeps: bool = True,
) -> tuple[Any, Any]:
    """Y = f(X * W + B), ``NULL`` if only Y pooled is kept, and that, or ``NULL``; ``bias`` may be ``NULL``."""
    x, weights, filters = in_order(x), in_order(weights), weights.shape[-1]
    g, n = _forward(plan, x.shape[0], x.shape[-1], filters, groups), x.shape[0]
    y = cupy.empty((n, *plan.output, filters), x.dtype) if keeps else NULL
    pooled, kind_of_pooling = NULL, 0
    if pooling is not None:
        kind_of_pooling, window = POOLING[pooling[0]], window_of(pooling[1], filters)
        g["qh"], g["qw"] = window[3:5]
        pooled = cupy.empty((n, *pooling[1].output, filters), x.dtype)
    _launch(g, groups, x, weights, bias if bias is NULL else in_order(bias), y, pooled, kind, kind_of_pooling)
    return y, pooled


def pools(plan: Any, filters: int) -> bool:
    """Whether a tile of pixels can hold whole windows of pooling."""
    return are_apart(plan) and prod(plan.kernel) <= 4 * (THREADS // _lanes(filters))


def backward(weights: Array, output_error: Array, plan: Any, groups: int) -> Array:
    """dE/dX, the sum of dE/dY at all places that saw a pixel: a convolution with the taps in reverse."""
    weights, d = in_order(weights), in_order(output_error)
    *_, size, filters = weights.shape
    forward = _forward(plan, d.shape[0], size * groups, filters, groups)
    g = forward.copy()
    for one, other in (("H", "oh"), ("W", "ow"), ("C", "F"), ("size", "filters"), ("inner", "outer")):
        g[one], g[other] = forward[other], forward[one]
    for one in ("dh", "dw", "ph", "pw"):
        g[one] = -forward[one]
    g["th"], g["tw"], g["sh"], g["sw"] = forward["sh"], forward["sw"], 1, 1
    x = cupy.empty((d.shape[0], *plan.image, size * groups), d.dtype)
    _launch(g, groups, d, weights, NULL, x, NULL, 0, 0)
    return x


def gradient(seen: Seen, output_error: Array, plan: Any, shape: Any) -> Array:
    """dE/dW of that shape."""
    d, dw = in_order(output_error), cupy.empty(shape, output_error.dtype)
    _launch_sums("convolve_gradient", seen, d, dw, plan, shape, prod(shape[:-1]))
    return dw


def joins(shape: Any, groups: int) -> bool:
    """Whether few tiles of dE/dW need the same dE/dY: each computes it for itself."""
    rows, filters = prod(shape[:-1]) + 1, shape[-1] // groups
    return -(-rows // (4 * gradient_tiles(rows, filters)[0])) <= MOST_TIMES


def gradients(
    seen: Seen,
    Y: Array,
    P: Any,
    output_error: Array,
    kinds: tuple[int, int],
    window: Any,
    plan: Any,
    shape: Any,
    needs_error: bool,
) -> tuple[Any, Array, Array]:
    """dE/dY, ``NULL`` if it is not needed, dE/dW and dE/dB from the error after an activation, and pooling."""
    Y, d, rows = in_order(Y), in_order(output_error), prod(shape[:-1])
    both, D = cupy.empty((rows + 1, shape[-1]), d.dtype), cupy.empty(Y.shape, d.dtype) if needs_error else NULL
    P = P if P is NULL else in_order(P)
    _launch_sums("convolve_gradients", seen, d, both, plan, shape, rows + 1, Y, P, D, *map(np.int32, kinds), *window)
    return D, both[:-1].reshape(shape), both[-1]


def _launch_sums(name: str, seen: Seen, d: Array, out: Array, plan: Any, shape: Any, rows: int, *others: Any) -> None:
    x, groups = seen.x, seen.groups
    g, pixels = _forward(plan, x.shape[0], x.shape[-1], shape[-1], groups), x.shape[0] * prod(plan.output)
    g["steps"], g["lanes"], tiles, run = gradient_tiles(rows, shape[-1] // groups)
    tiles *= groups
    g["parts"] = parts = max(1, min(pixels // (2 * run), MOST_BLOCKS // tiles))
    memory, counters = (cupy.empty(parts * out.size, d.dtype), tickets()) if parts > 1 else (NULL, NULL)
    launch_blocks(name, d.dtype, tiles * parts, x, d, out, g, memory, counters, *others)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _forward(plan: Any, n: int, channels: int, filters: int, groups: int) -> Any:
    """The ``geometry`` of a convolution."""
    g, size, own = np.zeros((), GEOMETRY), channels // groups, filters // groups
    steps = {"tap": size * filters, "inner": filters, "outer": 1, "part": own}
    others = {"n": n, "size": size, "F": filters, "filters": own, "th": 1, "tw": 1, "qh": 1, "qw": 1}
    for name, value in (*zip(WINDOW, window_of(plan, channels), strict=True), *steps.items(), *others.items()):
        g[name] = value
    return g


def _launch(g: Any, groups: int, x: Array, *others: Any) -> None:
    """Runs ``convolve``: the groups are in a third axis of the grid, tiles of filters in the second."""
    g["rows"], g["columns"] = -(-g["oh"] // g["qh"]), -(-g["ow"] // g["qw"])
    g["lanes"] = lanes = _lanes(int(g["filters"]))
    windows = 4 * (THREADS // lanes) // int(g["qh"] * g["qw"])  # in a tile
    blocks = -(-int(g["n"]) * int(g["rows"]) * int(g["columns"]) // windows), -(-int(g["filters"]) // (4 * lanes))
    *arrays, kind, pooling = others
    launch_blocks("convolve", x.dtype, (*blocks, groups), x, *arrays, np.int32(kind), np.int32(pooling), g)


def _lanes(filters: int) -> int:
    """Threads along the filters, each for four; the more of them, the fewer are left for pixels: at least 2."""
    tiles = -(-filters // (4 * MOST_LANES))
    return max(THREADS * 4 // PIXELS, -(-filters // (4 * tiles)))


@cache
def gradient_tiles(K: int, filters: int) -> tuple[int, int, int, int]:
    """Threads along the sums' rows and columns, tiles for all sums, and pixels of a run: what costs least.

    The cost of a pixel, in instructions of a thread: a multiplication takes 16 and 8 reads, shared by the teams that a
    block has; a number fetched about 20.
    """
    found = []
    for lanes in range(1, min(MOST_LANES, -(-filters // 4)) + 1):
        for steps in range(1, min(THREADS // 4, THREADS // lanes, -(-K // 4)) + 1):
            tiles, fetched = -(-K // (4 * steps)) * -(-filters // (4 * lanes)), 4 * (steps + lanes)
            cost = tiles * (24 / (THREADS // (steps * lanes)) + 20 * fetched / THREADS)
            found.append((cost, (steps, lanes, tiles, min(THREADS, SPACE // fetched))))
    return min(found)[1]
