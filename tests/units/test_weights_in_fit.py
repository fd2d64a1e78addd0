"""Sample weights and class weights in fit and evaluate: their meaning, and errors."""

import numpy as np
import pytest

import portnn
from article_layers import FCLayer as ArticleFCLayer
from cases import LOSSES
from portnn import SGD, ActivationLayer, Callback, FCLayer, FlattenLayer, Network

N, CLASSES = 8, 3
WEIGHTS = np.array([1.0, 0.0, 2.0, 1.0, 0.0, 2.0, 1.0, 1.0])
REPEATED = np.repeat(np.arange(N), WEIGHTS.astype(int))
cases = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
EXACT = dict(rtol=1e-12, atol=1e-14)


def network(loss="mse", outputs=CLASSES, metrics=(), rate=0.1, **options):
    net = Network(
        [FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, outputs)], seed=1, **{"dtype": "float64"} | options
    )
    net.use(loss, optimizer=SGD(rate, momentum=0.5), metrics=metrics)
    return net


def data(case=LOSSES["mse"], n=N, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)), case.targets(rng, n, classes)


def alike(one, other, **tolerance):
    for path, array in one.parameters.items():
        assert np.allclose(array, other.parameters[path], **(tolerance or EXACT)), path


def run(net, x, y, **options):
    return net.fit(x, y, **{"epochs": 3, "batch_size": len(x), "verbose": 0} | options)


def kept(net):
    return {path: np.array(array) for path, array in net.parameters.items()}, net.step, dict(net.history)


def refused(net, error, words, *given, **options):
    before = kept(net)
    with pytest.raises(error, match=words):
        net.fit(*given, **{"epochs": 1, "batch_size": 4, "verbose": 0} | options)
    after = kept(net)
    assert all(np.array_equal(before[0][path], after[0][path]) for path in before[0])
    assert before[1:] == after[1:]


# -- weights of 0 and 2 ------------------------------------------------------------------------------------------------


@cases
@pytest.mark.parametrize("shape", ["(N, C)", "(N, 1, C)"])
def test_weights_of_0_and_2_leave_out_and_repeat(case, shape):
    x, y = data(case)
    if shape == "(N, 1, C)":
        x = x[:, None]
    metrics = ["mean_absolute_error", "r2"] if "softmax" not in repr(case.given).lower() and y.ndim > 1 else []
    metrics += ["accuracy", "precision", "recall", "f1"]
    weighed, repeated = network(case.given, metrics=metrics), network(case.given, metrics=metrics)
    held = dict(validation_data=(x, y, WEIGHTS)), dict(validation_data=(x[REPEATED], y[REPEATED]))
    one = run(weighed, x, y, sample_weight=WEIGHTS, **held[0])
    two = run(repeated, x[REPEATED], y[REPEATED], **held[1])
    alike(weighed, repeated)
    assert one.keys() == two.keys()
    for name in one:
        assert np.allclose(one[name], two[name], **EXACT), name
    found, expected = weighed.evaluate(x, y, sample_weight=WEIGHTS), repeated.evaluate(x[REPEATED], y[REPEATED])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-14), name


def test_the_error_of_an_epoch_divides_by_the_sum_of_weights():
    x, y = data(n=11)
    weights = np.random.default_rng(4).random(11) * 3
    net = network(rate=0.0, metrics=["mean_absolute_error"])
    Y = net.predict(x)
    errors, off = ((y - Y) ** 2).mean(axis=1), np.abs(y - Y).mean(axis=1)
    for size in (1, 3, 4, 11):
        history = run(net, x, y, batch_size=size, sample_weight=weights, epochs=1)
        assert history["error"][0] == pytest.approx(np.average(errors, weights=weights), rel=1e-12)
        assert history["mean_absolute_error"][0] == pytest.approx(np.average(off, weights=weights), rel=1e-12)
        found = net.evaluate(x, y, batch_size=size, sample_weight=weights)
        assert found["error"] == pytest.approx(np.average(errors, weights=weights), rel=1e-12)


def test_no_weight_at_all():
    """If all weights are 0, the error is 0 and steps are still counted."""
    x, y = data()
    net = network(metrics=["accuracy", "r2", "mean_absolute_error"])
    before = kept(net)[0]
    history = run(net, x, y, batch_size=3, sample_weight=np.zeros(N), epochs=2, validation_data=(x, y, np.zeros(N)))
    assert net.step == 6
    assert all(values == [0.0, 0.0] for values in history.values()), history
    assert all(np.array_equal(before[path], array) for path, array in net.parameters.items())
    assert not any(net.evaluate(x, y, sample_weight=np.zeros(N)).values())


def test_a_batch_of_no_weight_among_others():
    x, y = data(n=6)
    history = run(net := network(), x, y, batch_size=3, sample_weight=[0, 0, 0, 1, 1, 1], epochs=1)
    assert history["error"] == pytest.approx(run(network(), x[3:], y[3:], epochs=1)["error"])
    assert net.step == 2


def test_weights_of_many_kinds():
    x, y = data()
    expected = run(network(), x, y, sample_weight=WEIGHTS)
    for given in (WEIGHTS.tolist(), tuple(WEIGHTS), WEIGHTS.astype(np.uint8), WEIGHTS.astype(">f4"), WEIGHTS[::1]):
        assert run(network(), x, y, sample_weight=given) == expected
    flags = WEIGHTS > 0
    assert run(network(), x, y, sample_weight=flags) == run(network(), x, y, sample_weight=flags.astype(float))


def test_the_split_takes_its_own_weights():
    x, y = data()
    weights = np.arange(1.0, N + 1)
    split, given = network(), network()
    one = run(split, x, y, sample_weight=weights, validation_split=0.25, batch_size=4)
    two = run(given, x[:6], y[:6], sample_weight=weights[:6], validation_data=(x[6:], y[6:], weights[6:]), batch_size=4)
    assert one == two
    alike(split, given, rtol=0, atol=0)


def test_article_layers():
    np.random.seed(0)  # noqa: NPY002 (the article's own call)
    layers = [ArticleFCLayer(4, 3)]
    one = Network(layers, dtype="float64", seed=1)
    start = one.layers[0].weights.copy(), one.layers[0].bias.copy()
    x, y = data()
    x, y = x[:, None], y[:, None]
    one.use("mse")
    kept_samples = [0, 2, 3]
    one.fit(x, y, 2, 0.1, sample_weight=np.isin(np.arange(N), kept_samples) * 5.0, verbose=0)
    weighed = one.layers[0].weights.copy()
    one.layers[0].weights, one.layers[0].bias = start
    one.use("mse")
    one.fit(x[kept_samples], y[kept_samples], 2, 0.1, verbose=0)
    assert np.allclose(weighed, one.layers[0].weights, **EXACT)


# -- class weights -----------------------------------------------------------------------------------------------------

LABELS = np.array([0, 2, 2, 0, 2, 2, 0, 1])
FORMS = {
    "class numbers": ("softmax_cross_entropy", 3, LABELS),
    "bytes": ("softmax_cross_entropy", 3, LABELS.astype(np.uint8)),
    "one-hot": ("softmax_cross_entropy", 3, np.eye(3)[LABELS]),
    "one-hot, mse": ("mse", 3, np.eye(3)[LABELS]),
    "one-hot, hinge": ("hinge", 3, 2 * np.eye(3)[LABELS] - 1),
    "a column": ("binary_cross_entropy", 1, (LABELS > 1)[:, None].astype(float)),
    "a flat column": ("binary_cross_entropy", 1, LABELS > 1),
    "a column of -1 and 1": ("hinge", 1, np.where(LABELS > 1, 1.0, -1.0)[:, None]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("split", [0.0, 0.25])
def test_class_weights_are_sample_weights(form, split):
    loss, outputs, y = FORMS[form]
    labels = LABELS if outputs == 3 else (LABELS > 1).astype(int)
    x, first = data()[0], int(N * (1 - split))
    options = dict(batch_size=3, validation_split=split)
    counts = np.bincount(labels[:first])
    occurring = np.count_nonzero(counts)  # with the split, class 1 is not in the training part
    balanced = np.array([first / (occurring * counts[label]) for label in labels[:first]])
    own = np.arange(1.0, N + 1)
    for given, by_sample in (
        ("balanced", balanced),
        ({0: 0.5, np.int64(1): 3}, np.array([{0: 0.5, 1: 3.0, 2: 1.0}[label] for label in labels[:first]])),
    ):
        for sample_weight in (None, own):
            weights = np.ones(N) if sample_weight is None else own.copy()
            weights[:first] *= by_sample
            one, two = network(loss, outputs), network(loss, outputs)
            found = run(one, x, y, class_weight=given, sample_weight=sample_weight, **options)
            expected = run(two, x, y, sample_weight=weights, **options)
            assert found["error"] == expected["error"]
            assert all(np.allclose(found[name], expected[name], **EXACT) for name in expected)
            alike(one, two, rtol=0, atol=0)


def test_a_class_that_does_not_occur():
    x, y = data()[0], np.zeros((N, 1))
    expected = run(network("binary_cross_entropy", 1), x, y)
    for given in ({0: 2, 1: 5}, "balanced"):
        found = run(network("binary_cross_entropy", 1), x, y, class_weight=given)
        assert np.allclose(found["error"], expected["error"], **EXACT)


BAD_CLASS_WEIGHTS = [
    ({"a": 1}, TypeError, "a class of class_weight must be a whole number, got 'a'"),
    ({3: 1}, ValueError, "class_weight has class 3, but the classes are 0 to 2"),
    ({-1: 1}, ValueError, "class_weight has class -1, but the classes are 0 to 2"),
    ({0: -1}, ValueError, r"class_weight\[0\] must be 0 or more"),
    ({0: np.nan}, ValueError, r"class_weight\[0\] must be 0 or more"),
    ({0: "2"}, TypeError, r"class_weight\[0\] must be a number"),
    ([1, 2, 3], ValueError, 'class_weight must be a dict or "balanced"'),
    ("balance", ValueError, 'class_weight must be a dict or "balanced"'),
]


@pytest.mark.parametrize(("given", "error", "words"), BAD_CLASS_WEIGHTS)
def test_wrong_class_weights(given, error, words):
    refused(network("softmax_cross_entropy"), error, words, data()[0], LABELS, class_weight=given)


@pytest.mark.parametrize(
    ("y", "outputs", "loss"),
    [
        (data()[1], 3, "mse"),
        (data()[1][:, :1], 1, "mse"),
        (np.ones((N, 3)), 3, "binary_cross_entropy"),
        (np.full((N, 3), 1 / 3), 3, "softmax_cross_entropy"),
    ],
)
def test_class_weights_beside_other_targets(y, outputs, loss):
    words = r"class_weight needs one class per sample, but y\[0\] is \["
    refused(network(loss, outputs), ValueError, words, data()[0], y, class_weight="balanced")


def test_class_weights_beside_rows_of_classes():
    net = Network([FCLayer(4, 3)])
    net.use("softmax_cross_entropy", optimizer="sgd")
    x, y = np.zeros((N, 2, 4)), np.zeros((N, 2), int)
    refused(net, ValueError, r"class_weight needs one class per sample, but outputs .* \(2, 3\)", x, y, class_weight={})


# -- wrong weights -----------------------------------------------------------------------------------------------------

BAD_WEIGHTS = [
    (-WEIGHTS, ValueError, r"sample_weight\[0\] is -1\.0: in float64 a weight is 0 or from"),
    (np.where(WEIGHTS == 2, np.nan, 1.0), ValueError, r"sample_weight\[2\] is nan"),
    (np.where(WEIGHTS == 2, np.inf, 1.0), ValueError, r"sample_weight\[2\] is inf"),
    (np.ones(N - 1), ValueError, r"sample_weight must have shape \(8,\).* got \(7,\)"),
    (np.ones((N, 1)), ValueError, r"sample_weight must have shape \(8,\).* got \(8, 1\)"),
    (2.0, ValueError, r"sample_weight must have shape \(8,\).* got \(\)"),
    (["a"] * N, TypeError, "sample_weight must be real numbers"),
    ("balanced", TypeError, "sample_weight must be real numbers"),
    ({0: 1.0}, TypeError, "sample_weight must be real numbers"),
    ([None] * N, TypeError, "sample_weight must be real numbers"),
    ([[1.0], [2.0, 3.0]], ValueError, r"sample_weight cannot be made an array.*\[1\] has shape"),
    (WEIGHTS + 1j, TypeError, "sample_weight must be real numbers"),
]


@pytest.mark.parametrize(("weights", "error", "words"), BAD_WEIGHTS)
def test_wrong_weights(weights, error, words):
    x, y = data()
    refused(network(), error, words, x, y, sample_weight=weights)
    refused(network(), error, words, x, y, validation_data=(x, y, weights))
    with pytest.raises(error, match=words):
        network().evaluate(x, y, sample_weight=weights)


@pytest.mark.parametrize("weight", [1e300, 3e38, 1e-50, 1e-40])
def test_weights_out_of_the_range_of_float32(weight):
    """Their sums, or products with errors, would overflow or underflow, and training would silently do nothing."""
    x, y = data()
    words = (
        r"\[1\] is .*: in float32 a weight is 0 or from 1e-29 to 8e\+28\. Only their ratios count: divide all by the"
    )
    weights = [0.0, *[weight] * (N - 1)]
    refused(network(dtype="float32"), ValueError, "sample_weight" + words, x, y, sample_weight=weights)
    net = network("softmax_cross_entropy", dtype="float32")
    given = {0: weight, 1: weight, 2: weight}
    refused(net, ValueError, r"sample_weight \* class_weight", x, LABELS, class_weight=given)
    with pytest.raises(ValueError, match="sample_weight" + words):
        network(dtype="float32").evaluate(x, y, sample_weight=weights)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_only_the_ratios_of_weights_count(scale):
    x, y = data()
    nets = [network(dtype="float32") for _ in range(2)]
    errors = [
        net.fit(x, y, 2, batch_size=4, verbose=0, sample_weight=factor * WEIGHTS)["error"]
        for net, factor in zip(nets, (1.0, scale), strict=True)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


# -- users' losses -----------------------------------------------------------------------------------------------------


def plain(y_true, y_pred):
    return ((y_pred - y_true) ** 2).mean()


def plain_prime(y_true, y_pred):
    return 2 * (y_pred - y_true) / y_pred.size


def only_keyword(y_true, y_pred, *, weights=None):
    return plain(y_true, y_pred)


WITHOUT = {
    "neither": (plain, plain_prime),
    "the loss alone": (portnn.losses.mse, plain_prime),
    "by keyword": (only_keyword, plain_prime),
}


@pytest.mark.parametrize("pair", WITHOUT.values(), ids=WITHOUT)
def test_a_loss_without_weights(pair):
    x, y = data()
    net = network()
    net.use(*pair, optimizer="sgd")
    words = r"weights were given, but \w+ takes none: write it as a function of \(y_true, y_pred, weights=None\)"
    labels = np.eye(3)[LABELS]
    refused(net, TypeError, words, x, y, sample_weight=WEIGHTS)
    refused(net, TypeError, words, x, labels, class_weight="balanced")
    refused(net, TypeError, words, x, y, validation_data=(x, y, WEIGHTS))
    refused(net, TypeError, words, [(x, y, WEIGHTS)], batch_size=1)
    refused(net, TypeError, words, x, y, validation_data=[(x, y, WEIGHTS)])
    for given in ((x, y, WEIGHTS), ([(x, y, WEIGHTS)],)):
        with pytest.raises(TypeError, match=words):
            net.evaluate(*given[:2], sample_weight=given[2] if len(given) == 3 else None)
    assert run(net, x, y, epochs=1)["error"]


class OwnLoss:
    """Mean squared error, written by a user."""

    def __call__(self, y_true, y_pred, weights=None):
        errors = ((y_pred - y_true) ** 2).mean(axis=1)
        return errors.mean() if weights is None else (errors * weights).sum() / weights.sum()

    def prime(self, y_true, y_pred, weights=None):
        shares = np.full(len(y_pred), 1 / len(y_pred)) if weights is None else weights / weights.sum()
        return 2 * (y_pred - y_true) * shares[:, None] / y_pred.shape[1]


@pytest.mark.parametrize("form", ["object", "methods", "functions"])
def test_a_loss_with_weights(form):
    own = OwnLoss()
    x, y = data()
    net = network()
    if form == "object":
        net.use(own, optimizer=SGD(0.1, momentum=0.5))
    else:
        pair = own.__call__, own.prime
        if form == "functions":
            pair = (
                (lambda t, y, weights=None: own(t, y, weights)),
                (lambda t, y, weights=None: own.prime(t, y, weights)),
            )
        net.use(*pair, optimizer=SGD(0.1, momentum=0.5))
    ours = network()
    found, expected = (run(n, x, y, batch_size=3, sample_weight=WEIGHTS + 0.5) for n in (net, ours))
    assert np.allclose(found["error"], expected["error"], **EXACT)
    alike(net, ours)


def test_nothing_is_called_before_weights_are_checked():
    class Notes(Callback):
        begun = False

        def on_fit_begin(self, network):
            self.begun = True

    x, y = data()
    note = Notes()
    refused(network(), ValueError, "sample_weight", x, y, sample_weight=-WEIGHTS, callbacks=[note])
    assert not note.begun


def test_layers_whose_output_is_known_only_from_the_data():
    net = Network([FlattenLayer(), FCLayer(4, 1)], dtype="float64", seed=2)
    net.use("binary_cross_entropy", optimizer="sgd")
    x, y = data()[0].reshape(N, 2, 2), LABELS > 1
    assert run(net, x, y, class_weight={0: 1, 1: 2})["error"]
