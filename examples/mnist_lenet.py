"""LeNet-5 with relu and max pooling, trained on class numbers by Adam with a one-cycle learning rate."""

import argparse

from portnn import (
    ActivationLayer,
    Adam,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    MaxPoolLayer,
    Network,
    OneCycle,
    ReshapeLayer,
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

net = Network(backend=options.backend, seed=options.seed)
net.add(ReshapeLayer((28, 28, 1)))  # (28, 28) -> (28, 28, 1)
net.add(ScaleLayer(1 / 255))  # bytes -> 0 to 1
net.add(ConvLayer((28, 28, 1), (5, 5), 6, padding="same", initializer="he_uniform"))  # -> (28, 28, 6)
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(2))  # -> (14, 14, 6)
net.add(ConvLayer((14, 14, 6), (5, 5), 16, initializer="he_uniform"))  # -> (10, 10, 16)
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(2))  # -> (5, 5, 16)
net.add(FlattenLayer())  # -> (400,)
net.add(FCLayer(400, 120, initializer="he_uniform"))
net.add(ActivationLayer("relu"))
net.add(FCLayer(120, 84, initializer="he_uniform"))
net.add(ActivationLayer("relu"))
net.add(FCLayer(84, 10))  # ten logits
print(net.summary())

batch_size = 128
updates = options.epochs * -(-len(x_train) // batch_size)
net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(5e-3, updates)), metrics=["accuracy"])
net.fit(x_train, y_train, epochs=options.epochs, batch_size=batch_size, shuffle=True)

digits = net.predict(x_test).argmax(axis=1)
print(f"test accuracy: {(digits == y_test).mean():.2%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
