"""Random numbers: determined by seed and path, the same on every backend and in every version."""

import hashlib

import numpy as np
import pytest

from portnn import FCLayer, Network, random
from portnn.initializers import NAMES, draw


def test_words_are_philoxs():
    """The first words of Philox 4x64-10, computed here from the paper's definition."""
    mask = (1 << 64) - 1

    def philox(counter, key):
        c, k = list(counter), list(key)
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(b >> 64) ^ c[1] ^ k[0], b & mask, (a >> 64) ^ c[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        return c

    key = random.key(42, "0.weights")
    assert key == (42, int.from_bytes(hashlib.sha256(b"0.weights").digest()[:8], "big"))
    expected = [*philox((1, 0, 7, 0), key), *philox((2, 0, 7, 0), key)]  # the counter is incremented before use
    assert random.words(key, 7, 8).tolist() == expected


def test_bits_are_the_halves_of_words_low_half_first(library):
    key = random.key(1, "5.mask")
    w = random.words(key, 3, 4).tolist()
    halves = [half for word in w for half in (word & 0xFFFFFFFF, word >> 32)]
    for n in (0, 1, 5, 8):
        bits = library.backend.random_bits(key, 3, n)
        assert library.backend.owns(bits)
        assert library.numpy(bits).dtype == np.int64
        assert library.numpy(bits).tolist() == halves[:n]


def test_streams_differ_by_seed_path_and_step():
    draws = {tuple(random.words(random.key(s, p), k, 4).tolist()) for s in (0, 1) for p in "ab" for k in (0, 1)}
    assert len(draws) == 8


def test_uniform_and_normal_have_their_moments():
    u = random.uniform(random.key(0, "u"), 0, (100, 1000))
    assert 0.0 <= u.min() < u.max() < 1.0
    assert u.mean() == pytest.approx(0.5, abs=0.005)
    assert u.var() == pytest.approx(1 / 12, rel=0.01)
    z = random.normal(random.key(0, "z"), 0, (100, 1000))
    assert z.mean() == pytest.approx(0.0, abs=0.01)
    assert z.var() == pytest.approx(1.0, rel=0.01)
    assert (z**4).mean() == pytest.approx(3.0, rel=0.05)


def test_a_permutation_visits_every_sample_once():
    order = random.permutation(0, 0, 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != random.permutation(0, 1, 1000).tolist()
    assert order.tolist() == random.permutation(0, 0, 1000).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_initializers_have_their_spread(name):
    w = draw(name, (300, 200), (300, 200), 0, "0.weights")
    variance = {
        "glorot": 2 / 500,
        "he": 2 / 300,
        "lecun": 1 / 300,
        "article": 1 / 12,
        "orthogonal": 1 / 300,
        "zeros": 0.0,
    }[name.partition("_")[0]]
    assert w.shape == (300, 200)
    assert w.var() == pytest.approx(variance, rel=0.02)
    assert w.mean() == pytest.approx(0.0, abs=0.01)


def test_initial_weights_have_not_changed():
    """Compared with a recorded digest: a seed gives the same network in every release."""
    net = Network([FCLayer(2, 3)], seed=0, dtype="float64")
    digest = hashlib.sha256(net.layers[0].weights.astype("<f8").tobytes()).hexdigest()
    assert digest.startswith("7cd4b58d557223fb")


def test_no_seed_draws_one_and_keeps_it():
    first, second = Network([FCLayer(2, 3)]), Network([FCLayer(2, 3)])
    assert first.seed != second.seed
    again = Network([FCLayer(2, 3)], seed=first.seed)
    assert np.array_equal(again.layers[0].weights, first.layers[0].weights)
