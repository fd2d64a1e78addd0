"""Losses with sample weights: 0 ignores a sample, 2 counts it twice; on every array library, and captured."""

import numpy as np
import pytest

import portnn
from array_libraries import Library, pytorch_backend, strict_backend
from cases import LOSSES
from portnn import losses, ops
from replay import ReplayBackend

N, CLASSES = 6, 3
cases = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
PLACES = [
    "numpy, portable",
    "numpy, fast",
    "array-api-strict",
    "pytorch",
    pytest.param("cupy", marks=pytest.mark.gpu),
]


class Place(Library):
    """An array library on which losses run as they do in a network."""

    def run(self, function, *host):
        """The result of a loss as a NumPy array; checks that it has the dtype of the outputs."""
        kernels = "portable" if "portable" in self.name else "auto"
        with self.backend.scope():
            found = ops.implementation(self.backend, kernels, function)(*map(self.array, host))
            assert self.backend.owns(found)
        found = np.asarray(self.numpy(found))
        assert found.dtype == host[1].dtype
        return found


@pytest.fixture(params=PLACES)
def place(request):
    name = request.param
    if name == "array-api-strict":
        request.getfixturevalue("no_hidden_reads")
        return Place(name, strict_backend())
    if name == "pytorch":
        return Place(name, pytorch_backend())
    return Place(name, portnn.get_backend("gpu" if name == "cupy" else "cpu"))


def data(case, shape=(N, CLASSES), seed=3):
    """Targets and outputs for a loss; in the shape (N, rows, C) every row has a target."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape[:-1]))
    y_true = case.targets(rng, n, shape[-1])
    y_true = y_true.reshape(*shape[:-1], *y_true.shape[1:])
    return y_true, 2.0 * rng.standard_normal(shape)


SHAPES = [(N, CLASSES), (N, 1, CLASSES), (N, 2, CLASSES), (N, 1)]
WEIGHTS = np.array([1.0, 0.0, 2.0, 1.0, 0.0, 3.0])
REPEATED = np.repeat(np.arange(N), WEIGHTS.astype(int))


@cases
def test_whole_weights_leave_out_and_repeat(case, place):
    for shape in SHAPES:
        y_true, y_pred = data(case, shape)
        error = place.run(case.loss, y_true, y_pred, WEIGHTS)
        assert error.shape == ()
        assert error == pytest.approx(case.loss(y_true[REPEATED], y_pred[REPEATED]), rel=1e-12)
        slope, expected = place.run(case.prime, y_true, y_pred, WEIGHTS), np.zeros(shape)
        np.add.at(expected, REPEATED, case.prime(y_true[REPEATED], y_pred[REPEATED]))
        assert slope.shape == shape
        assert np.allclose(slope, expected, rtol=1e-12, atol=1e-15)
        assert not slope[WEIGHTS == 0.0].any()


@cases
def test_any_weights(case, place):
    """The weighted mean: sum(w * e) / sum(w), where e is the error of one sample alone."""
    weights = np.random.default_rng(1).random(N) * [1.0, 1e-3, 1.0, 1e3, 0.0, 1.0]
    shares = weights / weights.sum()
    for shape in SHAPES:
        y_true, y_pred = data(case, shape)
        alone = np.array([case.loss(y_true[i : i + 1], y_pred[i : i + 1]) for i in range(N)])
        slopes = np.concatenate([case.prime(y_true[i : i + 1], y_pred[i : i + 1]) for i in range(N)])
        assert place.run(case.loss, y_true, y_pred, weights) == pytest.approx(np.sum(shares * alone), rel=1e-12)
        expected = slopes * shares.reshape(-1, *(1,) * (len(shape) - 1))
        assert np.allclose(place.run(case.prime, y_true, y_pred, weights), expected, rtol=1e-12, atol=1e-15)


@cases
def test_equal_weights_change_nothing(case, place):
    y_true, y_pred = data(case)
    for weight in (1.0, 0.3, 7.0):
        weights = np.full(N, weight)
        assert place.run(case.loss, y_true, y_pred, weights) == pytest.approx(case.loss(y_true, y_pred), rel=1e-13)
        assert np.allclose(place.run(case.prime, y_true, y_pred, weights), case.prime(y_true, y_pred), rtol=1e-12)


@cases
def test_weights_of_any_dtype_beside_float32(case, place):
    y_true, y_pred = data(case)
    y_true = y_true.astype(np.float32) if y_true.dtype.kind == "f" else y_true
    y_pred = y_pred.astype(np.float32)
    exact = case.loss(y_true, y_pred.astype(float), WEIGHTS), case.prime(y_true, y_pred.astype(float), WEIGHTS)
    for kind in ("float64", "float32", "int64", "uint8"):
        weights = WEIGHTS.astype(kind)
        assert place.run(case.loss, y_true, y_pred, weights) == pytest.approx(exact[0], rel=1e-5)
        assert np.allclose(place.run(case.prime, y_true, y_pred, weights), exact[1], rtol=1e-4, atol=1e-6)


@cases
def test_a_sum_of_zero(case, place):
    y_true, y_pred = data(case)
    for bad in (0.0, np.nan, np.inf):
        error = place.run(case.loss, y_true, y_pred + bad, np.zeros(N))
        assert error == 0.0
        assert not np.signbit(error)
        slope = place.run(case.prime, y_true, y_pred + bad, np.zeros(N))
        assert slope.shape == y_pred.shape
        assert not slope.any()


@cases
def test_what_a_sample_of_weight_zero_holds_does_not_matter(case, place):
    y_true, y_pred = data(case, (N, 2, CLASSES))
    error, slope = (place.run(f, y_true, y_pred, WEIGHTS) for f in (case.loss, case.prime))
    for bad in (np.nan, np.inf, -np.inf):
        y_pred[1, 0, 1] = y_pred[4, :, :] = bad
        if y_true.dtype.kind == "f":
            y_true[1] = bad
        assert place.run(case.loss, y_true, y_pred, WEIGHTS) == error
        assert np.array_equal(place.run(case.prime, y_true, y_pred, WEIGHTS), slope)
    y_pred[4] = np.nan
    small = np.where(WEIGHTS == 0.0, 1e-3, WEIGHTS)  # small weights do count
    assert np.isnan(place.run(case.loss, y_true, y_pred, small))
    assert np.isnan(place.run(case.prime, y_true, y_pred, small)[4]).any()


@cases
def test_such_a_sample_warns_of_nothing(case):
    """Called directly, outside a network: samples of weight 0 cause no overflow and no invalid operation."""
    y_true, y_pred = data(case)
    y_pred[1, 0], y_pred[4, :] = np.inf, [np.inf, np.nan, -np.inf]
    if y_true.dtype.kind == "f":
        y_true[1] = np.inf
    with np.errstate(all="raise"):
        assert np.isfinite(case.loss(y_true, y_pred, WEIGHTS))
        assert np.isfinite(case.prime(y_true, y_pred, WEIGHTS)).all()


@cases
def test_the_derivative_is_that_of_the_weighted_mean(case):
    y_true, y_pred = data(case, (N, 2, CLASSES))
    weights = np.random.default_rng(1).random(N)
    weights[2] = 0.0
    direction, h = np.random.default_rng(2).standard_normal(y_pred.shape), 1e-6
    ahead, behind = (case.loss(y_true, y_pred + step * direction, weights) for step in (h, -h))
    exact = np.sum(case.prime(y_true, y_pred, weights) * direction)
    assert (ahead - behind) / (2 * h) == pytest.approx(exact, rel=1e-7)


@cases
def test_no_samples(case, place):
    y_true, y_pred = data(case, (0, CLASSES))
    assert place.run(case.loss, y_true, y_pred, np.zeros(0)) == 0.0
    assert place.run(case.prime, y_true, y_pred, np.zeros(0)).shape == (0, CLASSES)


@cases
def test_inputs_stay_as_they_are(case, place):
    given = [*data(case), WEIGHTS]
    arrays, kept = [place.array(a) for a in given], [a.copy() for a in given]
    for function in (case.loss, case.prime):
        with place.backend.scope():
            ops.implementation(place.backend, "auto", function)(*arrays)
    assert all(np.array_equal(place.numpy(a), b) for a, b in zip(arrays, kept, strict=True))


@cases
def test_any_memory_order(case):
    cpu = Place("numpy, fast", portnn.get_backend("cpu"))
    y_true, y_pred = data(case, (N, 2, CLASSES))
    for function in (case.loss, case.prime):
        straight = cpu.run(function, y_true, y_pred, WEIGHTS)
        fast = ops.implementation(cpu.backend, "auto", function)
        turned = fast(np.asfortranarray(y_true), np.asfortranarray(y_pred), np.repeat(WEIGHTS, 2)[::2])
        assert np.allclose(turned, straight, rtol=1e-13)


@cases
def test_weights_of_a_wrong_shape(case):
    for function in (case.loss, case.prime):
        for shape in ((N + 1,), (N, 1), (1,), ()):
            with pytest.raises(ValueError, match=r"weights have shape \(.*\), but y_pred has \(6, 3\): .* \(N,\)"):
                function(*data(case), np.ones(shape))
        with pytest.raises(TypeError, match=r"weights must be an array \(N,\), one number for each sample, got list"):
            function(*data(case), [1.0] * N)


def test_shapes_are_compared_before_weights_are_used():
    with pytest.raises(ValueError, match=r"y_true has shape \(6,\) but y_pred has \(6, 3\)"):
        losses.mse(np.zeros(N), np.zeros((N, 3)), WEIGHTS)


@pytest.mark.parametrize("n", [1000, 200_000])
def test_sums_of_many_samples_in_float32(n, place):
    """The sums are as accurate as blockwise summation."""
    y, t = np.full((n, 2), 0.1, np.float32), np.zeros((n, 2), np.float32)
    weights = np.where(np.arange(n) % 4 == 0, 0.0, 0.7).astype(np.float32)
    exact = {"mse": 0.01, "mae": 0.1, "hinge": 1.0, "binary_cross_entropy": np.log1p(np.exp(0.1))}
    for name, error in exact.items():
        assert place.run(losses.PAIRS[name][0], t, y, weights) == pytest.approx(error, rel=1e-6), name
    labels = np.zeros(n, np.int64)
    assert place.run(losses.softmax_cross_entropy, labels, y, weights) == pytest.approx(np.log(2.0), rel=1e-6)
    slope = place.run(losses.mse_prime, t, y, weights)
    assert slope.sum(dtype=float) == pytest.approx(0.2, rel=1e-6)


# -- captured ----------------------------------------------------------------------------------------------------------


class Descent:
    """A step to capture: gradient descent on the outputs; each step exchanges the weights 0 and 2."""

    eager_reason, inputs = None, []

    def __init__(self, backend, case):
        y_true, y_pred = data(case)
        self.backend, self.y_true = backend, backend.asarray(y_true)
        weights = np.array([0.0, 2.0, 1.0, 0.0, 1.0, 2.0])
        self.home = {"Y": y_pred, "weights": weights, "error": np.zeros(())}
        self.home = {name: backend.asarray(array) for name, array in self.home.items()}
        self.places = [(self.home, name) for name in self.home]
        self.loss, self.prime = (ops.implementation(backend, "auto", f) for f in (case.loss, case.prime))

    def __call__(self):
        Y, weights = self.home["Y"], self.home["weights"]
        error = self.loss(self.y_true, Y, weights)
        return [Y - 0.5 * self.prime(self.y_true, Y, weights), 2.0 - weights, error]

    def use_device_counters(self):
        pass

    def commit(self, leaves):
        self.home.update(zip(self.home, leaves, strict=True))

    def values(self):
        return {name: np.array(self.backend.to_numpy(array)) for name, array in self.home.items()}


@cases
@pytest.mark.parametrize("where", ["replay", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_in_a_captured_step(case, where):
    backend = ReplayBackend() if where == "replay" else portnn.get_backend("gpu")
    with backend.scope():
        captured, eager = Descent(backend, case), Descent(portnn.get_backend(np), case)
        step = backend.compile(captured, captured)
        for _ in range(6):
            step()
            eager.commit(eager())
            for name, value in captured.values().items():
                assert np.allclose(value, eager.home[name], rtol=1e-12, atol=1e-15), name
