"""Three convolutions learn to map one random image to another: the article's example for its convolution layer."""

import argparse

import numpy as np

from portnn import ActivationLayer, ConvLayer, Network, mse, mse_prime, tanh, tanh_prime

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=1000)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

# training data: a list with one image (10, 10, 1), and one with its target (4, 4, 2)
rng = np.random.default_rng(options.seed)
x_train = [rng.random((10, 10, 1))]
y_train = [rng.random((4, 4, 2))]

net = Network(backend=options.backend, seed=options.seed)
net.add(ConvLayer((10, 10, 1), (3, 3), 1))  # (10, 10, 1) -> (8, 8, 1)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(ConvLayer((8, 8, 1), (3, 3), 1))  # (8, 8, 1) -> (6, 6, 1)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(ConvLayer((6, 6, 1), (3, 3), 2))  # (6, 6, 1) -> (4, 4, 2)
net.add(ActivationLayer(tanh, tanh_prime))

net.use(mse, mse_prime)
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.3)

print("predicted, first channel:\n", net.predict(x_train)[0, :, :, 0].round(3))
print("expected, first channel:\n", y_train[0][:, :, 0].round(3))
