"""What a captured step writes in place: the same as eager steps, whatever else reads the old numbers."""

import numpy as np
import pytest

import portnn
from portnn import SGD, Adam, FCLayer, Layer, Network

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error")]
STEPS = 6


class Sharing(Layer):
    """Y = X * W. Its gradient of ``w`` is the parameter ``v`` itself, and its buffer becomes the old ``w``."""

    def __init__(self):
        self.parameters["w"], self.parameters["v"] = [1.0, 2.0, 3.0], [0.5, -0.5, 0.25]
        self.buffers["old"] = [0.0, 0.0, 0.0]

    def forward(self, X, *, training=False):
        if training:
            self.new_buffers["old"] = self.parameters["w"]
        return X * self.parameters["w"]

    def backward(self, output_error):
        self.gradients["w"], self.gradients["v"] = self.parameters["v"], self.parameters["w"]
        return output_error * self.parameters["w"]


def trained(where, layers, optimizer, epochs=STEPS, **options):
    net = Network(layers(), backend=where, dtype="float64", seed=2)
    net.use("mse", optimizer=optimizer(), **options)
    rng = np.random.default_rng(0)
    net.fit(rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), epochs=epochs, batch_size=4, verbose=0)
    return net


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.05)])
def test_gradients_and_buffers_that_are_parameters(backend, optimizer):
    def layers():
        return [FCLayer(3, 3), Sharing()]

    gpu, cpu = (trained(where, layers, optimizer) for where in ("gpu", "cpu"))
    for path, expected in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), expected, rtol=1e-11), path
    assert np.allclose(backend.to_numpy(gpu.layers[1].buffers["old"]), cpu.layers[1].buffers["old"], rtol=1e-11)


def test_a_metric_reads_the_weights_of_before_the_update(backend):
    found = {}
    for where in ("gpu", "cpu"):
        layer = FCLayer(3, 3)

        def first_weight(y_true, y_pred, layer=layer):
            return y_pred[:, 0] * 0.0 + layer.parameters["weights"][0, 0]

        found[where] = trained(where, lambda layer=layer: [layer], lambda: SGD(0.1), metrics=[first_weight])
    values = [net.history["first_weight"] for net in found.values()]
    assert np.allclose(*values, rtol=1e-11)


def test_an_optimizer_of_a_users_beside_counters_in_place(backend):
    class Own(SGD):
        def update(self, parameters, gradients, slots, hyper):
            return [w - hyper[0] * g for w, g in zip(parameters, gradients, strict=True)], slots

    gpu, cpu = (trained(where, lambda: [FCLayer(3, 3)], lambda: Own(0.1)) for where in ("gpu", "cpu"))
    assert np.allclose(gpu.history["error"], cpu.history["error"], rtol=1e-11)
    assert gpu.step == cpu.step == STEPS


def test_counters_of_another_dtype_than_the_weights(backend):
    """With sample weights the error is float64: it is counted by a kernel of its own."""
    nets = []
    for where in ("gpu", "cpu"):
        net = Network([FCLayer(3, 3)], backend=where, dtype="float32", seed=2)
        net.use("mse", optimizer=SGD(0.1))
        rng = np.random.default_rng(0)
        data = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
        net.fit(*data, epochs=STEPS, batch_size=4, sample_weight=rng.random(8), verbose=0)
        nets.append(net)
    assert np.allclose(nets[0].history["error"], nets[1].history["error"], rtol=1e-5)
    assert nets[0].step == nets[1].step == 2 * STEPS


def test_frozen_layers_stay(backend):
    def layers():
        still = FCLayer(3, 3)
        still.trainable = False
        return [FCLayer(3, 3), portnn.ActivationLayer("tanh"), still]

    gpu, cpu = (trained(where, layers, lambda: Adam(0.05)) for where in ("gpu", "cpu"))
    for path, expected in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), expected, rtol=1e-11), path


def test_more_parameters_than_one_launch_takes(backend):
    def layers():
        return [FCLayer(3, 3) for _ in range(30)]

    gpu, cpu = (trained(where, layers, lambda: SGD(0.01, momentum=0.5)) for where in ("gpu", "cpu"))
    for path, expected in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), expected, rtol=1e-10, atol=1e-13), path
    assert gpu.step == STEPS
