"""What ``fit`` and ``predict`` of an estimator are given: checked as scikit-learn does, weighted, divided."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.class_weight import compute_class_weight

from portnn import checks, random

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn 1.5, where it is a method

    def validate_data(estimator: Any, *data: Any, **options: Any) -> Any:
        return estimator._validate_data(*data, **options)


def seed_of(random_state: Any) -> int:
    """The seed of a network: a whole number as it is; else drawn from a RandomState, or from NumPy's global one."""
    if isinstance(random_state, Integral):
        return random.check_seed(int(random_state))
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def checked(estimator: Any, dtype: str, *data: Any, **options: Any) -> Any:
    """Rows X (N, n) in the network's dtype, C-contiguous, or X and y if both are given.

    ValueError, in scikit-learn's words, for data that is not such a table of finite numbers of that dtype, or that has
    not the features that the estimator was fitted with.
    """
    with np.errstate(over="ignore"):  # what becomes infinite in the network's dtype is refused
        return validate_data(estimator, *data, dtype=np.dtype(dtype), order="C", **options)


@dataclass(frozen=True)
class Table:
    """Rows X (N, n) with targets y (N, ...) and ``weights`` (N,), float64, or None."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None = None

    def part(self, some: np.ndarray) -> "Table":
        return Table(self.X[some], self.y[some], None if self.weights is None else self.weights[some])

    def weighted(self, factors: np.ndarray) -> "Table":
        """The same with its weights multiplied; samples of weight 0 are left out, ValueError if those are all."""
        weights = below_one(factors)
        if self.weights is not None:
            weights = below_one(weights * self.weights)
        if not weights.any():
            raise ValueError("sample_weight and class_weight leave no sample: all weights are 0")
        table = Table(self.X, self.y, weights)
        return table if weights.all() else table.part(weights > 0.0)


def below_one(weights: np.ndarray) -> np.ndarray:
    """Weights, of which only the ratios count, divided by the power of two above the largest.

    So they fit every dtype, whatever their unit, and their products do; no bit of them changes.
    """
    return np.ldexp(weights, -np.frexp(weights.max())[1])


def table(X: np.ndarray, y: np.ndarray, sample_weight: Any) -> Table:
    """A table of checked data; samples of weight 0 are left out."""
    weights = check_weights(sample_weight, X)
    return Table(X, y) if weights is None else Table(X, y).weighted(weights)


def check_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """``sample_weight``, numbers (N,) or one for all, as float64 (N,); None if there is none.

    ValueError where one is negative, or all are 0.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(len(X), sample_weight)
    weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.ndim != 1:
        raise ValueError(f"sample_weight must be 1D, a weight for each sample, got shape {weights.shape}")
    check_consistent_length(X, weights)
    if (weights < 0.0).any():
        raise ValueError(f"Negative values in data passed to sample_weight: {weights.min()} is the least of them")
    if not weights.any():
        raise ValueError("sample_weight must contain at least one non-zero number: all samples have weight 0")
    return np.asarray(weights)


def class_factors(labels: np.ndarray, weights: np.ndarray | None, class_weight: Any, classes: np.ndarray) -> np.ndarray:
    """The factor (N,) of each sample's weight, by its class: ``labels`` (N,) are places in ``classes``.

    ``"balanced"`` gives all classes that occur the same sum of weights; a dict has a factor for each class, 1 where it
    names none.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        sums = np.bincount(labels, weights, minlength=len(classes)).astype(np.float64)
        occur = sums > 0.0
        factors = np.ones(len(classes))
        factors[occur] = sums.sum() / (occur.sum() * sums[occur])
    elif isinstance(class_weight, dict):
        for label, factor in class_weight.items():
            checks.in_range(0.0)(f"class_weight[{label!r:.60}]", factor)
        factors = compute_class_weight(class_weight, classes=classes, y=classes[labels])
    else:
        raise ValueError(f'class_weight must be a dict of weights by class, or "balanced", got {class_weight!r:.60}')
    return np.asarray(factors[labels])


def split(table: Table, share: float, shuffled: bool, alike: bool, seed: int) -> tuple[Table, Table]:
    """The samples to train with and those to validate with, a ``share`` of them, in the order that they had.

    They are drawn; if ``alike``, of each class its share where there are enough samples of each. If not ``shuffled``
    they are the last ones. ValueError if none is left to train with.
    """
    n, labels = len(table.X), None
    held = int(np.ceil(share * n))
    if held == n:
        raise ValueError(f"validation_fraction={share} of n_samples={n} leaves none to train with")
    if alike and shuffled:
        counts = np.bincount(table.y)
        counts = counts[counts > 0]
        if counts.min() > 1 and min(held, n - held) >= len(counts):  # otherwise train_test_split refuses
            labels = table.y
    state = np.random.RandomState(seed % (1 << 32)) if shuffled else None
    train, rest = train_test_split(np.arange(n), test_size=share, shuffle=shuffled, stratify=labels, random_state=state)
    return table.part(np.sort(train)), table.part(np.sort(rest))
