"""A network that predicts numbers, as an estimator of scikit-learn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import assert_all_finite

from portnn.estimators import data
from portnn.estimators.base import NetworkEstimator, WithAllData


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
        with self._unless_it_fails():
            table, is_flat = self._table(X, y, sample_weight, first=True)
            seed = data.seed_of(self.random_state)
            train, held_out = self._split(table, seed)
            scale = Scale.of(train)
            network = self._new_network(len(scale.mean), seed)
            train, held_out = self._standardized(train, scale), held_out and self._standardized(held_out, scale)
            self._train(network, train, held_out, epochs=self.epochs, then=scale.attributes() | {"_is_flat": is_flat})
        return self

    @WithAllData
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkRegressor":
        """Trains for one more epoch, on X (N, n_features), y and weights (N,) or None; returns the estimator.

        The first call, or ``fit`` before it, decides on mean and standard deviation of y. So many calls with all the
        data are a ``fit`` of so many epochs. The network is that of the first call, with its optimizer: of arguments
        that are set later only ``batch_size``, ``shuffle`` and ``verbose`` count. Raises what ``fit`` raises. With
        ``validation_fraction`` or ``patience`` there is no ``partial_fit``.
        """
        first = not hasattr(self, "network_")
        with self._unless_it_fails():
            table, is_flat = self._table(X, y, sample_weight, first)
            if first:
                scale, network = Scale.of(table), self._new_network(table.y.shape[1], data.seed_of(self.random_state))
            else:
                scale, network, is_flat = Scale(self.y_mean_, self.y_scale_), self.network_, self._is_flat
                if table.y.shape[1] != len(scale.mean):
                    raise ValueError(
                        f"y has {table.y.shape[1]} columns, but in the first call to partial_fit, or in fit, it had "
                        f"{len(scale.mean)}"
                    )
            then = scale.attributes() | {"_is_flat": is_flat}
            self._train(network, self._standardized(table, scale), epochs=1, then=then)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The numbers for each row of X (N, n_features): (N,), or (N, n_outputs) if y had two axes; float64."""
        with np.errstate(over="ignore"):
            found = self._outputs(X, lambda Y: Y * self.y_scale_ + self.y_mean_)
        return found[:, 0] if self._is_flat else found

    def _table(self, X: Any, y: Any, sample_weight: Any, first: bool) -> tuple[data.Table, bool]:
        """The samples, with y as float64 (N, k), and whether y was (N,)."""
        if self.class_weight is not None:
            raise ValueError(
                f"a regressor has no classes: class_weight must be None, got {self.class_weight!r:.60}; weigh samples "
                "by fit(X, y, sample_weight=...)"
            )
        if hasattr(y, "toarray"):
            raise TypeError("Sparse data was passed for y, but dense data is required: y.toarray()")
        X, y = data.checked(self, self._checked_dtype(), X, y, multi_output=True, y_numeric=True, reset=first)
        if y.dtype.kind in "mM":
            raise TypeError(f"y must be numbers, got {y.dtype}: make numbers of the times, in a unit of your choice")
        y = np.asarray(y, np.float64)
        assert_all_finite(y, input_name="y")  # None has become NaN
        return data.table(X, y.reshape(len(y), -1), sample_weight), y.ndim == 1

    def _standardized(self, table: data.Table, scale: "Scale") -> data.Table:
        dtype = self._checked_dtype()
        with np.errstate(over="ignore"):
            z = ((table.y - scale.mean) / scale.deviation).astype(dtype)
        if not np.isfinite(z).all():
            i, j = np.argwhere(~np.isfinite(z))[0]
            raise ValueError(
                f"y is too large for {dtype}: {table.y[i, j]}, while the mean of the numbers that are learned is "
                f"{scale.mean[j]} and their standard deviation {scale.deviation[j]}"
            )
        return data.Table(table.X, z, table.weights)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation (k,) of the columns of y."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, table: data.Table) -> "Scale":
        """Those of the targets of samples, by weight; the deviation of equal numbers is set to 1."""
        y = table.y
        unit = np.abs(y).max(axis=0)  # in units of it no square is infinite or zero
        unit[unit == 0.0] = 1.0
        mean = np.average(y / unit, axis=0, weights=table.weights)
        deviation = np.sqrt(np.average((y / unit - mean) ** 2, axis=0, weights=table.weights)) * unit
        equal = (y == y[0]).all(axis=0) | (deviation == 0.0)
        return cls(np.where(equal, y[0], mean * unit), np.where(equal, 1.0, deviation))

    def attributes(self) -> dict[str, np.ndarray]:
        return {"y_mean_": self.mean, "y_scale_": self.deviation}
