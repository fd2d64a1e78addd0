"""Two layers of your own, one written as in the article, one in portnn's form, on either backend."""

import argparse

import numpy as np

from portnn import ActivationLayer, FCLayer, Layer, Network

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=1000)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()


class ArticleLayer(Layer):
    """As in the article: one sample at a time, and the layer updates its own weights.

    Written with ``self.xp`` instead of ``np`` it runs on every backend.
    """

    def __init__(self, input_size, output_size):
        self.weights = np.random.default_rng(options.seed).random((input_size, output_size)) - 0.5

    def forward_propagation(self, input):
        self.input = input
        return self.xp.matmul(input, self.weights)

    def backward_propagation(self, output_error, learning_rate):
        input_error = self.xp.matmul(output_error, self.weights.T)
        self.weights -= learning_rate * self.xp.matmul(self.input.T, output_error)
        return input_error


class Gain(Layer):
    """In portnn's form: whole batches, and the network makes the step. Y = G * X with a learned G (n,).

    dE/dG = sum of dE/dY * X over all axes but the last, dE/dX = G * dE/dY.
    """

    def __init__(self, n):
        self.parameters["gain"] = np.ones(n)

    def forward(self, X, *, training=False):
        if training:
            self.input = X
        return self.parameters["gain"] * X

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=tuple(range(self.input.ndim - 1)))
        return self.parameters["gain"] * output_error


x_train = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y_train = np.array([[0], [1], [1], [0]])

print("A layer in portnn's form, in batches of four:")
net = Network(
    [FCLayer(2, 8), Gain(8), ActivationLayer("tanh"), FCLayer(8, 1)], backend=options.backend, seed=options.seed
)
net.use("mse")
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.3, batch_size=4, verbose=0)
print(net.predict(x_train).round(2).ravel(), f"error={net.evaluate(x_train, y_train)['error']:.6f}")

print("A layer as in the article, beside ours, one sample at a time:")
net = Network([FCLayer(2, 8), ActivationLayer("tanh"), ArticleLayer(8, 1)], backend=options.backend, seed=options.seed)
net.use("mse")
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.1, verbose=0)
print(net.predict(x_train).round(2).ravel(), f"error={net.evaluate(x_train, y_train)['error']:.6f}")
