"""network.to_source("keras") of random networks, run under Keras where that is installed; what it lacks is refused."""

import os

import numpy as np
import pytest

import portnn
from drawn_networks import drawn
from pages import difference
from portnn import ActivationLayer, FCLayer, Layer, MaxPoolLayer, Network, ParallelLayer, ResidualLayer


@pytest.fixture
def keras(monkeypatch):
    """Keras, which computes in float64 what the network has in float64."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    from keras.src.backend.common import dtypes

    # On all backends but TensorFlow, Keras takes float32 for float64 in tanh, means and normalization: in this table.
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    if keras.backend.backend() == "jax":
        import jax

        wide = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
    yield keras
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", wide)


def in_keras(network, x, file):
    """What the network's source makes of x."""
    network.save(file)
    names = {}
    exec(compile(network.to_source("keras"), "net.py", "exec"), names)
    model = names["build"]()
    names["load_weights"](model, file)
    y = np.asarray(model(x))
    assert y.dtype == network.dtype
    return y


@pytest.mark.filterwarnings(r"ignore:[\s\S]*softmax over axis")  # of one channel, whose softmax is 1
@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 150))])
def test_networks_that_are_drawn_in_keras(seed, keras, tmp_path):
    (network, x), (exact, wide) = drawn(seed, "float32"), drawn(seed)
    expected = exact.predict(wide)
    rounding = difference(network.predict(x), expected)  # which some of these networks make larger
    assert rounding < 1e-3
    found = in_keras(network, x, tmp_path / "net.portnn.safetensors")
    # Keras normalizes layers and groups as x S - mean S, of which few digits of float32 are left where the mean is large
    # beside 1/S = sqrt(variance + epsilon): of one channel, whose variance is 0, S is 316 with our epsilon. In float64
    # enough are left.
    if not any(type(layer).__name__ in ("LayerNormLayer", "GroupNormLayer") for layer in network.walk()):
        assert difference(found, expected) < 1e-5 + 10 * rounding
    assert difference(in_keras(exact, wide, tmp_path / "wide.portnn.safetensors"), expected) < 1e-9


def test_the_networks_have_every_layer():
    kinds = {type(layer).__name__ for seed in range(150) for layer in drawn(seed)[0].walk()}
    assert kinds == {name for name in portnn.__all__ if name.endswith("Layer")} - {"Layer"}


class Own(Layer):
    def forward(self, X):
        return X

    def backward(self, output_error):
        return output_error


def test_all_that_keras_lacks_is_in_one_error():
    branches = ParallelLayer([Own()], ResidualLayer(Own(), ActivationLayer(np.sin, np.cos)))
    network = Network([FCLayer(3, 3), branches, Own()])
    with pytest.raises(ValueError, match="Keras has no counterpart for 4 of the network's parts") as caught:
        network.to_source("keras")
    listed = str(caught.value).splitlines()[1:]
    assert [line.split()[1] for line in listed] == ["1.0.0", "1.1.0", "1.1.1", "2"]
    network = Network([MaxPoolLayer(1)])
    network.predict(np.zeros((1, 2, 2, 2, 2, 1)))
    with pytest.raises(ValueError, match="it has windows on 3 at most"):
        network.to_source("keras")


def test_momentum_of_drawn_networks():
    """It is seen in training alone, so no prediction shows it."""
    seen = 0
    for seed in range(60):
        network, _ = drawn(seed)
        for language, share in (("torch", lambda m: m), ("keras", lambda m: 1.0 - m)):
            text = network.to_source(language)
            for layer in network.walk():
                if type(layer).__name__ == "BatchNormLayer":
                    assert f"momentum={share(layer.momentum)!r}" in text
                    seen += 1
    assert seen > 20
