"""Models in Keras, for ``tools/record_onnx_keras.py`` and the live comparison; needs Keras."""

import warnings

import keras
import numpy as np
from keras import layers

SAMPLES, STEPS, RATE = 6, 10, 0.02


def lenet(x):
    x = layers.Conv2D(3, 5, padding="same", activation="tanh")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(6, activation="tanh")(x)
    return layers.Dense(3)(x)


def residual(x):
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(4, 3, padding="same", activation="silu")(x)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    y = layers.Conv2D(6, 3, strides=2, padding="same")(layers.ReLU()(x))
    x = layers.Add()([layers.Conv2D(6, 1, strides=2)(x), y])
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def batchnorm(x):
    """Batch normalization behind convolutions and before them, with an activation between."""
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    y = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    return layers.Dense(3)(layers.BatchNormalization()(layers.GlobalMaxPooling2D()(x)))


def parallel(x):
    one = layers.Conv2D(2, 1)(x)
    three = layers.Conv2D(3, 3, padding="same", activation="relu")(layers.Conv2D(2, 1)(x))
    pool = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    x = layers.Concatenate()([one, three, pool])
    return layers.Dense(3)(layers.Flatten()(layers.Activation("relu")(x)))


def chain(*made):
    def run(x):
        for layer in made:
            x = layer(x)
        return x

    return run


MODELS = {  # by name: a function of the input, and the shape of one sample
    "mlp": (
        lambda x: chain(layers.Dense(8, activation="tanh"), layers.Dropout(0.2), layers.Dense(3))(x),
        (5,),
    ),
    "lenet": (lenet, (12, 10, 1)),
    "residual": (residual, (8, 6, 2)),
    "batchnorm": (batchnorm, (8, 6, 3)),
    "parallel": (parallel, (4, 5, 3)),
    "decoder": (
        lambda x: chain(
            layers.Dense(24, activation="relu"),
            layers.Reshape((2, 4, 3)),
            layers.UpSampling2D(2),
            layers.Conv2D(2, 3, padding="same"),
        )(x),
        (5,),
    ),
    "conv1d": (
        lambda x: chain(
            layers.Conv1D(4, 3, padding="same"),
            layers.Activation("silu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(3, 3),
            layers.Activation("sigmoid"),
            layers.Flatten(),
            layers.Dense(3),
        )(x),
        (10, 2),
    ),
    "depthwise": (
        lambda x: chain(
            layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            layers.Activation("relu6"),
            layers.Conv2D(4, 1),
            layers.Activation("hard_swish"),
            layers.Flatten(),
            layers.Dense(3),
        )(x),
        (6, 5, 3),
    ),
    "dilation": (
        lambda x: chain(
            layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
            layers.ELU(),
            layers.AveragePooling2D(3, strides=2),
            layers.LeakyReLU(0.1),
            layers.Flatten(),
            layers.Dense(3),
        )(x),
        (7, 6, 2),
    ),
    "gelu": (
        lambda x: chain(
            layers.Dense(8, activation="gelu"),
            layers.Dense(8, activation="silu"),
            layers.Dense(8),
            layers.Lambda(lambda y: keras.activations.gelu(y, approximate=True)),
            layers.Dense(3, activation="softplus"),
        )(x),
        (5,),
    ),
    "activations": (
        lambda x: chain(
            layers.Rescaling(0.5, offset=0.1),
            layers.Dense(8, activation="selu"),
            layers.Dense(8, activation="softsign"),
            layers.Dense(8, activation="hard_sigmoid"),
            layers.Dense(8, activation="elu"),
            layers.Dense(3),
        )(x),
        (5,),
    ),
    "layernorm": (
        lambda x: chain(layers.Dense(8, activation="relu"), layers.LayerNormalization(), layers.Dense(3))(x),
        (5,),
    ),
    "softmax": (lambda x: chain(layers.Dense(8, activation="relu"), layers.Dense(4, activation="softmax"))(x), (5,)),
}


def made(name):
    """A model whose biases and normalization have other values than those of a new one, and samples for it."""
    run, shape = MODELS[name]
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, run(inputs))
    for layer in model.layers:
        low = 0.5 if "normalization" in layer.name else -0.5
        layer.set_weights([w if w.ndim > 1 else rng.uniform(low, low + 1.0, w.shape) for w in layer.get_weights()])
    return model, rng.standard_normal((SAMPLES, *shape)).astype("float32")


def export(model, x, path):
    """Writes the model to an ONNX file, as a user does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(x)  # Keras exports only what has been called
        model.export(path, format="onnx", verbose=False)


def trained(model, x):
    """What the model returns for x before and after some steps of gradient descent, and the targets of these."""
    before = np.asarray(model.predict(x, verbose=0))
    targets = np.random.default_rng(4).random(before.shape, dtype="float32")
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    model.compile(keras.optimizers.SGD(RATE), "mse")
    model.fit(x, targets, epochs=STEPS, batch_size=len(x), shuffle=False, verbose=0)
    return before, targets, np.asarray(model.predict(x, verbose=0))
