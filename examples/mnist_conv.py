"""Handwritten digits with a convolution as the first layer: the article's second MNIST example."""

import argparse

from portnn import (
    ActivationLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Network,
    load_mnist,
    mse,
    mse_prime,
    tanh,
    tanh_prime,
    to_categorical,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist()  # bytes (N, 28, 28) and digits (N,)


def images(pixels):
    """Scales to [0, 1] and adds the channel axis: (N, 28, 28) -> (N, 28, 28, 1)."""
    return pixels[..., None].astype("float32") / 255


net = Network(backend=options.backend, seed=options.seed)
net.add(ConvLayer((28, 28, 1), (3, 3), 1))  # (28, 28, 1) -> (26, 26, 1)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FlattenLayer())  # (26, 26, 1) -> (676,)
net.add(FCLayer(26 * 26 * 1, 100))
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(100, 10))
net.add(ActivationLayer(tanh, tanh_prime))

# 1000 samples, one at a time
net.use(mse, mse_prime)
net.fit(images(x_train[:1000]), to_categorical(y_train[:1000]), epochs=options.epochs, learning_rate=0.1)

digits = net.predict(images(x_test)).argmax(axis=1)
print(f"test accuracy: {(digits == y_test).mean():.1%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
