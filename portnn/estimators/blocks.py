"""Predictions that do not depend on which rows come together."""

from collections.abc import Callable
from typing import Any

import numpy as np

BLOCK = 64  # a multiple of the widths of all vector registers, so that no element of a block is a remainder


def outputs(network: Any, X: np.ndarray, finish: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``finish(network's outputs)`` (N, ...) for rows X (N, n), bit for bit the same whatever rows come with a row.

    On the CPU the network sees one row at a time: a product of matrices rounds differently for different numbers of
    rows and, with most processors, for rows at different places among as many. On a GPU, which would be slow that way
    and computes all rows of a product alike, it sees blocks of a fixed number of rows, the last one filled up.
    ``finish`` takes such blocks in any case, and treats each row by itself.
    """
    alone = network.backend.name == "cpu"
    found = []
    for start in range(0, len(X), BLOCK):
        rows = X[start : start + BLOCK]
        if alone:
            Y = filled_up(network.predict(rows, batch_size=1))
        else:
            Y = network.predict(filled_up(rows), batch_size=BLOCK)
        found.append(finish(Y.reshape(BLOCK, -1)))
    return np.concatenate(found)[: len(X)]


def filled_up(rows: np.ndarray) -> np.ndarray:
    """A whole block: the rows, and copies of the last one."""
    missing = BLOCK - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
