"""network.to_source("keras") of random networks, run under Keras where that is installed; what it lacks is refused."""

import os

import numpy as np
import pytest

import portnn
from leaving import samples
from pages import difference, touched
from portnn import ActivationLayer, FCLayer, Layer, MaxPoolLayer, Network, ParallelLayer, ResidualLayer
from random_networks import drawn


@pytest.mark.filterwarnings(r"ignore:[\s\S]*softmax over axis")  # of one channel, whose softmax is 1
@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(s, marks=pytest.mark.slow) for s in range(12, 150))])
def test_networks_that_are_drawn_in_keras(seed, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("keras", reason="Keras is not installed")
    layers, shape = drawn(seed)
    x = samples(shape).astype("float32")
    network = touched(Network(layers, seed=seed), x)
    network.save(tmp_path / "net.portnn.safetensors")
    names = {}
    exec(compile(network.to_source("keras"), "net.py", "exec"), names)
    model = names["build"]()
    names["load_weights"](model, tmp_path / "net.portnn.safetensors")
    exact = touched(Network(drawn(seed)[0], seed=seed, dtype="float64"), x.astype("float64"))
    expected = exact.predict(x.astype("float64"))
    rounding = difference(network.predict(x), expected)  # which some of these networks make larger
    norms = any(type(layer).__name__ in ("LayerNormLayer", "GroupNormLayer") for layer in network.walk())
    assert difference(np.asarray(model(x)), expected) < (1e-3 if norms else 1e-5 + 10 * rounding)
    assert rounding < 1e-3


def test_the_networks_have_every_layer():
    kinds = {type(layer).__name__ for seed in range(150) for layer in Network(drawn(seed)[0]).walk()}
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
