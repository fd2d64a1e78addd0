"""The state of a network in tests: its leaves, whether two states are equal, and some networks."""

import numpy as np

from portnn import (
    ActivationLayer,
    Adam,
    AvgPoolLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ScaleLayer,
)


def leaves(net):
    """Copies of all parameters, buffers and slots, by kind and path."""
    found = {f"parameter {path}": a for path, a in net.parameters.items()}
    for layer in net.walk():
        found |= {f"buffer {layer.path}.{name}": a for name, a in layer.buffers.items()}
    for kind, home in net.slots.items():
        found |= {f"{kind} {path}": a for path, a in home.items()}
    return {name: np.array(net.backend.to_numpy(a)) for name, a in found.items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def lenet():
    return [
        ConvLayer((12, 12, 1), (3, 3), 6, padding="same"),
        ActivationLayer("tanh"),
        AvgPoolLayer(2),
        ConvLayer((6, 6, 6), (3, 3), 8),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        FlattenLayer(),
        FCLayer(32, 40),
        ActivationLayer("tanh"),
        FCLayer(40, 3),
    ]


def trained(*layers, optimizer=None, sample=20, steps=3):
    net = Network(layers, seed=1)
    net.use("mse", optimizer=optimizer or Adam(1e-2))
    x = np.random.default_rng(0).standard_normal((4, sample)).astype(np.float32)
    for _ in range(steps):
        net.fit(x, np.ones(net.predict(x).shape), epochs=1, batch_size=4, verbose=0)
    return net, x


def slow_network(action, at=3):
    """A network with a layer that calls ``action`` in the forward pass of step ``at``."""

    class Acts(ScaleLayer):
        count = 0

        def forward(self, X, *, training=False):
            if training:
                self.count += 1
                if self.count == at:
                    action()
            return super().forward(X)

    net = Network([FCLayer(3, 3), Acts(1.0)], seed=0)
    net.use("mse")
    return net


def fit(net, **options):
    return net.fit(np.ones((8, 3)), np.zeros((8, 3)), epochs=1, learning_rate=0.1, verbose=0, **options)


class ArticleGain(Layer):
    def __init__(self):
        self.weights = np.ones((1, 4))

    def forward_propagation(self, input):
        self.input = input
        return input * self.weights

    def backward_propagation(self, output_error, learning_rate):
        self.weights = self.weights - learning_rate * output_error * self.input
        return output_error
