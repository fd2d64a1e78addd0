"""What the estimators of ``portnn.sklearn`` learn and predict; scikit-learn's own checks are in test_sklearn_checks.py."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import article_layers
from portnn import (
    ActivationLayer,
    Adam,
    BatchNormLayer,
    CosineDecay,
    DropoutLayer,
    FCLayer,
    Network,
    ReshapeLayer,
    relu,
)
from portnn.sklearn import NetworkClassifier, NetworkRegressor

BOTH = [NetworkClassifier, NetworkRegressor]
both = pytest.mark.parametrize("E", BOTH)
RNG = np.random.default_rng(0)
X, NAMES = RNG.standard_normal((90, 4)), np.array(["ash", "birch", "elm"])
CLASSES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
LABELS, NUMBERS = NAMES[CLASSES], 50.0 + 10.0 * np.sin(2 * X[:, 0]) + X[:, 1]
PAIRS = np.stack([NUMBERS, -1000.0 * X[:, 2]], axis=1)


def targets(E):
    return LABELS if E is NetworkClassifier else NUMBERS


def fitted(E, *, sample_weight=None, **options):
    return E(**dict(epochs=3, random_state=1) | options).fit(X, targets(E), sample_weight)


def parameters(model):
    return {path: np.array(array) for path, array in model.network_.parameters.items()}


def same(a, b):
    """Whether two estimators have the same parameters, bit for bit."""
    a, b = parameters(a), parameters(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# -- learning --------------------------------------------------------------------------------------------------------------


def test_iris():
    data = load_iris()
    model = make_pipeline(StandardScaler(), NetworkClassifier((16,), learning_rate=0.01, epochs=30, random_state=0))
    assert model.fit(data.data, data.target_names[data.target]).score(data.data, data.target_names[data.target]) > 0.95


def test_diabetes():
    """Numbers from 25 to 346, learned without a scale of one's own."""
    X, y = load_diabetes(return_X_y=True)
    model = make_pipeline(StandardScaler(), NetworkRegressor((16,), learning_rate=0.005, epochs=40, random_state=0))
    assert model.fit(X, y).score(X, y) > 0.5


def test_string_labels_and_probabilities():
    model = fitted(NetworkClassifier, epochs=40, learning_rate=0.01)
    assert model.classes_.tolist() == ["ash", "birch", "elm"]
    p = model.predict_proba(X)
    assert p.shape == (90, 3)
    assert p.dtype == np.float64
    assert np.abs(p.sum(axis=1) - 1.0).max() < 1e-12
    assert np.array_equal(model.predict(X), NAMES[p.argmax(axis=1)])
    assert model.score(X, LABELS) > 0.9
    logits = model.network_.predict(X).astype(np.float64)
    assert np.allclose(np.log(p) - np.log(p[:, :1]), logits - logits[:, :1], atol=1e-5)


@pytest.mark.parametrize("labels", [[3.0, 7.0], [-1, 1], [False, True], ["b", "a"], np.array(["y", "x"], object)])
def test_labels_of_any_kind(labels):
    y = np.asarray(labels)[(X[:, 0] > 0).astype(int)]
    model = NetworkClassifier((8,), learning_rate=0.05, epochs=20, random_state=0).fit(X, y)
    found = model.predict(X)
    assert found.dtype == y.dtype
    assert model.classes_.tolist() == sorted(labels)
    assert (found == y).mean() > 0.95


def test_one_class_is_predicted_always():
    model = NetworkClassifier((3,), epochs=2).fit(X, ["only"] * 90)
    assert set(model.predict(X)) == {"only"}
    assert np.array_equal(model.predict_proba(X), np.ones((90, 1)))


def test_several_outputs_of_different_scale():
    model = NetworkRegressor((32,), learning_rate=0.02, epochs=150, random_state=0).fit(X, PAIRS)
    found = model.predict(X)
    assert found.shape == (90, 2)
    assert (np.sqrt(((found - PAIRS) ** 2).mean(axis=0)) < 0.3 * PAIRS.std(axis=0)).all()
    assert np.allclose(model.y_mean_, PAIRS.mean(axis=0))
    assert np.allclose(model.y_scale_, PAIRS.std(axis=0))
    assert NetworkRegressor(epochs=1).fit(X, PAIRS[:, :1]).predict(X).shape == (90, 1)
    assert NetworkRegressor(epochs=1).fit(X, PAIRS[:, 0]).predict(X).shape == (90,)


@pytest.mark.parametrize("unit", [1e-300, 1e-20, 1.0, 1e20, 1e300])
def test_the_unit_of_y_changes_nothing(unit):
    unit = 2.0 ** round(np.log2(unit))  # without rounding
    whole = fitted(NetworkRegressor).predict(X)
    assert np.allclose(NetworkRegressor(epochs=3, random_state=1).fit(X, NUMBERS * unit).predict(X) / unit, whole, 1e-6)


def test_equal_targets_are_learned_at_once():
    assert np.abs(NetworkRegressor(epochs=30, random_state=0).fit(X, np.full(90, 1e6)).predict(X) - 1e6).max() < 2.0


def test_float64_and_float32():
    """In float64 two numbers that float32 takes for one are told apart."""
    near = np.array([[1.0], [1.0 + 1e-12]])
    for dtype, distinct in (("float32", 1), ("float64", 2)):
        model = NetworkRegressor((5,), dtype=dtype, epochs=1, random_state=0).fit(X[:, :1], NUMBERS)
        assert model.network_.dtype == dtype
        assert len(np.unique(model.predict(near))) == distinct


def test_a_whole_random_state_is_the_seed_of_a_network():
    """What the estimator does, done by hand."""
    net = Network([FCLayer(4, 7, initializer="he_uniform"), ActivationLayer("relu"), FCLayer(7, 3)], seed=5)
    net.use("softmax_cross_entropy", optimizer=Adam(0.01), metrics=["accuracy"])
    net.fit(X, CLASSES, epochs=3, batch_size=16, shuffle=True, verbose=0)
    model = NetworkClassifier((7,), learning_rate=0.01, epochs=3, batch_size=16, random_state=5).fit(X, LABELS)
    assert all(np.array_equal(net.parameters[path], array) for path, array in parameters(model).items())
    assert model.history_ == net.history
    assert model.n_iter_ == 3


@both
def test_random_states(E):
    assert same(fitted(E), fitted(E))
    assert not same(fitted(E), fitted(E, random_state=2))
    state = np.random.RandomState(3)
    first, second = fitted(E, random_state=state), fitted(E, random_state=state)
    assert not same(first, second)
    assert same(first, fitted(E, random_state=np.random.RandomState(3)))
    assert not same(fitted(E, random_state=None), fitted(E, random_state=None))


@both
def test_a_batch_larger_than_the_samples(E):
    assert same(fitted(E, batch_size=90), fitted(E, batch_size=10**6))


@both
def test_hidden_layers(E):
    widths = lambda model: [layer.output_size for layer in model.network_.layers if isinstance(layer, FCLayer)]  # noqa: E731
    k = 3 if E is NetworkClassifier else 1
    assert widths(fitted(E)) == [100, k]
    assert widths(fitted(E, hidden=())) == [k]
    assert widths(fitted(E, hidden=7)) == [7, k]
    assert widths(fitted(E, hidden=np.array([5, 6]))) == [5, 6, k]
    assert same(fitted(E, activation=relu), fitted(E, activation="relu"))


# -- weights ---------------------------------------------------------------------------------------------------------------


@both
def test_sample_weights(E):
    """0 leaves a sample out, bit for bit; in one batch, 2 counts it twice."""
    counts = RNG.integers(0, 3, 90)
    whole = fitted(E, batch_size=1000, dtype="float64", sample_weight=counts, epochs=10)
    repeated = E(batch_size=1000, dtype="float64", epochs=10, random_state=1)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(targets(E), counts))
    for path, array in parameters(repeated).items():
        assert np.allclose(parameters(whole)[path], array, rtol=1e-9, atol=1e-12)
    here = counts > 0
    left = E(epochs=3, random_state=1).fit(X[here], targets(E)[here])
    assert same(fitted(E, sample_weight=here.astype(float)), left)
    assert not same(fitted(E, sample_weight=counts), fitted(E))
    assert same(fitted(E, sample_weight=2.0), fitted(E, sample_weight=np.full(90, 2.0)))


def test_labels_of_weight_0_stay_classes():
    weights = (LABELS != "elm").astype(float)
    model = NetworkClassifier(epochs=20, learning_rate=0.01, random_state=1).fit(X, LABELS, weights)
    assert model.classes_.tolist() == ["ash", "birch", "elm"]
    assert "elm" not in model.predict(X)


def test_class_weights():
    counts = {label: int((label == LABELS).sum()) for label in NAMES}
    balanced = {label: 90 / (3 * count) for label, count in counts.items()}
    by_hand = np.array([balanced[label] for label in LABELS])
    for options in (dict(class_weight="balanced"), dict(class_weight=balanced), dict(sample_weight=by_hand)):
        assert same(fitted(NetworkClassifier, **options), fitted(NetworkClassifier, class_weight="balanced"))
    twice = fitted(NetworkClassifier, class_weight=balanced, sample_weight=by_hand)
    assert same(twice, fitted(NetworkClassifier, sample_weight=by_hand**2))
    without = fitted(NetworkClassifier, class_weight={"ash": 0.0})
    assert same(without, fitted(NetworkClassifier, sample_weight=(LABELS != "ash").astype(float)))


def test_balanced_weights_help_a_rare_class():
    X, y = make_classification(600, weights=[0.95], flip_y=0.0, class_sep=0.5, random_state=0)
    share = lambda **options: (  # noqa: E731
        NetworkClassifier((8,), epochs=8, random_state=0, **options).fit(X, y).predict(X)[y == 1].mean()
    )
    assert share(class_weight="balanced") > share() + 0.2


# -- validation, early stopping --------------------------------------------------------------------------------------------


@both
def test_early_stopping(E):
    """Noise is learned by heart: the error of the samples held out rises, and training stops long before its end."""
    rng = np.random.default_rng(1)
    y = rng.permutation(targets(E))
    model = E((100,), validation_fraction=0.3, patience=4, epochs=300, learning_rate=0.02, random_state=0).fit(X, y)
    errors = model.history_["val_error"]
    assert 4 < model.n_iter_ == len(errors) < 100
    assert np.argmin(errors) == len(errors) - 5
    best = E(**model.get_params() | {"patience": None, "epochs": int(np.argmin(errors)) + 1}).fit(X, y)
    assert same(model, best), "the weights are those of the best epoch"
    assert len(E(validation_fraction=0.3, epochs=7, random_state=0).fit(X, y).history_["val_error"]) == 7


@both
def test_patience_without_validation(E):
    model = fitted(E, patience=2, learning_rate=0.0, shuffle=False, epochs=50)
    assert model.n_iter_ == 3
    assert "val_error" not in model.history_
    assert fitted(E, patience=2, epochs=5).n_iter_ == 5


def test_each_class_has_its_share_of_the_samples_held_out(monkeypatch):
    seen, fit = {}, Network.fit

    def noted(net, x, y, **options):
        seen.update(y=y, held=options["validation_data"][1])
        return fit(net, x, y, **options)

    monkeypatch.setattr(Network, "fit", noted)
    y = np.repeat([0, 1], [80, 10])
    for shuffle, held in ((True, [16, 2]), (False, [8, 10])):
        NetworkClassifier(epochs=1, validation_fraction=0.2, shuffle=shuffle, random_state=0).fit(X, y)
        assert np.bincount(seen["held"]).tolist() == held
        assert len(seen["y"]) == 72
    NetworkClassifier(epochs=1, validation_fraction=0.2, random_state=0).fit(X, ["a", *"b" * 89])
    assert len(seen["held"]) == 18


# -- partial_fit -----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("weights", [None, np.arange(90.0)])
def test_partial_fit_by_epochs_is_fit(E, weights):
    model = E(random_state=1)
    more = {"classes": NAMES} if E is NetworkClassifier else {}
    for epoch in (1, 2, 3):
        assert model.partial_fit(X, targets(E), sample_weight=weights, **more) is model
        assert model.n_iter_ == epoch == len(model.history_["error"])
    whole = fitted(E, sample_weight=weights)
    assert same(model, whole)
    assert model.history_ == whole.history_
    assert np.array_equal(model.predict(X), whole.predict(X))
    assert same(model.partial_fit(X, targets(E), sample_weight=weights), fitted(E, sample_weight=weights, epochs=4))
    assert same(whole.partial_fit(X, targets(E), sample_weight=weights), model), "after fit, too"


def test_partial_fit_in_parts():
    model = NetworkClassifier((16,), learning_rate=0.01, random_state=0)
    for _ in range(30):
        for start in range(0, 90, 30):
            some = slice(start, start + 30)
            model.partial_fit(X[some], LABELS[some], classes=NAMES)
    assert model.score(X, LABELS) > 0.85
    only = NetworkClassifier(random_state=0).partial_fit(X[:5], ["birch"] * 5, NAMES)
    assert only.predict_proba(X).shape == (90, 3)


def test_partial_fit_goes_on_after_early_stopping():
    model = fitted(NetworkRegressor, patience=1, learning_rate=0.0, epochs=50).set_params(patience=None)
    before = model.n_iter_
    assert model.partial_fit(X, NUMBERS).n_iter_ == before + 1


def test_partial_fit_keeps_the_scale_of_the_first_call():
    model = NetworkRegressor(random_state=0).partial_fit(X, NUMBERS)
    mean, scale = model.y_mean_, model.y_scale_
    model.partial_fit(X[:3], NUMBERS[:3] + 1000.0)
    assert (model.y_mean_, model.y_scale_) == (mean, scale)


# -- build, optimizers -----------------------------------------------------------------------------------------------------


def residual(n_features, n_outputs):
    return [
        ReshapeLayer((1, n_features)),
        FCLayer(n_features, 8),
        ActivationLayer("tanh"),
        ReshapeLayer((8,)),
        FCLayer(8, n_outputs),
    ]


def with_norm(n_features, n_outputs):
    return [FCLayer(n_features, 8), BatchNormLayer(), ActivationLayer("gelu"), DropoutLayer(0.2), FCLayer(8, n_outputs)]


@both
@pytest.mark.parametrize("build", [residual, with_norm, lambda n, k: Network(with_norm(n, k), seed=1)])
def test_any_network(E, build):
    """89 samples in batches of 8 leave one alone, which batch normalization cannot be trained with."""
    model = E(build=build, batch_size=8, epochs=30, learning_rate=0.02, random_state=1).fit(X[:89], targets(E)[:89])
    assert model.score(X, targets(E)) > 0.3
    assert model.network_.seed == 1
    whole = model.predict(X)
    assert np.array_equal(np.concatenate([model.predict(X[i : i + 1]) for i in range(90)]), whole)


@both
def test_a_network_that_is_given_is_not_trained(E):
    given = Network([FCLayer(4, 3 if E is NetworkClassifier else 1)], seed=2)
    before = given.parameters["0.weights"].copy()
    model = fitted(E, build=lambda n, k: given)
    assert np.array_equal(given.parameters["0.weights"], before)
    assert given.loss is None
    assert not np.array_equal(parameters(model)["0.weights"], before)
    assert same(model, fitted(E, build=lambda n, k: given)), "each fit begins anew"


@both
def test_optimizers(E):
    assert same(fitted(E, optimizer=Adam(0.01)), fitted(E, learning_rate=0.01))
    assert same(fitted(E, optimizer=Adam(0.01, weight_decay=0.1)), fitted(E, learning_rate=0.01, weight_decay=0.1))
    assert not same(fitted(E, optimizer="sgd"), fitted(E))
    schedule = CosineDecay(0.01, 30)
    assert same(fitted(E, learning_rate=schedule), fitted(E, optimizer=Adam(schedule)))
    adam = Adam(0.01)
    model = E(optimizer=adam, epochs=1)
    assert model.fit(X, targets(E)).optimizer is adam


@both
def test_clones_pickles_and_refits(E):
    model = fitted(E, hidden=(9, 5), activation="tanh")
    again = clone(model)
    assert not hasattr(again, "network_")
    assert again.get_params() == model.get_params()
    assert same(again.fit(X, targets(E)), model)
    loaded = pickle.loads(pickle.dumps(model))
    assert same(loaded, model)
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert same(model.fit(X[:, :2], targets(E)).fit(X, targets(E)), loaded), "a second fit begins anew"
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


@both
def test_a_fit_that_fails_leaves_the_one_before(E):
    model, y = fitted(E), targets(E)
    before = model.predict(X)
    with pytest.raises(ValueError, match="optimizer"):
        model.set_params(optimizer="adamm").fit(X, y[::-1] if E is NetworkClassifier else 5.0 * y)
    assert np.array_equal(model.predict(X), before)


def test_verbose_prints_a_line_for_each_epoch(capsys):
    for verbose in (1, True):
        fitted(NetworkClassifier, verbose=verbose)
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1/3", "2/3", "3/3"]
    fitted(NetworkClassifier)
    assert capsys.readouterr().out == ""


@both
def test_layers_as_in_the_article(E):
    """They see one sample at a time, and update their weights themselves."""
    options = dict(batch_size=1, optimizer="sgd", learning_rate=0.02, epochs=10)
    model = fitted(E, build=lambda n, k: [article_layers.FCLayer(n, k)], **options)
    line = fitted(E, hidden=(), **options)
    assert model.score(X, targets(E)) == pytest.approx(line.score(X, targets(E)), abs=0.1)
    whole = model.predict(X)
    assert np.array_equal(np.concatenate([model.predict(X[i : i + 1]) for i in range(90)]), whole)


def test_a_number_held_out_that_the_dtype_cannot_hold():
    y = np.append(NUMBERS[:-1], 1e300)
    with pytest.raises(
        ValueError, match=r"too large for float32: 1e\+300, while the mean of the numbers that are learned"
    ):
        NetworkRegressor(validation_fraction=0.1, shuffle=False).fit(X, y)


@both
def test_frozen_layers_stay(E):
    def build(n, k):
        first = FCLayer(n, 5)
        first.trainable = False
        return [first, ActivationLayer("tanh"), FCLayer(5, k)]

    before, after = (fitted(E, build=build, epochs=epochs) for epochs in (1, 3))
    assert np.array_equal(parameters(before)["0.weights"], parameters(after)["0.weights"])
    assert not np.array_equal(parameters(before)["2.weights"], parameters(after)["2.weights"])
