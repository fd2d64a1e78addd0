"""A network's weights go to PyTorch and come back: names, layouts and the order of images are turned on the way.

It needs no PyTorch: the file is one that PyTorch reads and writes. Where PyTorch is installed, the same network is
built there as well, and gives the same answers.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import portnn.torch
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, MaxPoolLayer, Network, load_mnist, to_numpy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()


def network():
    layers = [
        ConvLayer((28, 28, 1), (5, 5), 6, stride=2, padding=2, initializer="he_uniform"),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        FlattenLayer(),
        FCLayer(7 * 7 * 6, 10),
    ]
    return Network(layers, backend=options.backend, seed=options.seed)


(x_train, y_train), (x_test, y_test) = load_mnist()
x_train, x_test = (x[..., None] / np.float32(255) for x in (x_train, x_test))  # (N, 28, 28, 1), from 0 to 1
net = network()
net.use("softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
net.fit(x_train, y_train, epochs=options.epochs, batch_size=64, shuffle=True)
before = to_numpy(net.predict(x_test))

# In PyTorch the network might be a module with names, `conv` and `fc`: the order of the arrays is the same.
weights = portnn.torch.state_dict(net)
names = ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
print("name in portnn   in PyTorch    shape in PyTorch")
for name, theirs in zip(weights, names, strict=True):
    print(f"{name:16} {theirs:13} {weights[name].shape}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "net.safetensors"
    save_file(dict(zip(names, weights.values(), strict=True)), path)
    back = network()
    portnn.torch.load_state_dict(back, path)  # by order and shape, since the names are others
after = to_numpy(back.predict(x_test))
print(f"largest difference after the way there and back: {np.abs(after - before).max():g}")
print(f"test accuracy: {100 * np.mean(after.argmax(axis=1) == y_test):.2f}% of {len(y_test)} digits")

if importlib.util.find_spec("torch"):
    import torch
    from torch import nn

    module = nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(7 * 7 * 6, 10)
    )
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with torch.no_grad():
        answer = module(torch.from_numpy(np.moveaxis(x_test, -1, 1))).numpy()
    print(f"largest difference to PyTorch's answers: {np.abs(answer - before).max():.1e}")
