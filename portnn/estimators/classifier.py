"""A network that tells classes apart, as an estimator of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from portnn import activations
from portnn.estimators import data
from portnn.estimators.base import NetworkEstimator, WithAllData


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """A classifier of scikit-learn's kind that trains a network by softmax cross-entropy.

    It takes X (N, n_features) and labels y (N,) of any kind that can be sorted, numbers or strings. By default the
    network has fully connected layers of the widths ``hidden``, each followed by ``activation``: a name, a function of
    portnn's, or a pair (f, derivative of f).

    - ``build``: a function (n_features, n_outputs) -> Network, or list of layers, from (N, n_features) to
      (N, n_outputs); ``hidden`` and ``activation`` are then not used. n_outputs is the number of classes; the network
      returns logits. What it returns is copied; a Network keeps its weights and seed, its loss and optimizer are
      replaced.
    - ``optimizer``: a name, made with ``learning_rate``, a number or a schedule, and ``weight_decay`` (0 for
      ``"adamw"``, too, unless it is given); or an object, which has its own.
    - ``batch_size``, ``epochs``, ``shuffle``: those of ``Network.fit``; where layers cannot be trained with the few
      samples of a smaller last batch, as batch normalization with one, an epoch leaves it out.
    - ``validation_fraction``: the share of the samples that are held out; of each class the same, if each has
      enough samples, or the last ones if ``shuffle`` is False. ``history_`` then has ``val_error``, ``val_accuracy``.
    - ``patience``: training stops after so many epochs in a row in which the error of the held-out samples has not
      fallen, and goes back to the best weights. Without ``validation_fraction`` the error in training counts, and the
      last weights stay.
    - ``class_weight``: a dict of factors by label, or ``"balanced"``, which gives all classes the same weight in all.
      The samples held out are weighted alike.
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
        with self._unless_it_fails():
            X, y = data.checked(self, self._checked_dtype(), X, y)
            classes, labels = np.unique(_labels(y), return_inverse=True)
            seed = data.seed_of(self.random_state)
            weighted = self._with_class_weights(data.table(X, labels, sample_weight), classes)
            train, held_out = self._split(weighted, seed, alike=True)
            network = self._new_network(len(classes), seed)
            self._train(network, train, held_out, epochs=self.epochs, then={"classes_": classes})
        return self

    @WithAllData
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "NetworkClassifier":
        """Trains for one more epoch, on X (N, n_features), y (N,) and weights (N,) or None; returns the estimator.

        ``classes`` are all labels that there will be: the first call needs them. After ``fit``, it trains on. So many
        calls with all the data are a ``fit`` of so many epochs. The network is that of the first call, with its
        optimizer: of arguments that are set later only ``batch_size``, ``shuffle``, ``class_weight`` and ``verbose``
        count. Raises what ``fit`` raises, and ValueError for labels that are not among the classes. With
        ``class_weight="balanced"``, ``validation_fraction`` or ``patience`` there is no ``partial_fit``.
        """
        first = not hasattr(self, "network_")
        if first and classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: all labels that there will be, such as "
                "classes=numpy.unique(y_all)"
            )
        known = _known(classes) if first else self.classes_
        if classes is not None and not np.array_equal(known, _known(classes)):
            raise ValueError(
                f"classes={classes!r:.200} are not those of the first call to partial_fit, or of fit: {known!r:.200}"
            )
        with self._unless_it_fails():
            X, y = data.checked(self, self._checked_dtype(), X, y, reset=first)
            train = self._with_class_weights(data.table(X, _places(_labels(y), known), sample_weight), known)
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
    """The labels (N,), of a kind that a classifier has; TypeError for those that have no order."""
    labels = np.asarray(column_or_1d(y, warn=True))
    if labels.dtype == object:
        try:
            np.unique(labels)
        except TypeError as error:
            kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
            raise TypeError(
                f"labels of the types {kinds} cannot be sorted: give all as numbers or all as strings, also what "
                "stands for a missing one"
            ) from error
    check_classification_targets(labels)
    return labels


def _known(classes: Any) -> np.ndarray:
    """The argument ``classes`` of ``partial_fit``, sorted, each once."""
    given = np.asarray(classes)
    if given.ndim != 1 or not len(given):
        raise ValueError(f"classes must be all labels that there will be, such as ['no', 'yes'], got {classes!r:.200}")
    if (given != given).any():
        raise ValueError(f"classes={classes!r:.200} contain NaN, which is no label")
    return np.unique(_labels(given))


def _places(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The place of each label among the ``known`` ones; ValueError for another one."""
    places = {label: place for place, label in enumerate(known.tolist())}
    try:
        return np.array([places[label] for label in labels.tolist()])
    except KeyError as error:
        raise ValueError(f"y has the label {error}, which is not among the classes {known!r:.200}") from None
