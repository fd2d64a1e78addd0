"""The article's layers, both as published and written with self.xp, alone and mixed with portnn's layers."""

import array_api_strict
import numpy as np

import article_reference as ref
import portnn
from article_reference import assert_close
from portnn import Network

RATE = 0.1
EPOCHS = 3
SAMPLES = 6

# -- the article's classes: subclasses of Layer that never call super().__init__() and update themselves ---------------


class FCLayer(portnn.Layer):
    def __init__(self, input_size, output_size):
        self.weights = np.random.rand(input_size, output_size) - 0.5  # noqa: NPY002 (the article's own call)
        self.bias = np.random.rand(1, output_size) - 0.5  # noqa: NPY002

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = np.dot(self.input, self.weights) + self.bias
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        weights_error = np.dot(self.input.T, output_error)
        self.weights -= learning_rate * weights_error
        self.bias -= learning_rate * output_error
        return input_error


class ActivationLayer(portnn.Layer):
    def __init__(self, activation, activation_prime):
        self.activation = activation
        self.activation_prime = activation_prime

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = self.activation(self.input)
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        return self.activation_prime(self.input) * output_error


class FlattenLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = input_data.flatten().reshape((1, -1))
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        return output_error.reshape(self.input.shape)


class ConvLayer(portnn.Layer):
    """Has the article's attributes, but not its two errors (docs/erratum.md)."""

    def __init__(self, input_shape, kernel_shape, layer_depth):
        self.input_shape = input_shape
        self.input_depth = input_shape[2]
        self.kernel_shape = kernel_shape
        self.layer_depth = layer_depth
        self.output_shape = (
            input_shape[0] - kernel_shape[0] + 1,
            input_shape[1] - kernel_shape[1] + 1,
            layer_depth,
        )
        self.weights = np.random.rand(*kernel_shape, self.input_depth, layer_depth) - 0.5  # noqa: NPY002
        self.bias = np.random.rand(layer_depth) - 0.5  # noqa: NPY002

    def windows(self):
        for i in range(self.output_shape[0]):
            for j in range(self.output_shape[1]):
                yield i, j, np.s_[i : i + self.kernel_shape[0], j : j + self.kernel_shape[1]]

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = np.zeros(self.output_shape)
        for i, j, window in self.windows():
            self.output[i, j] = np.tensordot(self.input[window], self.weights, 3) + self.bias
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.zeros(self.input_shape)
        weights_error = np.zeros(self.weights.shape)
        for i, j, window in self.windows():
            input_error[window] += np.dot(self.weights, output_error[i, j])
            weights_error += np.multiply.outer(self.input[window], output_error[i, j])
        self.weights -= learning_rate * weights_error
        self.bias -= learning_rate * np.sum(output_error, axis=(0, 1))
        return input_error


def tanh(x):
    return np.tanh(x)


def tanh_prime(x):
    return 1 - np.tanh(x) ** 2


# -- the same, written with self.xp so that they run on every backend --------------------------------------------------


class XpFCLayer(FCLayer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.matmul(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        input_error = self.xp.matmul(output_error, self.weights.T)
        self.weights -= learning_rate * self.xp.matmul(self.input.T, output_error)
        self.bias -= learning_rate * output_error
        return input_error


class XpTanhLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.tanh(input_data)

    def backward_propagation(self, output_error, learning_rate):
        return (1 - self.xp.tanh(self.input) ** 2) * output_error


class XpFlattenLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.reshape(input_data, (1, -1))

    def backward_propagation(self, output_error, learning_rate):
        return self.xp.reshape(output_error, self.input.shape)


class XpConvLayer(ConvLayer):
    def forward_propagation(self, input_data):
        self.input = input_data
        W = self.xp.reshape(self.weights, (-1, self.layer_depth))
        output = self.xp.zeros(self.output_shape, dtype=input_data.dtype, device=self.backend.device)
        for i, j, window in self.windows():
            patch = self.xp.reshape(input_data[(*window, slice(None))], (1, -1))
            output[i, j, :] = self.xp.matmul(patch, W)[0, :] + self.bias
        return output

    def backward_propagation(self, output_error, learning_rate):
        W = self.xp.reshape(self.weights, (-1, self.layer_depth))
        input_error = self.xp.zeros_like(self.input)
        weights_error = self.xp.zeros_like(W)
        for i, j, window in self.windows():
            D = self.xp.reshape(output_error[i, j, :], (1, -1))
            seen = self.input[(*window, slice(None))]
            input_error[(*window, slice(None))] += self.xp.reshape(self.xp.matmul(D, W.T), seen.shape)
            weights_error += self.xp.matmul(self.xp.reshape(seen, (-1, 1)), D)
        self.weights -= learning_rate * self.xp.reshape(weights_error, self.weights.shape)
        self.bias -= learning_rate * self.xp.sum(output_error, axis=(0, 1))
        return input_error


class BatchedFCLayer(FCLayer):
    """Takes whole batches, so the gradient of its bias is summed over the samples."""

    batched = True

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * np.sum(output_error, axis=0, keepdims=True)
        return input_error


class Witness(portnn.Layer):
    """The identity; records the shapes and rates that it gets."""

    def __init__(self):
        self.shapes_in, self.shapes_back, self.rates = [], [], []

    def forward_propagation(self, input_data):
        self.shapes_in.append(tuple(input_data.shape))
        return input_data

    def backward_propagation(self, output_error, learning_rate):
        self.shapes_back.append(tuple(output_error.shape))
        self.rates.append(learning_rate)
        return output_error


# -- networks for rows and for images, in several mixtures -------------------------------------------------------------


def ours_tanh():
    return portnn.ActivationLayer("tanh")


def articles_tanh():
    return ActivationLayer(tanh, tanh_prime)


ROWS = {
    "the article's": lambda: [FCLayer(4, 5), articles_tanh(), FCLayer(5, 3), articles_tanh()],
    "the article's first": lambda: [FCLayer(4, 5), articles_tanh(), portnn.FCLayer(5, 3), ours_tanh()],
    "ours first": lambda: [portnn.FCLayer(4, 5), ours_tanh(), FCLayer(5, 3), articles_tanh()],
    "in turn": lambda: [FCLayer(4, 5), ours_tanh(), portnn.FCLayer(5, 3), articles_tanh()],
    "in turn, ours first": lambda: [portnn.FCLayer(4, 5), articles_tanh(), FCLayer(5, 3), ours_tanh()],
    "the article's class, our functions": lambda: [
        FCLayer(4, 5),
        ActivationLayer(portnn.tanh, portnn.tanh_prime),
        portnn.FCLayer(5, 3),
        portnn.ActivationLayer(tanh, tanh_prime),
    ],
    "with self.xp": lambda: [XpFCLayer(4, 5), XpTanhLayer(), XpFCLayer(5, 3), XpTanhLayer()],
    "with self.xp, and ours": lambda: [XpFCLayer(4, 5), ours_tanh(), portnn.FCLayer(5, 3), XpTanhLayer()],
}
IMAGE = (5, 4, 3)  # (H, W, C); the convolution's output is (4, 3, 2)
IMAGES = {
    "the article's": lambda: [ConvLayer(IMAGE, (2, 2), 2), articles_tanh(), FlattenLayer(), FCLayer(24, 3)],
    "the article's first": lambda: [
        ConvLayer(IMAGE, (2, 2), 2),
        articles_tanh(),
        portnn.FlattenLayer(),
        portnn.FCLayer(24, 3),
    ],
    "ours first": lambda: [portnn.ConvLayer(IMAGE, (2, 2), 2), ours_tanh(), FlattenLayer(), FCLayer(24, 3)],
    "in turn": lambda: [ConvLayer(IMAGE, (2, 2), 2), ours_tanh(), FlattenLayer(), portnn.FCLayer(24, 3)],
    "in turn, ours first": lambda: [
        portnn.ConvLayer(IMAGE, (2, 2), 2),
        articles_tanh(),
        portnn.FlattenLayer(),
        FCLayer(24, 3),
    ],
    "with self.xp": lambda: [XpConvLayer(IMAGE, (2, 2), 2), XpTanhLayer(), XpFlattenLayer(), XpFCLayer(24, 3)],
    "with self.xp, and ours": lambda: [
        XpConvLayer(IMAGE, (2, 2), 2),
        ours_tanh(),
        XpFlattenLayer(),
        portnn.FCLayer(24, 3),
    ],
}


def strict():
    return portnn.get_backend(array_api_strict, device=array_api_strict.Device("device1"))


def network(layers, backend="cpu", dtype="float64", **use):
    net = Network(layers, backend=backend, dtype=dtype, seed=3)
    net.use("mse", **use)
    return net


def reference(layers):
    """The same layers with the same values in plain NumPy."""
    made = []
    for layer in layers:
        if isinstance(layer, (FCLayer, portnn.FCLayer)):
            made.append(ref.Connected(portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias)))
        elif isinstance(layer, (ConvLayer, portnn.ConvLayer)):
            made.append(ref.Convolution(portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias)))
        elif "Flatten" in type(layer).__name__:
            made.append(ref.Flatten())
        else:
            made.append(ref.Activation("tanh"))
    return ref.Reference(made)


def weights(layers):
    """(W, B) of each layer that has them, on the host."""
    return [
        (portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias))
        for layer in layers
        if isinstance(layer, (FCLayer, ConvLayer, portnn.FCLayer, portnn.ConvLayer))
    ]


def assert_weights(layers, expected, rtol=1e-12):
    own = [layer.parameters for layer in expected.layers if layer.parameters]
    for (W, B), (W_expected, B_expected) in zip(weights(layers), own, strict=True):
        assert_close(W, W_expected, rtol, "weights")
        assert_close(B, B_expected, rtol, "bias")


def rows(sample=(1, 4), target=(1, 3)):
    rng = np.random.default_rng(2)
    return rng.uniform(-1, 1, (SAMPLES, *sample)), rng.uniform(-0.5, 0.5, (SAMPLES, *target))
