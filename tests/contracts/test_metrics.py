"""Metrics compared with plain loops over samples: on every array library, in batches, weighted, and captured."""

import numpy as np
import pytest

import portnn
from portnn import losses, metrics
from portnn.backend import namespace
from portnn.metrics import TopK, batch_sums, find, prepared, zero_sums
from replay import ReplayBackend

N, ROWS, CLASSES = 23, 3, 4
CPU = portnn.get_backend("cpu")
WEIGHTS = np.random.default_rng(5).integers(0, 4, N).astype(float)
REPEATED = np.repeat(np.arange(N), WEIGHTS.astype(int))


# -- plain loops -------------------------------------------------------------------------------------------------------


def rows_of(y_true, y_pred):
    """(class, outputs) of every row."""
    outputs = y_pred.reshape(-1, y_pred.shape[-1])
    truth = y_true.reshape(-1) if y_true.size == len(outputs) else y_true.reshape(outputs.shape).argmax(axis=1)
    return list(zip(truth.astype(int).tolist(), outputs.tolist(), strict=True))


def guess(outputs):
    return None if any(v != v for v in outputs) else outputs.index(max(outputs))


def plain_top(k):
    def share(y_true, y_pred):
        right = []
        for truth, outputs in rows_of(y_true, y_pred):
            ranks = sorted(range(len(outputs)), key=lambda c: (-outputs[c], c))
            right.append(guess(outputs) is not None and truth in ranks[:k])
        return np.mean(right)

    return share


def counts(y_true, y_pred):
    """For each class: the true positives, the rows predicted as it, and the rows that belong to it."""
    pairs = [(truth, guess(outputs)) for truth, outputs in rows_of(y_true, y_pred)]
    return [
        (sum(t == g == c for t, g in pairs), sum(g == c for _, g in pairs), sum(t == c for t, _ in pairs))
        for c in range(y_pred.shape[-1])
    ]


def signs(threshold):
    """The same counts if each output is a binary prediction of its own."""

    def found(y_true, y_pred):
        true, predicted = y_true.reshape(y_pred.shape) > 0.5, y_pred > threshold
        return [
            (int((t & p).sum()), int(p.sum()), int(t.sum()))
            for t, p in zip(*(np.moveaxis(a, -1, 0) for a in (true, predicted)), strict=True)
        ]

    return found


def score(name, counted=counts):
    def mean(y_true, y_pred):
        found = []
        for right, predicted, actual in counted(y_true, y_pred):
            if predicted or actual:
                p, r = right / predicted if predicted else 0.0, right / actual if actual else 0.0
                harmonic = 2 * p * r / (p + r) if p + r else 0.0
                found.append({"precision": p, "recall": r, "f1": harmonic}[name])
        return np.mean(found) if found else 0.0

    return mean


def plain_r2(y_true, y_pred):
    y, p = (a.reshape(len(a), -1).astype(float) for a in (y_true, y_pred))
    return np.mean(1.0 - ((y - p) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0))


# -- the table ---------------------------------------------------------------------------------------------------------


def classes(shape, one_hot=False):
    def draw(rng):
        y_true = rng.integers(0, shape[-1], shape[:-1])
        return np.eye(shape[-1])[y_true] if one_hot else y_true, rng.standard_normal(shape).round(
            1
        )  # rounded, so that there are ties

    return draw


def numbers(*shape):
    return lambda rng: (rng.standard_normal(shape), rng.standard_normal(shape))


def signed(shape, low):
    return lambda rng: (rng.choice([low, 1.0], shape), rng.standard_normal(shape))


CE, BCE = losses.softmax_cross_entropy, losses.binary_cross_entropy
SCORES = ("precision", "recall", "f1")
CASES = {
    "accuracy": ("accuracy", CE, classes((N, CLASSES)), plain_top(1)),
    "accuracy, rows": ("accuracy", CE, classes((N, ROWS, CLASSES)), plain_top(1)),
    "accuracy, one-hot": ("accuracy", losses.mse, classes((N, 1, CLASSES), True), plain_top(1)),
    "accuracy, logits": ("accuracy", BCE, signed((N, 3), 0.0), lambda t, y: np.mean((t > 0.5) == (y > 0.0))),
    "top_1": ("top_1", CE, classes((N, CLASSES)), plain_top(1)),
    "top_2": ("top_2", CE, classes((N, CLASSES)), plain_top(2)),
    "top_2, rows": ("top_2", CE, classes((N, ROWS, CLASSES)), plain_top(2)),
    "top_3, one-hot": ("top_3", losses.mse, classes((N, CLASSES), True), plain_top(3)),
    "top_5": ("top_5", CE, classes((N, CLASSES)), plain_top(5)),
    **{name: (name, CE, classes((N, CLASSES)), score(name)) for name in SCORES},
    **{f"{name}, rows": (name, CE, classes((N, ROWS, CLASSES)), score(name)) for name in SCORES},
    **{f"{name}, one-hot": (name, losses.mse, classes((N, 1, CLASSES), True), score(name)) for name in SCORES},
    **{f"{name}, one output": (name, losses.mse, signed((N, 1), 0.0), score(name, signs(0.5))) for name in SCORES},
    **{f"{name}, one logit": (name, BCE, signed((N, 1), 0.0), score(name, signs(0.0))) for name in SCORES},
    **{f"{name}, hinge": (name, losses.hinge, signed((N, 3), -1.0), score(name, signs(0.0))) for name in SCORES},
    "mean_absolute_error": ("mean_absolute_error", losses.mse, numbers(N, 3), lambda t, y: np.mean(np.abs(t - y))),
    "mean_absolute_error, one": ("mean_absolute_error", losses.mse, numbers(N), lambda t, y: np.mean(np.abs(t - y))),
    "r2": ("r2", losses.mse, numbers(N, 1), plain_r2),
    "r2, several": ("r2", losses.mse, numbers(N, 2, 3), plain_r2),
}
cases = pytest.mark.parametrize(("name", "loss", "draw", "plain"), CASES.values(), ids=CASES.keys())


def drawn(draw, seed=7):
    return draw(np.random.default_rng(seed))


def value(name, loss, y_true, y_pred, weights=None, *, size=N, backend=CPU):
    """The metric as fit and evaluate compute it: sums over batches on the device, the final value on the host."""
    metric = find(name, loss) if isinstance(name, str) else name
    y_true, y_pred, weights = (None if a is None else backend.asarray(a) for a in (y_true, y_pred, weights))
    metric = prepared(metric, y_true, weights)
    total = zero_sums("metric", metric, y_true, y_pred, backend)
    for start in range(0, y_pred.shape[0], size):
        part = slice(start, min(start + size, y_pred.shape[0]))
        w = None if weights is None else weights[part]
        sums = batch_sums("metric", metric, y_true[part, ...], y_pred[part, ...], w, backend)
        assert tuple(sums.shape) == tuple(total.shape)
        assert backend.to_numpy(sums).dtype == np.float64
        total = total + sums
    found = metrics.value(
        metric, backend.to_numpy(total), y_pred.shape[0] if weights is None else float(sum(backend.to_numpy(weights)))
    )
    assert type(found) is float
    return found


@cases
def test_value_on_every_library(name, loss, draw, plain, library):
    y_true, y_pred = drawn(draw)
    for size in (N, 1, 10):
        found = value(name, loss, y_true, y_pred, size=size, backend=library.backend)
        assert found == pytest.approx(plain(y_true, y_pred), rel=1e-12, abs=1e-13)


@cases
def test_whole_weights_leave_out_and_repeat(name, loss, draw, plain, library):
    y_true, y_pred = drawn(draw)
    expected = plain(y_true[REPEATED], y_pred[REPEATED])
    for size in (N, 4):
        found = value(name, loss, y_true, y_pred, WEIGHTS, size=size, backend=library.backend)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-13)
    scaled = value(name, loss, y_true, y_pred, 0.3 * WEIGHTS)
    assert scaled == pytest.approx(expected, rel=1e-12, abs=1e-13)


@cases
def test_what_a_sample_of_weight_zero_holds_does_not_matter(name, loss, draw, plain):
    y_true, y_pred = drawn(draw)
    expected = value(name, loss, y_true, y_pred, WEIGHTS)
    out = WEIGHTS == 0.0
    y_pred[out] = np.nan
    for anything in (np.nan, 1e20, -999.0) if y_true.dtype.kind == "f" else (0.0,):
        if y_true.dtype.kind == "f":
            y_true[out] = anything
        assert value(name, loss, y_true, y_pred, WEIGHTS, size=5) == pytest.approx(expected, rel=1e-12)


@cases
def test_float32_outputs_have_float64_sums(name, loss, draw, plain, library):
    y_true, y_pred = drawn(draw)
    y_true = y_true.astype(np.float32) if y_true.dtype.kind == "f" else y_true
    y_pred = y_pred.astype(np.float32)
    found = [value(name, loss, y_true, y_pred, size=size, backend=library.backend) for size in (N, 6)]
    assert found[0] == pytest.approx(found[1], rel=1e-12, abs=1e-13)
    assert found[0] == pytest.approx(plain(y_true, y_pred), rel=1e-6, abs=1e-7)


@cases
def test_no_samples_and_no_weight(name, loss, draw, plain, library):
    y_true, y_pred = drawn(draw)
    assert value(name, loss, y_true, y_pred, np.zeros(N), backend=library.backend) == 0.0
    metric, backend = find(name, loss), library.backend
    sums = batch_sums(name, metric, backend.asarray(y_true[:0]), backend.asarray(y_pred[:0]), None, backend)
    assert not library.numpy(sums).any()


@cases
def test_weights_of_a_wrong_shape(name, loss, draw, plain):
    for wrong in (np.ones(N - 1), np.ones((N, 1))):
        with pytest.raises(ValueError, match=r"weights have shape .*: they must be \(N,\), one number for each sample"):
            batch_sums(name, find(name, loss), *drawn(draw), wrong, CPU)


# -- captured ----------------------------------------------------------------------------------------------------------


class Summing:
    """A step to capture: it accumulates a metric while its outputs and weights change."""

    eager_reason, inputs = None, []

    def __init__(self, backend, name, loss, draw):
        y_true, y_pred = drawn(draw)
        self.backend, self.y_true = backend, backend.asarray(y_true)
        home = {"Y": backend.asarray(y_pred), "weights": backend.asarray(2.0 * (np.arange(N) % 2))}
        self.metric = prepared(find(name, loss), self.y_true)
        self.home = home | {"sums": zero_sums(name, self.metric, self.y_true, home["Y"], backend)}
        self.places = [(self.home, key) for key in self.home]

    def __call__(self):
        Y, weights, sums = self.home.values()
        total = sums + batch_sums("metric", self.metric, self.y_true, Y, weights, self.backend)
        return [0.9 * Y * Y - 0.5, 2.0 - weights, total]

    def use_device_counters(self):
        pass

    def commit(self, leaves):
        self.home.update(zip(self.home, leaves, strict=True))


@cases
@pytest.mark.parametrize("where", ["replay", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_in_a_captured_step(name, loss, draw, plain, where):
    backend = ReplayBackend() if where == "replay" else portnn.get_backend("gpu")
    with backend.scope():
        captured, eager = (Summing(place, name, loss, draw) for place in (backend, portnn.get_backend(np)))
        step = backend.compile(captured, captured)
        for _ in range(5):
            step()
            eager.commit(eager())
            found = np.asarray(backend.to_numpy(captured.home["sums"]))
            assert np.allclose(found, eager.home["sums"], rtol=1e-12, atol=1e-14)


# -- edges -------------------------------------------------------------------------------------------------------------


def test_classes_that_occur_nowhere_are_left_out():
    y_true, y_pred = np.array([0, 0, 2]), np.eye(5)[[0, 1, 2]]  # classes 3 and 4 are absent, class 1 is only predicted
    assert value("precision", CE, y_true, y_pred) == pytest.approx((1 + 0 + 1) / 3)
    assert value("recall", CE, y_true, y_pred) == pytest.approx((0.5 + 0 + 1) / 3)
    assert value("f1", CE, y_true, y_pred) == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert (
        value("precision", CE, y_true, y_pred, np.array([1.0, 0.0, 1.0])) == 1.0
    )  # with weight 0, class 1 no longer occurs


@pytest.mark.parametrize("name", SCORES)
def test_one_class_only(name):
    assert value(name, CE, np.zeros(3, int), np.eye(4)[[0, 0, 0]]) == 1.0
    assert value(name, CE, np.zeros(3, int), np.eye(4)[[1, 1, 1]]) == 0.0
    for loss, no in ((losses.mse, 0.0), (BCE, -1.0)):
        assert value(name, loss, np.zeros((3, 1)), np.full((3, 1), no)) == 0.0  # the positive class occurs nowhere
        assert value(name, loss, np.ones((3, 1)), np.ones((3, 1))) == 1.0


def test_nan_predicts_no_class():
    y_true, y_pred = np.array([0, 1, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, np.nan]])
    assert value("precision", CE, y_true, y_pred) == 1.0
    assert value("recall", CE, y_true, y_pred) == 0.75
    assert value("top_2", CE, y_true, y_pred) == value("accuracy", CE, y_true, y_pred) == pytest.approx(2 / 3)
    column = np.array([[1.0], [np.nan], [0.0]])
    assert value("precision", losses.mse, np.array([[1.0], [0.0], [0.0]]), column) == 1.0
    assert value("recall", losses.mse, np.array([[1.0], [1.0], [0.0]]), column) == 0.5
    for name in ("r2", "mean_absolute_error"):
        assert np.isnan(value(name, losses.mse, np.ones((3, 1)), column))
        assert np.isnan(value(name, losses.mse, np.array([[1.0], [np.nan], [0.0]]), np.ones((3, 1))))


def test_top_k_of_equal_and_of_infinite_outputs():
    inf = np.inf
    top = TopK(2)
    assert top.values(np.array([0, 1, 2]), np.zeros((3, 3))).tolist() == [1.0, 1.0, 0.0]
    y_pred = np.array([[inf, 0.0, -inf], [-inf, -inf, -inf], [-inf, 0.0, inf]])
    assert top.values(np.array([2, 1, 0]), y_pred).tolist() == [0.0, 1.0, 0.0]
    assert TopK(1).values(np.array([0, 0, 2]), y_pred).tolist() == [1.0, 1.0, 1.0]
    assert TopK(9).values(np.array([2, 5, -1]), y_pred).tolist() == [1.0, 0.0, 0.0]  # classes 5 and -1 do not exist


def test_accuracy_is_top_1():
    y_true, y_pred = drawn(classes((500, 3)))
    assert np.array_equal(portnn.accuracy(y_true, y_pred), TopK(1).values(y_true, y_pred))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(0), "k must be 1 or more, got 0"),
        (lambda: TopK(2.5), "k must be a whole number, got 2.5"),
        (lambda: setattr(TopK(2), "k", 3), "k of TopK is fixed"),
        (lambda: TopK(2).values(np.zeros(3), np.zeros((3, 1))), r"top_2 needs an output for each class.*\(3, 1\)"),
        (lambda: portnn.f1.sums(np.zeros((3, 2)), np.zeros((3, 4))), r"y_true has shape \(3, 2\), but y_pred has \(3, 4\)"),
        (lambda: portnn.accuracy(np.zeros(2), np.zeros((3, 4))), r"class numbers, one for each row of outputs"),
        (lambda: portnn.r2.sums(np.zeros(3), np.zeros((3, 4))), r"y_true has shape \(3,\) but y_pred has \(3, 4\)"),
    ],
)  # fmt: skip
def test_refusals(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


# -- r2 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["all", "the first batch"])
@pytest.mark.parametrize("weighted", [False, True])
def test_r2_of_targets_far_from_zero(known, weighted, library):
    """float32 targets around a million: accurate to 1e-9, with the offset from all targets or from the first ten."""
    rng, n = np.random.default_rng(2), 3000
    scales = np.array([[1e6, 1.0, -1e6, 1e-3]])
    y_true = (scales * (1.0 + 1e-6 * rng.standard_normal((n, 4)))).astype(np.float32)
    y_pred = (y_true + 1e-7 * scales * rng.standard_normal((n, 4))).astype(np.float32)
    weights = rng.random(n) if weighted else np.ones(n)
    y, p, w = y_true.astype(np.longdouble), y_pred.astype(np.longdouble), weights[:, None]
    spread = (w * (y - (w * y).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    exact = float(np.mean(1.0 - (w * (y - p) ** 2).sum(axis=0) / spread))
    targets, to = library.array(y_true), library.array
    metric = portnn.r2.prepared(targets if known == "all" else targets[:10, ...])
    for size in (n, 128):
        parts = [slice(i, min(i + size, n)) for i in range(0, n, size)]
        sums = sum(
            library.numpy(metric.sums(*map(to, (y_true[i], y_pred[i], *([weights[i]] if weighted else [])))))
            for i in parts
        )
        assert metric.value(sums) == pytest.approx(exact, rel=1e-9)


def test_r2_of_equal_targets():
    y = np.full((7, 1), 0.1)
    assert value("r2", losses.mse, y, y) == 1.0
    assert value("r2", losses.mse, y, y + 0.5) == 0.0
    two = np.concatenate([y, np.arange(7.0)[:, None]], axis=1)
    assert value("r2", losses.mse, two, two + np.array([0.5, 0.0])) == 0.5
    assert value("r2", losses.mse, y[:1], y[:1] + 1.0) == 0.0  # one sample
    for seed in range(20):  # equal wherever the weight is not zero: the sums cancel except for rounding
        rng = np.random.default_rng(seed)
        mixed = np.where(np.arange(50) < 3, 5.0, rng.random())[:, None]
        assert value("r2", losses.mse, mixed, mixed + 0.5, (np.arange(50) >= 3) * rng.random(50), size=7) == 0.0


def test_r2_is_prepared_by_what_is_finite():
    y = np.array([[1.0, np.nan], [3.0, 5.0], [np.inf, np.nan]])
    assert portnn.r2.prepared(y).constant.tolist() == [2.0, 5.0]
    assert portnn.r2.prepared(np.array([1, 2, 6])).constant.tolist() == [3.0]
    assert portnn.r2.prepared(np.full((2, 1), np.nan)).constant.tolist() == [0.0]
    assert portnn.r2.constant is None


# -- names and users' metrics ------------------------------------------------------------------------------------------


def test_names():
    known = ["accuracy", "top_5", "precision", "recall", "f1", "mean_absolute_error", "r2"]
    net = portnn.Network()
    net.use("mse", metrics=[*known, "top_1", TopK(12), portnn.TopK(7)])
    assert [name for name, _ in net.metrics] == [*known, "top_1", "top_12", "top_7"]
    assert list(metrics.METRICS) == known
    for unknown in ("top_0", "top_", "top_05", "top_-1", "top_2.0", "top_" + "9" * 50, "TOP_2", ""):
        assert find(unknown, losses.mse) is None


def test_own_metrics_given_as_themselves_are_those_of_their_names():
    for loss in ("mse", "binary_cross_entropy", "hinge"):
        own = [portnn.accuracy, portnn.precision, portnn.recall, portnn.f1, portnn.mean_absolute_error, portnn.r2]
        by_name, by_object = portnn.Network(), portnn.Network()
        by_name.use(loss, metrics=["accuracy", "precision", "recall", "f1", "mean_absolute_error", "r2"])
        by_object.use(loss, metrics=own)
        assert by_name.metrics == by_object.metrics
        assert (by_object.metrics[3][1] is portnn.f1) == (loss == "mse")


class Largest:
    """A user's metric: the sum of the largest outputs of the batches; it overwrites its arguments."""

    name = "largest"

    def sums(self, y_true, y_pred, weights):
        xp = namespace(y_pred)
        largest = xp.max(y_pred)
        y_pred[...] = 0.0
        return largest

    def value(self, sums):
        return float(sums)


def test_a_users_object(library):
    y = np.array([[1.0], [5.0], [2.0]], np.float32)
    assert value(Largest(), None, y, y, size=2, backend=library.backend) == 7.0
    assert y.max() == 5.0
    net = portnn.Network()
    net.use("mse", metrics=[Largest(), "f1"])
    assert [name for name, _ in net.metrics] == ["largest", "f1"]


def test_a_users_function(library):
    def worst(y_true, y_pred):
        xp = namespace(y_pred)
        error = xp.max(xp.abs(y_true - y_pred), axis=1)
        y_pred[...] = 0.0
        return error

    y_true, y_pred = drawn(numbers(N, 3))
    each = np.abs(y_true - y_pred).max(axis=1)
    assert value(worst, None, y_true, y_pred, backend=library.backend) == pytest.approx(each.mean())
    weighted = value(worst, None, y_true, y_pred, WEIGHTS, size=3, backend=library.backend)
    assert weighted == pytest.approx(np.average(each, weights=WEIGHTS))


def test_what_users_return_is_checked():
    y = np.zeros((3, 2))
    for wrong in (lambda a, b: b, lambda a, b: 1.0, lambda a, b: [1.0] * 3):
        with pytest.raises(ValueError, match=r"metric mine returned .*one value per sample, shape \(3,\)"):
            batch_sums("mine", wrong, y, y, None, CPU)
    metric = Largest()
    metric.sums = lambda *given: [1.0, 2.0]
    with pytest.raises(TypeError, match=r"metric largest: sums returned builtins\.list, but must return an array of"):
        batch_sums("largest", metric, y, y, None, CPU)
    with pytest.raises(TypeError, match=r"got the class TopK: write TopK\(...\)"):
        portnn.Network().use("mse", metrics=[TopK])
