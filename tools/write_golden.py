"""Writes the golden file of the current format of files, which every later version of portnn must be able to read.

    python tools/write_golden.py

Run it once, when a format is introduced: a golden file that is there already is never written again. The file holds its
own test, as the state of a callback: data, and what the network predicts for them.
"""

import sys
from pathlib import Path

import numpy as np

from portnn import (
    ActivationLayer,
    Adam,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    CosineDecay,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxCrossEntropy,
    UpsampleLayer,
    WarmUp,
)
from portnn.files.reading import FORMAT
from portnn.files.writing import write

FOLDER = Path(__file__).parents[1] / "tests" / "support" / "golden"


def network() -> Network:
    """A network with a layer of nearly every class, not trained yet."""
    net = Network(
        [
            ReshapeLayer((8, 8, 1)),
            ScaleLayer(0.5, offset=-0.25),
            ConvLayer((8, 8, 1), (3, 3), 4, padding="same", stride=(1, 2), initializer="he_normal"),
            BatchNormLayer(momentum=0.2),
            ActivationLayer("gelu"),
            ResidualLayer(
                ConvLayer((8, 4, 4), (3, 3), 4, padding=((1, 1), (0, 2)), groups=2, bias=False), GroupNormLayer(2)
            ),
            ParallelLayer([MaxPoolLayer(2), UpsampleLayer(2)], AvgPoolLayer((3, 3), stride=1, padding=1), []),
            DropoutLayer(0.2),
            ParallelLayer(GlobalAvgPoolLayer(), GlobalMaxPoolLayer(), [FlattenLayer(), FCLayer(384, 8)]),
            SequentialLayer(LayerNormLayer(epsilon=1e-3), ActivationLayer("tanh"), FCLayer(32, 3)),
        ],
        seed=7,
        dtype="float64",
    )
    net.layers[2].trainable = False
    optimizer = Adam(WarmUp(CosineDecay(0.01, 100), 5), weight_decay=0.01, clip_norm=1.0)
    net.use(SoftmaxCrossEntropy(label_smoothing=0.1), optimizer=optimizer, metrics=["accuracy"])
    return net


def main() -> None:
    path = FOLDER / f"format{FORMAT}.portnn.safetensors"
    if path.exists():
        sys.exit(f"{path} exists: a golden file stays as the version that introduced its format wrote it")
    net, rng = network(), np.random.default_rng(0)
    x, y = rng.standard_normal((12, 64)), rng.integers(0, 3, 12)
    net.fit(x, y, epochs=3, batch_size=4, shuffle=True, verbose=0)
    state = {"x": x, "y": y, "predicted": net.predict(x), "list": [1, None, float("inf")], "pair": (0.5, "text")}
    write(net, path, position=2, callbacks=[("Golden", state)], counters={"sum of error": np.array(1.5)})
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
