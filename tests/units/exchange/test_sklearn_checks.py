"""scikit-learn's own checks of estimators, all of them, on both; and that they find mistakes."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is not installed, or too old for its checks")
pytest.importorskip("pandas", reason="pandas, which some checks need, is not installed")

from sklearn.utils.estimator_checks import (
    check_estimator,
    check_sample_weight_equivalence_on_dense_data,
    estimator_checks_generator,
    parametrize_with_checks,
)

from portnn import ActivationLayer, Adam, BatchNormLayer, CosineDecay, FCLayer
from portnn.sklearn import NetworkClassifier, NetworkRegressor

BOTH = [NetworkClassifier, NetworkRegressor]
# A sample of weight 2 is not the same as two samples: not in minibatches, as in scikit-learn's SGDClassifier, and float32
# rounds by more than the check allows.
WEIGHTS = {f"check_sample_weight_equivalence_on_{kind}_data": "minibatches, float32" for kind in ("dense", "sparse")}
QUICK = dict(epochs=30, learning_rate=0.01)


def with_norm(n_features, n_outputs):
    return [FCLayer(n_features, 8), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(8, n_outputs)]


OPTIONS = [
    {},
    QUICK | {"batch_size": 1000},
    {"hidden": (20, 20), "dtype": "float64"},
    {"hidden": (), "epochs": 30, "learning_rate": 0.1},
    QUICK | {"validation_fraction": 0.2},
    QUICK | {"patience": 3},
    QUICK | {"build": with_norm},
    QUICK | {"optimizer": "adamw", "weight_decay": 0.01},
    {"optimizer": Adam(CosineDecay(0.02, 300)), "epochs": 30},
]


@parametrize_with_checks([E(**QUICK) for E in BOTH], expected_failed_checks=lambda estimator: WEIGHTS)
def test_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("E", BOTH)
def test_weights_count_samples_in_whole_batches(E):
    """What is expected to fail above is no mistake: it passes without minibatches and in float64."""
    check_sample_weight_equivalence_on_dense_data(E.__name__, E(dtype="float64", batch_size=1000, **QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("E", BOTH)
def test_check_estimator(E, options):
    results = check_estimator(E(**options), on_fail=None, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert len(results) > 55
    assert failed <= (set() if options.get("dtype") == "float64" else set(WEIGHTS))
    assert skipped <= {"check_array_api_input"}, "it needs the environment variable SCIPY_ARRAY_API"


class Forgets(NetworkClassifier):
    """A planted mistake: it changes its argument."""

    def fit(self, X, y, sample_weight=None):
        self.epochs = 30
        return super().fit(X, y, sample_weight)


class Neighbours(NetworkRegressor):
    """A planted mistake: a prediction depends on the other rows."""

    def predict(self, X):
        found = super().predict(X)
        return found - found.mean()


class Anything(NetworkClassifier):
    """A planted mistake: it takes NaN for 0."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(
            np.nan_to_num(X) if isinstance(X, np.ndarray) and X.dtype.kind == "f" else X, y, sample_weight
        )


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        (Forgets(epochs=2), "check_estimators_overwrite_params"),
        (Neighbours(epochs=2), "check_methods_subset_invariance"),
        (Anything(epochs=2), "check_estimators_nan_inf"),
    ],
)
def test_the_checks_find_mistakes(estimator, check):
    checks = {}
    for _, made in estimator_checks_generator(estimator):
        made = made if isinstance(made, partial) else partial(made)
        checks.setdefault(made.func.__name__, made)
    with pytest.raises(AssertionError):
        checks[check](estimator)
