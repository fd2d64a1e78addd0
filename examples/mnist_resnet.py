"""A small residual network with batch normalization, in the style of ResNet."""

import argparse

from portnn import (
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    GlobalAvgPoolLayer,
    MaxPoolLayer,
    Network,
    OneCycle,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    load_mnist,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--folder", help="folder with the four MNIST files (default: the bundled 5,000 digits)")
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist(folder=options.folder)


def convolution(size, channels, filters, **more):
    """A 3x3 convolution without bias: the batch normalization after it has one."""
    return ConvLayer(
        (size, size, channels), (3, 3), filters, padding="same", initializer="he_normal", bias=False, **more
    )


def block(size, channels):
    """X + F(X), where F has two convolutions."""
    return ResidualLayer(
        convolution(size, channels, channels),
        BatchNormLayer(),
        ActivationLayer("relu"),
        convolution(size, channels, channels),
        BatchNormLayer(),
    )


net = Network(backend=options.backend, seed=options.seed)
net.add(ReshapeLayer((28, 28, 1)))  # (28, 28) -> (28, 28, 1)
net.add(ScaleLayer(1 / 255))  # bytes -> 0 to 1
net.add(convolution(28, 1, 16))
net.add(BatchNormLayer())
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(2))  # -> (14, 14, 16)
net.add(block(14, 16))
net.add(ActivationLayer("relu"))
net.add(convolution(14, 16, 32, stride=2))  # -> (7, 7, 32)
net.add(BatchNormLayer())
net.add(ActivationLayer("relu"))
net.add(block(7, 32))
net.add(ActivationLayer("relu"))
net.add(GlobalAvgPoolLayer())  # -> (32,)
net.add(FCLayer(32, 10))  # ten logits
print(net.summary())

batch_size = 128
updates = options.epochs * -(-len(x_train) // batch_size)
net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(1e-2, updates)), metrics=["accuracy"])
net.fit(x_train, y_train, epochs=options.epochs, batch_size=batch_size, shuffle=True)

digits = net.predict_classes(x_test)
print(f"test accuracy: {(digits == y_test).mean():.2%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
