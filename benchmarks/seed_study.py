"""How the article's two networks learn for different seeds, with portnn's initial weights and with the article's.

    python benchmarks/seed_study.py [--xor 100] [--mnist 5]

XOR, 2-3-1, tanh, learning rate 0.1, 1,000 epochs: for how many seeds the error falls below 0.001. MNIST, 784-100-50-10,
tanh, the first 1,000 digits one at a time, 35 epochs, learning rate 0.1: the last error, and the accuracy on the 1,000
bundled test digits.
"""

import argparse
from itertools import pairwise

import numpy as np

from portnn import ActivationLayer, FCLayer, Network, load_mnist, to_categorical


def network(sizes, seed, initializer):
    net = Network(seed=seed)
    for n_in, n_out in pairwise(sizes):
        net.add(FCLayer(n_in, n_out, initializer=initializer))
        net.add(ActivationLayer("tanh"))
    net.use("mse")
    return net


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xor", type=int, default=100, help="seeds for XOR")
    parser.add_argument("--mnist", type=int, default=5, help="seeds for MNIST")
    options = parser.parse_args()
    x_xor, y_xor = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])
    (x, y), (x_test, y_test) = load_mnist()
    x, x_test = (a.reshape(-1, 784).astype(np.float32) / 255 for a in (x[:1000], x_test))
    y = to_categorical(y[:1000])

    for initializer in ("glorot_uniform", "article_uniform"):
        learned = 0
        for seed in range(options.xor):
            net = network((2, 3, 1), seed, initializer)
            learned += net.fit(x_xor, y_xor, epochs=1000, learning_rate=0.1, verbose=0)["error"][-1] < 0.001
        print(f"{initializer}: XOR learned from {learned} of {options.xor} seeds")
        for seed in range(options.mnist):
            net = network((784, 100, 50, 10), seed, initializer)
            error = net.fit(x, y, epochs=35, learning_rate=0.1, verbose=0)["error"][-1]
            right = (net.predict(x_test).argmax(axis=1) == y_test).mean()
            print(f"{initializer}: MNIST, seed {seed}: last error {error:.4f}, {right:.1%} of the test digits")


if __name__ == "__main__":
    main()
