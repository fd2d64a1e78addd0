"""Values of the wrong kind: data that is not numeric, flags, integers, incomplete calls, and odd values everywhere."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import portnn
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    GroupNormLayer,
    Huber,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SoftmaxCrossEntropy,
    compare_backends,
    gradcheck,
    load_mnist,
    to_categorical,
)

# -- data that is not numeric ------------------------------------------------------------------------------------------


class NAType:
    """Like pandas.NA: comparisons have no truth value."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


class Table:
    """The part of a data frame's interface that portnn uses."""

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


# -- flags and integers ------------------------------------------------------------------------------------------------


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


# -- incomplete calls --------------------------------------------------------------------------------------------------


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
        (lambda: ready().use("mse", metrics=None), r"metrics must be a list of names or functions, got None: metrics=\[\]"),
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


def compared(**options):
    return compare_backends(ready(), **({"x": X, "y": Y, "learning_rate": 0.1, "backends": ("cpu", np)} | options))


def classifier():
    net = Network([FCLayer(3, 4)], seed=0)
    net.use(SoftmaxCrossEntropy(0.1), metrics=["accuracy"])
    return net


PLACES = {
    **{f"Network({p})": lambda v, p=p: Network(**{p: v}) for p in ("layers", "backend", "dtype", "seed", "kernels")},
    **{f"fit({p})": lambda v, p=p: fit_with(**{p: v}) for p in ("batch_size", "learning_rate", "shuffle", "verbose")},
    **{f"Conv({p})": lambda v, p=p: conv(**{p: v}) for p in ("input_shape", "kernel_shape", "layer_depth", "stride")},
    **{f"Conv({p})": lambda v, p=p: conv(**{p: v}) for p in ("padding", "dilation", "groups", "weights", "bias")},
    **{
        f"compare_backends({p})": lambda v, p=p: compared(**{p: v})
        for p in ("x", "y", "backends", "batch_size", "tolerance")
    },
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
        except RecursionError as error:  # a subclass of RuntimeError, but not acceptable
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
