"""Handwritten digits with fully connected layers: the article's MNIST example, on the digits that come with portnn."""

import argparse

from portnn import ActivationLayer, FCLayer, Network, load_mnist, mse, mse_prime, tanh, tanh_prime, to_categorical

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=35)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist()  # bytes (N, 28, 28) and digits (N,)


def rows(images):
    """Scales to [0, 1] and makes each image one row: (N, 28, 28) -> (N, 1, 784)."""
    return images.reshape(len(images), 1, 28 * 28).astype("float32") / 255


net = Network(backend=options.backend, seed=options.seed)
net.add(FCLayer(28 * 28, 100))  # (1, 784) -> (1, 100)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(100, 50))  # (1, 100) -> (1, 50)
net.add(ActivationLayer(tanh, tanh_prime))
net.add(FCLayer(50, 10))  # (1, 50) -> (1, 10)
net.add(ActivationLayer(tanh, tanh_prime))

# 1000 samples, one at a time; targets are one-hot rows
net.use(mse, mse_prime)
net.fit(rows(x_train[:1000]), to_categorical(y_train[:1000]), epochs=options.epochs, learning_rate=0.1)

output = net.predict(rows(x_test))[:, 0, :]  # (1000, 10)
digits = output.argmax(axis=1)
print(f"test accuracy: {(digits == y_test).mean():.1%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
