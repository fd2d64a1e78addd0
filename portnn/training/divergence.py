"""Whether the parameters are still finite, asked as an epoch ends and before a checkpoint is written."""

from math import isfinite
from typing import Any

import numpy as np

from portnn.backend import Backend
from portnn.training.state import State


class DivergedError(RuntimeError):
    """Training diverged: the error, or a parameter, is no longer finite.

    ``fault`` is the message without advice, for callers whose own arguments lead out of it.
    """

    fault = ""


def not_finite(state: State, backend: Backend) -> str:
    """The name of the first parameter that holds NaN or infinity; empty if none does."""
    if isfinite(_total(state, backend)):
        return ""
    xp = backend.xp  # or the total alone is too large a number
    for (home, key), (layer, name) in zip(state.parameters, state.gradients, strict=True):
        if not backend.to_numpy(xp.all(xp.isfinite(home[key]))):
            return f"{layer.path}.{name}"
    return ""


def _total(state: State, backend: Backend) -> float:
    """A number that is finite only if all parameters are: an epoch may have few steps, so this has to be fast."""
    total: Any = 0.0
    if backend.name == "cpu":
        square = np.vdot  # the fastest there is for small arrays
        for home, key in state.parameters:
            array = home[key]
            total += square(array, array)
        return float(total)
    for home, key in state.parameters:
        total = total + backend.xp.sum(home[key])  # on the device, which is waited for once
    return float(backend.to_numpy(total)) if state.parameters else 0.0
