"""The work that every framework does: networks as plain lists, data, batch order, initial weights.

A network is a list of parts: ("fc", inputs, outputs), ("conv", (H, W, C), k, filters, padding), ("relu",), ("tanh",),
("maxpool",), ("avgpool",), ("flatten",); pooling is by two. Initial weights are portnn's, by dotted path.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """What is trained, how, and on what. ``steps`` is per round; ``shape`` is that of one sample."""

    title: str
    parts: list[tuple[Any, ...]]
    shape: tuple[int, ...]
    loss: str
    optimizer: tuple[Any, ...]  # ("sgd", lr, momentum) or ("adam", lr)
    batch: int
    steps: int
    shuffle: bool = False
    samples: int = 0  # 0: all there are
    frameworks: tuple[str, ...] = ()
    tolerance: float = 1e-2
    seed: int = 0
    backend: str = "cpu"  # "gpu": data and network are there


def mlp(*sizes: int, activation: str) -> list[tuple[Any, ...]]:
    parts: list[tuple[Any, ...]] = []
    for n_in, n_out in pairwise(sizes):
        parts += [("fc", n_in, n_out), (activation,)]
    return parts


ARTICLE = mlp(784, 100, 50, 10, activation="tanh")
MLP = mlp(784, 512, 256, 10, activation="relu")[:-1]
LENET = [
    ("conv", (28, 28, 1), 5, 6, "same"),
    ("tanh",),
    ("avgpool",),
    ("conv", (14, 14, 6), 5, 16, "valid"),
    ("tanh",),
    ("avgpool",),
    ("flatten",),
    *mlp(400, 120, 84, 10, activation="tanh")[:-1],
]
CNN = [
    ("conv", (28, 28, 1), 3, 32, "valid"),
    ("relu",),
    ("conv", (26, 26, 32), 3, 64, "valid"),
    ("relu",),
    ("maxpool",),
    ("flatten",),
    *mlp(12 * 12 * 64, 128, 10, activation="relu")[:-1],
]
TORCH, JAX = ("torch", "torch compiled"), ("jax", "jax loop")
CROSS = "softmax_cross_entropy"
WORKLOADS = {
    "a": Workload(
        "(a) the article's network, one sample at a time", ARTICLE, (784,), "mse", ("sgd", 0.1, 0.0), 1, 1000,
        samples=1000, frameworks=("portnn", "article", *TORCH, *JAX), tolerance=0.05,
    ),
    "a128": Workload(
        "784-100-50-10, tanh, mean squared error, SGD, batch 128", ARTICLE, (784,), "mse", ("sgd", 0.5, 0.0), 128, 0,
        shuffle=True, frameworks=("portnn", *TORCH, *JAX), tolerance=0.05,
    ),
    "b": Workload(
        "(b) 784-512-256-10, relu, Adam, batch 128, shuffled", MLP, (784,), CROSS, ("adam", 1e-3), 128, 0,
        shuffle=True, frameworks=("portnn", *TORCH, *JAX, "scikit-learn"), tolerance=0.15,
    ),
    "c128": Workload(
        "(c) LeNet-5, tanh, average pooling, momentum, batch 128", LENET, (28, 28, 1), CROSS, ("sgd", 0.05, 0.9), 128,
        39, samples=4992, frameworks=("portnn", *TORCH, *JAX),
    ),
    "c32": Workload(
        "(c) the same, batch 32", LENET, (28, 28, 1), CROSS, ("sgd", 0.02, 0.9), 32, 78, samples=2496,
        frameworks=("portnn", *TORCH, *JAX),
    ),
    "d": Workload(
        "(d) 32 and 64 3x3 filters, max pooling, 128 units, batch 128", CNN, (28, 28, 1), CROSS, ("sgd", 0.05, 0.9),
        128, 10, samples=1280, frameworks=("portnn", *TORCH, "jax"),
    ),
}  # fmt: skip


def data(workload: Workload, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Samples, float32 from 0 to 1, and digits; the bundled sample, or the files in a folder."""
    from portnn import load_mnist

    (x, y), _ = load_mnist(folder=folder)
    n = workload.samples or len(x)
    return x[:n].reshape(n, *workload.shape).astype(np.float32) / 255, y[:n].astype(np.int64)


def build(workload: Workload, **options: Any) -> Any:
    """The portnn network of a workload, ready for ``fit``."""
    import portnn

    net = portnn.Network(**{"seed": workload.seed, "backend": workload.backend, **options})
    for part in workload.parts:
        net.add(layer(part))
    kind, lr, *momentum = workload.optimizer
    optimizer = portnn.Adam(lr) if kind == "adam" else portnn.SGD(lr, momentum=momentum[0])
    net.use(workload.loss, optimizer=optimizer)
    return net


def layer(part: tuple[Any, ...]) -> Any:
    import portnn

    name, *arguments = part
    if name == "fc":
        return portnn.FCLayer(*arguments)
    if name == "conv":
        shape, k, filters, padding = arguments
        return portnn.ConvLayer(shape, (k, k), filters, padding=padding)
    plain = {"maxpool": lambda: portnn.MaxPoolLayer(2), "avgpool": lambda: portnn.AvgPoolLayer(2)}
    return plain.get(name, portnn.FlattenLayer if name == "flatten" else lambda: portnn.ActivationLayer(name))()


def initial_weights(workload: Workload) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weights, bias) of each part that has any, in order: portnn's."""
    net = build(workload, backend="cpu")
    return [(np.array(part.weights), np.array(part.bias).reshape(-1)) for part in net.layers if part.parameters]


def order(workload: Workload, epoch: int, n: int) -> np.ndarray:
    """The order in which an epoch visits the samples: portnn's shuffle, or unshuffled."""
    from portnn import random

    return random.permutation(workload.seed, epoch, n) if workload.shuffle else np.arange(n)
