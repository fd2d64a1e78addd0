"""A small network and data for the tests of bad input."""

import numpy as np

from portnn import ActivationLayer, FCLayer, Network

X, Y = np.ones((6, 4)), np.ones((6, 2))


def network(**options):
    net = Network([FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=0, **options)
    net.use("mse")
    return net
