"""A network that tells classes apart, as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from portnn import activations
from portnn.estimators import data
from portnn.estimators.base import NetworkEstimator


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """A classifier of scikit-learn's kind that trains a network by softmax cross-entropy.

    It takes X (N, n_features) and labels y (N,) of any kind that can be sorted, numbers or strings. By default the
    network has fully connected layers of the widths ``hidden``, each followed by ``activation``.

    - ``build``: a function (n_features, n_outputs) -> Network, or list of layers, from (N, n_features) to
      (N, n_outputs); ``hidden`` and ``activation`` are then not used. n_outputs is the number of classes; the network
      returns logits. A Network that it returns is copied and keeps its weights and seed; its loss and optimizer are
      replaced.
    - ``optimizer``: a name, made with ``learning_rate``, a number or a schedule, and ``weight_decay`` (0 for
      ``"adamw"``, too, unless it is given); or an object, which has its own.
    - ``batch_size``, ``epochs``, ``shuffle``: those of ``Network.fit``; where layers cannot be trained with the few
      samples of a smaller last batch, as batch normalization with one, an epoch leaves it out.
    - ``validation_fraction``: the share of the samples that are held out; of each class the same, or the last samples
      if ``shuffle`` is False. ``history_`` then has ``val_error`` and ``val_accuracy``.
    - ``patience``: training stops after so many epochs in a row in which the error of the held-out samples has not
      fallen, and goes back to the best weights. Without ``validation_fraction`` the error in training counts, and the
      last weights stay.
    - ``class_weight``: a dict of factors by label, or ``"balanced"``, which gives all classes the same weight in all.
    - ``random_state``: a whole number is the seed of the network, ``Network(seed=...)``; or a RandomState, or None.
    - ``backend``, ``dtype``: those of the network. X is cast to ``dtype``. ``verbose`` is that of ``Network.fit``.

    After ``fit`` there are ``network_`` (use it for whatever portnn does with networks, such as ``network_.save``),
    ``classes_`` (the sorted labels), ``history_`` (one value an epoch), ``n_iter_`` (the number of epochs),
    ``n_features_in_`` and, if X was a table with names of strings, ``feature_names_in_``.

    A prediction is the same, bit for bit, whatever rows it is made together with. Samples of weight 0 are left out.

    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = NetworkClassifier((8,), learning_rate=0.1, random_state=1).fit(X, ["same", "other", "other", "same"])
    >>> model.predict([[1.0, 1.0], [0.0, 1.0]])
    array(['same', 'other'], dtype='<U5')
    """

    loss = "softmax_cross_entropy"
    metrics = ("accuracy",)
    classes_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkClassifier":
        """Trains a new network on X (N, n_features), y (N,) and weights (N,) or None; returns the estimator.

        Raises ValueError for bad data, in scikit-learn's words, and ValueError or TypeError for bad arguments;
        ``portnn.training.DivergedError`` if the error becomes infinite or NaN.
        """
        X, y = data.checked(self, self._checked_dtype(), X, y)
        classes, labels = np.unique(_labels(y), return_inverse=True)
        seed = data.seed_of(self.random_state)
        train, held_out = self._split(data.table(X, labels, sample_weight), seed, alike=True)
        network = self._new_network(len(classes), seed)
        train = self._with_class_weights(train, classes)
        self._train(network, train, held_out, epochs=self.epochs, then={"classes_": classes})
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "NetworkClassifier":
        """Trains for one more epoch, on X (N, n_features), y (N,) and weights (N,) or None; returns the estimator.

        ``classes`` are all labels that there will be: the first call needs them. After ``fit``, it trains on. So many
        calls with all the data are a ``fit`` of so many epochs. Raises what ``fit`` raises, and ValueError for labels
        that are not among the classes, for ``class_weight="balanced"``, ``validation_fraction`` and ``patience``.
        """
        self._refuse_validation()
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"partial_fit does not see all the data: class_weight={self.class_weight!r:.60} means nothing to it; "
                "give a dict of weights"
            )
        first = not hasattr(self, "network_")
        if first and classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: all labels that there will be, such as "
                "classes=numpy.unique(y_all)"
            )
        known = unique_labels(classes) if first else self.classes_
        if classes is not None and not np.array_equal(known, unique_labels(classes)):
            raise ValueError(
                f"classes={classes!r:.200} are not those of the first call to partial_fit, or of fit: {known!r:.200}"
            )
        X, y = data.checked(self, self._checked_dtype(), X, y, reset=first)
        places = {label: place for place, label in enumerate(known.tolist())}
        try:
            labels = np.array([places[label] for label in _labels(y).tolist()])
        except KeyError as error:
            raise ValueError(f"y has the label {error}, which is not among the classes {known!r:.200}") from None
        train = self._with_class_weights(data.table(X, labels, sample_weight), known)
        network = self._new_network(len(known), data.seed_of(self.random_state)) if first else self.network_
        self._train(network, train, epochs=1, then={"classes_": known})
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of each row of X (N, n_features): (N,). ValueError for X that does not fit."""
        found = self._outputs(X, lambda Y: Y.argmax(axis=1))
        return np.asarray(self.classes_[found])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of ``classes_`` for each row of X (N, n_features): (N, n_classes), float64."""
        return self._outputs(X, activations.softmax)

    def _with_class_weights(self, table: data.Table, classes: np.ndarray) -> data.Table:
        if self.class_weight is None:
            return table
        return table.weighted(data.class_factors(table.y, table.weights, self.class_weight, classes))


def _labels(y: Any) -> np.ndarray:
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    return np.asarray(y)
