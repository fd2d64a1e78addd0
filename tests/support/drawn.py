"""Digests of what networks draw from a seed: parameters by path, and dropout masks."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from portnn import (
    SGD,
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ResidualLayer,
)


def _deep() -> list[Any]:
    return [
        ConvLayer((8, 8, 2), (3, 3), 4, padding="same"),
        ResidualLayer(
            ConvLayer((8, 8, 4), (3, 3), 4, padding="same"),
            BatchNormLayer(),
            ParallelLayer(
                [ConvLayer((8, 8, 4), (1, 1), 2), DropoutLayer(0.3)], ConvLayer((8, 8, 4), (3, 3), 2, padding="same")
            ),
        ),
        ParallelLayer([], [GroupNormLayer(2), ActivationLayer("tanh")], ResidualLayer(DropoutLayer(0.5)), merge="add"),
        MaxPoolLayer(2),
        FlattenLayer(),
        DropoutLayer(0.25),
        FCLayer(64, 5),
    ]


# name -> (layers, shape of a sample)
NETWORKS: dict[str, tuple[Callable[[], list[Any]], tuple[int, ...]]] = {
    "fc": (lambda: [FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2, bias=False)], (4,)),
    "dropout first": (lambda: [DropoutLayer(0.5), FCLayer(6, 2), DropoutLayer(0.1)], (6,)),
    "norms": (lambda: [LayerNormLayer(), FCLayer(4, 4), BatchNormLayer()], (4,)),
    "residual": (lambda: [ResidualLayer(FCLayer(5, 5), ResidualLayer(FCLayer(5, 5), DropoutLayer(0.4)))], (5,)),
    "parallel": (lambda: [ParallelLayer(FCLayer(4, 2), [FCLayer(4, 3), DropoutLayer(0.5), FCLayer(3, 2)], [])], (4,)),
    "deep": (_deep, (8, 8, 2)),
}


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def drawn(name: str, seed: int = 7) -> dict[str, str]:
    """Digests of all parameters by path before training, and of all masks in the second training step."""
    make, sample = NETWORKS[name]
    net = Network(make(), seed=seed, dtype="float64")
    x = np.random.default_rng(0).standard_normal((6, *sample))
    y = np.zeros(net.predict(x).shape)
    found = {path: digest(array) for path, array in net.parameters.items()}
    net.use("mse", optimizer=SGD(0.0))
    net.fit(x, y, epochs=2, batch_size=6, verbose=0)
    found |= {f"{layer.path}.mask": digest(layer.mask) for layer in net.walk() if isinstance(layer, DropoutLayer)}
    return found
