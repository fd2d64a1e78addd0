"""Prepares the arguments of an optimizer's step: C-contiguous arrays, gradients clipped and with weight decay."""

from typing import Any

import numpy as np
from numpy import add, sqrt

Array = Any
Slots = dict[str, list[Array]]


def in_order(
    optimizer: Any, parameters: list[Array], gradients: list[Array], slots: Slots, kinds: tuple[str, ...]
) -> tuple[list[Array], list[Array], Slots]:
    """Parameters, gradients and the slots of those kinds, checked for equal shapes and dtypes, C-contiguous."""
    if not _are_alike(parameters, gradients, slots, kinds):
        optimizer.check(parameters, gradients, slots, *kinds)
        slots = {kind: [np.asarray(a, order="C") for a in slots[kind]] for kind in kinds} if kinds else slots
        parameters, gradients = ([np.asarray(a, order="C") for a in arrays] for arrays in (parameters, gradients))
    return parameters, gradients, slots


def _are_alike(parameters: list[Array], gradients: list[Array], slots: Slots, kinds: tuple[str, ...]) -> bool:
    """Whether all arrays are as a network keeps them, checked quickly; if not, a full check follows."""
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
    """The gradients, clipped and with weight decay; the arguments are C-contiguous."""
    try:
        with np.errstate(over="raise", under="ignore"):
            return prepared_or_raise(optimizer, parameters, gradients)
    except FloatingPointError:
        with np.errstate(under="ignore"):
            return optimizer.prepared(parameters, gradients)


def prepared_or_raise(optimizer: Any, parameters: list[Array], gradients: list[Array]) -> list[Array]:
    """``prepared``, within a context where NumPy raises FloatingPointError on overflow."""
    if optimizer.clip_norm is None:
        return optimizer.prepared(parameters, gradients)
    return optimizer.prepared(parameters, gradients, _clipped_by_norm)


def _clipped_by_norm(gradients: list[Array], limit: float) -> list[Array]:
    """The formula of the portable version without its scaling: NumPy reports where a square overflows."""
    squares = [add.reduce(g * g, axis=None) for g in gradients]
    scale = limit / (float(sqrt(sum(squares[1:], squares[0]))) + 1e-6)
    return gradients if scale >= 1.0 else [g * scale for g in gradients]
