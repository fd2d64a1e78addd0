"""Layers written as in the article, inside our networks: they train beside ours, and what goes wrong is said."""

import copy
import pickle
import re

import array_api_strict
import numpy as np
import pytest

import article_reference as ref
import portnn
from article_reference import assert_close
from portnn import SGD, Network

RATE = 0.1
EPOCHS = 3
SAMPLES = 6

# -- the article's classes: subclasses of Layer that never call super().__init__() and update themselves ---------------


class FCLayer(portnn.Layer):
    def __init__(self, input_size, output_size):
        self.weights = np.random.rand(input_size, output_size) - 0.5  # noqa: NPY002 (the article's own call)
        self.bias = np.random.rand(1, output_size) - 0.5  # noqa: NPY002

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = np.dot(self.input, self.weights) + self.bias
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        weights_error = np.dot(self.input.T, output_error)
        self.weights -= learning_rate * weights_error
        self.bias -= learning_rate * output_error
        return input_error


class ActivationLayer(portnn.Layer):
    def __init__(self, activation, activation_prime):
        self.activation = activation
        self.activation_prime = activation_prime

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = self.activation(self.input)
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        return self.activation_prime(self.input) * output_error


class FlattenLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = input_data.flatten().reshape((1, -1))
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        return output_error.reshape(self.input.shape)


class ConvLayer(portnn.Layer):
    """With the article's attributes, its two errors mended (docs/erratum.md)."""

    def __init__(self, input_shape, kernel_shape, layer_depth):
        self.input_shape = input_shape
        self.input_depth = input_shape[2]
        self.kernel_shape = kernel_shape
        self.layer_depth = layer_depth
        self.output_shape = (
            input_shape[0] - kernel_shape[0] + 1,
            input_shape[1] - kernel_shape[1] + 1,
            layer_depth,
        )
        self.weights = np.random.rand(*kernel_shape, self.input_depth, layer_depth) - 0.5  # noqa: NPY002
        self.bias = np.random.rand(layer_depth) - 0.5  # noqa: NPY002

    def windows(self):
        for i in range(self.output_shape[0]):
            for j in range(self.output_shape[1]):
                yield i, j, np.s_[i : i + self.kernel_shape[0], j : j + self.kernel_shape[1]]

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = np.zeros(self.output_shape)
        for i, j, window in self.windows():
            self.output[i, j] = np.tensordot(self.input[window], self.weights, 3) + self.bias
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.zeros(self.input_shape)
        weights_error = np.zeros(self.weights.shape)
        for i, j, window in self.windows():
            input_error[window] += np.dot(self.weights, output_error[i, j])
            weights_error += np.multiply.outer(self.input[window], output_error[i, j])
        self.weights -= learning_rate * weights_error
        self.bias -= learning_rate * np.sum(output_error, axis=(0, 1))
        return input_error


def tanh(x):
    return np.tanh(x)


def tanh_prime(x):
    return 1 - np.tanh(x) ** 2


# -- the same, written with self.xp: they run on every backend ---------------------------------------------------------


class XpFCLayer(FCLayer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.matmul(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        input_error = self.xp.matmul(output_error, self.weights.T)
        self.weights -= learning_rate * self.xp.matmul(self.input.T, output_error)
        self.bias -= learning_rate * output_error
        return input_error


class XpTanhLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.tanh(input_data)

    def backward_propagation(self, output_error, learning_rate):
        return (1 - self.xp.tanh(self.input) ** 2) * output_error


class XpFlattenLayer(portnn.Layer):
    def forward_propagation(self, input_data):
        self.input = input_data
        return self.xp.reshape(input_data, (1, -1))

    def backward_propagation(self, output_error, learning_rate):
        return self.xp.reshape(output_error, self.input.shape)


class XpConvLayer(ConvLayer):
    def forward_propagation(self, input_data):
        self.input = input_data
        W = self.xp.reshape(self.weights, (-1, self.layer_depth))
        output = self.xp.zeros(self.output_shape, dtype=input_data.dtype, device=self.backend.device)
        for i, j, window in self.windows():
            patch = self.xp.reshape(input_data[(*window, slice(None))], (1, -1))
            output[i, j, :] = self.xp.matmul(patch, W)[0, :] + self.bias
        return output

    def backward_propagation(self, output_error, learning_rate):
        W = self.xp.reshape(self.weights, (-1, self.layer_depth))
        input_error = self.xp.zeros_like(self.input)
        weights_error = self.xp.zeros_like(W)
        for i, j, window in self.windows():
            D = self.xp.reshape(output_error[i, j, :], (1, -1))
            seen = self.input[(*window, slice(None))]
            input_error[(*window, slice(None))] += self.xp.reshape(self.xp.matmul(D, W.T), seen.shape)
            weights_error += self.xp.matmul(self.xp.reshape(seen, (-1, 1)), D)
        self.weights -= learning_rate * self.xp.reshape(weights_error, self.weights.shape)
        self.bias -= learning_rate * self.xp.sum(output_error, axis=(0, 1))
        return input_error


class BatchedFCLayer(FCLayer):
    """Takes whole batches, so its bias adds the samples up."""

    batched = True

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * np.sum(output_error, axis=0, keepdims=True)
        return input_error


class Witness(portnn.Layer):
    """Passes everything on, and remembers what it saw."""

    def __init__(self):
        self.shapes_in, self.shapes_back, self.rates = [], [], []

    def forward_propagation(self, input_data):
        self.shapes_in.append(tuple(input_data.shape))
        return input_data

    def backward_propagation(self, output_error, learning_rate):
        self.shapes_back.append(tuple(output_error.shape))
        self.rates.append(learning_rate)
        return output_error


# -- chains of rows and of images, each in several mixtures ------------------------------------------------------------


def ours_tanh():
    return portnn.ActivationLayer("tanh")


def articles_tanh():
    return ActivationLayer(tanh, tanh_prime)


ROWS = {
    "the article's": lambda: [FCLayer(4, 5), articles_tanh(), FCLayer(5, 3), articles_tanh()],
    "the article's first": lambda: [FCLayer(4, 5), articles_tanh(), portnn.FCLayer(5, 3), ours_tanh()],
    "ours first": lambda: [portnn.FCLayer(4, 5), ours_tanh(), FCLayer(5, 3), articles_tanh()],
    "in turn": lambda: [FCLayer(4, 5), ours_tanh(), portnn.FCLayer(5, 3), articles_tanh()],
    "in turn, ours first": lambda: [portnn.FCLayer(4, 5), articles_tanh(), FCLayer(5, 3), ours_tanh()],
    "the article's class, our functions": lambda: [
        FCLayer(4, 5),
        ActivationLayer(portnn.tanh, portnn.tanh_prime),
        portnn.FCLayer(5, 3),
        portnn.ActivationLayer(tanh, tanh_prime),
    ],
    "with self.xp": lambda: [XpFCLayer(4, 5), XpTanhLayer(), XpFCLayer(5, 3), XpTanhLayer()],
    "with self.xp, and ours": lambda: [XpFCLayer(4, 5), ours_tanh(), portnn.FCLayer(5, 3), XpTanhLayer()],
}
IMAGE = (5, 4, 3)  # (H, W, C); the convolutions make (4, 3, 2) of it
IMAGES = {
    "the article's": lambda: [ConvLayer(IMAGE, (2, 2), 2), articles_tanh(), FlattenLayer(), FCLayer(24, 3)],
    "the article's first": lambda: [
        ConvLayer(IMAGE, (2, 2), 2),
        articles_tanh(),
        portnn.FlattenLayer(),
        portnn.FCLayer(24, 3),
    ],
    "ours first": lambda: [portnn.ConvLayer(IMAGE, (2, 2), 2), ours_tanh(), FlattenLayer(), FCLayer(24, 3)],
    "in turn": lambda: [ConvLayer(IMAGE, (2, 2), 2), ours_tanh(), FlattenLayer(), portnn.FCLayer(24, 3)],
    "in turn, ours first": lambda: [
        portnn.ConvLayer(IMAGE, (2, 2), 2),
        articles_tanh(),
        portnn.FlattenLayer(),
        FCLayer(24, 3),
    ],
    "with self.xp": lambda: [XpConvLayer(IMAGE, (2, 2), 2), XpTanhLayer(), XpFlattenLayer(), XpFCLayer(24, 3)],
    "with self.xp, and ours": lambda: [
        XpConvLayer(IMAGE, (2, 2), 2),
        ours_tanh(),
        XpFlattenLayer(),
        portnn.FCLayer(24, 3),
    ],
}


@pytest.fixture(autouse=True)
def _same_weights_each_run():
    np.random.seed(5)  # noqa: NPY002 (the article's classes draw from NumPy's global generator)


def strict():
    return portnn.get_backend(array_api_strict, device=array_api_strict.Device("device1"))


def network(layers, backend="cpu", dtype="float64", **use):
    net = Network(layers, backend=backend, dtype=dtype, seed=3)
    net.use("mse", **use)
    return net


def reference(layers):
    """The same chain with the same values in plain NumPy, by what the layers are called."""
    made = []
    for layer in layers:
        if isinstance(layer, (FCLayer, portnn.FCLayer)):
            made.append(ref.Connected(portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias)))
        elif isinstance(layer, (ConvLayer, portnn.ConvLayer)):
            made.append(ref.Convolution(portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias)))
        elif "Flatten" in type(layer).__name__:
            made.append(ref.Flatten())
        else:
            made.append(ref.Activation("tanh"))
    return ref.Reference(made)


def weights(layers):
    """(W, B) of each layer that has them, on the host."""
    return [
        (portnn.to_numpy(layer.weights), portnn.to_numpy(layer.bias))
        for layer in layers
        if isinstance(layer, (FCLayer, ConvLayer, portnn.FCLayer, portnn.ConvLayer))
    ]


def assert_weights(layers, expected, rtol=1e-12):
    own = [layer.parameters for layer in expected.layers if layer.parameters]
    for (W, B), (W_expected, B_expected) in zip(weights(layers), own, strict=True):
        assert_close(W, W_expected, rtol, "weights")
        assert_close(B, B_expected, rtol, "bias")


def rows(sample=(1, 4), target=(1, 3)):
    rng = np.random.default_rng(2)
    return rng.uniform(-1, 1, (SAMPLES, *sample)), rng.uniform(-0.5, 0.5, (SAMPLES, *target))


# -- training as the article's loop does it ----------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [(1, 4), (4,)], ids=["(N, 1, n)", "(N, n)"])
@pytest.mark.parametrize("chain", ROWS)
def test_rows_train_as_in_the_article(chain, sample):
    layers = ROWS[chain]()
    net = network(layers)
    expected, (x, y) = reference(layers), rows(sample, (*sample[:-1], 3))
    history = net.fit(x, y, epochs=EPOCHS, learning_rate=RATE, verbose=0)
    x, y = x.reshape(SAMPLES, 1, 4), y.reshape(SAMPLES, 1, 3)
    assert_close(np.array(history["error"]), np.array(expected.train(x, y, EPOCHS, RATE)))
    assert_weights(layers, expected)


@pytest.mark.parametrize("chain", IMAGES)
def test_images_train_as_in_the_article(chain):
    layers = IMAGES[chain]()
    net = network(layers)
    expected, (x, y) = reference(layers), rows(IMAGE)
    history = net.fit(x, y, epochs=EPOCHS, learning_rate=RATE, verbose=0)
    assert_close(np.array(history["error"]), np.array(expected.train(x, y, EPOCHS, RATE)))
    assert_weights(layers, expected)


@pytest.mark.parametrize("chain", [name for name in ROWS if "self.xp" in name])
@pytest.mark.parametrize("sample", [(1, 4), (4,)], ids=["(N, 1, n)", "(N, n)"])
def test_rows_written_with_xp_train_the_same_on_another_device(chain, sample):
    assert_same_on_device1(ROWS[chain], *rows(sample, (*sample[:-1], 3)))


@pytest.mark.parametrize("chain", [name for name in IMAGES if "self.xp" in name])
def test_images_written_with_xp_train_the_same_on_another_device(chain):
    assert_same_on_device1(IMAGES[chain], *rows(IMAGE))


def assert_same_on_device1(make, x, y):
    trained = []
    for backend in ("cpu", strict()):
        np.random.seed(5)  # noqa: NPY002
        layers = make()
        net = network(layers, backend)
        history = net.fit(x, y, EPOCHS, RATE, verbose=0)
        trained.append((weights(layers), net.predict(x), np.array(history["error"])))
    (W, Y, errors), (W_device, Y_device, errors_device) = trained
    for pair, pair_device in zip(W, W_device, strict=True):
        assert_close(pair_device[0], pair[0], what="weights")
        assert_close(pair_device[1], pair[1], what="bias")
    assert_close(Y_device, Y, what="predictions")
    assert_close(errors_device, errors, what="errors")


def test_xor_with_whole_numbers():
    layers = [FCLayer(2, 3), articles_tanh(), FCLayer(3, 1), articles_tanh()]
    net = network(layers)
    expected = reference(layers)
    x, y = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]]), np.array([[[0]], [[1]], [[1]], [[0]]])
    net.fit(x, y, epochs=20, learning_rate=RATE, verbose=0)
    expected.train(x, y, 20, RATE)
    assert_weights(layers, expected)
    assert_close(net.predict(x), expected.predict(x))


def test_samples_in_lists():
    x, y = rows()
    from_lists, from_arrays = [FCLayer(4, 3)], [FCLayer(4, 3)]
    from_lists[0].weights, from_lists[0].bias = from_arrays[0].weights.copy(), from_arrays[0].bias.copy()
    net = network(from_lists)
    net.fit(x.tolist(), list(y), EPOCHS, RATE, verbose=0)
    network(from_arrays).fit(x, y, EPOCHS, RATE, verbose=0)
    assert np.array_equal(from_lists[0].weights, from_arrays[0].weights)
    assert np.array_equal(net.predict(x.tolist()), net.predict(x))


def test_flat_targets_for_rows():
    layers = [portnn.ConvLayer(IMAGE, (2, 2), 2), FlattenLayer(), FCLayer(24, 10)]
    net = network(layers)
    expected = reference(layers)
    x, y = rows(IMAGE, (10,))  # y (N, 10), as to_categorical makes it; the outputs are (N, 1, 10)
    net.fit(x, y, EPOCHS, RATE, verbose=0)
    expected.train(x, y[:, None], EPOCHS, RATE)
    assert_weights(layers, expected)
    assert net.predict(x).shape == (SAMPLES, 1, 10)


def test_printed_lines_have_the_articles_form(capsys):
    network([FCLayer(4, 3)]).fit(*rows(), epochs=30, learning_rate=RATE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 30
    for k, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {k}/30   error=\d+\.\d{{6}}", line), line


# -- what such a layer gets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "seen"), [((4,), (1, 4)), ((1, 4), (1, 4)), ((2, 4), (2, 4)), (IMAGE, IMAGE)], ids=str
)
def test_it_sees_one_sample_without_a_batch_axis(sample, seen):
    witness = Witness()
    net = network([witness])
    x, _ = rows(sample)
    net.fit(x, x, 1, RATE, verbose=0)
    assert set(witness.shapes_in) == set(witness.shapes_back) == {seen}
    assert len(witness.shapes_back) == SAMPLES
    assert np.array_equal(net.predict(x), x)


def test_predict_and_evaluate_go_sample_by_sample():
    witness, x_y = Witness(), rows((4,), (4,))
    net = network([witness])
    net.predict(x_y[0])
    assert witness.shapes_in == [(1, 4)] * SAMPLES
    net.evaluate(*x_y)
    assert set(witness.shapes_in) == {(1, 4)}
    assert witness.shapes_back == []


def test_predict_and_evaluate_equal_the_reference_and_change_no_weight():
    layers = ROWS["in turn"]()
    net = network(layers)
    expected, before, (x, y) = reference(layers), copy.deepcopy(weights(layers)), rows()
    Y = expected.predict(x)
    for batch_size in (1, 4, 1024):
        assert_close(net.predict(x, batch_size=batch_size), Y)
        error = net.evaluate(x, y, batch_size=batch_size)["error"]
        assert_close(np.array(error), np.array(np.mean((Y - y) ** 2)))
    for own, old in zip(weights(layers), before, strict=True):
        assert np.array_equal(own[0], old[0])
        assert np.array_equal(own[1], old[1])


def test_it_gets_the_learning_rate_of_fit():
    witness = Witness()
    network([witness]).fit(*rows(target=(1, 4)), epochs=2, learning_rate=0.25, verbose=0)
    assert witness.rates == [0.25] * 2 * SAMPLES


def test_it_gets_the_learning_rate_of_the_optimizer():
    witness = Witness()
    network([witness], optimizer=SGD(0.5)).fit(*rows(target=(1, 4)), epochs=1, verbose=0)
    assert witness.rates == [0.5] * SAMPLES


def test_it_gets_each_steps_learning_rate_of_a_schedule():
    witness = Witness()
    net = network([witness])
    for _ in range(2):  # the second fit goes on counting
        net.fit(*rows(target=(1, 4)), epochs=1, learning_rate=lambda k: 1 / (k + 1), verbose=0)
    assert witness.rates == [1 / (k + 1) for k in range(2 * SAMPLES)]


def test_a_schedule_moves_both_kinds_of_layers():
    layers = ROWS["in turn"]()
    net = network(layers)
    expected, (x, y) = reference(layers), rows()
    net.fit(x, y, EPOCHS, learning_rate=lambda k: RATE / (k + 1), verbose=0)
    expected.train(x, y, EPOCHS, lambda k: RATE / (k + 1))
    assert_weights(layers, expected)


# -- batches -----------------------------------------------------------------------------------------------------------


def test_batches_are_refused_with_the_layers_name():
    layer = FCLayer(4, 3)
    net, before = network([portnn.FCLayer(4, 4), layer]), layer.weights.copy()
    with pytest.raises(ValueError, match=r"batch_size=2.*layer 1 \(FCLayer\).*batch_size=1.*batched = True"):
        net.fit(*rows(), epochs=1, learning_rate=RATE, batch_size=2, verbose=0)
    assert np.array_equal(layer.weights, before)


@pytest.mark.parametrize("batch_size", [1, 4, SAMPLES])
def test_a_batched_layer_takes_batches(batch_size):
    layers = [BatchedFCLayer(4, 5), ours_tanh(), portnn.FCLayer(5, 3)]
    net = network(layers)
    expected, (x, y) = reference(layers), rows((4,), (3,))
    net.fit(x, y, EPOCHS, RATE, batch_size=batch_size, verbose=0)
    expected.train_in_batches(x[:, None], y[:, None], EPOCHS, RATE, batch_size)
    assert_weights(layers, expected)
    assert_close(net.predict(x)[:, None], expected.predict(x[:, None]))


def test_a_batched_layer_sees_the_whole_batch():
    witness = Witness()
    witness.batched = True
    net = network([witness])
    net.fit(*rows((4,), (4,)), epochs=1, learning_rate=RATE, batch_size=4, verbose=0)
    assert witness.shapes_back == [(4, 4), (2, 4)]


# -- attributes --------------------------------------------------------------------------------------------------------


def test_arrays_are_cast_to_the_networks_dtype():
    layer = FCLayer(4, 3)
    assert layer.weights.dtype == np.float64
    net = network([layer], dtype="float32")
    assert (layer.weights.dtype, layer.bias.dtype) == (np.float32, np.float32)
    x, y = rows()
    net.fit(x, y, 1, RATE, verbose=0)
    assert (layer.weights.dtype, layer.input.dtype) == (np.float32, np.float32)
    assert net.predict(x).dtype == np.float32


def test_what_a_layer_returns_is_cast_to_the_networks_dtype():
    class Double(Witness):
        def forward_propagation(self, input_data):
            return np.asarray(super().forward_propagation(input_data), np.float64)

        def backward_propagation(self, output_error, learning_rate):
            assert output_error.dtype == np.float32
            return np.asarray(super().backward_propagation(output_error, learning_rate), np.float64)

    layers = [portnn.FCLayer(4, 4), Double(), Double(), portnn.FCLayer(4, 3)]
    net = network(layers, dtype="float32")
    net.fit(*rows(), epochs=1, learning_rate=RATE, verbose=0)
    assert layers[0].weights.dtype == np.float32
    assert net.predict(rows()[0]).dtype == np.float32


def test_whole_numbers_that_a_layer_returns_are_cast_too():
    class Sign(Witness):
        def forward_propagation(self, input_data):
            return np.sign(input_data).astype(np.int64)

        def backward_propagation(self, output_error, learning_rate):
            return output_error > 0

    layers = [portnn.FCLayer(4, 4), Sign(), Witness()]
    net = network(layers, dtype="float32")
    net.fit(*rows(target=(1, 4)), epochs=1, learning_rate=RATE, verbose=0)
    assert net.predict(rows()[0]).dtype == np.float32
    assert layers[0].weights.dtype == layers[0].gradients["weights"].dtype == np.float32


def test_arrays_are_moved_to_the_backend_and_back():
    layer, backend = XpFCLayer(4, 3), strict()
    before = layer.weights.copy()
    net = network([layer], backend)
    assert backend.owns(layer.weights)
    assert layer.xp is backend.xp
    assert np.array_equal(portnn.to_numpy(layer.weights), before)
    net.to("cpu")
    assert type(layer.weights) is np.ndarray
    assert np.array_equal(layer.weights, before)


def test_whole_numbers_and_other_attributes_are_left_alone():
    layer = Witness()
    layer.index, layer.name, layer.size = np.array([2, 0, 1]), "mine", (3, 4)
    Network([layer], dtype="float32")
    assert np.array_equal(layer.index, [2, 0, 1])
    assert layer.index.dtype.kind == "i"
    assert (layer.name, layer.size) == ("mine", (3, 4))


def test_a_layer_has_a_namespace_before_it_is_added():
    class Made(Witness):
        def __init__(self):
            super().__init__()
            self.weights = self.xp.ones((2, 3))

    assert np.array_equal(Made().weights, np.ones((2, 3)))


def test_a_layer_may_be_made_with_any_argument_names():
    class Named(Witness):
        def __init__(self, cls, x, y, *args, **kwargs):
            super().__init__()
            self.given = (cls, x, y, args, kwargs)

    layer = Named(cls=1, x=2, y=3, self_=4)
    assert layer.given == (1, 2, 3, (), {"self_": 4})


# -- which pair of methods counts --------------------------------------------------------------------------------------


class NumpysFCLayer(portnn.FCLayer):
    """Our layer, with the article's pair: its parameters are ours, its methods its own."""

    def forward_propagation(self, input_data):
        self.input = input_data
        return np.dot(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * output_error
        return input_error


class HalvedFCLayer(NumpysFCLayer):
    """Our pair again, on top of the article's: it gives half of what the layer gave."""

    def forward(self, X, *, training=False):
        self.kept = X
        return 0.5 * (X @ self.weights + self.bias)

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["weights"] = 0.5 * self.kept.T @ output_error
        self.gradients["bias"] = 0.5 * np.sum(output_error, axis=0, keepdims=True)
        return 0.5 * output_error @ self.weights.T


def test_the_articles_pair_in_a_subclass_of_our_layer_wins():
    layers = [NumpysFCLayer(4, 5), ours_tanh(), NumpysFCLayer(5, 3)]
    net = network(layers)
    expected, (x, y) = reference(layers), rows()
    net.fit(x, y, EPOCHS, RATE, verbose=0)
    expected.train(x, y, EPOCHS, RATE)
    assert_weights(layers, expected)
    assert list(net.parameters) == ["0.weights", "0.bias", "2.weights", "2.bias"]


def test_our_pair_in_a_subclass_of_an_article_layer_wins():
    layer = HalvedFCLayer(4, 3)
    net = network([layer])
    x, y = rows((4,), (3,))
    assert_close(net.predict(x), 0.5 * (x @ layer.weights + layer.bias))
    W, error = layer.weights.copy(), 0.5 * (x @ layer.weights + layer.bias) - y
    net.fit(x, y, 1, RATE, batch_size=SAMPLES, verbose=0)  # batches: no article-style layer is left
    assert_close(layer.weights, W - RATE * 0.5 * x.T @ (2 * error / error.size))


def test_our_pair_counts_where_a_class_defines_both():
    class Both(HalvedFCLayer):
        forward, backward = HalvedFCLayer.forward, HalvedFCLayer.backward
        forward_propagation = NumpysFCLayer.forward_propagation
        backward_propagation = NumpysFCLayer.backward_propagation

    layer, (x, y) = Both(4, 3), rows((4,), (3,))
    net = network([layer])
    assert_close(net.predict(x), 0.5 * (x @ layer.weights + layer.bias))
    net.fit(x, y, 1, RATE, batch_size=SAMPLES, verbose=0)  # batches: it is not written as in the article


def test_one_overridden_method_is_enough_below_an_article_layer():
    class Doubled(FCLayer):
        def forward_propagation(self, input_data):
            return 2 * super().forward_propagation(input_data)

    layer = Doubled(4, 3)
    net, (x, _) = network([layer]), rows()
    assert_close(net.predict(x), 2 * (x @ layer.weights + layer.bias))


def test_methods_from_a_mixin_count():
    class Methods:
        def forward_propagation(self, input_data):
            return 3 * input_data

        def backward_propagation(self, output_error, learning_rate):
            return 3 * output_error

    class Mixed(Methods, portnn.Layer):
        pass

    x, _ = rows()
    assert np.array_equal(network([Mixed()]).predict(x), 3 * x)


def only(**methods):
    """A layer class that defines just these methods."""
    return type("Half", (portnn.Layer,), methods)


@pytest.mark.parametrize(
    ("layer_class", "message"),
    [
        (only(forward_propagation=lambda self, x: x), "Half defines forward_propagation but not backward_propagation"),
        (only(backward_propagation=lambda self, e, r: e), "Half defines backward_propagation but not forward_prop"),
        (only(forward=lambda self, x, training=False: x), "Half defines forward but not backward"),
        (only(backward=lambda self, e, need_input_error=True: e), "Half defines backward but not forward"),
        (only(), "Half defines neither"),
    ],
)
def test_one_method_of_a_pair_is_an_error_when_added(layer_class, message):
    net = Network()
    with pytest.raises(TypeError, match=message):
        net.add(layer_class())
    assert net.layers == []


def test_one_method_of_the_articles_pair_on_our_layer_is_an_error_when_added():
    class Half(portnn.FCLayer):
        def forward_propagation(self, input_data):
            return input_data

    with pytest.raises(TypeError, match="Half defines forward_propagation but not backward_propagation"):
        Network([Half(2, 3)])


# -- mistakes ----------------------------------------------------------------------------------------------------------


class Forgetful(Witness):
    """Forgets its ``return`` in one of its methods."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward_propagation(self, input_data):
        return None if self.method == "forward_propagation" else input_data

    def backward_propagation(self, output_error, learning_rate):
        return None if self.method == "backward_propagation" else output_error


@pytest.mark.parametrize("method", ["forward_propagation", "backward_propagation"])
@pytest.mark.parametrize("below", [[], [portnn.FCLayer]], ids=["first", "second"])
def test_a_forgotten_return_is_said(method, below):
    net = network([*(layer(4, 4) for layer in below), Forgetful(method)])
    with pytest.raises(TypeError, match=rf"Forgetful.{method} returned None.*return"):
        net.fit(*rows(target=(1, 4)), epochs=1, learning_rate=RATE, verbose=0)


def test_a_forgotten_return_is_said_by_predict():
    with pytest.raises(TypeError, match=r"Forgetful.forward_propagation returned None.*return"):
        network([Forgetful("forward_propagation")]).predict(rows()[0])


def test_an_answer_that_is_no_number_is_said():
    class Wordy(Witness):
        def forward_propagation(self, input_data):
            return "three"

    with pytest.raises(TypeError, match=r"what Wordy.forward_propagation returned must be real numbers"):
        network([Wordy()]).predict(rows()[0])


# -- copies ------------------------------------------------------------------------------------------------------------

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda net: pickle.loads(pickle.dumps(net))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("chain", [name for name in ROWS if "self.xp" not in name])
def test_a_copy_predicts_and_trains_the_same(chain, copied):
    net, (x, y) = network(ROWS[chain]()), rows()
    net.fit(x, y, 1, RATE, verbose=0)
    twin = copied(net)
    assert np.array_equal(twin.predict(x), net.predict(x))
    twin.fit(x, y, 1, RATE, verbose=0)
    assert not np.array_equal(twin.predict(x), net.predict(x))  # the copy learned, the original did not
    net.fit(x, y, 1, RATE, verbose=0)
    assert np.array_equal(twin.predict(x), net.predict(x))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("chain", [name for name in ROWS if "self.xp" in name])
def test_a_copy_on_another_device_predicts_the_same(chain, copied):
    net, (x, y) = network(ROWS[chain](), strict()), rows()
    net.fit(x, y, 1, RATE, verbose=0)
    assert np.array_equal(copied(net).predict(x), net.predict(x))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_copied_layer_that_was_never_added_can_be_added(copied):
    layer = FCLayer(4, 3)
    twin = copied(layer)
    x, _ = rows()
    assert np.array_equal(network([twin]).predict(x), network([layer]).predict(x))


def test_super_ends_in_the_class_above():
    class Ours(portnn.FCLayer):
        def forward_propagation(self, input):
            return super().forward_propagation(input)

        def backward_propagation(self, output_error, learning_rate):
            return super().backward_propagation(output_error, learning_rate)

    x, y = np.eye(2), np.eye(2)[:, ::-1]
    nets = []
    for layer in (Ours(2, 2), portnn.FCLayer(2, 2)):
        net = portnn.Network([layer], seed=0, dtype="float64")
        net.use("mse")
        net.fit(x, y, epochs=3, learning_rate=0.1, verbose=0)
        nets.append(net)
    assert np.allclose(nets[0].predict(x), nets[1].predict(x), rtol=1e-12)

    class Article(portnn.Layer):
        def forward_propagation(self, input):
            return 2.0 * input

        def backward_propagation(self, output_error, learning_rate):
            return 2.0 * output_error

    class Back(Article):
        def forward(self, X, *, training=False):
            return super().forward_propagation(X)

        def backward(self, output_error, *, need_input_error=True):
            return 2.0 * output_error

    assert np.array_equal(portnn.Network([Back()]).predict(x), 2.0 * x)


def test_an_article_layer_in_a_layer_that_stands_alone_takes_a_batch():
    class Double(portnn.Layer):
        def forward_propagation(self, input):
            return 2.0 * input

        def backward_propagation(self, output_error, learning_rate):
            return 2.0 * output_error

    inside = portnn.ResidualLayer(Double())
    assert np.array_equal(inside(np.ones((3, 2))), 3.0 * np.ones((3, 2)))
    with pytest.raises(ValueError, match="there are no samples"):
        inside(np.ones((0, 2)))
    inside.forward_propagation(np.ones((1, 2)))
    with pytest.raises(RuntimeError, match="updates its own weights"):
        inside.backward_propagation(np.ones((1, 2)))


def test_an_input_error_of_another_shape():
    class Wrong(portnn.Layer):
        def forward_propagation(self, input):
            return input

        def backward_propagation(self, output_error, learning_rate):
            return output_error[:, :1]

    net = portnn.Network([Wrong()])
    net.use("mse")
    with pytest.raises(ValueError, match=r"Wrong.backward_propagation returned dE/dX of shape \(1, 1\).*shape \(3,\)"):
        net.fit(np.ones((1, 3)), np.ones((1, 3)), 1, 0.1)
