"""Activations and their chain rule, in one pass over memory."""

from typing import Any

import numpy as np

from portnn_numpy.compiled import _activations as loops
from portnn_numpy.compiled.jit import LEAST, SHARED, Array, empty_like, flat, ran


def tanh(x: Array) -> Array:
    """``tanh`` in float32."""
    mine = flat(x) if x.dtype == np.float32 else None
    if mine is None:
        return NotImplemented
    y, numbers = empty_like(x)
    return y if ran(loops.tanh_all, mine[0], numbers) else NotImplemented


def relu(x: Array) -> Array:
    """``relu`` of what is large enough to be divided: on one thread NumPy is as fast."""
    mine = flat(x) if x.size >= SHARED else None
    if mine is None:
        return NotImplemented
    y, numbers = empty_like(x)
    return y if ran(loops.relu_all, mine[0], numbers) else NotImplemented


def tanh_chain(y: Array, output_error: Array) -> Array:
    found = _chained(loops.tanh_chain, y, output_error) if y.size >= LEAST else None
    return NotImplemented if found is None else found


def relu_chain(y: Array, output_error: Array) -> Array:
    found = _chained(loops.relu_chain, y, output_error) if y.size >= LEAST else None
    return NotImplemented if found is None else found


def _chained(loop: Any, y: Array, output_error: Array) -> Array | None:
    mine = flat(y, output_error)
    if mine is None:
        return None
    input_error, numbers = empty_like(y)
    return input_error if ran(loop, *mine, numbers) else None
