"""A small classifier and its data, and backends by name."""

import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from portnn import SGD, ActivationLayer, FCLayer, Layer, Network, get_backend
from replay import ReplayBackend

RNG = np.random.default_rng(0)
X10 = RNG.standard_normal((20, 6))
LABELS = RNG.integers(0, 4, 20)


def classifier(*layers, loss="softmax_cross_entropy", optimizer=None, seed=0, metrics=(), **options):
    net = Network([*layers] or [FCLayer(6, 8), ActivationLayer("relu"), FCLayer(8, 4)], seed=seed, **options)
    net.use(loss, optimizer=optimizer or SGD(0.1), metrics=metrics)
    return net


def leaves(net):
    found = {path: portnn.to_numpy(a).copy() for path, a in net.parameters.items()}
    return found | {f"{p.path}.{n}": portnn.to_numpy(a).copy() for p in net.walk() for n, a in p.buffers.items()}


class Doubled(Layer):
    """A layer without ``output_shape``."""

    def forward(self, X, *, training=False):
        return self.xp.concat([X, X], axis=-1)

    def backward(self, output_error, *, need_input_error=True):
        n = output_error.shape[-1] // 2
        return output_error[..., :n] + output_error[..., n:]


def place(name):
    if name == "pytorch":
        return get_backend(pytest.importorskip("torch", reason="PyTorch is not installed"))
    return {
        "cpu": "cpu",
        "numpy": get_backend(np),
        "strict": strict_backend(),
        "replay": ReplayBackend(),
        "gpu": "gpu",
    }[name]
