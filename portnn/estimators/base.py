"""What the classifier and the regressor share: arguments, the training of their network, its outputs."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from portnn import checks, habits, samples, validation
from portnn.callbacks import EarlyStopping
from portnn.estimators import blocks, building, data
from portnn.layers import sequential
from portnn.network import Network
from portnn.training import DivergedError


class UnavailableError(AttributeError, ValueError):
    """An estimator has not this method with the arguments that it was given. Raised where the method is looked up."""


class WithAllData:
    """A method ``partial_fit``, which an estimator lacks where its arguments need all the data: ``hasattr`` tells.

    It is what ``sklearn.utils.metaestimators.available_if`` is, but its error says why.
    """

    def __init__(self, method: Callable[..., Any]):
        self.method = method

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self.method
        estimator._refuse_parts()
        return MethodType(self.method, estimator)


class NetworkEstimator(BaseEstimator):
    """The base class. A derived one has ``loss`` and ``metrics``, and turns its targets into those of the network."""

    loss: str
    metrics: tuple[str, ...] = ()

    # set by fit and partial_fit
    network_: Network
    history_: dict[str, list[float]]
    n_iter_: int
    n_features_in_: int

    @habits.answered
    def __init__(
        self,
        hidden: Any = (100,),
        *,
        activation: Any = "relu",
        build: Callable[[int, int], Any] | None = None,
        optimizer: Any = "adam",
        learning_rate: Any = building.LEARNING_RATE,
        batch_size: int = 32,
        epochs: int = 100,
        shuffle: bool = True,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        class_weight: Any = None,
        weight_decay: float = building.WEIGHT_DECAY,
        random_state: Any = None,
        backend: Any = "cpu",
        dtype: str = "float32",
        verbose: int = 0,
    ):
        # kept as they are, and checked in fit: scikit-learn copies and compares them
        self.hidden = hidden
        self.activation = activation
        self.build = build
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.shuffle = shuffle
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.backend = backend
        self.dtype = dtype
        self.verbose = verbose

    def _checked_dtype(self) -> str:
        return validation.dtype_name(self.dtype)

    def _new_network(self, n_outputs: int, seed: int) -> Network:
        """A network for the features that were seen, with its loss and optimizer."""
        found = building.network(
            self.n_features_in_,
            n_outputs,
            build=self.build,
            hidden=self.hidden,
            activation=self.activation,
            backend=self.backend,
            dtype=self._checked_dtype(),
            seed=seed,
        )
        optimizer = building.optimizer(self.optimizer, self.learning_rate, self.weight_decay)
        found.use(self.loss, optimizer=optimizer, metrics=self.metrics)
        return found

    def _split(self, table: data.Table, seed: int, alike: bool = False) -> tuple[data.Table, data.Table | None]:
        """The samples to train with, and those that are held out, if some are; ``alike``: of each class its share."""
        share = checks.in_range(0.0, 1.0)("validation_fraction", self.validation_fraction)
        shuffled = checks.flag("shuffle", self.shuffle)
        return data.split(table, share, shuffled, alike, seed) if share else (table, None)

    def _refuse_parts(self) -> None:
        """UnavailableError if there can be no ``partial_fit``, which sees some of the data, for one epoch."""
        for name, without in (("validation_fraction", 0.0), ("patience", None)):
            if getattr(self, name) != without:
                raise UnavailableError(
                    f"partial_fit trains on all it is given, for one epoch: it takes no {name}, got "
                    f"{name}={getattr(self, name)!r}; fit does"
                )
        if isinstance(self.class_weight, str):
            raise UnavailableError(
                f"partial_fit does not see all the data: class_weight={self.class_weight!r:.60} means nothing to it; "
                "give a dict of weights"
            )

    @contextmanager
    def _unless_it_fails(self) -> Iterator[None]:
        """What an exception ends leaves the estimator's attributes as they were: no fit is mixed with one that fails.

        A network that ``partial_fit`` trains on is where ``Network.fit`` leaves it.
        """
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _train(
        self,
        network: Network,
        train: data.Table,
        held_out: data.Table | None = None,
        *,
        epochs: Any,
        then: dict[str, Any],
    ) -> None:
        """Trains the network; it is then the estimator's, with its history, and so are the attributes ``then``."""
        batch_size = checks.size("batch_size", self.batch_size)
        for part in (train, held_out):
            if part is not None:
                _check_ratios(part.weights, network.dtype)
        callbacks = []
        if self.patience is not None:
            monitor = "error" if held_out is None else "val_error"
            callbacks.append(EarlyStopping(monitor, patience=self.patience, restore_best=held_out is not None))
        try:
            network.fit(
                train.X,
                train.y,
                epochs=checks.size("epochs", epochs),
                batch_size=batch_size,
                shuffle=checks.flag("shuffle", self.shuffle),
                drop_last=_drops_last(network, train.X.shape, batch_size),
                sample_weight=train.weights,
                validation_data=None if held_out is None else (held_out.X, held_out.y, held_out.weights),
                callbacks=callbacks,
                verbose=int(self.verbose) if isinstance(self.verbose, bool) else self.verbose,
            )
        except DivergedError as error:
            raise DivergedError(
                f"{error.fault}. Choose a smaller learning_rate, or scale X, by StandardScaler in a pipeline"
            ) from error
        self.__dict__.update(then)
        self.network_ = network
        self.history_ = copy.deepcopy(network.history)
        self.n_iter_ = len(self.history_["error"])

    def _outputs(self, X: Any, finish: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """``finish`` of the network's outputs (N, n_outputs), as float64, for the rows of X."""
        check_is_fitted(self, "network_")
        rows = data.checked(self, self.network_.dtype, X, reset=False)
        return blocks.outputs(self.network_, rows, lambda Y: finish(Y.astype(np.float64)))


def _check_ratios(weights: np.ndarray | None, dtype: str) -> None:
    """ValueError where the smallest weight, beside the largest, is too small for the dtype."""
    least = 2.0 / samples.largest_weight(dtype)  # since the largest is between 1/2 and 1
    if weights is not None and weights.min() < least * weights.max():
        raise ValueError(
            f"by sample_weight and class_weight a sample has {weights.min() / weights.max():.0e} of the largest "
            f"weight: in {dtype} it must have {least:.0e} or more, or 0"
        )


def _drops_last(network: Network, shape: tuple[int, ...], batch_size: int) -> bool:
    """Whether the last batch of an epoch has too few samples for batch normalization, and others have enough.

    How many samples there are is not what the caller of a search or of cross-validation decides. ValueError if there
    are too few in all.
    """
    n, between = shape[0], sequential.shapes(network.layers, shape[1:])
    needed, layer = sequential.smallest_batch(network.layers, between)
    if n < needed:
        raise ValueError(f"n_samples={n} is too few: {layer} cannot be trained with fewer than {needed}")
    return n > batch_size >= needed and 0 < n % batch_size < needed
