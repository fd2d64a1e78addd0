"""The page for those who come from scikit-learn: both columns of its table run, and the same training gives the same weights."""

import inspect
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn import metrics, preprocessing
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import portnn
from documents import ROOT
from foreign_rows import tables
from portnn import SGD, ActivationLayer, FCLayer, Network, SequentialLayer
from portnn.sklearn import NetworkClassifier, NetworkRegressor

PAGE = ROOT / "docs" / "howto" / "scikit_learn.md"
TABLES = tables("scikit_learn.md")
ROWS, OTHERS = (TABLES.get(heading, []) for heading in ("What stands for what", "Metrics, losses, data"))
pytestmark = [
    pytest.mark.skipif(not PAGE.exists(), reason="a source distribution may lack the documentation"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
FLOWERS = load_iris()
X = StandardScaler().fit_transform(FLOWERS.data)
Y, WIDTHS = FLOWERS.target_names[FLOWERS.target], FLOWERS.data[:, 3]


@pytest.fixture(scope="module")
def names():
    mlp = MLPClassifier(max_iter=10, random_state=0).fit(X, Y)
    net = NetworkClassifier(epochs=10, random_state=0).fit(X, Y)
    known = [
        MLPClassifier,
        MLPRegressor,
        NetworkClassifier,
        NetworkRegressor,
        SGD,
        StandardScaler,
        TransformedTargetRegressor,
    ]
    return {thing.__name__: thing for thing in known} | dict(mlp=mlp, net=net, x=X, y=Y, flowers=FLOWERS)


def test_the_tables_are_read():
    assert {heading: len(found) for heading, found in TABLES.items()} == {
        "What stands for what": 19,
        "Metrics, losses, data": 15,
    }


def shown(value, **options):
    """The shape of what a side gives, or how well a fitted estimator does."""
    if not isinstance(value, BaseEstimator):
        return np.shape(value)[1:] if isinstance(value, list) else np.shape(value)
    if hasattr(value, "classes_"):  # by partial_fit
        return value.classes_.tolist()
    y = WIDTHS if is_regressor(value) else Y
    return (
        value.set_params(**{name: new for name, new in options.items() if name in value.get_params()})
        .fit(X, y)
        .score(X, y)
    )


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=[ours for _, ours in ROWS])
def test_both_sides_run(theirs, ours, names):
    here, there = (shown(eval(code, dict(names)), random_state=0) for code in (ours, theirs))
    if isinstance(here, float):
        assert min(here, there) > 0.7
        assert here == pytest.approx(there, abs=0.25)
    else:
        assert here == there


@pytest.mark.parametrize(("theirs", "ours"), OTHERS, ids=[theirs for theirs, _ in OTHERS])
def test_both_sides_give_the_same_numbers(theirs, ours):
    rng = np.random.default_rng(1)
    names = dict(labels=rng.integers(0, 4, 60), Y=rng.random((60, 4)), T=rng.random((60, 4)), w=rng.random(60))
    names |= dict(P=names["Y"].argmax(axis=1), x=FLOWERS.data, y=Y, np=np)
    expected = eval(theirs, names | {"metrics": metrics, "preprocessing": preprocessing, "softmax": portnn.softmax})
    found = eval(ours, names | {name: getattr(portnn, name) for name in portnn.__all__})
    if isinstance(found, (str, portnn.TopK)):
        classes = "(T" not in theirs
        net = Network([SequentialLayer()], dtype="float64")
        net.use("softmax_cross_entropy" if classes else "mse", metrics=[found])
        _, found = net.evaluate(names["Y"], names["labels" if classes else "T"]).values()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("outputs", [3, 2])
def test_the_same_training_gives_the_same_weights(outputs):
    """Whole batches, from the same weights, by momentum as Nesterov has it: the rows of the table, in figures."""
    options = dict(solver="sgd", activation="logistic", learning_rate_init=0.1, batch_size=150, shuffle=False)
    options |= dict(alpha=0.0, max_iter=30, random_state=0, n_iter_no_change=1000)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((150, outputs)) if outputs == 2 else FLOWERS.target
    if outputs == 2:  # the error of a regressor there is half of that here, and y is standardized here
        y = StandardScaler().fit_transform(y)
    theirs = (MLPRegressor if outputs == 2 else MLPClassifier)(hidden_layer_sizes=(6,), **options)
    start = type(theirs)(hidden_layer_sizes=(6,), **options | {"learning_rate_init": 1e-300, "max_iter": 1}).fit(X, y)
    theirs.fit(X, y)

    def build(n_features, n_outputs):
        net = Network([FCLayer(n_features, 6), ActivationLayer("sigmoid"), FCLayer(6, n_outputs)], dtype="float64")
        for layer, W, B in zip((net.layers[0], net.layers[2]), start.coefs_, start.intercepts_, strict=True):
            layer.weights, layer.bias = W, B[None]
        return net

    # MLPRegressor sums the outputs' errors and halves them; portnn's mse is their mean: for two outputs these are one.
    optimizer = SGD(0.1, momentum=0.9, nesterov=True)
    ours = NetworkRegressor if outputs == 2 else NetworkClassifier
    model = ours(build=build, optimizer=optimizer, batch_size=150, shuffle=False, epochs=30, dtype="float64").fit(X, y)
    for layer, W, B in zip(
        (model.network_.layers[0], model.network_.layers[2]), theirs.coefs_, theirs.intercepts_, strict=True
    ):
        assert np.abs(layer.weights - W).max() < 1e-12
        assert np.abs(layer.bias[0] - B).max() < 1e-12
    assert np.abs(theirs.coefs_[0] - start.coefs_[0]).max() > 0.1
    if outputs == 3:
        assert np.abs(model.predict_proba(X) - theirs.predict_proba(X)).max() < 1e-12
        assert model.history_["error"] == pytest.approx(theirs.loss_curve_, rel=1e-12)


API = (ROOT / "docs" / "api.md").read_text() if PAGE.exists() else ""
CLASSES = {"NetworkClassifier": NetworkClassifier, "NetworkRegressor": NetworkRegressor}


def signature(function):
    taken = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in taken])).replace("'", '"')


@pytest.mark.parametrize("name", CLASSES)
def test_the_names_are_as_documented(name):
    assert re.findall(rf"^\| `sklearn\.{name}` \| `(\(.*?\))` \|", API, re.MULTILINE) == [signature(CLASSES[name])]
    methods = dict(re.findall(rf"^\| `{name}\.(\w+)` \| `(\(.*?\))` \|", API, re.MULTILINE))
    assert methods == {method: signature(getattr(CLASSES[name], method)) for method in methods}
    assert "partial_fit" in methods
    assert all(inspect.getdoc(getattr(CLASSES[name], method)) for method in methods)
