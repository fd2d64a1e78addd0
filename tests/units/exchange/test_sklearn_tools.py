"""The estimators in scikit-learn's pipelines, searches, scores and meta-estimators, in other processes, and with tables."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from documents import run
from portnn.sklearn import NetworkClassifier, NetworkRegressor

both = pytest.mark.parametrize("E", [NetworkClassifier, NetworkRegressor])
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3))
Y = (X[:, 0] > 0).astype(int)

SEARCH = """
import os, sys, tempfile
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from portnn.sklearn import NetworkClassifier

seen = tempfile.mkdtemp()

def score(model, X, y, seen=seen):
    Path(seen, str(os.getpid())).touch()
    return model.score(X, y)

X, y = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), NetworkClassifier(epochs=5, random_state=0))
grid = {"networkclassifier__hidden": [(), (8,), (8, 8)], "networkclassifier__learning_rate": [0.0, 0.02]}
scores = {}
for jobs in (2, 1):
    found = GridSearchCV(model, grid, n_jobs=jobs, cv=2, scoring=score).fit(X, y)
    scores[jobs] = found.cv_results_["mean_test_score"].tolist()
    if jobs == 2:
        assert os.getpid() not in map(int, os.listdir(seen))
        print("processes", len(os.listdir(seen)))
print("same", scores[1] == scores[2])
print("best", found.best_params_["networkclassifier__learning_rate"], found.best_score_ > 0.85)
print("distinct", len(set(scores[1])) > 3)
"""


@pytest.mark.slow
def test_a_search_over_layers_and_rates_in_two_processes():
    done = run("-c", SEARCH)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["processes 2", "same True", "best 0.02 True", "distinct True"]


def test_a_search():
    grid = {"hidden": [(4,), (4, 4)], "learning_rate": [0.0, 0.05]}
    found = GridSearchCV(NetworkClassifier(epochs=5, random_state=0), grid, cv=2).fit(X, Y)
    assert found.best_params_["learning_rate"] == 0.05
    assert found.best_estimator_.network_.layers[0].output_size == 4
    assert found.score(X, Y) > 0.85


LOADED = """
import pickle, sys
import numpy as np
x, *answers = np.load("arrays.npy")
for model, answer in zip(pickle.load(open("models", "rb")), answers):
    assert np.array_equal(model.predict(x), answer[:, 0])
    print(type(model[-1]).__name__, model[-1].n_iter_)
"""


@pytest.mark.slow
def test_pipelines_pickled_and_loaded_in_another_process(tmp_path):
    both = NetworkClassifier(epochs=2, random_state=0), NetworkRegressor(epochs=2, random_state=0)
    models = [make_pipeline(StandardScaler(), model).fit(X, Y) for model in both]
    (tmp_path / "models").write_bytes(pickle.dumps(models))
    np.save(tmp_path / "arrays.npy", np.stack([X, *(model.predict(X)[:, None] + 0 * X for model in models)]))
    done = run("-c", LOADED, cwd=tmp_path, warnings="error::RuntimeWarning")
    assert done.stdout == "NetworkClassifier 2\nNetworkRegressor 2\n", done.stderr


def test_scores_and_meta_estimators():
    model = NetworkClassifier((8,), learning_rate=0.05, epochs=10, random_state=0)
    assert cross_val_score(model, X, Y, cv=3, scoring="neg_log_loss").shape == (3,)
    assert cross_val_score(model, X, Y, cv=3, scoring="roc_auc").mean() > 0.9
    vote = VotingClassifier([("net", model), ("bayes", GaussianNB())], voting="soft").fit(X, Y)
    assert vote.score(X, Y) > 0.9
    model = TransformedTargetRegressor(
        NetworkRegressor((8,), epochs=5, random_state=0), func=np.log, inverse_func=np.exp
    )
    assert (model.fit(X, np.exp(X[:, 0])).predict(X) > 0.0).all()


# -- tables ----------------------------------------------------------------------------------------------------------------


@both
def test_tables_with_names(E):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X, columns=["length", "width", "weight"])
    model = E(epochs=2, random_state=0).fit(table, pandas.Series(Y))
    assert model.feature_names_in_.tolist() == ["length", "width", "weight"]
    assert model.n_features_in_ == 3
    plain = E(epochs=2, random_state=0).fit(X, Y)
    assert not hasattr(plain, "feature_names_in_")
    assert np.array_equal(model.predict(table), plain.predict(X))
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Network"):
        model.predict(X)
    with pytest.warns(UserWarning, match="X has feature names, but Network"):
        plain.predict(table)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        model.predict(table[["width", "length", "weight"]])


# -- what is refused -------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite(E, value):
    bad = X.copy()
    bad[5, 1] = value
    what = "NaN" if np.isnan(value) else r"infinity or a value too large for dtype\('float32'\)"
    with pytest.raises(ValueError, match=f"Input X contains {what}"):
        E().fit(bad, Y)
    with pytest.raises(ValueError, match=f"Input X contains {what}"):
        E(epochs=1).fit(X, Y).predict(bad)
    if value == 1e39:
        with pytest.raises(RuntimeError):  # it fits float64; not its square, which the optimizer needs
            E(epochs=1, dtype="float64", learning_rate=1e300, optimizer="sgd").fit(bad, Y)


@both
def test_sparse_data(E):
    scipy = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"Sparse data was passed.*dense data is required"):
        E().fit(scipy.csr_matrix(X), Y)


def test_targets_that_do_not_fit():
    with pytest.raises(ValueError, match="y should be a 1d array"):
        NetworkClassifier().fit(X, np.stack([Y, Y], axis=1))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        NetworkClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        NetworkRegressor().fit(X, np.full(60, np.nan))


def no_layers(n, k):
    return []


def too_wide(n, k):
    from portnn import FCLayer

    return [FCLayer(n, k + 1)]


def other_dtype(n, k):
    from portnn import FCLayer, Network

    return Network([FCLayer(n, k)], dtype="float64")


REFUSED = [
    (dict(hidden="100"), TypeError, r"hidden must be the widths of the hidden layers, such as \(100, 50\)"),
    (dict(hidden=(10, 0)), ValueError, r"hidden\[1\] must be 1 or more"),
    (dict(hidden=2.5), TypeError, "hidden must be a whole number"),
    (dict(activation="rellu"), ValueError, "did you mean 'relu'"),
    (dict(activation="logistic"), ValueError, "sigmoid"),
    (dict(optimizer="lbfgs"), ValueError, "lbfgs"),
    (dict(optimizer=None), TypeError, "optimizer must be one such as Adam"),
    (dict(learning_rate=-1.0), ValueError, "learning_rate"),
    (dict(weight_decay=-1.0), ValueError, "weight_decay"),
    (dict(batch_size=0), ValueError, "batch_size must be 1 or more"),
    (dict(epochs=0), ValueError, "epochs must be 1 or more"),
    (dict(shuffle="yes"), TypeError, "shuffle"),
    (dict(validation_fraction=1.0), ValueError, r"validation_fraction must be in \[0, 1\)"),
    (dict(validation_fraction=0.001, patience=-1), ValueError, "patience must be 0 or more"),
    (dict(random_state="seed"), ValueError, "cannot be used to seed"),
    (dict(random_state=-1), ValueError, "seed must be in"),
    (dict(backend="tpu"), ValueError, "tpu"),
    (dict(dtype="float16"), ValueError, "float16"),
    (dict(verbose=5), ValueError, "verbose"),
    (dict(build="mlp"), TypeError, r"build must be a function \(n_features, n_outputs\)"),
    (dict(build=lambda n, k: None), TypeError, r"build\(3, \d\) must return a Network or a list of layers, got None"),
    (dict(build=no_layers), ValueError, r"build\(3, \d\) returned no layers"),
    (
        dict(build=too_wide),
        ValueError,
        r"must return layers from \(N, 3\) to \(N, \d\), but they answer with \(N, \d\)",
    ),
    (dict(build=lambda n, k: too_wide(n + 1, k)), ValueError, r"returned layers that do not take rows of 3 numbers"),
    (dict(build=other_dtype), ValueError, "a network of dtype 'float64', but the estimator has dtype='float32'"),
    (dict(class_weight=[1, 2]), ValueError, "class_weight must be"),
]


@both
@pytest.mark.parametrize(("options", "error", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_arguments(E, options, error, words):
    with pytest.raises(error, match=words):
        E(**options).fit(X, Y)


@both
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("max_iter", "it is called epochs here"),
        ("hidden_layer_sizes", "it is called hidden here"),
        ("early_stopping", "write validation_fraction=0.1, patience=10"),
        ("learning_rates", "did you mean 'learning_rate'"),
    ],
)
def test_arguments_of_other_libraries(E, argument, words):
    with pytest.raises(TypeError, match=f"{E.__name__} has no argument '{argument}'.*{words}"):
        E(**{argument: 1})


def test_an_optimizer_has_its_own_numbers():
    from portnn import Adam

    for name, value in (("learning_rate", 0.01), ("weight_decay", 0.1)):
        with pytest.raises(ValueError, match=rf"has its own {name}: leave {name}={value} out"):
            NetworkClassifier(optimizer=Adam(), **{name: value}).fit(X, Y)


@both
@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones((60, 2)), "sample_weight must be 1D"),
        (np.ones(59), "inconsistent numbers of samples"),
        (-np.ones(60), "Negative values in data passed to sample_weight"),
        (np.zeros(60), "all samples have weight 0|all weights are 0"),
        (np.full(60, np.nan), "NaN"),
    ],
)
def test_bad_weights(E, weights, words):
    with pytest.raises(ValueError, match=words):
        E().fit(X, Y, sample_weight=weights)


def test_class_weights_of_classes_that_there_are_not():
    with pytest.raises(ValueError, match="are not in class_weight"):
        NetworkClassifier(class_weight={0: 1.0, 2: 3.0}).fit(X, Y)
    with pytest.raises(ValueError, match=r"class_weight\[1\] must be 0 or more"):
        NetworkClassifier(class_weight={1: -1.0}).fit(X, Y)
    with pytest.raises(ValueError, match="leave no sample"):
        NetworkClassifier(class_weight={0: 0.0, 1: 0.0}).fit(X, Y)


def test_bad_partial_fits():
    model = NetworkClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match="y has the label 1, which is not among the classes"):
        model.partial_fit(X, Y, [0, 5])
    assert not hasattr(model, "network_")
    model.partial_fit(X, Y, [0, 1])
    with pytest.raises(ValueError, match="are not those of the first call"):
        model.partial_fit(X, Y, [0, 1, 2])
    with pytest.raises(ValueError, match="X has 2 features, but NetworkClassifier is expecting 3"):
        model.partial_fit(X[:, :2], Y)
    for options in (dict(patience=1), dict(validation_fraction=0.1), dict(class_weight="balanced")):
        with pytest.raises(ValueError, match="partial_fit"):
            NetworkClassifier(**options).partial_fit(X, Y, [0, 1])
    regressor = NetworkRegressor().partial_fit(X, X)
    with pytest.raises(ValueError, match=r"y has 1 columns, but in the first call to partial_fit, or in fit, it had 3"):
        regressor.partial_fit(X, Y)


# -- the extra -------------------------------------------------------------------------------------------------------------


def test_import_portnn_does_not_load_scikit_learn():
    code = "import sys, portnn; print('sklearn' in sys.modules); portnn.sklearn.NetworkClassifier; print('sklearn' in sys.modules)"
    done = run("-c", code, warnings="default")
    assert done.stdout == "False\nTrue\n", done.stderr


def test_without_scikit_learn_the_error_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import portnn.sklearn"
    done = run("-c", code)
    assert done.returncode == 1
    assert "portnn.sklearn needs scikit-learn" in done.stderr.splitlines()[-1]
    assert "python -m pip install scikit-learn" in done.stderr.splitlines()[-1]
