"""What goes wrong with an estimator of ``portnn.sklearn``: it is said, and leaves the estimator as it was."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.model_selection import learning_curve
from sklearn.utils import estimator_checks

from portnn import ActivationLayer, Adam, BatchNormLayer, FCLayer, relu
from portnn.sklearn import NetworkClassifier, NetworkRegressor
from portnn.training import DivergedError

both = pytest.mark.parametrize("E", [NetworkClassifier, NetworkRegressor])
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
Y = (X[:, 0] > 0).astype(int)
NAMES = np.array(["no", "yes"])[Y]
QUICK = dict(epochs=2, random_state=0)


def parameters(model):
    return {path: np.array(array) for path, array in model.network_.parameters.items()}


def same(a, b):
    """Whether two estimators have the same parameters, bit for bit."""
    a, b = parameters(a), parameters(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# -- an estimator is what it was -------------------------------------------------------------------------------------------


def interrupted(n_features, n_outputs):
    class Interrupted(FCLayer):
        """Ctrl-C in the second step of training."""

        def forward(self, X, *, training=False):
            if training and self.step == 1:
                raise KeyboardInterrupt
            return super().forward(X)

    return [Interrupted(n_features, n_outputs)]


WRONG = [
    (dict(optimizer="adamm"), ValueError),
    (dict(hidden=(0,)), ValueError),
    (dict(epochs=0), ValueError),
    (dict(build=lambda n, k: [FCLayer(n, k + 1)]), ValueError),
    (dict(optimizer="sgd", learning_rate=1e30), DivergedError),
    (dict(build=interrupted), KeyboardInterrupt),
]


@both
@pytest.mark.parametrize(("options", "error"), WRONG, ids=lambda value: str(value)[:30])
def test_a_fit_of_other_features_that_fails_leaves_the_one_before(E, options, error):
    """Their number and their names, too."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    model = E(**QUICK).fit(X, Y)
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    answers = model.predict(X)
    for other in (X[:, :2], pandas.DataFrame(X, columns=list("abcd"))):
        with pytest.raises(error):
            model.set_params(**options).fit(other, Y)
        assert {name: value for name, value in vars(model).items() if name.endswith("_")} == before
        assert np.array_equal(model.predict(X), answers)
    new = E(**options)
    with pytest.raises(error):
        new.fit(X, Y)
    assert not [name for name in vars(new) if name.endswith("_")]


@both
def test_a_first_partial_fit_that_fails_is_not_one(E):
    model = E(batch_size=0, random_state=0)
    classes = {"classes": [0, 1]} if E is NetworkClassifier else {}
    with pytest.raises(ValueError, match="batch_size"):
        model.partial_fit(X[:, :3], Y, **classes)
    assert not hasattr(model, "n_features_in_")
    model.set_params(batch_size=32).partial_fit(X, Y, **classes)
    again = E(random_state=0).partial_fit(X, Y, **classes)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X * np.nan, Y)
    assert same(model, again)
    assert model.n_iter_ == 1


@both
def test_layers_that_are_given_are_not_trained(E):
    """A list of layers is copied, as a network is: so ``fit`` can be called again, as searches do."""
    k = 2 if E is NetworkClassifier else 1
    layers = [FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, k)]
    model = E(build=lambda n, k: layers, **QUICK).fit(X, Y)
    answers = model.predict(X)
    other = E(build=lambda n, k: layers, **QUICK).fit(X, Y)
    assert same(model, other)
    assert not layers[0].parameters
    other.partial_fit(X, Y)
    assert np.array_equal(model.predict(X), answers)


@both
def test_training_that_diverges(E):
    """The advice is in the estimators' own words, and an estimator that was fitted is not changed, nor its network."""
    model = E(hidden=(), optimizer="sgd", random_state=0).fit(X, Y)
    before = parameters(model)
    words = r"the error became (nan|inf) in epoch 1.*: the weights diverged\. Choose a smaller learning_rate, or scale X, by"
    with pytest.raises(DivergedError, match=words) as caught:
        model.partial_fit(1e25 * X, Y)
    assert "check_finite" not in str(caught.value)
    assert "error became" in caught.value.__cause__.fault
    assert all(np.array_equal(before[path], array) for path, array in parameters(model).items())
    assert model.n_iter_ == 100


# -- partial_fit, where all the data are needed ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("options", [dict(patience=2), dict(validation_fraction=0.1), dict(class_weight="balanced")])
def test_there_is_no_partial_fit_where_it_would_need_all_the_data(E, options):
    """For ``hasattr`` and so for scikit-learn's checks and searches; the error says why."""
    model = E(**options, **QUICK)
    assert not hasattr(model, "partial_fit")
    for kind in (AttributeError, ValueError):
        with pytest.raises(kind, match=f"partial_fit.*{next(iter(options))}="):
            model.partial_fit(X, Y, classes=[0, 1])
    if "class_weight" not in options or E is NetworkClassifier:
        assert not hasattr(model.fit(X, Y), "partial_fit")
        with pytest.raises(ValueError, match="An estimator must support the partial_fit interface"):
            learning_curve(model, X, Y, exploit_incremental_learning=True)
        estimator_checks.check_n_features_in_after_fitting(E.__name__, model)
        estimator_checks.check_fit_score_takes_y(E.__name__, model)
    assert hasattr(E(), "partial_fit")
    assert "Trains for one more epoch" in E().partial_fit.__doc__


# -- weights ---------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("unit", [2.0**-1000, 2.0**-120, 2.0**127, 2.0**1000])
def test_weights_of_any_unit(E, unit):
    weights = 1.0 + RNG.random(60)
    assert same(E(**QUICK).fit(X, Y, weights * unit), E(**QUICK).fit(X, Y, weights))
    if E is NetworkClassifier:
        heavy = {0: unit, 1: 3.0 * unit}
        plain = E(class_weight={0: 1.0, 1: 3.0}, **QUICK).fit(X, Y, weights)
        assert same(E(class_weight=heavy, **QUICK).fit(X, Y, weights * unit), plain)


@both
def test_weights_too_far_apart(E):
    weights = np.where(Y, 1e-40, 1.0)
    with pytest.raises(ValueError, match=r"a sample has 1e-40 of the largest weight: in float32 it must have 3e-29 or"):
        E(**QUICK).fit(X, Y, weights)
    assert E(dtype="float64", **QUICK).fit(X, Y, weights).n_iter_ == 2
    if E is NetworkClassifier:  # what two factors make of each other counts
        equal = E(class_weight={0: 1e-40, 1: 1.0}, **QUICK).fit(X, Y, weights)
        assert same(equal, E(**QUICK).fit(X, Y, np.full(60, 1e-40)))
    assert same(E(**QUICK).fit(X, Y, np.where(Y, 0.0, 1.0)), E(**QUICK).fit(X, Y, np.where(Y, 1e-320, 1e300)))


def test_samples_held_out_have_the_weights_of_their_classes():
    """So the error by which training stops is of the kind of that which it makes small."""
    options = dict(validation_fraction=0.4, shuffle=False, dtype="float64", **QUICK)
    model = NetworkClassifier(class_weight={"no": 5.0, "yes": 0.5}, learning_rate=0.0, **options)
    p = model.fit(X, NAMES).predict_proba(X[36:])
    weights = np.where(Y[36:], 0.5, 5.0)
    losses = -np.log(p[np.arange(24), Y[36:]])
    assert model.history_["val_error"][-1] == pytest.approx(np.average(losses, weights=weights), rel=1e-12)
    right = p.argmax(axis=1) == Y[36:]
    assert model.history_["val_accuracy"][-1] == pytest.approx(np.average(right, weights=weights), rel=1e-12)


@both
@pytest.mark.parametrize(("share", "n"), [(0.2, 1), (0.99, 60), (1e-9, 1)])
def test_nothing_left_to_train_with(E, share, n):
    with pytest.raises(ValueError, match=rf"validation_fraction={share} of n_samples={n} leaves none to train with"):
        E(validation_fraction=share).fit(X[:n], Y[:n])
    assert E(validation_fraction=0.99, **QUICK).fit(np.tile(X, (2, 1)), np.tile(Y, 2)).n_iter_ == 2


@both
def test_too_few_samples_for_batch_normalization(E):
    def build(n_features, n_outputs):
        return [FCLayer(n_features, 3), BatchNormLayer(), FCLayer(3, n_outputs)]

    with pytest.raises(ValueError, match=r"n_samples=1 is too few: BatchNormLayer\(\) cannot be trained with fewer"):
        E(build=build).fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match="batch_size=1, but BatchNormLayer"):
        E(build=build, batch_size=1).fit(X, Y)
    estimator_checks.check_fit2d_1sample(E.__name__, E(build=build))


# -- targets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["a", None], TypeError, "labels of the types NoneType, str cannot be sorted: give all as numbers or all as"),
        (["a", 3], TypeError, "labels of the types int, str cannot be sorted"),
        (["a", np.nan], ValueError, "contains NaN"),
        ([0.0, np.nan], ValueError, "Input y contains NaN"),
    ],
)
def test_labels_that_are_none(labels, error, words):
    y = np.array([labels[i] for i in Y], None if isinstance(labels[0], float) else object)
    with pytest.raises(error, match=words):
        NetworkClassifier(**QUICK).fit(X, y)
    with pytest.raises((error, ValueError), match=r"sorted|NaN"):
        NetworkClassifier(**QUICK).partial_fit(X, y, classes=np.array(labels, y.dtype))


@pytest.mark.parametrize(
    "classes", [[], "ab", 3, {0, 1}, [[0, 1]], [[0], [1]], [0, 1, np.nan], np.array(["a", np.nan], object)]
)
def test_classes_that_are_none(classes):
    model = NetworkClassifier(**QUICK)
    with pytest.raises(ValueError, match=r"classes must be all labels that there will be|contain NaN"):
        model.partial_fit(X, Y, classes=classes)
    model.partial_fit(X, Y, classes=(1, 0, 1))
    assert model.classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"classes must be all labels that there will be|contain NaN"):
        model.partial_fit(X, Y, classes=classes)


def sparse_column():
    return pytest.importorskip("scipy.sparse").csr_array(Y[:, None])


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        (sparse_column, TypeError, r"Sparse data was passed for y.*y\.toarray\(\)"),
        (lambda: Y.astype("M8[s]"), TypeError, r"y must be numbers, got datetime64\[s\]"),
        (lambda: Y.astype("m8[s]"), TypeError, r"y must be numbers, got timedelta64\[s\]"),
        (lambda: np.array([1.0, None] * 30, object), ValueError, "Input y contains NaN"),
        (lambda: np.where(Y, np.inf, 0.0), ValueError, "Input y contains infinity"),
        (lambda: np.array(["a", "b"] * 30), ValueError, "could not convert string to float"),
    ],
)
def test_targets_that_are_no_numbers(y, error, words):
    for fit in (NetworkRegressor(**QUICK).fit, NetworkRegressor(**QUICK).partial_fit):
        with pytest.raises(error, match=words):
            fit(X, y())


# -- layers ----------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("hidden", [{3, 4}, {3: 4}.keys(), iter([3, 4]), (n for n in (3, 4)), {3: 4}, b"ab"])
def test_widths_without_order_or_read_only_once(E, hidden):
    with pytest.raises(TypeError, match=r"hidden must be the widths of the hidden layers, such as \(100, 50\)"):
        E(hidden, **QUICK).fit(X, Y)


def square(x):
    return 0.1 * x * x


def square_prime(x):
    return 0.2 * x


class Square:
    def __call__(self, x):
        return square(x)

    def prime(self, x):
        return square_prime(x)


@both
def test_functions_as_activation(E):
    pair = E(activation=(square, square_prime), **QUICK).fit(X, Y)
    assert same(pair, E(activation=Square(), **QUICK).fit(X, Y))
    assert not same(pair, E(activation="tanh", **QUICK).fit(X, Y))
    for activation, error, words in (
        (square, TypeError, r"activation square needs its derivative: give a pair, activation=\(f, f_prime\)"),
        ((square,), TypeError, r"activation must be a name, or a pair \(f, derivative of f\)"),
        (ActivationLayer(relu), TypeError, "activation ActivationLayer needs its derivative"),
        ("identity", ValueError, r"activation='identity' makes all the layers one linear map: write hidden=\(\)"),
    ):
        with pytest.raises(error, match=words):
            E(activation=activation, **QUICK).fit(X, Y)


@both
def test_an_optimizer_is_not_shared(E):
    """Not even one that has trained a network before; nor is a schedule."""
    optimizer = Adam(0.01)
    first = E(optimizer=optimizer, **QUICK).fit(X, Y)
    assert first.network_.optimizer is not optimizer
    assert same(E(optimizer=first.network_.optimizer, **QUICK).fit(X, Y), first)
    assert same(E(optimizer=optimizer, **QUICK).fit(X, Y), first)
