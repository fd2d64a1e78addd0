"""XOR, the article's first example: two inputs, three hidden neurons, one output."""

import argparse

import numpy as np

from portnn import ActivationLayer, FCLayer, Network, mse, mse_prime, tanh, tanh_prime

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=1000)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

# training data: each sample is one row (1, 2)
x_train = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
y_train = np.array([[[0]], [[1]], [[1]], [[0]]])

net = Network(backend=options.backend, seed=options.seed)
net.add(FCLayer(2, 3))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(3, 1))
net.add(ActivationLayer(tanh, tanh_prime))

net.use(mse, mse_prime)
net.fit(x_train, y_train, epochs=options.epochs, learning_rate=0.1)

for x, y, output in zip(x_train, y_train, net.predict(x_train), strict=True):
    print(f"{x[0, 0]} xor {x[0, 1]} = {y[0, 0]}   predicted {output[0, 0]:+.3f}")
