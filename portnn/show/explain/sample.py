"""The one sample that is explained: given alone, or as a batch of one."""

from typing import Any

import numpy as np

from portnn import preparation, validation
from portnn._typing import Array
from portnn.samples import Samples
from portnn.transfer import bring


def accept(network: Any, x: Any, y: Any) -> Samples:
    """A batch of one for the network, checked as ``fit`` checks it; layers that are built by data are built by it.

    ``x`` is one sample, or a batch of one, (1, ...); ``y`` its target, likewise. ValueError for several samples.
    """
    if y is None:
        raise TypeError("explain takes a sample and its target: explain(x[0], y[0])")
    X, Y = (bring(given, network.backend, network.dtype, what) for given, what in ((x, "x"), (y, "y")))
    alone = _reading(network, X[None, ...], Y)
    if X.ndim and X.shape[0] == 1:
        found = _reading(network, X, Y)
        return _raised(network, X, Y) if found is None and alone is None else _either(found, alone)
    if alone is None or _could_be_batch(network, X, Y):
        if X.ndim > 1 and _fits(network, X):
            several = f"x holds {X.shape[0]} samples, of shape {tuple(X.shape[1:])}, but explain takes one: give "
            if alone is None:
                raise ValueError(several + "x[:1] and y[:1], or x[0] and y[0]")
            raise ValueError(
                several + f"x[:1] and y[:1], or x[0] and y[0]. If it is one sample of shape {tuple(X.shape)}, give "
                "x[None] and y[None]"
            )
        return _raised(network, X[None, ...], Y)
    return alone


def _either(*readings: Samples | None) -> Samples:
    return next(reading for reading in readings if reading is not None)


def _fits(network: Any, X: Array) -> bool:
    """Whether X is a batch for the network's layers."""
    try:
        validation.shapes(network.layers, X, X)
    except ValueError:
        return False
    return True


def _could_be_batch(network: Any, X: Array, Y: Array) -> bool:
    """Whether x and y are several samples with their targets, as far as their shapes tell."""
    return bool(X.ndim > 1 and Y.ndim and Y.shape[0] == X.shape[0] and _fits(network, X) and _targets(network, X, Y))


def _targets(network: Any, X: Array, Y: Array) -> bool:
    try:
        shapes = validation.shapes(network.layers, X, X)
        if shapes[-1] is not None:
            validation.targets(Y, shapes[-1], network.loss, network.backend)
    except (ValueError, TypeError):
        return False
    return True


def _reading(network: Any, X: Array, Y: Array) -> Samples | None:
    """The sample if X is a batch of one, and Y its target with or without an axis of samples; else None."""
    if not _fits(network, X):
        return None
    targets = [Y] if Y.ndim and Y.shape[0] == 1 else []
    for target in [*targets, Y[None, ...]]:
        if _targets(network, X, target):
            return _checked(network, X, target)
    return None


def _checked(network: Any, X: Array, Y: Array) -> Samples:
    """The samples as ``fit`` checks them; ValueError for infinity and NaN, since no equation holds with these."""
    for what, array in (("x", X), ("y", Y)):
        values = np.asarray(network.backend.to_numpy(array))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"{what}[{', '.join(map(str, place))}] is {values[tuple(place)]}, and no calculation with that can be "
                "shown: explain a sample of finite numbers"
            )
    return preparation.samples(network, X, Y, None, False)[0]


def _raised(network: Any, X: Array, Y: Array) -> Samples:
    """Raises the error that ``fit`` raises for this sample."""
    return _checked(network, X, Y if Y.ndim and Y.shape[0] == 1 else Y[None, ...])
