"""Whole runs of training for tests: a network of all that a run remembers, and everything that two runs must share.

As a program, ``python runs.py FOLDER UNIT EPOCHS``, it trains in that folder, goes on from a checkpoint found there,
and writes what it has come to.
"""

import json
import sys
from pathlib import Path

import numpy as np

from portnn import (
    ActivationLayer,
    AdamW,
    BatchNormLayer,
    Checkpoint,
    CSVLogger,
    DropoutLayer,
    EarlyStopping,
    FCLayer,
    Network,
    OneCycle,
    ReduceLROnPlateau,
)
from states import leaves, same

SAMPLES, BATCH, EPOCHS = 44, 6, 5
STEPS = 7  # of an epoch: a tenth of the samples are for validation


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 6)).astype(np.float32)
    return x, rng.choice(3, SAMPLES, p=[0.6, 0.3, 0.1])


def network(backend="cpu", seed=1, **options):
    """It remembers means, variances and two slots, draws masks, and clips.

    There is no bias in front of the batch normalization: its gradient is rounding alone, of which Adam makes steps.
    """
    layers = [FCLayer(6, 8, bias=False), BatchNormLayer(), ActivationLayer("tanh"), DropoutLayer(0.3), FCLayer(8, 3)]
    net = Network(layers, backend=backend, seed=seed, **options)
    optimizer = AdamW(OneCycle(0.05, 40), weight_decay=0.01, clip_norm=1.0)
    net.use("softmax_cross_entropy", optimizer=optimizer, metrics=["accuracy", "f1"])
    return net


def callbacks(folder, unit="step", every=1, path="run", keep=None, patience=4):
    return [
        EarlyStopping(patience=patience),
        ReduceLROnPlateau(patience=1, factor=0.5),
        CSVLogger(folder / "log.csv"),
        Checkpoint(folder / path, unit=unit, every=every, keep=keep),
    ]


def train(net, calls=(), epochs=EPOCHS, **options):
    x, y = data()
    options = {"batch_size": BATCH, "shuffle": True, "verbose": 0, "validation_split": 0.1} | options
    return net.fit(x, y, epochs=epochs, class_weight="balanced", callbacks=calls, **options)


def come_to(net):
    """All leaves, and all numbers."""
    counts = {layer.path: {name: layer._updates(name, net.step) for name in layer.parameters} for layer in net.walk()}
    return leaves(net), (net.step, net.epoch, net.seed, net.learning_rate_factor, counts), dict(net.history)


def equal(a, b):
    """Whether two runs came to the same, to the last bit."""
    return same(a[0], b[0]) and a[1] == b[1] and same(a[2], b[2])


def main(folder, unit, epochs):
    net = network()
    history = train(net, callbacks(folder, unit, patience=40), int(epochs), resume=folder / "run")
    arrays, numbers, whole = come_to(net)
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "numbers.json").write_text(json.dumps([numbers, whole, history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
