"""Scripts in the manner of the article's, with its imports and calls, for ``portnn run``; and what they must print.

The scripts are the tests' own: the originals carry no licence. ``xor``, ``conv`` and ``mnist`` compute the errors of the same training by
``article_reference``, which shares no code with portnn, from the weights that the article's layers would draw.
"""

import numpy as np
import pytest

from article_reference import Activation, Connected, Convolution, Flatten, Reference

XOR = """
import numpy as np

from network import Network
from fc_layer import FCLayer
from activation_layer import ActivationLayer
from activations import tanh, tanh_prime
from losses import mse, mse_prime

# training data
x_train = np.array([[[0,0]], [[0,1]], [[1,0]], [[1,1]]])
y_train = np.array([[[0]], [[1]], [[1]], [[0]]])

# network
net = Network()
net.add(FCLayer(2, 3))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(3, 1))
net.add(ActivationLayer(tanh, tanh_prime))

# train
net.use(mse, mse_prime)
net.fit(x_train, y_train, epochs=%(epochs)d, learning_rate=0.1)

# test
out = net.predict(x_train)
print(out)
"""

DATA = """
from network import Network
from fc_layer import FCLayer
from conv_layer import ConvLayer
from flatten_layer import FlattenLayer
from activation_layer import ActivationLayer
from activations import tanh, tanh_prime
from losses import mse, mse_prime

from keras.datasets import mnist
from keras.utils import np_utils

(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape(x_train.shape[0], %(shape)s)
x_train = x_train.astype('float32')
x_train /= 255
y_train = np_utils.to_categorical(y_train)
x_test = x_test.reshape(x_test.shape[0], %(shape)s)
x_test = x_test.astype('float32')
x_test /= 255
y_test = np_utils.to_categorical(y_test)
net = Network()
"""

TRAIN = """
net.use(mse, mse_prime)
net.fit(x_train[0:%(samples)d], y_train[0:%(samples)d], epochs=%(epochs)d, learning_rate=%(rate)g)

out = net.predict(x_test[0:3])
print("\\n")
print("predicted values : ")
print(out, end="\\n")
print("true values : ")
print(y_test[0:3])
"""

MNIST_FC = f"""{DATA}
net.add(FCLayer(28*28, 100))                # input_shape=(1, 28*28)    ;   output_shape=(1, 100)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(100, 50))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(50, 10))
net.add(ActivationLayer(tanh, tanh_prime))
{TRAIN}"""

MNIST_CONV = f"""{DATA}
net.add(ConvLayer((28, 28, 1), (3, 3), 1))  # input_shape=(28, 28, 1)   ;   output_shape=(26, 26, 1)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FlattenLayer())                     # output_shape=(1, 26*26*1)
net.add(FCLayer(26*26*1, 100))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(100, 10))
net.add(ActivationLayer(tanh, tanh_prime))
{TRAIN}"""

# Data drawn by the article's generator, lists of arrays, several filters.
CONV = """
import numpy as np
from network import Network
from conv_layer import ConvLayer
from activation_layer import ActivationLayer
from activations import tanh, tanh_prime
from losses import mse, mse_prime

x_train = [np.random.rand(10,10,1)]
y_train = [np.random.rand(4,4,%(filters)d)]

net = Network()
net.add(ConvLayer((10,10,1), (3,3), 1))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(ConvLayer((8,8,1), (3,3), 1))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(ConvLayer((6,6,1), (3,3), %(filters)d))
net.add(ActivationLayer(tanh, tanh_prime))

net.use(mse, mse_prime)
net.fit(x_train, y_train, epochs=%(epochs)d, learning_rate=0.3)

out = net.predict(x_train)
print("predicted = ", out)
print("expected = ", y_train)
"""

# The article's own network and layers in other words, for scripts whose folder has some of them.
NETWORK = """
class Network:
    def __init__(self):
        self.layers = []

    def add(self, layer):
        self.layers.append(layer)

    def use(self, loss, loss_prime):
        self.loss, self.loss_prime = loss, loss_prime

    def predict(self, input_data):
        result = []
        for sample in input_data:
            for layer in self.layers:
                sample = layer.forward_propagation(sample)
            result.append(sample)
        return result

    def fit(self, x_train, y_train, epochs, learning_rate):
        for i in range(epochs):
            err = 0
            for x, y in zip(x_train, y_train):
                (output,) = self.predict([x])
                err += self.loss(y, output)
                error = self.loss_prime(y, output)
                for layer in reversed(self.layers):
                    error = layer.backward_propagation(error, learning_rate)
            print('epoch %d/%d   error=%f' % (i + 1, epochs, err / len(x_train)))
"""

LAYER = """
class Layer:
    def __init__(self):
        self.input = None
        self.output = None
"""

FC_LAYER = """
import numpy as np
from layer import Layer

class FCLayer(Layer):
    def __init__(self, input_size, output_size):
        self.weights = np.random.rand(input_size, output_size) - 0.5
        self.bias = np.random.rand(1, output_size) - 0.5

    def forward_propagation(self, input_data):
        self.input = input_data
        return np.dot(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights = self.weights - learning_rate * np.dot(self.input.T, output_error)
        self.bias = self.bias - learning_rate * output_error
        return input_error
"""


class InOrder(Convolution):
    """The same sums in the order in which the article's code adds, which calls SciPy: chaotic training shows it."""

    def forward(self, X):
        self.X = X
        Y = np.zeros((X.shape[0] - self.W.shape[0] + 1, X.shape[1] - self.W.shape[1] + 1, 1))
        Y[:, :, 0] += signal().correlate2d(X[:, :, 0], self.W[:, :, 0, 0], "valid") + self.B[0]
        return Y

    def backward(self, dY):
        dX, dW = np.zeros(self.X.shape), np.zeros(self.W.shape)
        dX[:, :, 0] += signal().convolve2d(dY[:, :, 0], self.W[:, :, 0, 0], "full")
        dW[:, :, 0, 0] = signal().correlate2d(self.X[:, :, 0], dY[:, :, 0], "valid")
        return dX, (dW, np.array([np.sum(dY[:, :, 0])]))


class ConnectedInOrder(Connected):
    """The products of the article's code."""

    def forward(self, X):
        self.X = X
        return np.dot(X, self.W) + self.B

    def backward(self, dY):
        return np.dot(dY, self.W.T), (np.dot(self.X.T, dY), dY)


def signal():
    return pytest.importorskip("scipy.signal", reason="SciPy is not installed")


def drawn(*shape):
    return np.random.rand(*shape) - 0.5  # noqa: NPY002 (the article's own call)


def connected(inputs, outputs, kind=Connected):
    return kind(drawn(inputs, outputs), drawn(1, outputs))


def convolution(height, width, channels, filters, kind=Convolution):
    return kind(drawn(height, width, channels, filters), drawn(filters))


def lines(reference, x, y, epochs, rate):
    """The lines that the article prints."""
    errors = reference.train(x, y, epochs, rate)
    return [f"epoch {i}/{epochs}   error={error:f}" for i, error in enumerate(errors, 1)]


def xor(seed, epochs):
    """What XOR prints, with weights drawn after ``np.random.seed(seed)``."""
    np.random.seed(seed)  # noqa: NPY002
    net = Reference([connected(2, 3), Activation("tanh"), connected(3, 1), Activation("tanh")])
    x = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
    return lines(net, x, np.array([[[0]], [[1]], [[1]], [[0]]]), epochs, 0.1)


def conv(seed, epochs):
    """What CONV prints with one filter: that with several is wrong in the article's repository, docs/erratum.md."""
    np.random.seed(seed)  # noqa: NPY002
    x, y = np.random.rand(1, 10, 10, 1), np.random.rand(1, 4, 4, 1)  # noqa: NPY002
    layers = [layer for _ in range(3) for layer in (convolution(3, 3, 1, 1), Activation("tanh"))]
    return lines(Reference(layers), x, y, epochs, 0.3)


def mnist(seed, epochs, samples, rate, x, y, layers):
    """What MNIST_FC and MNIST_CONV print; ``layers`` makes the layers, after the seed has been set."""
    np.random.seed(seed)  # noqa: NPY002
    net = Reference(layers())
    return lines(net, x[:samples].astype("float32") / np.float32(255), np.eye(10)[y[:samples]][:, None], epochs, rate)


def fc_layers():
    sizes = [(784, 100), (100, 50), (50, 10)]
    return [layer for pair in sizes for layer in (connected(*pair), Activation("tanh"))]


def conv_layers():
    first = [convolution(3, 3, 1, 1), Activation("tanh"), Flatten()]
    return [*first, connected(676, 100), Activation("tanh"), connected(100, 10), Activation("tanh")]


def conv_layers_in_order():
    first = [convolution(3, 3, 1, 1, InOrder), Activation("tanh"), Flatten()]
    rest = [connected(676, 100, ConnectedInOrder), Activation("tanh"), connected(100, 10, ConnectedInOrder)]
    return [*first, *rest, Activation("tanh")]
