"""predict_classes and predict_proba compared with formulas, and evaluate over batches."""

import numpy as np
import pytest

from portnn import FCLayer, Network
from replay import ReplayBackend

X = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
LOSSES = ["mse", "mae", "hinge", "binary_cross_entropy", "softmax_cross_entropy"]


@pytest.fixture(params=["cpu", "replay", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend(request):
    return ReplayBackend() if request.param == "replay" else request.param


def network(loss=None, outputs=3, where="cpu", **options):
    net = Network([FCLayer(3, outputs)], backend=where, seed=1)
    if loss is not None:
        net.use(loss, **options)
    return net


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", [None, *LOSSES])
def test_classes(loss, outputs, backend):
    net = network(loss, outputs, backend)
    Y = net.predict(X)
    limit = 0.0 if loss in ("hinge", "binary_cross_entropy") else 0.5
    expected = np.argmax(Y, axis=1) if outputs > 1 else (Y[:, 0] > limit).astype(int)
    for size in (1024, 4, 1):
        found = net.predict_classes(X, batch_size=size)
        assert type(found) is np.ndarray
        assert found.dtype == np.int64
        assert found.tolist() == expected.tolist()
    assert net.predict_classes(X[:0]).shape == (0,)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", [None, *LOSSES])
def test_probabilities(loss, outputs, backend):
    net = network(loss, outputs, backend)
    if loss not in ("binary_cross_entropy", "softmax_cross_entropy"):
        with pytest.raises(RuntimeError, match=r"does not say what its outputs mean.*predict_proba needs use"):
            net.predict_proba(X)
        return
    Y = net.predict(X).astype(np.float64)
    powers = np.exp(Y - Y.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True) if loss.startswith("soft") else 1 / (1 + np.exp(-Y))
    for size in (1024, 4):
        found = net.predict_proba(X, batch_size=size)
        assert type(found) is np.ndarray
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-6)
    assert isinstance(net.predict_proba(X.tolist()), np.ndarray)


def test_evaluate_over_batches_is_evaluate_over_samples(backend):
    net = network("softmax_cross_entropy", where=backend, metrics=["accuracy", "f1"])
    y = np.arange(11) % 3
    weights = np.linspace(0.0, 1.0, 11)
    for w in (None, weights):
        whole = net.evaluate(X, y, sample_weight=w)
        parts = [(X[k : k + 4], y[k : k + 4], *(() if w is None else (w[k : k + 4],))) for k in (0, 4, 8)]
        for given in (parts, iter(parts), lambda parts=parts: iter(parts)):
            found = net.evaluate(given)
            assert found == pytest.approx(whole, rel=1e-5)
        assert net.evaluate(X, y, batch_size=4, sample_weight=w) == pytest.approx(whole, rel=1e-5)
    assert net.evaluate(X, y, sample_weight=np.zeros(11))["error"] == 0.0


def test_evaluate_changes_nothing():
    net = network("softmax_cross_entropy")
    before = {path: np.array(array) for path, array in net.parameters.items()}
    net.evaluate(X, np.arange(11) % 3)
    assert all(np.array_equal(net.parameters[path], array) for path, array in before.items())
    assert (net.step, net.epoch, dict(net.history)) == (0, 0, {"error": []})


def test_bad_calls_of_evaluate():
    net = network("softmax_cross_entropy")
    y = np.arange(11) % 3
    with pytest.raises(ValueError, match="gave none"):
        net.evaluate(iter([]))
    with pytest.raises(ValueError, match="together with an iterable"):
        net.evaluate([(X, y)], sample_weight=np.ones(11))
    with pytest.raises(TypeError, match="evaluate needs the targets y"):
        net.evaluate(X)
    with pytest.raises(RuntimeError, match="no loss"):
        network().evaluate(X, y)


def test_an_empty_validation_is_an_error_before_anything_changes():
    net = network("softmax_cross_entropy")
    with pytest.raises(ValueError, match="gave none"):
        net.fit(X, np.arange(11) % 3, epochs=2, learning_rate=0.1, verbose=0, validation_data=lambda: iter([]))
    assert (net.step, net.epoch) == (0, 0)
