"""A network that predicts numbers, as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from portnn.estimators import data
from portnn.estimators.base import NetworkEstimator


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """A regressor of scikit-learn's kind that trains a network by the mean squared error.

    It takes X (N, n_features) and y (N,), or (N, n_outputs) for several numbers at once. Each column of y is
    standardized inside, to mean 0 and standard deviation 1: the network learns (y - ``y_mean_``) / ``y_scale_``, errors
    in ``history_`` are those of it, and predictions are in the units of y, float64, in the shape that y had. X is
    taken as it is: put ``StandardScaler`` before it in a pipeline.

    The arguments, and what there is after ``fit``, are those of ``NetworkClassifier``, but for ``classes_``;
    ``class_weight`` must be None. ``build`` gets the number of columns of y as n_outputs.

    A prediction is the same, bit for bit, whatever rows it is made together with. Samples of weight 0 are left out.

    >>> import numpy as np
    >>> X = np.linspace(-1.0, 1.0, 40)[:, None]
    >>> model = NetworkRegressor((16,), learning_rate=0.02, random_state=1).fit(X, 1000.0 + X[:, 0] ** 2)
    >>> bool(abs(model.predict([[0.5]])[0] - 1000.25) < 0.05)
    True
    """

    loss = "mse"
    y_mean_: np.ndarray
    y_scale_: np.ndarray

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkRegressor":
        """Trains a new network on X (N, n_features), y (N,) or (N, n_outputs), and weights (N,) or None.

        Returns the estimator. Raises ValueError for bad data, in scikit-learn's words, and for bad arguments;
        ``portnn.training.DivergedError`` if the error becomes infinite or NaN.
        """
        X, y, weights = self._samples(X, y, sample_weight, first=True)
        seed = data.seed_of(self.random_state)
        train, held = self._split(len(X), None, seed)
        parts = [
            (X[some], y[some], None if weights is None else weights[some]) for some in ((train, held) if len(held) else ())
        ]
        X, y, weights = parts[0] if parts else (X, y, weights)
        self._standardize(y, weights)
        held_out = None
        if parts:
            X_held, y_held, of_held = parts[1]
            held_out = (X_held, self._standardized(y_held), *(() if of_held is None else (of_held,)))
        network = self._new_network(len(self.y_mean_), seed)
        self._train(network, X, self._standardized(y), weights, epochs=self.epochs, held_out=held_out)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkRegressor":
        """Trains for one more epoch, on X (N, n_features), y and weights (N,) or None; returns the estimator.

        The first call, or ``fit`` before it, decides on mean and standard deviation of y. So many calls with all the
        data are a ``fit`` of so many epochs. Raises what ``fit`` raises, and ValueError for ``validation_fraction``
        and ``patience``.
        """
        self._refuse_validation()
        first = not hasattr(self, "network_")
        X, y, weights = self._samples(X, y, sample_weight, first)
        if first:
            self._standardize(y, weights)
        elif y.shape[1] != len(self.y_mean_):
            raise ValueError(f"y has {y.shape[1]} columns, but the first call to partial_fit got {len(self.y_mean_)}")
        network = self._new_network(len(self.y_mean_), data.seed_of(self.random_state)) if first else self.network_
        self._train(network, X, self._standardized(y), weights, epochs=1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The numbers for each row of X (N, n_features): (N,), or (N, n_outputs) if y had two axes; float64."""
        with np.errstate(over="ignore"):
            found = self._outputs(X, lambda Y: Y * self.y_scale_ + self.y_mean_)
        return found[:, 0] if self._is_flat else found

    def _samples(self, X: Any, y: Any, sample_weight: Any, first: bool) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """X (N, n), y (N, k) as float64, and weights (N,) or None: the samples whose weight is not 0."""
        if self.class_weight is not None:
            raise ValueError(
                f"a regressor has no classes: class_weight must be None, got {self.class_weight!r:.60}; weigh samples "
                "by fit(X, y, sample_weight=...)"
            )
        X, y = data.checked(self, self._checked_dtype(), X, y, multi_output=True, y_numeric=True, reset=first)
        weights = data.check_weights(sample_weight, X)
        y = np.asarray(y, np.float64)
        if first:
            self._is_flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        if weights is None or weights.all():
            return X, y, weights
        return X[weights > 0.0], y[weights > 0.0], weights[weights > 0.0]

    def _standardize(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Sets mean and standard deviation (k,) of the columns of y (N, k); 1 in place of the deviation of equal numbers."""
        unit = np.abs(y).max(axis=0)  # so that no square is infinite or zero
        unit[unit == 0.0] = 1.0
        mean = np.average(y / unit, axis=0, weights=weights)
        scale = np.sqrt(np.average((y / unit - mean) ** 2, axis=0, weights=weights)) * unit
        equal = (y == y[0]).all(axis=0) | (scale == 0.0)
        self.y_mean_ = np.where(equal, y[0], mean * unit)
        self.y_scale_ = np.where(equal, 1.0, scale)

    def _standardized(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(((y - self.y_mean_) / self.y_scale_).astype(self._checked_dtype()))
