"""Draw a digit with the mouse, and a network reads it: trains one, and writes a page for a browser.

Drawn digits differ from MNIST's in size, slant and place, so the network sees each training digit moved, rotated and
scaled at random, in every epoch by other amounts. The page holds the network; it needs no Python and no connection.
"""

import argparse

from portnn import (
    ActivationLayer,
    Adam,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    MaxPoolLayer,
    Network,
    OneCycle,
    RandomAffineLayer,
    ReshapeLayer,
    ScaleLayer,
    load_mnist,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--full", action="store_true", help="download and train on all 60,000 MNIST digits")
parser.add_argument("--folder", help="folder with the four MNIST files (default: the bundled 5,000 digits)")
parser.add_argument("--page", default="digits.html", help="where to write the page (default: digits.html)")
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist(full=options.full, folder=options.folder)

net = Network(backend=options.backend, seed=options.seed)
net.add(ReshapeLayer((28, 28, 1)))  # (28, 28) -> (28, 28, 1)
net.add(ScaleLayer(1 / 255))  # bytes -> 0 to 1
net.add(RandomAffineLayer(shift=2, rotate=20, scale=0.2))  # in training only
net.add(ConvLayer((28, 28, 1), (5, 5), 8, padding="same", initializer="he_uniform"))  # -> (28, 28, 8)
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(2))  # -> (14, 14, 8)
net.add(ConvLayer((14, 14, 8), (3, 3), 16, padding="same", initializer="he_uniform"))  # -> (14, 14, 16)
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(2))  # -> (7, 7, 16)
net.add(FlattenLayer())  # -> (784,)
net.add(FCLayer(784, 64, initializer="he_uniform"))
net.add(ActivationLayer("relu"))
net.add(DropoutLayer(0.2))
net.add(FCLayer(64, 10))  # ten logits

batch_size = 64
updates = options.epochs * -(-len(x_train) // batch_size)
net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(4e-3, updates)), metrics=["accuracy"])
net.fit(x_train, y_train, epochs=options.epochs, batch_size=batch_size, shuffle=True)

digits = net.predict_classes(x_test)
print(f"test accuracy: {(digits == y_test).mean():.2%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])

net.export(options.page)
print(f"open {options.page} in a browser, and draw a digit")
