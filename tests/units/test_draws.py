"""Random weights, masks and shuffles are the same on every device; what they depend on."""

import hashlib

import numpy as np
import pytest

import portnn
from classifiers import LABELS, X10, classifier, place
from portnn import ConvLayer, DropoutLayer, FCLayer, Network, ReshapeLayer, ResidualLayer, get_backend


def digest(arrays):
    joined = b"".join(np.ascontiguousarray(portnn.to_numpy(a)).tobytes() for a in arrays)
    return hashlib.sha256(joined).hexdigest()


def noisy(seed, backend, dtype="float32"):
    layers = [
        FCLayer(6, 8, initializer="he_normal"),
        DropoutLayer(0.3),
        ResidualLayer(FCLayer(8, 8, initializer="orthogonal"), DropoutLayer(0.5)),
        ReshapeLayer((4, 2)),
        ConvLayer((4, 2), (3,), 5, initializer="lecun_uniform"),
    ]
    return Network(layers, seed=seed, backend=backend, dtype=dtype)


BACKENDS = ["cpu", "numpy", "strict", "pytorch", "replay", pytest.param("gpu", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_masks_and_shuffles_are_the_same_everywhere(backend):
    if backend == "gpu":
        assert get_backend("gpu")
    for seed in range(10):
        digests = []
        for where in ("cpu", place(backend)):
            net = noisy(seed, where)
            parts = list(net.parameters.values())
            for layer in net.walk():
                if isinstance(layer, DropoutLayer):
                    for step in (0, 1, 12345):
                        layer.step = step
                        layer.forward_propagation(layer.backend.asarray(np.ones((3, 8), np.float32)))
                        parts.append(layer.mask)
            parts += [portnn.random.permutation(net.seed, epoch, 50) for epoch in (0, 3)]
            digests.append(digest(parts))
        assert digests[0] == digests[1]


def test_masks_are_those_of_the_documentation():
    """Computed directly with NumPy's Philox generator, with key, counter and words as documented."""
    net = Network([FCLayer(4, 3), ResidualLayer(FCLayer(3, 3), DropoutLayer(0.25))], seed=5)
    layer = net.layers[1].layers[1]
    layer.step = 7
    layer.forward_propagation(np.ones((2, 3)))
    key = np.array([5, int.from_bytes(hashlib.sha256(b"1.1.mask").digest()[:8], "big")], np.uint64)
    raw = np.random.Philox(key=key, counter=np.array([0, 0, 7, 0], np.uint64)).random_raw(3)
    words = raw.view("<u4").astype(np.int64)  # the low half of each word first
    expected = np.where(words >= round(0.25 * 2**32), 1 / 0.75, 0.0).reshape(2, 3)
    assert np.array_equal(layer.mask, expected.astype(np.float32))


def test_masks_change_with_step_seed_and_path_but_not_with_dtype():
    def mask(seed=0, path="0", step=0, dtype="float32"):
        layer = DropoutLayer(0.5)
        layer.build(None, get_backend("cpu"), dtype, seed, path)
        layer.step = step
        layer.forward_propagation(np.ones((8, 8)))
        return (layer.mask > 0).tolist()

    assert mask() == mask(dtype="float64")
    others = [mask(seed=1), mask(path="1"), mask(step=1)]
    assert mask() not in others
    assert others[0] != others[1] != others[2]
    share = np.mean([mask(step=k) for k in range(100)])
    assert share == pytest.approx(0.5, abs=0.02)


def test_recorded_masks_have_not_changed():
    layer = DropoutLayer(0.5)
    layer.build(None, get_backend("cpu"), "float32", 0, "5")
    layer.forward_propagation(np.ones((4, 16)))
    bits = "".join("1" if m else "0" for m in layer.mask.reshape(-1))
    assert hashlib.sha256(bits.encode()).hexdigest()[:16] == RECORDED_MASK


RECORDED_MASK = "02be7bbe52ef4ace"


def test_dropout_trains_by_step_and_is_silent_in_predict():
    net = classifier(FCLayer(6, 64), DropoutLayer(0.5), FCLayer(64, 4))
    assert np.array_equal(net.predict(X10), net.predict(X10))
    net.fit(X10, LABELS, epochs=1, batch_size=20, verbose=0)
    first = net.layers[1].mask.copy()
    net.fit(X10, LABELS, epochs=1, batch_size=20, verbose=0)
    assert not np.array_equal(first, net.layers[1].mask)
