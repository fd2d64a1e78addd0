"""Metrics in fit, validation and evaluate, in batches and with weights, compared with formulas over all samples.

The learning rate is 0, so that the same network predicts every batch of an epoch.
"""

import numpy as np
import pytest

import portnn
from portnn import SGD, FCLayer, Network, TopK
from portnn.backend import namespace
from replay import ReplayBackend

N, CLASSES = 23, 6
NAMES = ["accuracy", "precision", "recall", "f1", "top_5", "top_2", "mean_absolute_error", "r2"]


class Share(portnn.metrics.Metric):
    """A user's metric derived from Metric: the fraction of outputs that are positive."""

    name = "share"

    def sums(self, y_true, y_pred, weights=None):
        xp = namespace(y_pred)
        w = xp.ones_like(y_pred[:, 0]) if weights is None else weights
        positive = xp.astype(y_pred > 0.0, y_pred.dtype)
        return xp.stack([xp.sum(positive * xp.reshape(w, (-1, 1))), xp.sum(w) * y_pred.shape[1]])

    def value(self, sums):
        return sums[0] / sums[1]


class Squares:
    """A user's metric without portnn's base class: the sum of the squared outputs."""

    name = "squares"

    def sums(self, y_true, y_pred, weights):
        xp = namespace(y_pred)
        squares = xp.sum(y_pred * y_pred, axis=1)
        y_pred *= 0.0  # a metric may overwrite its arguments
        return xp.sum(squares if weights is None else weights * squares)

    def value(self, sums):
        return float(sums)


def spread(y_true, y_pred):
    """A user's metric function."""
    xp = namespace(y_pred)
    return xp.max(y_pred, axis=1) - xp.min(y_pred, axis=1)


ALL = (*NAMES, Share(), Squares(), spread)

# -- plain formulas ----------------------------------------------------------------------------------------------------


def formulas(y, Y, w):
    labels, guesses, C = y.argmax(axis=1), Y.argmax(axis=1), Y.shape[1]
    right = np.array([w[(labels == c) & (guesses == c)].sum() for c in range(C)])
    actual = np.array([w[labels == c].sum() for c in range(C)])
    predicted = np.array([w[guesses == c].sum() for c in range(C)])
    occurs = actual + predicted > 0
    mean = lambda a, b: np.mean([p / q if q else 0.0 for p, q in zip(a[occurs], b[occurs], strict=True)])  # noqa: E731
    rank = (Y[np.arange(len(Y)), labels][:, None] < Y).sum(axis=1)
    centre = np.average(y, axis=0, weights=w)
    off, about = ((w[:, None] * (y - to) ** 2).sum(axis=0) for to in (Y, centre))
    r2 = np.where(about > 1e-12, 1 - off / np.maximum(about, 1e-12), 0.0)  # 0 for the class that never occurs
    return {
        "accuracy": np.average(labels == guesses, weights=w),
        "precision": mean(right, predicted),
        "recall": mean(right, actual),
        "f1": mean(2 * right, predicted + actual),
        "top_5": np.average(rank < 5, weights=w),
        "top_2": np.average(rank < 2, weights=w),
        "mean_absolute_error": np.average(np.abs(y - Y).mean(axis=1), weights=w),
        "r2": r2.mean(),
        "share": np.average((Y > 0).mean(axis=1), weights=w),
        "squares": (w * (Y**2).sum(axis=1)).sum(),
        "spread": np.average(Y.max(axis=1) - Y.min(axis=1), weights=w),
        "error": np.average(((y - Y) ** 2).mean(axis=1), weights=w),
    }


def one_hot(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)), np.eye(CLASSES)[rng.integers(0, CLASSES - 1, n)]


def network(backend="cpu", metrics=ALL, loss="mse", outputs=CLASSES, **options):
    net = Network([FCLayer(4, outputs)], backend=backend, seed=2, **{"dtype": "float64"} | options)
    net.use(loss, optimizer=SGD(0.0), metrics=metrics)
    return net


def close(found, expected, prefix="", rel=1e-12):
    for name, value in expected.items():
        got = found[prefix + name]
        assert (got[-1] if isinstance(got, list) else got) == pytest.approx(value, rel=rel, abs=1e-13), prefix + name


@pytest.fixture(params=["cpu", "replay", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend(request):
    return ReplayBackend() if request.param == "replay" else request.param


def weights_of(kind):
    if kind == "none":
        return None
    return np.random.default_rng(7).integers(0, 4, N) * (1.0 if kind == "whole" else 0.37)


@pytest.mark.parametrize("kind", ["none", "whole", "fractions"])
def test_all_metrics(backend, kind):
    x, y = one_hot()
    weights = weights_of(kind)
    expected = formulas(y, network().predict(x), np.ones(N) if weights is None else weights)
    net = network(backend)
    for size in (1, 4, 7, N) if backend == "cpu" else (4, N):
        history = net.fit(
            x,
            y,
            2,
            batch_size=size,
            shuffle=size == 4,
            sample_weight=weights,
            validation_data=(x, y) if weights is None else (x, y, weights),
            verbose=0,
        )
        close(history, expected)
        close(history, expected, "val_")
        close(net.evaluate(x, y, batch_size=size, sample_weight=weights), expected)


def test_metrics_over_rows_and_iterables(backend):
    class Rows:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, some):
            return self.array[some]

    x, y = one_hot()
    weights = weights_of("fractions")
    expected = formulas(y, network().predict(x), weights)
    batches = [(x[i : i + 5], y[i : i + 5], weights[i : i + 5]) for i in range(0, N, 5)]
    net = network(backend, metrics=NAMES)
    expected = {name: expected[name] for name in [*NAMES, "error"]}
    for given in ((batches, None), (Rows(x), y)):
        own = {} if given[1] is None else dict(batch_size=5, sample_weight=weights)
        history = net.fit(*given, epochs=2, validation_data=batches, verbose=0, **own)
        close(history, expected)
        close(history, expected, "val_")
        close(net.evaluate(*given, **own), expected)


def test_class_numbers():
    x, y = one_hot()
    weights = weights_of("whole")
    names = ["accuracy", "precision", "recall", "f1", "top_5", TopK(3)]
    net = network(metrics=names, loss="softmax_cross_entropy")
    expected = formulas(y, net.predict(x), weights)
    expected = {name: expected[name] for name in names[:-1]}
    for size in (3, N):
        history = net.fit(x, y.argmax(axis=1), 1, batch_size=size, sample_weight=weights, verbose=0)
        close(history, expected)
        close(net.evaluate(x, y.argmax(axis=1), batch_size=size, sample_weight=weights), expected)
    assert history["top_3"][0] >= history["accuracy"][0]


@pytest.mark.parametrize(("loss", "threshold"), [("mse", 0.5), ("binary_cross_entropy", 0.0), ("hinge", 0.0)])
def test_one_column(loss, threshold, backend):
    x, _ = one_hot()
    y = np.random.default_rng(3).integers(0, 2, (N, 1)) * (2.0 if loss == "hinge" else 1.0) - (loss == "hinge")
    weights = weights_of("whole")
    net = network(backend, metrics=["accuracy", "precision", "recall", "f1"], loss=loss, outputs=1)
    truth, guess = y[:, 0] > 0.5, net.predict(x)[:, 0] > threshold
    right, predicted, actual = (weights[mark].sum() for mark in (truth & guess, guess, truth))
    expected = {
        "accuracy": np.average(truth == guess, weights=weights),
        "precision": right / predicted if predicted else 0.0,
        "recall": right / actual,
        "f1": 2 * right / (predicted + actual),
    }
    for size in (4, N):
        history = net.fit(x, y, 2, batch_size=size, sample_weight=weights, validation_data=(x, y, weights), verbose=0)
        close(history, expected)
        close(history, expected, "val_")


@pytest.mark.parametrize("size", [1, 7, 64, 3000])
def test_r2_of_large_targets_in_float32(backend, size):
    n = 30 if backend != "cpu" else 300 if size == 1 else 3000
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    y = (1e6 + 100 * x @ rng.standard_normal((4, 2)) + rng.standard_normal((n, 2))).astype(np.float32)
    net = network(backend, metrics=["r2"], outputs=2, dtype="float32")
    net.parameters["0.bias"] = y.mean(axis=0, dtype=float)[None] + 3.0
    Y, T = net.predict(x).astype(float), y.astype(float)
    expected = np.mean(1 - ((T - Y) ** 2).sum(axis=0) / ((T - T.mean(axis=0)) ** 2).sum(axis=0))
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, n, size)]
    plain = net.fit(x, y, 1, batch_size=size, validation_data=(x, y), verbose=0)
    streamed = net.fit(batches, epochs=1, validation_data=batches, verbose=0)
    for name in ("r2", "val_r2"):
        assert plain[name][0] == pytest.approx(expected, abs=1e-9)
        assert streamed[name][0] == pytest.approx(expected, abs=1e-9)
    assert net.evaluate(x, y, batch_size=size)["r2"] == pytest.approx(expected, abs=1e-9)


def test_an_epoch_without_validation_has_nan():
    x, y = one_hot()
    net = network(metrics=["r2"])
    history = net.fit(x, y, 4, validation_data=(x, y), validation_frequency=2, batch_size=8, verbose=0)
    for name in ("val_error", "val_r2"):
        assert np.isnan(history[name]).tolist() == [True, False, True, False]
    net.fit(x, y, 1, batch_size=8, verbose=0)
    assert {len(values) for values in net.history.values()} == {5}


class Wrong(Squares):
    def sums(self, y_true, y_pred, weights):
        return 3.0


WRONG = [
    ([lambda t, y: (y * y).mean()], ValueError, r"metric <lambda> returned .* one value per sample"),
    ([Wrong()], TypeError, "metric squares: sums returned builtins.float"),
]


@pytest.mark.parametrize(("metrics", "error", "words"), WRONG)
def test_wrong_metrics(metrics, error, words):
    x, y = one_hot()
    net = network(metrics=metrics)
    for call in (lambda: net.fit(x, y, 1, verbose=0), lambda: net.evaluate(x, y)):
        with pytest.raises(error, match=words):
            call()
    assert net.step == 0


@pytest.mark.parametrize(
    ("metrics", "error", "words"),
    [
        (["acc"], ValueError, "unknown metric 'acc'.*accuracy"),
        (["top5"], ValueError, "did you mean 'top_5'"),
        (
            "accuracy",
            TypeError,
            r"metrics must be a list of names or functions, got 'accuracy': metrics=\['accuracy'\]",
        ),
        ([TopK], TypeError, r"the class TopK: write TopK\(...\)"),
        (["accuracy", "accuracy"], ValueError, "metrics need distinct names"),
        *(
            (
                [type("Mine", (Squares,), {"name": name})()],
                ValueError,
                f"a metric cannot be called '{name}', which means",
            )
            for name in ("error", "weights", "learning_rate", "val_error", "val_squares")
        ),
        ([None], TypeError, "a metric must be a name, a function"),
    ],
)
def test_metrics_that_are_none(metrics, error, words):
    with pytest.raises(error, match=words):
        network(metrics=metrics)
