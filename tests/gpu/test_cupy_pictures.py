"""Pictures of networks on the GPU: drawn from what their arrays hold, on the host."""

import numpy as np
import pytest

from pictures import XOR, panels
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Network, plot, to_device, to_numpy

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.gpu


def test_every_picture_of_a_network_on_the_gpu():
    x, y = XOR
    net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=1, backend="gpu")
    net.use("mse")
    history = net.fit(x, y, epochs=3, learning_rate=0.1, verbose=0)
    there = to_device(x.astype(np.float32), "gpu")
    assert plot.history(history).axes
    assert "of 4 samples right" in plot.boundary(net, there, to_device(y, "gpu")).get_title("left")
    assert len(plot.gradients(net).patches) == 4
    matrix = panels(plot.weights(net.layers[0]))[0].images[0].get_array()
    np.testing.assert_array_equal(matrix, to_numpy(net.layers[0].weights))
    (ax,) = panels(plot.activations(net, there, layer=1))
    assert np.abs(ax.images[0].get_array()).max() <= 1.0
    np.testing.assert_allclose(
        ax.images[0].get_array(), np.tanh(to_numpy(net.layers[0](there)))[:, 0], rtol=1e-5, atol=1e-6
    )
    assert net._repr_html_()


def test_images_on_the_gpu():
    net = Network([ConvLayer((6, 6, 1), (3, 3), 2), FlattenLayer(), FCLayer(32, 3)], seed=1, backend="gpu")
    images = np.random.default_rng(0).random((4, 6, 6, 1), dtype=np.float32)
    there, y = to_device(images, "gpu"), to_device(np.array([0, 1, 2, 0]), "gpu")
    shown = panels(plot.digits(there, y, net.predict(there)))
    np.testing.assert_array_equal(shown[2].images[0].get_array(), images[2, ..., 0])
    assert plot.confusion(y, net.predict(there)).texts
    assert len(panels(plot.filters(net.layers[0]))) == 2
    assert len(panels(plot.activations(net, there, layer=0))) == 4 * 3
