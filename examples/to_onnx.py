"""Trains a small convolutional network on digits, writes it as an ONNX model, and reads it back.

    python examples/to_onnx.py

It needs the package onnx: python -m pip install onnx. If onnxruntime is installed too, that runs the model.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import portnn
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, MaxPoolLayer, Network, ScaleLayer, load_mnist

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

(x, y), (x_test, y_test) = load_mnist()
x, x_test = x.reshape(-1, 28, 28, 1), x_test.reshape(-1, 28, 28, 1)
net = Network(
    [
        ScaleLayer(1 / 255),
        ConvLayer((28, 28, 1), (5, 5), 6, stride=2, padding="same"),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        FlattenLayer(),
        FCLayer(294, 10),
    ],
    backend=options.backend,
    seed=options.seed,
)
net.use("softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
net.fit(x, y, epochs=options.epochs, batch_size=32, shuffle=True)
expected = net.predict_proba(x_test)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.onnx"
    portnn.onnx.export(net, path, probabilities=True)
    print(f"the model has {path.stat().st_size:,} bytes")
    again = portnn.onnx.load(path)  # a network, which could be trained on
    print(f"read back, it differs by {np.abs(again.predict(x_test) - expected).max():.1e} at most")
    try:
        import onnxruntime
    except ImportError:
        print("onnxruntime is not installed")
    else:
        session = onnxruntime.InferenceSession(path)
        (found,) = session.run(["y"], {"x": x_test.astype(np.float32)})
        print(f"onnxruntime differs by {np.abs(found - expected).max():.1e} at most")
