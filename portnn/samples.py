"""Samples with their targets and weights, as training and evaluation use them; the split, and class weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from portnn import checks
from portnn._typing import Array
from portnn.backend import Backend, in_order, namespace
from portnn.transfer import bring


@dataclass(frozen=True)
class Samples:
    """Inputs ``x`` (N, ...), targets ``y`` (class numbers if ``classes``), and ``weights`` (N,) or None."""

    x: Array
    y: Array
    classes: bool
    weights: Array | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def part(self, some: slice) -> "Samples":
        weights = None if self.weights is None else self.weights[some]
        return Samples(self.x[some, ...], self.y[some, ...], self.classes, weights)

    def in_order(self) -> "Samples":
        """The same, C-contiguous: samples are read many times, and results must not depend on the memory order."""
        weights = None if self.weights is None else in_order(self.weights)
        return Samples(in_order(self.x), in_order(self.y), self.classes, weights)

    def weighted(self, factors: np.ndarray, network: Any) -> "Samples":
        """The samples with each weight (1 if there are none) multiplied by its factor."""
        backend, old = network.backend, self.weights
        if old is not None:
            factors = factors * np.asarray(backend.to_numpy(old), np.float64)
        return replace(self, weights=backend.asarray(_checked(factors, "sample_weight * class_weight", network.dtype)))

    def apart(self) -> "Samples":
        """Copies in C order, of data whose memory somebody else may use again."""
        copied = lambda a: namespace(a).asarray(in_order(a), copy=True)  # noqa: E731
        weights = None if self.weights is None else copied(self.weights)
        return Samples(copied(self.x), copied(self.y), self.classes, weights)

    def batches(self, size: int) -> Iterator["Samples"]:
        for start in range(0, len(self), size):
            yield self.part(slice(start, min(start + size, len(self))))


def split(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """The samples in two parts: all but the last ``share`` of them, and the rest, which are held out."""
    n = len(samples)
    first = split_at(n, share)
    return samples.part(slice(0, first)), samples.part(slice(first, n))


def split_at(n: int, share: float) -> int:
    """The number of samples before the last ``share`` of n; ValueError where one of the two would be empty."""
    first = int(n * (1.0 - share))
    if not 0 < first < n:
        raise ValueError(
            f"validation_split={share:g} leaves {first} of {n} samples to train with and {n - first} to validate with"
        )
    return first


def check_weights(weights: Any, n: int, backend: Backend, dtype: str) -> Array:
    """``sample_weight`` as an array (N,) of the backend; ValueError where one is negative or out of range."""
    host = backend.to_numpy(bring(weights, backend, None, "sample_weight"))
    if host.shape != (n,):
        advice = ": give numpy.ravel(sample_weight)" if host.size == n else ""
        raise ValueError(f"sample_weight must have shape ({n},), a weight per sample, got {host.shape}{advice}")
    return backend.asarray(_checked(host, "sample_weight", dtype), dtype)


def largest_weight(dtype: str) -> float:
    """The largest weight that a sample may have; the smallest, but for 0, is 1 divided by it."""
    return float(np.finfo(dtype).max) ** 0.75


def _checked(weights: np.ndarray, what: str, dtype: str) -> np.ndarray:
    """Weights in the network's dtype: 0, or neither so small nor so large that their products and sums leave it."""
    most = largest_weight(dtype)
    bad = np.flatnonzero(~((weights == 0.0) | ((weights >= 1.0 / most) & (weights <= most))))
    if bad.size:
        raise ValueError(
            f"{what}[{bad[0]}] is {weights[bad[0]]}: in {dtype} a weight is 0 or from {1.0 / most:.0e} to {most:.0e}. "
            "Only their ratios count: divide all by the largest"
        )
    return weights.astype(dtype)


def class_weights(labels: np.ndarray, class_weight: Any, classes: int) -> np.ndarray:
    """The weight of each sample, (N,), by its class.

    ``class_weight`` is a dict from class number to weight, 1 for classes that it lacks, or ``"balanced"``:
    N / (C * count), where C is the number of classes that occur and count the number of samples of the class.
    """
    by_class = np.ones(max(classes, 2))
    if isinstance(class_weight, dict):
        for label, weight in class_weight.items():
            number = checks.whole("a class of class_weight", label)
            if not 0 <= number < len(by_class):
                raise ValueError(f"class_weight has class {number}, but the classes are 0 to {len(by_class) - 1}")
            by_class[number] = checks.in_range(0.0)(f"class_weight[{number}]", weight)
    elif isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=len(by_class))
        occur = counts > 0
        by_class[occur] = len(labels) / (occur.sum() * counts[occur])
    else:
        advice = ": dict(enumerate(class_weight))" if isinstance(class_weight, (list, tuple, np.ndarray)) else ""
        raise ValueError(f'class_weight must be a dict or "balanced", got {class_weight!r:.60}{advice}')
    return np.asarray(by_class[labels])


def labels_of(y: np.ndarray, classes: bool, output: tuple[int, ...]) -> np.ndarray:
    """The class number of each sample, from class numbers, one-hot rows, or a column of 0 and 1 (or -1 and 1).

    ``output`` is the shape of one output of the network.
    """
    if prod(output[:-1]) != 1:
        raise ValueError(
            f"class_weight needs one class per sample, but outputs have shape {output}: give sample_weight"
        )
    if classes:
        return y.reshape(-1).astype(np.int64)
    rows = y.reshape(len(y), -1)
    marks = rows == 1
    other = ~marks & (rows != 0) & (rows != -1)
    bad = other.any(axis=1) | (marks.sum(axis=1) != 1 if rows.shape[1] > 1 else False)
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"class_weight needs one class per sample, but y[{first}] is {rows[first].tolist()!s:.60}: give class "
            "numbers, one-hot rows or a column of 0 and 1, or write the weights as sample_weight"
        )
    return marks.argmax(axis=1) if rows.shape[1] > 1 else marks[:, 0].astype(np.int64)
