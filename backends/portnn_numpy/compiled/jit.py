"""How everything here is compiled, and how arrays are handed over."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Array = Any
LEAST = 1 << 13  # numbers: with fewer, a call costs more than it saves


def _compiler(*fastmath: str) -> Callable[[Any], Any]:
    """A decorator. NaN and infinity stay what they are; what is compiled is kept on disk, where there is a place."""

    def decorate(function: Any) -> Any:
        options = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
        try:
            return numba.njit(**options, cache=True)(function)
        except RuntimeError:  # neither the package's folder nor the user's can be written to
            return numba.njit(**options)(function)

    return decorate


jit = _compiler("contract", "nsz")  # a*b + c may be one instruction


def flat(*arrays: Array) -> list[Array] | None:
    """The numbers of equally shaped arrays as they lie in memory, 1-D; None unless all lie without gaps in one order.

    Also None where an array is small or not of a floating dtype that all share: their twins serve those.
    """
    first = arrays[0]
    if first.size < LEAST or first.dtype.char not in "fd":
        return None
    order = None if first.flags.c_contiguous else memory_order(first)
    found = []
    for a in arrays:
        if a.dtype != first.dtype or a.shape != first.shape:
            return None
        a = a if order is None else a.transpose(order)
        if not a.flags.c_contiguous:
            return None
        found.append(writable(a).reshape(-1))
    return found


def memory_order(x: Array) -> list[int]:
    """The axes from the one with the largest steps in memory to the one with the smallest."""
    return sorted(range(x.ndim), key=lambda axis: -x.strides[axis])


def empty_like(x: Array) -> tuple[Array, Array]:
    """A new array in the shape and the order in memory of one that ``flat`` takes, and its numbers, 1-D."""
    y = np.empty_like(x)  # it keeps the order
    return y, (y if y.flags.c_contiguous else y.transpose(memory_order(x))).reshape(-1)


def writable(a: Array) -> Array:
    """Without gaps and writable, as the loops are compiled for; a copy where it must be."""
    return a if a.flags.c_contiguous and a.flags.writeable else np.array(a, order="C")
