"""The article's MNIST network, one sample at a time: portnn against the article's own algorithm, in turn.

    python benchmarks/one_sample_at_a_time.py [--rounds 7]

Prints microseconds a step and the ratio, medians over the rounds, and checks that both learned the same.
"""

import argparse
import os
import platform
import statistics
import time
from itertools import pairwise

import numpy as np

from portnn import ActivationLayer, FCLayer, Network, load_mnist, to_categorical

SIZES = (784, 100, 50, 10)
STEPS = 1000
LEARNING_RATE = 0.1


class Article:
    """The article's algorithm as it is published: float64 weights, every layer updates itself in its backward pass."""

    def __init__(self, weights):
        self.weights = [(W.astype(np.float64), B.astype(np.float64)) for W, B in weights]

    def epoch(self, x, y):
        error = 0.0
        for x_j, y_j in zip(x, y, strict=True):
            inputs, sums, out = [], [], x_j
            for W, B in self.weights:
                inputs.append(out)
                sums.append(np.dot(out, W) + B)
                out = np.tanh(sums[-1])
            error += np.mean(np.power(y_j - out, 2))
            d = 2 * (out - y_j) / y_j.size
            for (W, B), X, Z in zip(reversed(self.weights), reversed(inputs), reversed(sums), strict=True):
                d = (1 - np.tanh(Z) ** 2) * d
                below = np.dot(d, W.T)
                W -= LEARNING_RATE * np.dot(X.T, d)
                B -= LEARNING_RATE * d
                d = below
        return error / len(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds

    (x, labels), _ = load_mnist()
    x = x[:STEPS].reshape(STEPS, 1, 784).astype(np.float32) / 255
    y = to_categorical(labels[:STEPS]).astype(np.float32)

    net = Network(seed=0)
    for n_in, n_out in pairwise(SIZES):
        net.add(FCLayer(n_in, n_out))
        net.add(ActivationLayer("tanh"))
    net.use("mse")
    article = Article([(layer.weights, layer.bias) for layer in net.layers[::2]])

    def ours():
        return net.fit(x, y, epochs=1, learning_rate=LEARNING_RATE, verbose=0)["error"][0]

    def theirs():
        return article.epoch(x, y)

    times = {ours: [], theirs: []}
    for _ in range(rounds + 1):  # the first is a warm-up
        errors = []
        for run in (ours, theirs):
            start = time.perf_counter()
            errors.append(run())
            times[run].append((time.perf_counter() - start) / STEPS * 1e6)
        assert abs(errors[0] - errors[1]) < 1e-3 * errors[1], f"they learned different things: {errors}"

    a, b = (statistics.median(times[run][1:]) for run in (ours, theirs))
    ratio = statistics.median(p / q for p, q in zip(times[ours][1:], times[theirs][1:], strict=True))
    threads, core = os.environ.get("OPENBLAS_NUM_THREADS", "default"), os.environ.get("OPENBLAS_CORETYPE", "default")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"OPENBLAS_NUM_THREADS {threads}, OPENBLAS_CORETYPE {core}, {rounds} rounds of {STEPS} steps, in turn")
    print(f"portnn {a:.0f} us a step, the article's algorithm {b:.0f} us a step, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
