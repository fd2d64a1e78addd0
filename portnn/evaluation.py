"""The error and the metrics over batches, for validation and ``Network.evaluate``."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from portnn import metrics
from portnn.backend import in_order
from portnn.history import Values
from portnn.layers.kept import Kept
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
    kept = Kept([], network)
    for batch in batches:
        between()
        if not measured:
            prepared = (metrics.prepared(metric, batch.y, batch.weights) for _, metric in network.metrics)
            measures = list(zip((name for name, _ in network.metrics), prepared, strict=True))
            measured = True
        Y, Y_true, weights = run.forward(batch.x), batch.y, batch.weights
        kept.shapes.add(tuple(Y.shape))
        Y_true = in_order(Y_true if batch.classes else xp.astype(Y_true, Y.dtype, copy=False))
        weight = float(Y.shape[0]) if weights is None else float(backend.to_numpy(xp.sum(weights)))
        mean = loss(Y_true, Y) if weights is None else loss(Y_true, Y, weights)
        count, error = count + weight, error + float(backend.to_numpy(mean)) * weight
        for name, metric in measures:
            added = metrics.batch_sums(name, metric, Y_true, Y, weights, backend)
            of_batch = backend.to_numpy(added).astype(np.float64)
            sums[name] = sums[name] + of_batch if name in sums else of_batch
    kept.note()
    if not measured:
        raise ValueError("an iterable of batches gave none: there is nothing to evaluate")
    means = {"error": error / count if count else 0.0}
    return Values(means | {name: metrics.value(metric, sums[name], count) for name, metric in measures})
