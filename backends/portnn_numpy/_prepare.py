"""What an optimizer's step is given, made ready for it: arrays in C order, gradients clipped and with weight decay."""

from typing import Any

import numpy as np
from numpy import add, sqrt

Array = Any
Slots = dict[str, list[Array]]


def in_order(
    optimizer: Any, parameters: list[Array], gradients: list[Array], slots: Slots, kinds: tuple[str, ...]
) -> tuple[list[Array], list[Array], Slots]:
    """Parameters, gradients and those kinds of slots, known to be alike and in C order."""
    if not _are_alike(parameters, gradients, slots, kinds):
        optimizer.check(parameters, gradients, slots, *kinds)
        slots = {kind: [np.asarray(a, order="C") for a in slots[kind]] for kind in kinds} if kinds else slots
        parameters, gradients = ([np.asarray(a, order="C") for a in arrays] for arrays in (parameters, gradients))
    return parameters, gradients, slots


def _are_alike(parameters: list[Array], gradients: list[Array], slots: Slots, kinds: tuple[str, ...]) -> bool:
    """Whether everything is as a network has it; if not, it is looked at again, more slowly."""
    try:
        for w, *others in zip(parameters, gradients, *[slots[kind] for kind in kinds], strict=True):
            shape, dtype = w.shape, w.dtype
            if not w.flags.c_contiguous:
                return False
            for a in others:
                if a.shape != shape or a.dtype is not dtype or not a.flags.c_contiguous:
                    return False
    except (KeyError, ValueError, AttributeError):
        return False
    return True


def prepared(optimizer: Any, parameters: list[Array], gradients: list[Array]) -> list[Array]:
    """The gradients, clipped and with weight decay; what is given lies in C order."""
    try:
        with np.errstate(over="raise", under="ignore"):
            return prepared_or_raise(optimizer, parameters, gradients)
    except FloatingPointError:
        with np.errstate(under="ignore"):
            return optimizer.prepared(parameters, gradients)


def prepared_or_raise(optimizer: Any, parameters: list[Array], gradients: list[Array]) -> list[Array]:
    """``prepared`` where NumPy raises FloatingPointError at what is too large for its dtype."""
    if optimizer.clip_norm is None:
        return optimizer.prepared(parameters, gradients)
    return optimizer.prepared(parameters, gradients, _clipped_by_norm)


def _clipped_by_norm(gradients: list[Array], limit: float) -> list[Array]:
    """The portable one's plain formula: the square of a gradient may overflow, which NumPy notices."""
    squares = [add.reduce(g * g, axis=None) for g in gradients]
    scale = limit / (float(sqrt(sum(squares[1:], squares[0]))) + 1e-6)
    return gradients if scale >= 1.0 else [g * scale for g in gradients]
