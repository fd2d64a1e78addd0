"""What the classifier and the regressor share: arguments, the training of their network, its outputs."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from portnn import checks, habits, validation
from portnn.callbacks import EarlyStopping
from portnn.estimators import blocks, building, data
from portnn.layers import sequential
from portnn.network import Network


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

    def _refuse_validation(self) -> None:
        """ValueError in ``partial_fit``, which does not see all the data, if some is to be held out."""
        for name, without in (("validation_fraction", 0.0), ("patience", None)):
            if getattr(self, name) != without:
                raise ValueError(
                    f"partial_fit trains on all it is given, for one epoch: it takes no {name}, got "
                    f"{name}={getattr(self, name)!r}; fit does"
                )

    def _train(
        self,
        network: Network,
        train: data.Table,
        held_out: data.Table | None = None,
        *,
        epochs: Any,
        then: dict[str, Any],
    ) -> None:
        """Trains the network; it is then the estimator's, with its history, and so are the attributes ``then``.

        Before that the estimator is what it was: an earlier fit is not mixed with one that fails.
        """
        batch_size = checks.size("batch_size", self.batch_size)
        callbacks = []
        if self.patience is not None:
            monitor = "error" if held_out is None else "val_error"
            callbacks.append(EarlyStopping(monitor, patience=self.patience, restore_best=held_out is not None))
        network.fit(
            train.X,
            train.y,
            epochs=checks.size("epochs", epochs),
            batch_size=batch_size,
            shuffle=checks.flag("shuffle", self.shuffle),
            drop_last=_last_is_too_small(network, train.X.shape, batch_size),
            sample_weight=train.weights,
            validation_data=None if held_out is None else (held_out.X, held_out.y, held_out.weights),
            callbacks=callbacks,
            verbose=int(self.verbose) if isinstance(self.verbose, bool) else self.verbose,
        )
        self.__dict__.update(then)
        self.network_ = network
        self.history_ = copy.deepcopy(network.history)
        self.n_iter_ = len(self.history_["error"])

    def _outputs(self, X: Any, finish: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """``finish`` of the network's outputs (N, n_outputs), as float64, for the rows of X."""
        check_is_fitted(self, "network_")
        rows = data.checked(self, self.network_.dtype, X, reset=False)
        return blocks.outputs(self.network_, rows, lambda Y: finish(Y.astype(np.float64)))


def _last_is_too_small(network: Network, shape: tuple[int, ...], batch_size: int) -> bool:
    """Whether the last batch of an epoch has too few samples for batch normalization, and others have enough.

    How many samples there are is not what the caller of a search or of cross-validation decides.
    """
    between = sequential.shapes(network.layers, shape[1:])
    needed = sequential.smallest_batch(network.layers, between)[0]
    return shape[0] > batch_size >= needed and 0 < shape[0] % batch_size < needed
