"""Max pooling's derivative, in blocks of channels."""

from typing import Any

import numpy as np

from portnn_numpy.layout import channels_first, padded

Array = Any

BLOCK = 1 << 20  # bytes of an image: what a second-level cache holds


def to_largest(x: Array, y: Array, output_error: Array, plan: Any, input_error: Array) -> None:
    """Writes dE/dX into an array (C, H, W, N) of the padded size: of zeros, or for tiles of any values.

    Each window's error goes to its largest pixel, to the first where several are equal; NaN counts as the largest.
    Masks are multiplied, since ``numpy.where`` is slower. The padding is NaN here, which equals nothing, so that it
    never receives an error.
    """
    x, y, error = channels_first(x), channels_first(y), channels_first(output_error)
    source = padded(x, plan, np.nan)
    channels = max(1, BLOCK * len(source) // max(1, source.nbytes))
    for first in range(0, len(source), channels):
        some = slice(first, first + channels)
        _to_largest(x[some], source[some], y[some], error[some], input_error[some], plan)


def _to_largest(x: Array, source: Array, y: Array, error: Array, input_error: Array, plan: Any) -> None:
    """``to_largest`` for some channels; ``source`` is x with its padding."""
    apart = _is_apart(plan)
    largest, free = np.empty(y.shape, np.bool_), np.ones(y.shape, np.bool_)  # windows whose error is not assigned yet
    for window in plan.windows:
        here = (slice(None), *window)
        np.equal(source[here], y, out=largest)
        largest &= free
        free ^= largest
        if apart:
            np.multiply(error, largest, out=input_error[here])
        else:
            input_error[here] += error * largest
    if free.any():  # windows with NaN
        nan = padded(x != x, plan, False)
        for window in plan.windows:
            here = (slice(None), *window)
            np.logical_and(nan[here], free, out=largest)
            free ^= largest
            input_error[here] += np.where(largest, error, 0.0)


def _is_apart(plan: Any) -> bool:
    """Whether windows do not overlap."""
    return all(s >= k for s, k in zip(plan.stride, plan.kernel, strict=True))


def is_tiled(plan: Any) -> bool:
    """Whether every pixel of the padded image is in one window."""
    return plan.stride == plan.kernel and all(
        n == m * k for n, m, k in zip(plan.padded, plan.output, plan.kernel, strict=True)
    )
