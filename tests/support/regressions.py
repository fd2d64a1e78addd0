"""A small regression network with data, and its weights."""

import numpy as np

from portnn import ActivationLayer, FCLayer, Network, to_numpy


def regression(n=10, seed=0, **options):
    """A small network and data for it."""
    rng = np.random.default_rng(seed)
    net = Network([FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=seed, **options)
    net.use("mse")
    return net, rng.standard_normal((n, 4)), rng.standard_normal((n, 2))


def weights(net):
    return {path: to_numpy(array).copy() for path, array in net.parameters.items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
