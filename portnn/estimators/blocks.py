"""Predictions that do not depend on which rows come together."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Matrix products round differently for different numbers of rows, and by the place of a row among the last few: what
# they compute in full blocks they compute alike for each row of it. A multiple of the widths of all vector registers.
BLOCK = 64


def outputs(network: Any, X: np.ndarray, finish: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``finish(network's outputs)`` (N, ...) for rows X (N, n), bit for bit the same whatever rows come with a row.

    The network sees blocks of a fixed number of rows, the last one filled up with copies of its last row. ``finish``
    takes such a block, too, and treats each row by itself.
    """
    found = []
    for start in range(0, len(X), BLOCK):
        rows = X[start : start + BLOCK]
        if len(rows) < BLOCK:
            rows = np.concatenate([rows, np.repeat(rows[-1:], BLOCK - len(rows), axis=0)])
        found.append(finish(network.predict(rows, batch_size=BLOCK).reshape(BLOCK, -1)))
    return np.concatenate(found)[: len(X)]
