"""Error and metrics as sums over batches, for training; and ``evaluate``, for validation and ``Network.evaluate``."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from portnn import metrics, ops
from portnn._typing import Array
from portnn.backend import Backend, in_order
from portnn.history import Values
from portnn.samples import Samples


def evaluate(network: Any, batches: Iterable[Samples], between: Callable[[], None] = lambda: None) -> dict[str, float]:
    """The mean error and each metric's value over batches on the device; ``between`` is called before each batch.

    With weights, the error is the weighted mean; 0 if all weights are 0.
    """
    xp, backend, run = network.backend.xp, network.backend, network.inference()
    loss, count, error = network.bound_loss, 0.0, 0.0
    sums: dict[str, Any] = {}
    measures: list[tuple[str, Any]] = []
    measured = False
    for batch in batches:
        between()
        measured = True
        measures = measures or [(name, metrics.prepared(metric, batch.y)) for name, metric in network.metrics]
        Y, Y_true, weights = run.forward(batch.x), batch.y, batch.weights
        Y_true = in_order(Y_true if batch.classes else xp.astype(Y_true, Y.dtype, copy=False))
        weight = float(Y.shape[0]) if weights is None else float(backend.to_numpy(xp.sum(weights)))
        mean = loss(Y_true, Y) if weights is None else loss(Y_true, Y, weights)
        count, error = count + weight, error + float(backend.to_numpy(mean)) * weight
        for name, metric in measures:
            of_batch = backend.to_numpy(metric_sums(name, metric, Y_true, Y, weights, backend)).astype(np.float64)
            sums[name] = sums[name] + of_batch if name in sums else of_batch
    if not measured:
        raise ValueError("an iterable of batches gave none: there is nothing to evaluate")
    found = {name: metric_value(metric, sums[name], count) for name, metric in measures}
    return Values({"error": error / count if count else 0.0, **found})


def metric_sums(name: str, metric: Any, Y_true: Array, Y: Array, weights: Array | None, backend: Backend) -> Array:
    """What one batch adds to a metric's sums.

    For an object these are its ``sums``; for a function, which returns one value per sample (N,), their weighted sum.
    """
    if metrics.is_object(metric):
        return metrics.batch_sums(metric, Y_true, Y, weights, backend)
    Y_given = Y
    if not ops.is_ours(metric):  # it may write into what it is given
        Y_true, Y_given = (backend.xp.asarray(a, copy=True) for a in (Y_true, Y))
    values = metric(Y_true, Y_given)
    if not backend.owns(values) or tuple(values.shape) != (Y.shape[0],):
        given = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else f"{values!r:.40}"
        raise ValueError(
            f"metric {name} returned {given} for {Y.shape[0]} samples: it must return an array with one value per "
            f"sample, shape ({Y.shape[0]},); fit averages them"
        )
    values = backend.xp.astype(values, Y.dtype)
    return backend.xp.sum(values if weights is None else values * weights)


def metric_value(metric: Any, sums: Any, weight: float) -> float:
    """A metric's value from its sums, on the host; ``weight`` is the total weight of the samples."""
    if metrics.is_object(metric):
        return float(metric.value(np.asarray(sums)))
    return float(sums) / weight if weight else 0.0
