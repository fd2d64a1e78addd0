"""The estimators of scikit-learn on the GPU: they learn what they learn on the CPU, and take and return NumPy arrays."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from portnn import ActivationLayer, BatchNormLayer, FCLayer
from portnn.sklearn import NetworkClassifier, NetworkRegressor

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 4))
Y = {NetworkClassifier: np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)], NetworkRegressor: 100.0 + X[:, :2]}


def with_norm(n_features, n_outputs):
    return [FCLayer(n_features, 6), BatchNormLayer(), ActivationLayer("tanh"), FCLayer(6, n_outputs)]


@pytest.mark.parametrize("E", Y)
@pytest.mark.parametrize("build", [None, with_norm])
def test_as_on_the_cpu(E, build, backend):
    options = dict(hidden=(6,), build=build, epochs=3, dtype="float64", validation_fraction=0.2, random_state=1)
    gpu, cpu = (E(backend=name, **options).fit(X, Y[E], sample_weight=1.0 + X[:, 0] ** 2) for name in ("gpu", "cpu"))
    assert gpu.network_.backend is backend
    for name, values in cpu.history_.items():
        assert np.allclose(gpu.history_[name], values, rtol=1e-9), name
    answers = [model.predict_proba(X) if E is NetworkClassifier else model.predict(X) for model in (gpu, cpu)]
    assert type(answers[0]) is np.ndarray
    assert np.allclose(*answers, rtol=1e-9)


@pytest.mark.parametrize("E", Y)
def test_rows_pipelines_pickles_and_clones(E, backend):
    model = make_pipeline(StandardScaler(), E((6,), epochs=1, backend="gpu", random_state=1)).fit(X, Y[E])
    whole = model.predict(X)
    assert np.array_equal(np.concatenate([model.predict(X[:3]), model.predict(X[3:])]), whole)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded[-1].network_.backend is backend
    assert np.array_equal(loaded.predict(X), whole)
    again = clone(model).fit(X, Y[E])
    for path, array in model[-1].network_.parameters.items():
        assert np.array_equal(backend.to_numpy(again[-1].network_.parameters[path]), backend.to_numpy(array))
    model[-1].network_.to("cpu")  # so that it can be loaded where there is no GPU
    moved = pickle.loads(pickle.dumps(model))
    assert moved[-1].network_.backend.name == "cpu"
    assert (moved.predict(X) == whole).all() if E is NetworkClassifier else np.allclose(moved.predict(X), whole)
    first = {"classes": model[-1].classes_} if E is NetworkClassifier else {}
    assert E((6,), backend="gpu").partial_fit(X, Y[E], **first).n_iter_ == 1
