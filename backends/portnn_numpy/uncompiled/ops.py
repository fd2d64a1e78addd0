"""Convolution for NumPy alone, without a copy of each pixel for each row of the kernel.

A patch of h rows and w columns is h patches of 1 x w, one below the other. Only these are written out, in the order
(rows, w, C, W', N):

    lines[a, j, c, q, n] = X[n, a, q + j, c]

They take w times the memory of X, not h * w times. The patches of a row of output pixels, (h * w * C, W' * N), are
then h successive rows of ``lines``: a view, with which NumPy multiplies, row by row, in one call.

dE/dX needs no patches. A row a of ``lines`` contributes by its row i of the kernel to output row a - i; if dE/dY is
stored with its rows outermost, these h rows are a view as well, (h * F, W' * N), and its product with the weights
is row a of dE/d(lines), of which a pixel of X adds up w values while they are in the cache.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from portnn_numpy import namespace
from portnn_numpy.layout import channels_first, channels_last, cropped, padded

Array = Any

FEWEST_COLUMNS = 512  # of a row's product: with fewer, its overhead outweighs the patches that it saves
FEWEST_LINES = 5  # w * C of dE/dX: with fewer, BLAS is slow
MOST_SUMS = 1 << 21  # numbers: partial sums of dE/dW in memory at a time


class _Lines(NamedTuple):
    """What dE/dW needs of the images: ``lines`` as above, (G, rows, w, C/G, W', N) for each of G groups of channels."""

    lines: Array
    plan: Any

    def patches(self) -> Array:
        """The patches of each row of output pixels, (G, H', h * w * C/G, W' * N), as a view."""
        plan, (groups, _, across, channels, *_) = self.plan, self.lines.shape
        by_group, by_row, _, by_line, *_ = self.lines.strides
        shape = groups, plan.output[0], plan.kernel[0] * across * channels, prod(self.lines.shape[4:])
        strides = by_group, by_row * plan.stride[0], by_line, self.lines.itemsize
        return as_strided(self.lines, shape, strides, writeable=False)


def convolution(x: Array, weights: Array, plan: Any, groups: int = 1) -> tuple[Array, Any]:
    """``convolution`` with patches of rows, for long rows."""
    n, filters = x.shape[0], weights.shape[-1]
    if not _suits(n, plan) or x.shape[1:-1] != plan.image:  # patches() would read past the end of another image
        return NotImplemented
    seen = _Lines(_lines_of(x, plan, groups), plan)
    w = weights.reshape(-1, groups, 1, filters // groups).transpose(1, 2, 3, 0)  # (G, 1, F/G, K)
    y = np.empty((groups, filters // groups, plan.output[0], prod(plan.output[1:]) * n), np.result_type(x, weights))
    np.matmul(w, seen.patches(), out=y.swapaxes(1, 2))
    return channels_last(y.reshape(filters, *plan.output, n)), seen


def convolution_gradient(seen: Any, output_error: Array, plan: Any, shape: Any) -> Array:
    """``convolution_gradient``: the sum of those of all rows of output pixels."""
    if not isinstance(seen, _Lines):
        return NotImplemented
    p = seen.patches()  # (G, H', K, M/H')
    d = channels_first(output_error).reshape(len(p), -1, *p.shape[1::2])  # (G, F/G, H', M/H')
    d = d.transpose(0, 2, 3, 1)
    rows = max(1, MOST_SUMS // prod(shape))  # at a time
    dw: Any = 0.0
    for first in range(0, p.shape[1], rows):
        some = slice(first, first + rows)
        dw = dw + namespace.total(np.matmul(p[:, some], d[:, some]), 1)  # (G, K, F/G)
    return dw.transpose(1, 0, 2).reshape(shape)


def convolution_backward(weights: Array, output_error: Array, plan: Any, groups: int = 1) -> Array:
    """``convolution_backward`` by rows of the image, for kernels that move down by one row at a time."""
    n, (height, *width, channels, _) = output_error.shape[0], weights.shape
    lines, columns = prod(width) * channels, prod(plan.output[1:]) * n
    if not _suits(n, plan) or plan.stride[0] > 1 or lines < FEWEST_LINES:
        return NotImplemented
    w = weights.reshape(height, lines, groups, -1)[::-1].transpose(2, 1, 0, 3)  # (G, w * C/G, h, F/G), from below
    d = channels_first(output_error).reshape(groups, -1, plan.output[0], columns)
    d = np.ascontiguousarray(d.swapaxes(1, 2))  # (G, H', F/G, M/H')
    x: Array = np.zeros((groups, channels, *plan.padded, n), np.result_type(w, d))
    e = np.empty((lines, columns), x.dtype)  # a row of dE/d(lines)
    parts = e.reshape(-1, channels, *plan.output[1:], n)
    for group in range(groups):
        for a in range(plan.inside[0].start, plan.inside[0].stop):
            first, last = max(0, a - height + 1), min(plan.output[0], a + 1)  # the rows of dE/dY that it is seen by
            seen_by = slice(first - a + height - 1, last - a + height - 1)
            np.dot(w[group, :, seen_by].reshape(lines, -1), d[group, first:last].reshape(-1, columns), out=e)
            for part, window in zip(parts, _across(plan), strict=True):
                x[(group, slice(None), a, *window)] += part
    return channels_last(cropped(x.reshape(groups * channels, *plan.padded, n), plan))


def _lines_of(x: Array, plan: Any, groups: int) -> Array:
    """Images (N, H, W, C) -> (G, rows, w, C/G, W', N)."""
    source = padded(channels_first(x), plan, 0.0)
    source = source.reshape(groups, -1, *source.shape[1:]).swapaxes(1, 2)  # (G, rows, C/G, W, N)
    windows = _across(plan)
    lines = np.empty((*source.shape[:2], len(windows), source.shape[2], *plan.output[1:], x.shape[0]), x.dtype)
    for j, window in enumerate(windows):
        lines[:, :, j] = source[(..., *window, slice(None))]
    return lines


def _suits(n: int, plan: Any) -> bool:
    """Whether rows of output pixels are long enough, and the rows of a patch adjacent."""
    height = plan.kernel[0]
    adjacent = plan.starts[-1][0] == height - 1  # not dilated
    return height > 1 and adjacent and prod(plan.output[1:]) * n >= FEWEST_COLUMNS


def _across(plan: Any) -> list[tuple[slice, ...]]:
    """The windows of a plan along all axes but the first."""
    return [window[1:] for window in plan.windows[: prod(plan.kernel[1:])]]
