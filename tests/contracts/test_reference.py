"""The networks of four examples, and one with wider convolutions, compared with the article's algorithm."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import article_reference as ref
import portnn
from article_reference import assert_all_close, assert_close
from portnn import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Network

ROOT = Path(__file__).parents[2]
LEARNING_RATE = 0.1
EPOCHS = 3
SAMPLES = 10

# name -> (layers, shape of a sample, shape of a target)
EXAMPLES = {
    "xor": (
        lambda: [FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1), ActivationLayer("tanh")],
        (1, 2),
        (1, 1),
    ),
    "conv": (
        lambda: [
            ConvLayer((10, 10, 1), (3, 3), 1),
            ActivationLayer("tanh"),
            ConvLayer((8, 8, 1), (3, 3), 1),
            ActivationLayer("tanh"),
            ConvLayer((6, 6, 1), (3, 3), 2),
            ActivationLayer("tanh"),
        ],
        (10, 10, 1),
        (4, 4, 2),
    ),
    "mnist_fc": (
        lambda: [
            FCLayer(784, 100),
            ActivationLayer("tanh"),
            FCLayer(100, 50),
            ActivationLayer("tanh"),
            FCLayer(50, 10),
            ActivationLayer("tanh"),
        ],
        (1, 784),
        (1, 10),
    ),
    "mnist_conv": (
        lambda: [
            ConvLayer((28, 28, 1), (3, 3), 1),
            ActivationLayer("tanh"),
            FlattenLayer(),
            FCLayer(676, 100),
            ActivationLayer("tanh"),
            FCLayer(100, 10),
            ActivationLayer("tanh"),
        ],
        (28, 28, 1),
        (1, 10),
    ),
    "wide_conv": (  # channels, filters, height and width differ, and no channel or filter count is 1
        lambda: [
            ConvLayer((7, 6, 3), (3, 2), 4),
            ActivationLayer("sigmoid"),
            ConvLayer((5, 5, 4), (2, 3), 2),
            ActivationLayer("relu"),
            FlattenLayer(),
            FCLayer(24, 5),
            ActivationLayer("tanh"),
        ],
        (7, 6, 3),
        (1, 5),
    ),
}

# name -> keyword arguments of Network
PLACES = {
    "numpy": {"backend": "cpu"},
    "numpy, portable kernels": {"backend": "cpu", "kernels": "portable"},
    "array-api-strict, device1": {
        "backend": portnn.get_backend(array_api_strict, device=array_api_strict.Device("device1"))
    },
}

examples = pytest.mark.parametrize("example", EXAMPLES)
STRICT = list(PLACES)[-1]  # slow: by default it runs in one test per example
places = pytest.mark.parametrize(
    "place", [pytest.param(place, marks=pytest.mark.slow) if place == STRICT else place for place in PLACES]
)
all_places = pytest.mark.parametrize("place", PLACES)
batch_sizes = pytest.mark.parametrize("batch_size", [1, 3, 7, SAMPLES])


def network(example, place="numpy", dtype="float64"):
    """A portnn network with nonzero biases, so that errors in them show."""
    layers = EXAMPLES[example][0]()
    net = Network(layers, dtype=dtype, seed=8, **PLACES[place])
    rng = np.random.default_rng(1)
    for layer in layers:
        if isinstance(layer, (FCLayer, ConvLayer)):
            layer.bias = rng.uniform(-0.5, 0.5, layer.bias.shape)
    net.use("mse")
    return net


def reference(net, **replaced):
    """The same layers and initial values in plain NumPy; ``Connected=...`` or ``Convolution=...`` replaces a class."""
    connected = replaced.get("Connected", ref.Connected)
    convolution = replaced.get("Convolution", ref.Convolution)
    arrays, layers = host(net.parameters), []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, FCLayer):
            layers.append(connected(arrays[f"{i}.weights"], arrays[f"{i}.bias"]))
        elif isinstance(layer, ConvLayer):
            layers.append(convolution(arrays[f"{i}.weights"], arrays[f"{i}.bias"]))
        elif isinstance(layer, ActivationLayer):
            layers.append(ref.Activation(layer.activation.__name__))
        else:
            layers.append(ref.Flatten())
    return ref.Reference(layers)


def host(arrays):
    return {path: portnn.to_numpy(array) for path, array in arrays.items()}


def data(example, n=SAMPLES):
    """Random samples and targets in the example's shapes."""
    _, sample, target = EXAMPLES[example]
    rng = np.random.default_rng(2)
    return rng.uniform(0.0, 1.0, (n, *sample)), rng.uniform(-0.5, 0.5, (n, *target))


def compare(net, expected, x, errors, history, rtol=1e-12):
    """Compares the parameters, the predictions and the error of each epoch."""
    assert_all_close(host(net.parameters), expected.parameters, rtol)
    Y = expected.predict(x)
    assert_close(net.predict(x).reshape(Y.shape), Y, rtol, "predictions")
    assert_close(np.array(history["error"]), np.array(errors), rtol, "history['error']")


# -- training ----------------------------------------------------------------------------------------------------------


@all_places
@examples
def test_one_sample_at_a_time_is_the_article(example, place):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    history = net.fit(x, y, epochs=EPOCHS, learning_rate=LEARNING_RATE, verbose=0)
    errors = expected.train(x, y, EPOCHS, LEARNING_RATE)
    compare(net, expected, x, errors, history)


@batch_sizes
@places
@examples
def test_a_batch_is_the_mean_of_its_samples_gradients(example, place, batch_size):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    history = net.fit(x, y, EPOCHS, LEARNING_RATE, batch_size=batch_size, verbose=0)
    errors = expected.train_in_batches(x, y, EPOCHS, LEARNING_RATE, batch_size)
    compare(net, expected, x, errors, history)


@pytest.mark.parametrize("example", ["conv", "wide_conv", "mnist_fc"])
@places
def test_gradients_of_a_batch_are_the_mean_of_its_samples_gradients(example, place):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    net.fit(x, y, 1, LEARNING_RATE, batch_size=SAMPLES, verbose=0)
    each = [expected.gradients_of(X, Y)[1] for X, Y in zip(x, y, strict=True)]
    mean = {
        f"{i}.{name}": sum(gradients[i][k] for gradients in each) / SAMPLES
        for i, layer in enumerate(expected.layers)
        for k, name in enumerate(("weights", "bias"))
        if layer.parameters
    }
    assert_all_close(host(net.gradients), mean)


@places
def test_xor_as_in_the_article(place):
    net = network("xor", place)
    x = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
    y = np.array([[[0]], [[1]], [[1]], [[0]]])
    expected = reference(net)
    history = net.fit(x, y, epochs=50, learning_rate=LEARNING_RATE, verbose=0)
    compare(net, expected, x, expected.train(x, y, 50, LEARNING_RATE), history)


@places
@examples
def test_a_second_fit_goes_on_where_the_first_ended(example, place):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    first = net.fit(x, y, 1, LEARNING_RATE, verbose=0)
    second = net.fit(x, y, 2, LEARNING_RATE, verbose=0)
    errors = expected.train(x, y, 3, LEARNING_RATE)
    compare(net, expected, x, errors, {"error": first["error"] + second["error"]})


@places
@examples
def test_read_only_data_trains_the_same_and_is_left_alone(example, place):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    history = net.fit(x, y, EPOCHS, LEARNING_RATE, verbose=0)
    compare(net, expected, x, expected.train(x, y, EPOCHS, LEARNING_RATE), history)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@examples
def test_non_contiguous_data_trains_the_same(example):
    net = network(example)
    expected, (x, y) = reference(net), data(example)
    reversed_twice = x[:, ::-1].copy()[:, ::-1], np.asfortranarray(y)
    history = net.fit(*reversed_twice, EPOCHS, LEARNING_RATE, verbose=0)
    compare(net, expected, x, expected.train(x, y, EPOCHS, LEARNING_RATE), history)


@places
@examples
def test_float32_follows_to_its_own_precision(example, place):
    net = network(example, place, dtype="float32")
    expected, (x, y) = reference(net), data(example)
    net.fit(x, y, EPOCHS, LEARNING_RATE, verbose=0)
    expected.train(x, y, EPOCHS, LEARNING_RATE)
    rounded = {path: array.astype(np.float32) for path, array in expected.parameters.items()}
    assert_all_close(host(net.parameters), rounded, rtol=1e-4)
    assert net.predict(x).dtype == np.float32


@places
@examples
def test_evaluate_is_the_mean_error_of_the_samples(example, place):
    net = network(example, place)
    expected, (x, y) = reference(net), data(example)
    error = np.mean([ref.mse(Y_true, Y) for Y_true, Y in zip(y, expected.predict(x), strict=True)])
    for batch_size in (1, 4, 1024):
        found = net.evaluate(x, y, batch_size=batch_size)["error"]
        assert_close(np.array(found), np.array(error), what=f"error, batch_size={batch_size}")


@pytest.mark.parametrize("batch_size", [1, 3, 7, SAMPLES, 1024])
@places
@examples
def test_predictions_do_not_depend_on_the_batch_size(example, place, batch_size):
    net = network(example, place)
    x, _ = data(example)
    expected = reference(net).predict(x)
    assert_close(net.predict(x, batch_size=batch_size).reshape(expected.shape), expected)


@examples
def test_the_reference_in_batches_of_one_is_the_reference_one_by_one(example):
    net = network(example)
    one, batches, (x, y) = reference(net), reference(net), data(example)
    errors = one.train(x, y, EPOCHS, LEARNING_RATE)
    assert batches.train_in_batches(x, y, EPOCHS, LEARNING_RATE, 1) == errors
    assert_all_close(batches.parameters, one.parameters, rtol=0.0)


# -- the reference's own derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["xor", "conv", "wide_conv"])
def test_the_references_gradients_are_those_of_its_error(example):
    expected, (x, y) = reference(network(example)), data(example, 1)
    _, gradients = expected.gradients_of(x[0], y[0])
    for layer, own in zip(expected.layers, gradients, strict=True):
        for array, gradient in zip(layer.parameters, own, strict=True):
            numeric = np.array([slope(expected, array, i, x[0], y[0]) for i in np.ndindex(array.shape)])
            assert_close(numeric.reshape(array.shape), gradient, rtol=1e-7)


def slope(expected, array, i, X, Y_true, h=1e-6):
    """The central difference of the error with respect to one element of a parameter."""
    value = array[i]
    errors = []
    for moved in (value + h, value - h):
        array[i] = moved
        errors.append(ref.mse(Y_true, expected.forward(X)))
    array[i] = value
    return (errors[0] - errors[1]) / (2 * h)


# -- deliberate errors: each must be found -----------------------------------------------------------------------------

PLANTED = {
    "the bias added with every input channel": {"Convolution": ref.BiasOnceAChannel},
    "dE/dB times the number of filters": {"Convolution": ref.BiasGradientTimesFilters},
    "the weights updated before dE/dX": {"Connected": ref.UpdatedTooEarly},
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_error_is_found_one_by_one(fault):
    net = network("wide_conv")
    wrong, (x, y) = reference(net, **PLANTED[fault]), data("wide_conv")
    history = net.fit(x, y, EPOCHS, LEARNING_RATE, verbose=0)
    errors = wrong.train(x, y, EPOCHS, LEARNING_RATE)
    with pytest.raises(AssertionError, match=r"0\.\w+ is off by"):
        compare(net, wrong, x, errors, history)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_error_is_found_in_batches(fault):
    net = network("wide_conv")
    wrong, (x, y) = reference(net, **PLANTED[fault]), data("wide_conv")
    history = net.fit(x, y, EPOCHS, LEARNING_RATE, batch_size=3, verbose=0)
    errors = wrong.train_in_batches(x, y, EPOCHS, LEARNING_RATE, 3)
    with pytest.raises(AssertionError, match=r"0\.\w+ is off by"):
        compare(net, wrong, x, errors, history)


@pytest.mark.parametrize("fault", ["the bias added with every input channel", "dE/dB times the number of filters"])
def test_one_channel_and_one_filter_would_hide_a_planted_error(fault):
    """This is why wider convolutions are compared here: with C = F = 1 neither error changes anything."""
    W, B, X = np.ones((2, 2, 1, 1)), np.ones(1), np.arange(9.0).reshape(3, 3, 1)
    right, wrong = ref.Convolution(W, B), PLANTED[fault]["Convolution"](W, B)
    assert_close(wrong.forward(X), right.forward(X), rtol=0.0)
    assert_close(wrong.backward(np.ones((2, 2, 1)))[1][1], right.backward(np.ones((2, 2, 1)))[1][1], rtol=0.0)


def test_assert_close_accepts_rounding():
    a = np.array([1.0, -2.0, 3.0])
    assert_close(a + 1e-12, a, rtol=1e-12)


WRONG = {
    "a value": (np.array([1.0, 2.0 + 1e-11]), "off by"),
    "NaN": (np.array([1.0, np.nan]), "off by nan"),
    "infinity": (np.array([1.0, np.inf]), "off by inf"),
    "the dtype": (np.array([1.0, 2.0], np.float32), "dtype float32"),
    "the shape": (np.array([[1.0, 2.0]]), r"shape \(1, 2\)"),
    "a shape that broadcasts": (np.array([2.0]), r"shape \(1,\)"),
    "a list": ([1.0, 2.0], "not a NumPy array"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_assert_close_finds_a_planted_fault(fault):
    wrong, message = WRONG[fault]
    with pytest.raises(AssertionError, match=message):
        assert_close(wrong, np.array([1.0, 2.0]), rtol=1e-12)


def test_assert_close_accepts_nothing_but_zeros_for_zeros():
    assert_close(np.zeros(2), np.zeros(2))
    with pytest.raises(AssertionError, match="off by"):
        assert_close(np.array([0.0, 1e-300]), np.zeros(2))


def test_assert_all_close_finds_a_missing_array_and_an_extra_one():
    arrays = {"0.weights": np.ones(2), "0.bias": np.ones(1)}
    with pytest.raises(AssertionError, match="names"):
        assert_all_close({"0.weights": np.ones(2)}, arrays)
    with pytest.raises(AssertionError, match="names"):
        assert_all_close(arrays, {"0.weights": np.ones(2)})


# -- docs/erratum.md ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def erratum():
    """tools/erratum_figures.py, loaded from its path because it is not part of a package."""
    spec = importlib.util.spec_from_file_location("erratum_figures", ROOT / "tools" / "erratum_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quoted_blocks():
    """The ``text`` blocks of docs/erratum.md, in order: the output that it quotes."""
    text = (ROOT / "docs" / "erratum.md").read_text(encoding="utf-8")
    return re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_erratum_quotes_what_its_figures_print(erratum):
    printed = ["\n".join(figure()) + "\n" for figure in erratum.FIGURES]
    assert quoted_blocks() == printed


def test_the_erratum_script_prints_its_figures():
    script = ROOT / "tools" / "erratum_figures.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=child_environment())
    assert run.returncode == 0, run.stderr
    assert run.stdout == "\n".join(quoted_blocks())


def child_environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONIOENCODING": "utf-8"}


def test_the_erratum_names_files_that_exist():
    text = (ROOT / "docs" / "erratum.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:portnn|tests|tools|backends|docs)/[\w/]+\.\w+)`", text))
    assert {"portnn/layers/conv.py", "portnn/layers/fc.py", "tools/erratum_figures.py"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_published_convolution_is_right_only_where_nothing_shows(erratum):
    rows = {(C, F): values for C, F, *values in erratum.bias_values()}
    assert rows[1, 1] == [1.0, 1.0, 4.0, 4.0, 4.0]  # with one channel and one filter, everything is right
    for (C, F), (published, ours, published_dB, slope_of_published, our_dB) in rows.items():
        assert (ours, our_dB) == (1.0, 4.0)
        assert (published, published_dB, slope_of_published) == (C * 1.0, F * 4.0, C * 4.0)
