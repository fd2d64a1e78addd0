"""Errors that advise: the data that does not fit, the name that was meant, the call to write instead."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import portnn
from portnn import (
    SGD,
    ActivationLayer,
    AdaGrad,
    Adam,
    AdamW,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GroupNormLayer,
    Huber,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    RMSprop,
    ScaleLayer,
    SoftmaxCrossEntropy,
    get_backend,
    gradcheck,
    load_mnist,
    to_categorical,
    twin,
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
        assert caught.value.__cause__ is None  # it would say to change the layer
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


# -- names ---------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (with_activation("prelu"), "unknown activation 'prelu'; known: tanh, sigmoid"),
        (with_loss("nonsense"), "unknown loss 'nonsense'; known: mse"),
        (with_metric("nonsense"), "unknown metric 'nonsense'; known: accuracy"),
        (with_optimizer("nadam"), "unknown optimizer 'nadam'; known: sgd, adagrad, rmsprop, adam, adamw. Or give"),
        (with_weights("ones"), "initializer='ones' is none; known: glorot_uniform"),
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
        with pytest.raises(ValueError, match="is no function of one element"):
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", SGD), ("adagrad", AdaGrad), ("rmsprop", RMSprop), ("adam", Adam), ("adamw", AdamW)],
)
def test_optimizers_go_by_name(name, kind):
    x, y = np.random.default_rng(0).standard_normal((2, 6, 3))
    nets = [Network([FCLayer(3, 3)], seed=0) for _ in range(2)]
    for net, optimizer in zip(nets, (name, kind()), strict=True):
        net.use("mse", optimizer=optimizer)
        net.fit(x, y, epochs=2, verbose=0)
    assert type(nets[0].optimizer) is kind
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


# -- data that is no numbers -----------------------------------------------------------------------------------------------


class NAType:
    """As pandas has it: it will not be compared."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


class Table:
    """Of a frame what portnn looks at."""

    def __init__(self, values, **columns):
        self.values, self.columns, self.dtypes = np.array(values, dtype=object), list(columns), list(columns.values())

    def __array__(self, dtype=None, copy=None):
        return self.values

    def astype(self, dtype):
        return self.values.astype(dtype)


def objects(*values):
    return np.array(values, dtype=object)


NO_NUMBERS = {
    "None": (objects([1, 2], [3, None]), r"x\[1, 1\] is None \(NoneType\): fill or drop missing values, then x.astype\(float\)"),
    "NaN": (objects([1, float("nan")]), r"x\[0, 1\] is nan \(float\): fill or drop missing"),
    "NA": (objects([1, NAType()]), r"x\[0, 1\] is .*\(NAType\): fill or drop missing"),
    "Decimal's": (objects([1, Decimal("sNaN")]), r"x\[0, 1\] is Decimal\('sNaN'\).*: fill or drop missing"),
    "a list with None": ([[1.0, None]], r"x\[0, 1\] is None.*np.array\(x, float\)"),
    "a word": (objects([1, "cat"]), r"dtype object\): x\[0, 1\] is 'cat' \(str\): words become numbers.*np.unique\(x\[:, 1\]"),
    "a number as text": (objects([1, "2.5"]), r"x\[0, 1\] is '2.5' \(str\): numbers written as text.*x.astype\(float\)"),
    "complex among others": (objects([1, 1j]), r"x\[0, 1\] is 1j \(complex\)"),
    "numbers of all kinds": (
        objects([1, 2.0], [Fraction(1, 2), Decimal("0.5")]),
        r"dtype object\): all of them are numbers, such as 1 \(int\): x.astype\(float\)",
    ),
    "arrays": (objects([np.ones(2), None], [1, 2])[:, 0], r"x\[0\] is array.*np.stack\(list\(x\)\)"),
    "huge": ([[10**400, 1]], r"all of them are numbers.*np.array\(x, float\)"),
    "too many digits": ([[10**5000, 1]], r"all of them are numbers, such as a value \(int\)"),
    "words": (np.array([["a", "b"]]), r"got dtype <U1, such as \['a'\]: words become numbers"),
    "text": (np.array([["1", "2"]]), r"numbers written as text become numbers with x.astype\(float\)"),
    "dates": (np.array([["2020", "2021"]], "M8[D]"), r"datetime64\[D\].*np.timedelta64\(1, 'D'\)"),
    "durations": (np.array([[1, 2]], "m8[s]"), r"timedelta64\[s\].*x / np.timedelta64\(1, 's'\)"),
    "complex": (np.ones((1, 2)) * 1j, r"complex128.*take x.real, or np.abs\(x\)"),
    "fields": (np.zeros(2, [("age", int), ("height", float)]), r"its fields are age, height: np.stack"),
    "a dict": ({"a": 1}, r"in an array or a list, got \{'a': 1\} \(dict\): list\(x.values\(\)\)"),
    "a generator": ((i for i in range(3)), r"\(generator\): make a list of it first, list\(x\)"),
    "nothing": (None, r"in an array or a list, got None \(NoneType\)"),
    "a table": (
        Table([[1, "x"]], age=np.dtype(int), name=np.dtype(object)),
        r"a table whose column 'name' has dtype object: x\[0, 1\] is 'x' \(str\)",
    ),
    "a table with a gap": (
        Table([[1, None]], age=np.dtype(int), height="Int64"),
        r"a table whose column 'height' has dtype Int64: x\[0, 1\] is None.*fill or drop",
    ),
    "a table of numbers": (
        Table([[1, 2]], age=np.dtype(int), height="Int64"),
        r"a table whose column 'height' has dtype Int64: all of them are numbers.*x.astype\(float\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_data_that_is_no_numbers(name):
    x, words = NO_NUMBERS[name]
    with pytest.raises(TypeError, match=f"(?s)x must be real numbers, .*{words}"):
        Network([FCLayer(2, 1)]).predict(x)


CIRCLE: list = []
CIRCLE.append(CIRCLE)
MATRIX = np.ones((1, 2)).view(np.matrix)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([[1, 2], [3]], r"x\[1\] has shape \(1,\), but x\[0\] has \(2,\)"),
        ([[1, 2], [3, 4], 5], r"x\[2\] has shape \(\), but x\[0\] has \(2,\)"),
        ([[[1, 2], [3, 4]], [[1, 2], [3]]], r"x\[1\]\[1\] has shape \(1,\), but x\[1\]\[0\] has \(2,\)"),
        ([np.ones(3), np.ones(3), np.ones(2)], r"x\[2\] has shape \(2,\), but x\[0\] has \(3,\)"),
        (CIRCLE, "x cannot be made an array"),
    ],
)
def test_ragged_lists_say_which_sample_differs(x, words):
    with pytest.raises(ValueError, match=f"{words}.*All samples must have one shape"):
        Network([FCLayer(2, 1)]).predict(x)


# -- flags and whole numbers -----------------------------------------------------------------------------------------------


def ready():
    net = Network([FCLayer(3, 2)], seed=0)
    net.use("mse")
    return net


X, Y = np.ones((6, 3)), np.ones((6, 2))


def test_numpys_flags_and_whole_numbers():
    assert "bias" not in FCLayer(2, 3, bias=np.False_).shapes
    assert "bias" in ConvLayer((5, 5, 1), (3, 3), np.int64(1), bias=np.array(True)).shapes
    assert "bias" not in FCLayer(2, 3, bias=0).shapes
    bad = X.copy()
    bad[0, 0] = np.nan
    ready().fit(
        X, Y, epochs=np.int64(1), learning_rate=0.1, batch_size=np.uint8(2), shuffle=np.True_, verbose=np.False_
    )
    with np.errstate(invalid="ignore"):
        ready().fit(bad, Y, epochs=1, learning_rate=0.1, verbose=0, check_finite=np.False_)


@pytest.mark.parametrize("value", ["no", 2, -1, None, 1.0, np.array([True, False]), [], np.float64(1.0)])
def test_no_flag(value):
    with pytest.raises(TypeError, match="shuffle must be True or False, got"):
        ready().fit(X, Y, epochs=1, learning_rate=0.1, shuffle=value, verbose=0)
    with pytest.raises(TypeError, match="bias must be True or False, got"):
        FCLayer(2, 3, bias=value)


@pytest.mark.parametrize("value", [2.0, np.float32(2.0)])
def test_a_whole_number_written_as_a_float(value):
    with pytest.raises(TypeError, match=r"batch_size must be a whole number, got .*2.0.*: write int\(.*2.0\)*, or 2$"):
        ready().fit(X, Y, epochs=1, learning_rate=0.1, batch_size=value)


@pytest.mark.parametrize("value", [np.True_, True, np.ones(3), "2", None, 2.5])
def test_no_whole_number(value):
    with pytest.raises(TypeError, match="batch_size must be a whole number, got"):
        ready().fit(X, Y, epochs=1, learning_rate=0.1, batch_size=value)
    with pytest.raises(TypeError, match="stride must be a whole number, got"):
        ConvLayer((5, 5, 1), (3, 3), 1, stride=value)


@pytest.mark.parametrize(("value", "error"), [("loud", TypeError), (3, ValueError), (-1, ValueError), (0.5, TypeError)])
def test_verbose(value, error):
    with pytest.raises(error, match="verbose must be"):
        ready().fit(X, Y, epochs=1, learning_rate=0.1, verbose=value)


def test_lines_are_flushed(monkeypatch):
    seen = []
    monkeypatch.setattr("builtins.print", lambda *words, **options: seen.append((words[0][:9], options.get("flush"))))
    ready().fit(X, Y, epochs=2, learning_rate=0.1)
    assert seen == [("epoch 1/2", True), ("epoch 2/2", True)]


# -- calls that are not whole ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Network(FCLayer(2, 3), ActivationLayer("tanh")), r"takes one list of layers, got 2 arguments, FCLayer\(2, 3\), .*write Network\(\[a, b\]\)"),
        (lambda: Network(FCLayer(2, 3)), r"got one layer: Network\(\[FCLayer\(2, 3\)\]\)"),
        (lambda: Network([FCLayer(2, 3), [FCLayer(3, 3)]]), r"got a list within it, \[FCLayer\(3, 3\)\].*with a \*: Network\(\[first, \*others\]\)"),
        (lambda: Network(FCLayer), r"got the class FCLayer: Network\(\[FCLayer\(...\)\]\)"),
        (lambda: Network("gpu"), r"got 'gpu': Network\(layers, backend='gpu'\)"),
        (lambda: Network({FCLayer(2, 3)}), "layers must be a list of layers"),
        (lambda: Network(None), "layers must be a list of layers, got None"),
        (lambda: Network(np.array(3)), "layers must be a list of layers"),
        (lambda: Network().add([FCLayer(2, 3)]), r"add takes one layer, got a list: add them one by one: for layer in layers: net.add\(layer\)"),
        (lambda: Network().add(FCLayer(2, 3), FCLayer(3, 2)), r"add takes one layer, got 2 arguments, .*: add them one by one: for layer in layers"),
        (lambda: ready().fit(X, Y), r"fit needs the number of epochs: write net.fit\(x, y, epochs=10, learning_rate=0.1\)"),
        (lambda: ready().fit(X), r"fit needs the targets y: write net.fit\(x, y, epochs=10, learning_rate=0.1\)"),
        (lambda: ready().fit(X, epochs=3), "fit needs the targets y"),
        (lambda: ready().evaluate(X), r"evaluate needs the targets y: write net.evaluate\(x, y\)"),
        (lambda: ready().use("mse", metrics=None), r"metrics must be a list, got None: metrics=\[\]"),
    ],
)  # fmt: skip
def test_calls_that_are_not_whole(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_with_an_optimizer_the_call_that_is_shown_has_no_learning_rate():
    net = ready()
    net.use("mse", optimizer="adam")
    with pytest.raises(TypeError, match=r"write net.fit\(x, y, epochs=10\)$"):
        net.fit(X, Y)


def test_layers_may_come_from_a_generator():
    assert len(Network(FCLayer(n, n + 1) for n in (1, 2)).layers) == 2


# -- odd values everywhere ---------------------------------------------------------------------------------------------------


def generator():
    yield 1


ODD = {
    "None": None, "empty text": "", "text": "3", "bytes": b"x", "NaN": float("nan"), "inf": float("inf"), "-1": -1,
    "0": 0, "2.5": 2.5, "True": True, "[]": [], "[[]]": [[]], "ragged": [[1, 2], [3]], "{}": {}, "set": set(),
    "object": object(), "class": object, "lambda": lambda: 0, "0-d": np.array(3), "date": np.datetime64("2020"),
    "complex": 1j, "numpy complex": np.complex64(1j), "huge": 10**400, "-huge": -(10**400), "circle": CIRCLE,
    "objects": np.array([None, "a"], dtype=object), "empty": np.empty((0, 3)), "empty row": np.empty(0),
    "masked": np.ma.array([1.0, 2.0], mask=[0, 1]), "matrix": MATRIX, "()": (), "pair": (1, 2),
    "negative pair": (-1, 2), "text pair": ("a", "b"), "array": np.ones(3), "fields": np.zeros(2, [("a", int)]),
    "words": np.array(["a"]), "large": np.float64(1e300), "fraction": Fraction(1, 2), "module": re, "...": ...,
    "generator": generator, "layer": FCLayer,
}  # fmt: skip


def fit_with(**options):
    return ready().fit(X, Y, **({"epochs": 1, "learning_rate": 0.1, "verbose": 0} | options))


def conv(**options):
    return ConvLayer(**({"input_shape": (5, 5, 2), "kernel_shape": (3, 3), "layer_depth": 2} | options))


def twins(**options):
    return twin(ready(), **({"x": X, "y": Y, "learning_rate": 0.1, "backends": ("cpu", np)} | options))


def classifier():
    net = Network([FCLayer(3, 4)], seed=0)
    net.use(SoftmaxCrossEntropy(0.1), metrics=["accuracy"])
    return net


PLACES = {
    **{f"Network({p})": lambda v, p=p: Network(**{p: v}) for p in ("layers", "backend", "dtype", "seed", "kernels")},
    **{f"fit({p})": lambda v, p=p: fit_with(**{p: v}) for p in ("batch_size", "learning_rate", "shuffle", "verbose")},
    **{f"Conv({p})": lambda v, p=p: conv(**{p: v}) for p in ("input_shape", "kernel_shape", "layer_depth", "stride")},
    **{f"Conv({p})": lambda v, p=p: conv(**{p: v}) for p in ("padding", "dilation", "groups", "weights", "bias")},
    **{f"twin({p})": lambda v, p=p: twins(**{p: v}) for p in ("x", "y", "backends", "batch_size", "tolerance")},
    "add": lambda v: Network().add(v),
    "loss": lambda v: Network().use(v),
    "loss_prime": lambda v: Network().use("mse", v),
    "optimizer": lambda v: Network().use("mse", optimizer=v),
    "metrics": lambda v: Network().use("mse", metrics=v),
    "metric": lambda v: Network().use("mse", metrics=[v]),
    "fit(x)": lambda v: ready().fit(v, Y, 1, 0.1, verbose=0),
    "fit(y)": lambda v: ready().fit(X, v, 1, 0.1, verbose=0),
    "fit(classes)": lambda v: classifier().fit(X, v, 1, 0.1, verbose=0),
    "predict": lambda v: ready().predict(v),
    "evaluate": lambda v: classifier().evaluate(X, v),
    "to": lambda v: ready().to(v),
    "summary": lambda v: ready().summary(v),
    "FCLayer": lambda v: FCLayer(v, v),
    "ActivationLayer": ActivationLayer,
    "ReshapeLayer": ReshapeLayer,
    "ScaleLayer": ScaleLayer,
    "DropoutLayer": DropoutLayer,
    "MaxPoolLayer": MaxPoolLayer,
    "pool's stride": lambda v: AvgPoolLayer(2, stride=v)(np.ones((2, 4, 4, 1))),
    "pool's padding": lambda v: MaxPoolLayer(2, padding=v)(np.ones((2, 4, 4, 1))),
    "BatchNormLayer": lambda v: BatchNormLayer(momentum=v),
    "GroupNormLayer": GroupNormLayer,
    "group norm's X": lambda v: GroupNormLayer(1)(v),
    "ResidualLayer": ResidualLayer,
    "ParallelLayer": ParallelLayer,
    "forward": lambda v: FCLayer(3, 2)(v),
    "weights": lambda v: setattr(FCLayer(3, 2), "weights", v),
    "Huber": Huber,
    "label_smoothing": SoftmaxCrossEntropy,
    "y_true": lambda v: SoftmaxCrossEntropy(0.1)(v, np.ones((2, 3))),
    "y_pred": lambda v: SoftmaxCrossEntropy(0.1).prime(np.ones((2, 3)), v),
    "both": lambda v: SoftmaxCrossEntropy(0.1)(v, v),
    "mse": lambda v: portnn.mse(v, v),
    "relu_prime": portnn.relu_prime,
    "leaky_relu_prime": portnn.leaky_relu_prime,
    "hard_sigmoid_prime": portnn.hard_sigmoid_prime,
    "sigmoid": portnn.sigmoid,
    "to_categorical": to_categorical,
    "classes": lambda v: to_categorical([0, 1], v),
    "to_device": lambda v: portnn.to_device(v, "cpu"),
    "device": lambda v: portnn.to_device(X, v),
    "to_numpy": portnn.to_numpy,
    "backend_of": portnn.backend_of,
    "gradcheck": gradcheck,
    "gradcheck(x)": lambda v: gradcheck(FCLayer(3, 2), v),
    "gradcheck(input_shape)": lambda v: gradcheck(FCLayer(3, 2), input_shape=v),
    "load_mnist(full)": lambda v: load_mnist(full=v, dataset="nothing"),
    "load_mnist(folder)": lambda v: load_mnist(folder=v),
    "load_mnist(dataset)": lambda v: load_mnist(dataset=v),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", PLACES)
def test_odd_values_are_refused_in_words(place):
    for name, value in ODD.items():
        given = value() if value is generator else value
        try:
            with np.errstate(all="ignore"):
                PLACES[place](given)
        except RecursionError as error:  # a RuntimeError too
            raise AssertionError(f"{name}: {error!r}") from error
        except (TypeError, ValueError, RuntimeError):
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error


def test_functions_of_arrays_say_so():
    for given in ([1.0, 2.0], None, "x", MATRIX):
        with pytest.raises(TypeError, match=r"an array is needed, got .*: make one first, such as np.asarray\(x\)"):
            portnn.sigmoid(given)
    with pytest.raises(TypeError, match="an array is needed, got float"):
        portnn.relu_prime(1.0)
    with pytest.raises(TypeError, match="a loss compares two arrays, y_true and y_pred, got list, ndarray"):
        portnn.softmax_cross_entropy([0, 1], np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"y_pred has shape \(\), but a cross-entropy takes rows of logits"):
        portnn.softmax_cross_entropy(np.array(0), np.array(1.0))
