"""Whole training runs for tests: a network with every kind of state, and everything in which two runs must agree.

As a program, ``python runs.py FOLDER UNIT EPOCHS`` trains in that folder, resumes from a checkpoint if there is one,
and writes its final state.
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
STEPS = 7  # per epoch: a tenth of the samples is for validation


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 6)).astype(np.float32)
    return x, rng.choice(3, SAMPLES, p=[0.6, 0.3, 0.1])


def network(backend="cpu", seed=1, **options):
    """A network with running statistics, two slots, dropout masks and gradient clipping.

    There is no bias before batch normalization: its gradient is only rounding noise, which Adam turns into full steps.
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
    """The final state: all leaves, the counters, and the history."""
    counts = {layer.path: {name: layer._updates(name, net.step) for name in layer.parameters} for layer in net.walk()}
    return leaves(net), (net.step, net.epoch, net.seed, net.learning_rate_factor, counts), dict(net.history)


def equal(a, b):
    """Whether two runs ended in the same state, bit for bit."""
    return same(a[0], b[0]) and a[1] == b[1] and same(a[2], b[2])


def main(folder, unit, epochs):
    net = network()
    history = train(net, callbacks(folder, unit, patience=40), int(epochs), resume=folder / "run")
    arrays, numbers, whole = come_to(net)
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "numbers.json").write_text(json.dumps([numbers, whole, history]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
