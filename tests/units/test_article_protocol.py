"""Layers written as in the article: their attributes, which pair of methods is used, mistakes, copies."""

import copy
import pickle

import numpy as np
import pytest

import portnn
from article_layers import (
    EPOCHS,
    RATE,
    ROWS,
    SAMPLES,
    FCLayer,
    Witness,
    XpFCLayer,
    assert_weights,
    network,
    ours_tanh,
    reference,
    rows,
    strict,
)
from article_reference import assert_close
from portnn import Network


@pytest.fixture(autouse=True)
def _same_weights_each_run():
    np.random.seed(5)  # noqa: NPY002 (the article's classes draw from NumPy's global generator)


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


# -- which pair of methods is used -------------------------------------------------------------------------------------


class NumpysFCLayer(portnn.FCLayer):
    """portnn's layer with the article's pair of methods: it inherits the parameters and overrides the methods."""

    def forward_propagation(self, input_data):
        self.input = input_data
        return np.dot(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * output_error
        return input_error


class HalvedFCLayer(NumpysFCLayer):
    """Overrides the article's pair with portnn's pair again; returns half of the layer's output."""

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
    net.fit(
        x, y, 1, RATE, batch_size=SAMPLES, verbose=0
    )  # batches are allowed, since no layer is written as in the article
    assert_close(layer.weights, W - RATE * 0.5 * x.T @ (2 * error / error.size))


def test_our_pair_counts_where_a_class_defines_both():
    class Both(HalvedFCLayer):
        forward, backward = HalvedFCLayer.forward, HalvedFCLayer.backward
        forward_propagation = NumpysFCLayer.forward_propagation
        backward_propagation = NumpysFCLayer.backward_propagation

    layer, (x, y) = Both(4, 3), rows((4,), (3,))
    net = network([layer])
    assert_close(net.predict(x), 0.5 * (x @ layer.weights + layer.bias))
    net.fit(
        x, y, 1, RATE, batch_size=SAMPLES, verbose=0
    )  # batches are allowed, since it does not count as written as in the article


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
    """A layer class that defines only these methods."""
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
    """Forgets to return something in one of its methods."""

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
@pytest.mark.parametrize("mixture", [name for name in ROWS if "self.xp" not in name])
def test_a_copy_predicts_and_trains_the_same(mixture, copied):
    net, (x, y) = network(ROWS[mixture]()), rows()
    net.fit(x, y, 1, RATE, verbose=0)
    other = copied(net)
    assert np.array_equal(other.predict(x), net.predict(x))
    other.fit(x, y, 1, RATE, verbose=0)
    assert not np.array_equal(other.predict(x), net.predict(x))  # only the copy was trained further
    net.fit(x, y, 1, RATE, verbose=0)
    assert np.array_equal(other.predict(x), net.predict(x))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("mixture", [name for name in ROWS if "self.xp" in name])
def test_a_copy_on_another_device_predicts_the_same(mixture, copied):
    net, (x, y) = network(ROWS[mixture](), strict()), rows()
    net.fit(x, y, 1, RATE, verbose=0)
    assert np.array_equal(copied(net).predict(x), net.predict(x))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_copied_layer_that_was_never_added_can_be_added(copied):
    layer = FCLayer(4, 3)
    other = copied(layer)
    x, _ = rows()
    assert np.array_equal(network([other]).predict(x), network([layer]).predict(x))


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
