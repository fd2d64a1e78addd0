"""LeNet-5 with relu and max pooling, trained on class numbers by Adam with a one-cycle learning rate.

A tenth of the training digits is held out for validation: training stops early, and the best epoch's weights are kept.
With ``--checkpoint FILE`` an interrupted run resumes when the same command is given again.
"""

import argparse

from portnn import (
    ActivationLayer,
    Adam,
    Checkpoint,
    ConvLayer,
    EarlyStopping,
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
parser.add_argument("--validation-split", type=float, default=0.1, help="0: train on all digits, for all epochs")
parser.add_argument("--checkpoint", help="file to save to and resume from, such as lenet.portnn.safetensors")
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
updates = options.epochs * -(-int(len(x_train) * (1 - options.validation_split)) // batch_size)
net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(5e-3, updates)), metrics=["accuracy"])
callbacks = [EarlyStopping(patience=2)] if options.validation_split else []
if options.checkpoint:
    callbacks.append(Checkpoint(options.checkpoint))
net.fit(
    x_train,
    y_train,
    epochs=options.epochs,
    batch_size=batch_size,
    shuffle=True,
    validation_split=options.validation_split,
    callbacks=callbacks,
    resume=options.checkpoint,
)

digits = net.predict_classes(x_test)
print(f"test accuracy: {(digits == y_test).mean():.2%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
