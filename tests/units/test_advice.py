"""Advice in error messages: how to reshape data, which name was probably meant, which call to write instead."""

import re

import numpy as np
import pytest

import portnn
from portnn import (
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Huber,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    get_backend,
    load_mnist,
    names,
)
from portnn.arguments import OPTIMIZERS
from portnn.names import meant

# -- data that does not fit the network ----------------------------------------------------------------------------------

NETWORKS = {
    "flat": lambda: [FCLayer(784, 5), ActivationLayer("tanh"), FCLayer(5, 2)],
    "flattened": lambda: [FlattenLayer(), FCLayer(784, 2)],
    "normalized": lambda: [BatchNormLayer(), FCLayer(784, 2)],
    "images": lambda: [ScaleLayer(0.1), ConvLayer((28, 28, 1), (3, 3), 2), FlattenLayer(), FCLayer(1352, 2)],
    "reshaped": lambda: [ReshapeLayer((28, 28, 1)), ConvLayer((28, 28, 1), (3, 3), 2)],
    "rows": lambda: [ConvLayer((28, 28), (3,), 2)],
    "pooled": lambda: [MaxPoolLayer(2), FlattenLayer(), FCLayer(196, 2)],
    "colours": lambda: [ConvLayer((8, 8, 3), (3, 3), 2)],
    "single numbers": lambda: [FCLayer(1, 2)],
    "composite": lambda: [ResidualLayer(FCLayer(784, 784))],
}

MISFITS = [
    ("flat", (784,), "x[None]"),
    ("flat", (28, 28), "x.reshape(1, 784)"),
    ("flat", (28, 28, 1), "x.reshape(1, 784)"),
    ("flat", (5, 28, 28), "x.reshape(-1, 784), or begin the network with FlattenLayer()"),
    ("flat", (5, 28, 28, 1), "x.reshape(-1, 784), or begin the network with FlattenLayer()"),
    ("flat", (5, 784, 1), "x[..., 0]"),
    ("flat", (5, 30), "Change the data, not the layer: give it samples of shape (784,)"),
    ("flattened", (784,), "x[None]"),
    ("flattened", (28, 28), "x[None]"),
    ("flattened", (28, 28, 1), "x[None]"),
    ("flattened", (5, 30), "Change the data, not the layer: give it samples of 784 numbers"),
    ("normalized", (784,), "x[None]"),
    ("images", (28, 28), "x[None, ..., None]"),
    ("images", (28, 28, 1), "x[None]"),
    ("images", (5, 28, 28), "x[..., None]"),
    ("images", (1, 28, 28), "x[..., None]"),
    ("images", (1, 784), "x.reshape(-1, 28, 28, 1)"),
    ("images", (784,), "x.reshape(1, 28, 28, 1)"),
    ("images", (5, 784), "x.reshape(-1, 28, 28, 1)"),
    ("images", (1, 5, 28, 28, 1), "x[0]"),
    ("images", (5, 30, 30, 1), "Change the data, not the layer: give it samples of shape (28, 28, 1)"),
    ("reshaped", (28, 28), "x[None]"),
    ("reshaped", (784,), "x[None]"),
    ("rows", (28, 28), "x[None]"),
    ("rows", (28, 28, 1), "x[None, ..., 0]"),
    ("rows", (28, 28, 28, 1), "x[..., 0]"),
    ("pooled", (28, 28), "x[None, ..., None]"),
    ("pooled", (28, 28, 1), "x[None]"),
    ("pooled", (5, 28, 28), "x[..., None]"),
    ("colours", (5, 3, 8, 8), "np.moveaxis(x, 1, -1)"),
    ("colours", (3, 8, 8), "np.moveaxis(x, 0, -1)[None]"),
    ("colours", (8, 8, 3), "x[None]"),
    ("single numbers", (5,), "x[..., None]"),
    ("composite", (784,), "x[None]"),
]


@pytest.mark.parametrize(("name", "shape", "advice"), MISFITS)
def test_data_that_does_not_fit_is_told_how_to(name, shape, advice):
    x, messages = np.ones(shape), []
    net = Network(NETWORKS[name](), seed=0)
    net.use("mse")
    for call in (
        lambda: net.predict(x),
        lambda: net.evaluate(x, np.ones(3)),
        lambda: net.fit(x, np.ones(3), epochs=1, learning_rate=0.1),
    ):
        with pytest.raises(ValueError, match=re.escape(f"x has samples of shape {shape[1:]}")) as caught:
            call()
        messages.append(str(caught.value))
        assert caught.value.__cause__ is None  # a chained error would advise changing the layer
    assert len(set(messages)) == 1
    assert messages[0].endswith(advice)
    assert "make it" not in messages[0]


@pytest.mark.parametrize(("name", "shape", "advice"), [row for row in MISFITS if "Change" not in row[2]])
def test_what_is_advised_works(name, shape, advice):
    x = eval(advice.partition(", or")[0], {"x": np.ones(shape), "np": np})
    Network(NETWORKS[name](), seed=0).predict(x)


def test_what_the_network_takes_is_said_by_its_layer():
    net = Network([FCLayer(784, 100)])
    words = r"x has samples of shape \(30,\).*But the network takes \(784,\): its first layer is FCLayer\(784, 100\)"
    with pytest.raises(ValueError, match=words):
        net.predict(np.ones((4, 30)))
    with pytest.raises(ValueError, match=r"its layer 1 is ConvLayer\(\(28, 28, 1\)"):
        Network(NETWORKS["images"]()).predict(np.ones((4, 30)))


def test_lists_are_told_what_works_for_lists():
    with pytest.raises(ValueError, match=r"give it an axis of samples: \[x\]"):
        Network([FCLayer(3, 2)]).predict([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"np.array\(x\)\[..., None\]"):
        Network(NETWORKS["images"]()).predict(np.ones((2, 28, 28)).tolist())


def test_batches_that_fit_by_chance_are_taken():
    assert Network([FCLayer(28, 2)]).predict(np.ones((28, 28))).shape == (28, 2)
    assert Network([FlattenLayer(), FCLayer(28, 2)]).predict(np.ones((28, 28))).shape == (28, 2)


def test_a_later_layer_that_refuses_what_comes_of_the_data():
    with pytest.raises(ValueError, match=r"shape \(30, 30, 1\).*They do not fit: layer 2: FCLayer\(196, 2\).*\(225,\)"):
        Network(NETWORKS["pooled"]()).predict(np.ones((5, 30, 30, 1)))


def test_at_add_it_is_the_layer_that_changes():
    with pytest.raises(ValueError, match=r"layer 1: FCLayer\(4, 1\) takes 4 values.*: make it FCLayer\(3, 1\)"):
        Network([FCLayer(2, 3), FCLayer(4, 1)])
    with pytest.raises(ValueError, match=r"in ResidualLayer, layer 1: FCLayer\(4, 2\).*: make it FCLayer\(3, 2\)"):
        Network([ResidualLayer(FCLayer(2, 3), FCLayer(4, 2))])


def test_one_target_without_its_axis():
    net = Network([FCLayer(4, 2)])
    net.use("mse")
    with pytest.raises(ValueError, match=r"x holds 1 samples, y 2 targets.*give it an axis of samples: y\[None\]"):
        net.fit(np.ones((1, 4)), np.ones(2), epochs=1, learning_rate=0.1)


def test_no_samples_of_a_shape_that_would_not_fit():
    with pytest.raises(ValueError, match=r"x holds 0 samples, and by its shape \(0,\) they would not fit"):
        Network([FCLayer(4, 2)]).predict([])


# -- misspelled and foreign names --------------------------------------------------------------------------------------


def with_loss(loss):
    return lambda: Network().use(loss)


def with_activation(name):
    return lambda: ActivationLayer(name)


def with_optimizer(name):
    return lambda: Network().use("mse", optimizer=name)


def with_metric(name):
    return lambda: Network().use("mse", metrics=[name])


def with_weights(name):
    return lambda: FCLayer(2, 2, initializer=name)


NAMES = [
    *((with_activation, given, "relu") for given in ("ReLU", "Relu", "RELU", "relu ", "rleu", "re-lu")),
    (with_activation, "swish", "silu"),
    (with_activation, "SiLU", "silu"),
    (with_activation, "LeakyReLU", "leaky_relu"),
    (with_activation, "Tanh", "tanh"),
    (with_activation, "logistic", "sigmoid"),
    *((with_loss, given, "mse") for given in ("MSE", "mean_squared_error", "MeanSquaredError", "l2", "mse ")),
    *((with_loss, given, "mse") for given in ("MSELoss", "mse_loss", "mean squared error loss")),
    (with_loss, "L1Loss", "mae"),
    (with_loss, "BCELoss", "binary_cross_entropy"),
    *((with_loss, given, "mae") for given in ("MAE", "l1", "L1", "mean_absolute_error")),
    *(
        (with_loss, given, "softmax_cross_entropy")
        for given in (
            "cross_entropy",
            "crossentropy",
            "categorical_crossentropy",
            "sparse_categorical_crossentropy",
            "CrossEntropy",
            "softmax_crossentropy",
        )
    ),
    *((with_loss, given, "binary_cross_entropy") for given in ("bce", "BCE", "binary_crossentropy")),
    *((with_metric, given, "accuracy") for given in ("acc", "Accuracy", "acuracy", "categorical_accuracy")),
    *((with_metric, given, "top_5") for given in ("top5", "TOP_5", "top_5_accuracy", "Top-5")),
    *((with_metric, given, "top_3") for given in ("top3", "top-3", "TOP_3", "top 3")),
    *((with_metric, given, "mean_absolute_error") for given in ("mae", "MAE", "mean absolute error", "l1")),
    *((with_metric, given, "f1") for given in ("f1_score", "F1", "F1Score", "macro_f1", "f-score")),
    *((with_metric, given, "r2") for given in ("R2", "r2_score", "r_squared")),
    *((with_metric, given, "recall") for given in ("recal", "Recall", "sensitivity", "balanced_accuracy")),
    (with_metric, "percision", "precision"),
    (with_optimizer, "Adam", "adam"),
    (with_optimizer, "sgd ", "sgd"),
    (with_optimizer, "SGD", "sgd"),
    (with_optimizer, "RMSprop", "rmsprop"),
    (with_optimizer, "rms_prop", "rmsprop"),
    (with_optimizer, "AdamW", "adamw"),
    (with_weights, "he", "he_uniform' or 'he_normal"),
    (with_weights, "glorot", "glorot_uniform' or 'glorot_normal"),
    (with_weights, "xavier_uniform", "glorot_uniform"),
    (with_weights, "kaiming_normal", "he_normal"),
    (with_weights, "HeNormal", "he_normal"),
    (with_weights, "glorot_unifrom", "glorot_uniform"),
    *(
        (lambda name: lambda: Network(backend=name), given, "gpu")
        for given in ("GPU", "cuda", "CUDA", "cupy", "cuda:0")
    ),
    *((lambda name: lambda: get_backend(name), given, "cpu") for given in ("CPU", "numpy", "NumPy")),
    *((lambda name: lambda: Network(dtype=name), given, "float32") for given in ("f32", "FLOAT32", "float_32", "f4")),
    (lambda name: lambda: Network(dtype=name), "double", "float64"),
    (lambda name: lambda: Network(dtype=name), "float", "float32' or 'float64"),
    (lambda name: lambda: Network(kernels=name), "AUTO", "auto"),
    (lambda name: lambda: Network(kernels=name), "Portable", "portable"),
    (lambda name: lambda: ConvLayer((5, 5, 1), (3, 3), 1, padding=name), "SAME", "same"),
    (lambda name: lambda: MaxPoolLayer(2, padding=name), "VALID", "valid"),
    (lambda name: lambda: ParallelLayer([], merge=name), "sum", "add"),
    (lambda name: lambda: ParallelLayer([], merge=name), "Add", "add"),
    (lambda name: lambda: ParallelLayer([], merge=name), "concatenate", "concat"),
    (lambda name: lambda: load_mnist(dataset=name), "MNIST", "mnist"),
    (lambda name: lambda: load_mnist(dataset=name), "fashion-mnist", "fashion_mnist"),
    (lambda name: lambda: load_mnist(dataset=name), "FashionMNIST", "fashion_mnist"),
    (lambda name: lambda: load_mnist(dataset=name), "K-MNIST", "kmnist"),
]


@pytest.mark.parametrize(("make", "given", "right"), NAMES)
def test_a_name_that_is_meant(make, given, right):
    with pytest.raises(ValueError, match=re.escape(f"did you mean '{right}'?")) as caught:
        make(given)()
    assert repr(given) in str(caught.value)


NO_ACTIVATION = next(name for name, ours in names.OTHERS["activation"].items() if not ours)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (with_activation(NO_ACTIVATION), f"unknown activation {NO_ACTIVATION!r}; known: tanh, sigmoid"),
        (with_loss("nonsense"), "unknown loss 'nonsense'; known: mse"),
        (with_metric("nonsense"), "unknown metric 'nonsense'; known: accuracy"),
        (with_optimizer("nadam"), f"unknown optimizer 'nadam'; known: {', '.join(OPTIMIZERS)}. Or give"),
        (with_weights("ones"), "unknown initializer 'ones'; known: glorot_uniform"),
        (lambda: Network(backend="tpu"), "unknown backend 'tpu'; known: 'cpu', 'gpu'. Another array library"),
        (lambda: Network(dtype="float16"), r"dtype must be one of \('float32', 'float64'\), got 'float16'$"),
        (lambda: Network(dtype=np.int32), "dtype must be one of"),
        (lambda: Network(dtype=None), "dtype must be one of.*got None"),
        (lambda: Network(kernels=[]), "kernels must be one of"),
        (lambda: ConvLayer((5, 5, 1), (3, 3), 1, padding="full"), "padding must be 'valid', 'same'.*got 'full'$"),
        (lambda: ParallelLayer([], merge=np.array(["add"])), "merge must be 'concat' or 'add'"),
        (lambda: load_mnist(dataset="cifar"), "unknown data set 'cifar'; known: 'mnist', 'fashion_mnist', 'kmnist'"),
    ],
)
def test_a_name_that_is_not_near_is_not_guessed(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "did you mean" not in str(caught.value)


def test_names_for_objects():
    with pytest.raises(ValueError, match=r"did you mean Huber\(\)\?"):
        Network().use("huber")
    with pytest.raises(ValueError, match=r"did you mean SGD\(0.01, momentum=0.9\)\?"):
        Network().use("mse", optimizer="momentum")
    for name in ("softmax", "Softmax", "log_softmax"):
        with pytest.raises(ValueError, match="is not a function of one element"):
            ActivationLayer(name)
    with pytest.raises(ValueError, match="linear changes nothing: leave the ActivationLayer out"):
        ActivationLayer("linear")


def test_every_foreign_name_leads_to_one_of_ours():
    known = {"loss": portnn.losses.PAIRS, "activation": portnn.activations.PAIRS, "optimizer": OPTIMIZERS}
    known |= {"initializer": portnn.initializers.NAMES, "merge": ("concat", "add"), "backend": ("cpu", "gpu")}
    for kind, ours in known.items():
        for foreign, answer in portnn.names.OTHERS[kind].items():
            assert meant(kind, foreign, ours) == "" if answer == "" else "; did you mean " in meant(kind, foreign, ours)
            assert answer.endswith(")") or all(name in ours for name in answer.split(" or ") if name)


def test_numpys_own_words_for_a_dtype():
    for dtype in (np.float64, np.dtype("float64"), float):
        assert Network(dtype=dtype).dtype == "float64"


@pytest.mark.parametrize(("name", "kind"), OPTIMIZERS.items())
def test_optimizers_go_by_name(name, kind):
    x, y = np.random.default_rng(0).standard_normal((2, 6, 3))
    nets = [Network([FCLayer(3, 3)], seed=0) for _ in range(2)]
    for net, optimizer in zip(nets, (name, kind()), strict=True):
        net.use("mse", optimizer=optimizer)
        net.fit(x, y, epochs=2, verbose=0)
    assert type(nets[0].optimizer) is kind
    assert name == kind.__name__.lower()
    assert nets[0].optimizer.learning_rate == kind().learning_rate
    assert np.array_equal(nets[0].layers[0].weights, nets[1].layers[0].weights)
    with pytest.raises(ValueError, match="which has its own learning rate"):
        nets[0].fit(x, y, epochs=1, learning_rate=0.1)


def test_a_class_in_place_of_an_object():
    with pytest.raises(TypeError, match=r"got the class Adam: write Adam\(\)"):
        Network().use("mse", optimizer=Adam)
    with pytest.raises(TypeError, match=r"got the class Huber: write Huber\(\)"):
        Network().use(Huber)
    with pytest.raises(TypeError, match="got the class int"):
        Network().use(int)
    with pytest.raises(TypeError, match="a metric must be a name or a function, got the class int"):
        Network().use("mse", metrics=[int])
