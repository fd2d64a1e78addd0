"""Two layers of your own on either backend: one written as in the article, one with forward and backward."""

import argparse
import warnings

import numpy as np

from portnn import ActivationLayer, FCLayer, Layer, Network

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=1000)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()


class ArticleLayer(Layer):
    """As in the article: it takes one sample at a time and updates its own weights.

    ``self.xp`` is the array namespace of the network's backend; written with it instead of ``np``, the layer also runs
    on the GPU.
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
    """Y = G * X with a learned G (n,); dE/dX = G * dE/dY, dE/dG = sum of dE/dY * X over all axes but the last.

    It takes whole batches, and the optimizer makes the update.
    """

    def __init__(self, n):
        self.parameters["gain"] = np.ones(n)

    def forward(self, X):
        return self.parameters["gain"] * X

    def backward(self, output_error):
        axes = tuple(range(output_error.ndim - 1))
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=axes)
        return self.parameters["gain"] * output_error


x_train = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y_train = np.array([[0], [1], [1], [0]])

print("A layer with forward and backward, in batches of four:")
net = Network(
    [FCLayer(2, 8), Gain(8), ActivationLayer("tanh"), FCLayer(8, 1)], backend=options.backend, seed=options.seed
)
net.use("mse")
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.3, batch_size=4, verbose=0)
print(net.predict(x_train).round(2).ravel(), f"error={net.evaluate(x_train, y_train)['error']:.6f}")

# On a GPU steps with a layer that updates itself are not captured, and a warning says so.
warnings.filterwarnings("ignore", message="training runs eagerly")

print("A layer as in the article, next to portnn's layers, one sample at a time:")
net = Network([FCLayer(2, 8), ActivationLayer("tanh"), ArticleLayer(8, 1)], backend=options.backend, seed=options.seed)
net.use("mse")
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.1, verbose=0)
print(net.predict(x_train).round(2).ravel(), f"error={net.evaluate(x_train, y_train)['error']:.6f}")
