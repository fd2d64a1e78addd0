"""Predictions of the estimators are the same, bit for bit, whatever rows come together."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from documents import run
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, MaxPoolLayer, ReshapeLayer
from portnn.estimators import blocks
from portnn.sklearn import NetworkClassifier, NetworkRegressor


def differences(predict, X, rng):
    """How many of several groupings of the rows of X change a prediction."""
    whole, n = predict(X), len(X)
    order, some = rng.permutation(n), rng.integers(0, n, int(rng.integers(1, 150)))
    shuffled = np.empty_like(whole)
    shuffled[order] = predict(X[order])
    parts = np.split(X, np.unique(rng.integers(1, n, 5))) if n > 1 else [X]
    found = [
        np.concatenate([predict(row[None]) for row in X]),
        shuffled,
        np.concatenate([predict(part) for part in parts]),
        predict(np.asfortranarray(X)),
        predict(X.repeat(2, axis=1)[:, ::2]),
    ]
    return sum(not np.array_equal(each, whole) for each in found) + (not np.array_equal(predict(X[some]), whole[some]))


def drawn(seed):
    """A predict function of a random network, and rows for it."""
    rng = np.random.default_rng(seed)
    n, features, hidden, k = (int(rng.integers(low, high)) for low, high in ((1, 200), (1, 70), (1, 120), (1, 12)))
    options = dict(epochs=1, random_state=seed, dtype=("float32", "float64")[seed % 2])
    options["activation"] = ("relu", "tanh", "gelu", "sigmoid", "silu", "elu")[seed % 6]
    X = rng.standard_normal((n, features))
    if seed % 3:
        return (
            NetworkRegressor((hidden, hidden // 2 + 1), **options).fit(X, rng.standard_normal((n, k))).predict,
            X,
            rng,
        )
    return NetworkClassifier((hidden,), **options).fit(X, rng.integers(0, k, n)).predict_proba, X, rng


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 150))])
def test_any_grouping(seed):
    assert differences(*drawn(seed)) == 0


def images(n_features, n_outputs):
    first = [ReshapeLayer((8, 8, 1)), ConvLayer((8, 8, 1), (3, 3), 5), ActivationLayer("relu"), MaxPoolLayer(2)]
    return [*first, FlattenLayer(), FCLayer(45, n_outputs)]


def test_any_grouping_of_images():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((150, 64)), rng.integers(0, 3, 150)
    model = NetworkClassifier(build=images, epochs=1, random_state=0).fit(X, y)
    assert differences(model.predict_proba, X, rng) == 0


def test_the_groupings_find_rows_that_are_not_in_blocks(monkeypatch):
    """The network's own predict rounds differently for one row and for many."""
    monkeypatch.setattr(blocks, "outputs", lambda network, X, finish: finish(network.predict(X)))
    found = [differences(*drawn(seed)) for seed in range(12)]
    assert sum(map(bool, found)) > 3


def test_a_row_does_not_see_its_block():
    """Neither what is predicted beside it nor what fills its block up; also rows whose outputs are not finite."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((70, 5)).astype("float32")
    model = NetworkRegressor((9,), epochs=1, random_state=0).fit(X, X[:, 0])
    whole = model.predict(X)
    X[[0, 69]] = 3e38
    assert np.array_equal(model.predict(X)[1:69], whole[1:69])
    seen = []
    network = model.network_
    blocks.outputs(network, X, lambda Y: (seen.append(Y.shape), Y)[1])
    assert seen == [(blocks.BLOCK, 1)] * 2


def wide(n_features, n_outputs):
    """A width that no kernel of a matrix product has as a multiple."""
    return [FCLayer(n_features, 1025), ActivationLayer("selu"), FCLayer(1025, n_outputs)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [wide, images])
def test_any_grouping_of_other_networks(build, dtype):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((130, 64))
    model = NetworkRegressor(build=build, dtype=dtype, epochs=1, random_state=0).fit(X, X[:, :2])
    assert differences(model.predict, X, rng) == 0


SLOW = pytest.mark.slow


@pytest.mark.parametrize("threads", [2, pytest.param(3, marks=SLOW)])
@pytest.mark.parametrize(
    "processor", ["Haswell", *(pytest.param(p, marks=SLOW) for p in ("Zen", "SkylakeX", "Nehalem"))]
)
def test_any_grouping_on_another_processor(processor, threads):
    """OpenBLAS multiplies as it does there, if the one at hand can; Haswell has most rows of a block computed apart."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {name: str(threads) for name in names} | {"OPENBLAS_CORETYPE": processor}
    done = run(
        "-c",
        f"import os; os.environ.update({settings})\n"
        f"import sys; sys.path.append({str(__file__.rpartition('/')[0])!r})\n"
        f"sys.path.append({str(__file__.rpartition('/tests/')[0] + '/tests/support')!r})\n"
        "from test_sklearn_rows import differences, drawn\n"
        "print(sum(differences(*drawn(seed)) for seed in range(12)))",
    )
    assert done.stdout == "0\n", done.stderr
