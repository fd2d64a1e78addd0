"""A network that reads digits, trained here and written as C: ``digits.c``, with a test program, and as ``digits.py``.

Compile and run the test with: cc -std=c99 -O3 digits.c digits_test.c -lm && ./a.out
"""

import argparse

from portnn import (
    ActivationLayer,
    Adam,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    MaxPoolLayer,
    Network,
    ReshapeLayer,
    ScaleLayer,
    load_mnist,
)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist()

net = Network(backend=options.backend, seed=options.seed)
net.add(ReshapeLayer((28, 28, 1)))
net.add(ScaleLayer(1 / 255))  # so that the C function takes the pixels as they are, from 0 to 255
net.add(ConvLayer((28, 28, 1), (5, 5), 8, initializer="he_uniform"))
net.add(ActivationLayer("relu"))
net.add(MaxPoolLayer(4))
net.add(FlattenLayer())
net.add(FCLayer(288, 10))

net.use("softmax_cross_entropy", optimizer=Adam(3e-3), metrics=["accuracy"])
net.fit(x_train, y_train, epochs=options.epochs, batch_size=64, shuffle=True)
print(f"test accuracy: {net.evaluate(x_test, y_test)['accuracy']:.1%} of {len(x_test)} digits")
print("predicted:", *net.predict_classes(x_test[:10]))
print("true:     ", *y_test[:10])

net.export("digits.c")
net.export("digits.py")
print("written: digits.c, digits_test.c, digits.py")
