"""Draws the picture at the top of README.md: trains a small convolutional network on the digits that come with portnn.

    python tools/draw_readme.py [docs/figures/digits.png]

Left: error and accuracy by epoch, on the training digits and on test digits. Right: test digits with the class that
the network read in each; the last row has digits that it read wrongly. The numbers in the README's text are printed.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import portnn
from portnn import (
    ActivationLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    MaxPoolLayer,
    Network,
    ReshapeLayer,
    ScaleLayer,
    plot,
)

EPOCHS, BATCH = 10, 64


def trained() -> tuple[Network, tuple[np.ndarray, np.ndarray]]:
    (x, y), test = portnn.load_mnist()
    net = Network([ReshapeLayer((28, 28, 1)), ScaleLayer(1 / 255)], seed=1)
    for shape, filters in (((28, 28, 1), 16), ((14, 14, 16), 32)):
        net.add(ConvLayer(shape, (5, 5), filters, padding="same", initializer="he_uniform"))
        net.add(ActivationLayer("relu"))
        net.add(MaxPoolLayer(2))
    net.add(FlattenLayer())
    net.add(DropoutLayer(0.3))
    net.add(FCLayer(7 * 7 * 32, 10))
    net.use("softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
    net.fit(x, y, epochs=EPOCHS, batch_size=BATCH, shuffle=True, validation_data=test)
    return net, test


def draw(net: Network, test: tuple[np.ndarray, np.ndarray]) -> Figure:
    x, y = test
    read = net.predict_classes(x)
    wrong = np.flatnonzero(read != y)
    print(f"{len(x) - len(wrong)} of {len(x)} test digits read")
    shown = np.concatenate([np.flatnonzero(read == y)[:20], wrong[:4]])
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    curves, digits = figure.subfigures(1, 2, width_ratios=[6, 5])
    plot.history(net.history, fig=curves)
    plot.digits(x[shown], y[shown], read[shown], fig=digits)
    return figure


def main() -> None:
    default = Path(__file__).parents[1] / "docs" / "figures" / "digits.png"
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    figure = draw(*trained())
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
