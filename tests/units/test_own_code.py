"""Mistakes in users' own layers, functions, metrics and optimizers, and arrays of other kinds."""

import re

import array_api_strict
import numpy as np
import pytest

from array_libraries import strict_backend
from bad_input import X, Y, network
from portnn import ActivationLayer, FCLayer, FlattenLayer, Layer, Network, get_backend, gradcheck, to_device
from portnn.backend.arrays import _INSTEAD, STANDARD

ELSEWHERE = array_api_strict.Device("device1")  # array-api-strict's imitation of another device


class Own(Layer):
    """Y = gain * X; each test breaks one thing."""

    def __init__(self):
        self.parameters["gain"] = np.ones(2)

    def forward(self, X, *, training=False):
        self.input = X
        return X * self.parameters["gain"]

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=0)
        return output_error * self.parameters["gain"]


def broken(**methods):
    return type("Broken", (Own,), methods)()


def without_sum(self, output_error, *, need_input_error=True):
    self.gradients["gain"] = output_error * self.input
    return output_error


def misspelt(self, output_error, *, need_input_error=True):
    self.gradients["gian"] = self.xp.sum(output_error * self.input, axis=0)
    return output_error


def double(self, output_error, *, need_input_error=True):
    self.gradients["gain"] = np.sum(output_error * self.input, axis=0)
    return output_error.astype(np.float64)


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        (broken(forward=lambda self, X, training=False: None), TypeError, "Broken.forward returned None"),
        (broken(forward=lambda self, X, training=False: [1.0]), TypeError, r"Broken.forward returned builtins.list.*self.xp"),
        (broken(forward=lambda self, X, training=False: X.astype(float)), TypeError, "returned float64.*computes in float32"),
        (broken(forward=lambda self, X, training=False: X.mean(0, keepdims=True)), ValueError, r"returned shape \(1, 2\) for 3 samples"),
        (broken(backward=lambda self, D, need_input_error=True: None), TypeError, "Broken.backward returned None"),
        (broken(backward=lambda self, D, need_input_error=True: D[:, :1]), ValueError, r"returned shape \(3, 1\), but must return \(3, 2\)"),
        (broken(backward=without_sum), ValueError, r"Broken.gradients\['gain'\] returned shape \(3, 2\), but must return \(2,\)"),
        (broken(backward=misspelt), ValueError, r"Broken set gradients\['gian'\], but its parameters are: gain"),
        (broken(backward=double), TypeError, "Broken.backward returned float64"),
    ],
)  # fmt: skip
def test_a_users_layer_that_answers_wrongly(layer, error, words):
    net = Network([FCLayer(4, 2), layer], seed=0)
    net.use("mse")
    before = {path: array.copy() for path, array in net.parameters.items()}
    with pytest.raises(error, match=f"(?s){words}"):
        net.fit(X, Y, 1, 0.1, batch_size=3)
    assert all(np.array_equal(array, before[path]) for path, array in net.parameters.items())


def test_a_metric_must_return_one_number_a_sample():
    net = network()
    for metric in (lambda a, b: np.mean(a - b), lambda a, b: 1.0, lambda a, b: a - b, lambda a, b: None):
        net.use("mse", metrics=[metric])
        for call in (lambda: net.evaluate(X, Y), lambda: net.fit(X, Y, 1, 0.1, verbose=0)):
            with pytest.raises(
                ValueError, match=r"metric <lambda> returned .* one value per sample, shape \(6,\)|sample, shape \(1,\)"
            ):
                call()


def test_a_users_functions_must_keep_shapes():
    net = Network([ActivationLayer(lambda x: x.sum(axis=1), lambda x: x), FCLayer(4, 2)])
    with pytest.raises(ValueError, match=r"<lambda> returned an array of shape \(6,\).*must return shape \(6, 4\)"):
        net.predict(X)
    net = Network([FCLayer(4, 2)])
    net.use(lambda a, b: np.mean((a - b) ** 2, axis=1), lambda a, b: b - a)
    with pytest.raises(ValueError, match="must return one number, the mean over the batch"):
        net.fit(X, Y, 1, 0.1)
    net.use(lambda a, b: np.mean((a - b) ** 2), lambda a, b: np.mean(b - a))
    with pytest.raises(ValueError, match=r"must return shape \(1, 2\)"):
        net.fit(X, Y, 1, 0.1)


class OwnOptimizer:
    """Plain gradient descent; each test breaks one method."""

    def slots(self, parameters):
        return {}

    def hyper(self, step):
        return (0.1,)

    def update(self, parameters, gradients, slots, hyper):
        return [w - hyper[0] * g for w, g in zip(parameters, gradients, strict=True)], {}


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (dict(slots=lambda self, w: None), "Broken.slots must return a dict of lists"),
        (dict(slots=lambda self, w: {"v": [1]}), "Broken.slots must return a dict of lists"),
        (dict(hyper=lambda self, k: 0.1), "Broken.hyper must return a tuple of numbers"),
        (dict(update=lambda self, w, g, s, h: None), r"Broken.update must return \(parameters, slots\)"),
        (dict(update=lambda self, w, g, s, h: (w[:1], {})), "another number, shape or dtype"),
        (
            dict(update=lambda self, w, g, s, h: ([np.float64(0.1) * a for a in w], {})),
            "another number, shape or dtype",
        ),
    ],
)
def test_a_users_optimizer_that_answers_wrongly(method, words):
    net = network()
    net.use("mse", optimizer=OwnOptimizer())
    net.fit(X, Y, 1, verbose=0)
    net.use("mse", optimizer=type("Broken", (OwnOptimizer,), method)())
    with pytest.raises(TypeError, match=words):
        net.fit(X, Y, 1, verbose=0)
    assert net.slots == {}
    with pytest.raises(TypeError, match="optimizer must be one such as"):
        net.use("mse", optimizer=OwnOptimizer)


def test_lists_of_another_librarys_arrays():
    samples = [array_api_strict.ones(4, device=ELSEWHERE) for _ in range(6)]
    with pytest.raises(TypeError, match=r"x is on backend .array_api_strict.*must be on backend 'cpu'"):
        network().fit(samples, Y, 1, 0.1)
    with pytest.raises(TypeError, match="x holds arrays of backend"):
        network().predict([[array_api_strict.asarray(1.0)] * 4])
    strict = network(backend=strict_backend())
    with pytest.raises(TypeError, match=r"x is on backend .cpu., but"):
        strict.predict([to_device(X[0], strict.backend), X[1]])
    with pytest.raises(TypeError, match=r"portnn.to_device\(array, net.backend\)"):
        network(backend=strict_backend()).predict(array_api_strict.ones((6, 4)))


def test_complex_arrays_of_the_networks_own_backend():
    net = network(backend=strict_backend())
    z = array_api_strict.ones((6, 4), dtype=array_api_strict.complex64, device=net.backend.device)
    with pytest.raises(TypeError, match="x must be real numbers, got dtype"):
        net.predict(z)


def test_masked_arrays_and_samples_without_numbers():
    with pytest.raises(TypeError, match=r"masked array.*x.filled\(value\)"):
        network().predict(np.ma.masked_less(X, 2.0))
    with pytest.raises(ValueError, match=r"a sample of x has shape \(0, 4\): it holds no values"):
        network().fit(np.ones((6, 0, 4)), Y, 1, 0.1)


def test_backward_takes_an_error_of_the_outputs_shape():
    layer = ActivationLayer("tanh")
    layer.forward_propagation(X)
    with pytest.raises(ValueError, match=r"output_error of .* has shape \(4,\), but Y has \(6, 4\)"):
        layer.backward_propagation(np.ones(4))
    assert layer.backward_propagation(X.tolist()).shape == (6, 4)


def test_a_layer_takes_no_single_number():
    for layer in (FCLayer(2, 3), FlattenLayer()):
        with pytest.raises(ValueError, match="takes an array with at least one axis"):
            layer(np.array(3.0))


def test_layers_within_a_layer_are_layers_and_each_stands_once():
    def holding(*children):
        layer = Own()
        layer.layers = list(children)
        return layer

    twice = FCLayer(2, 2)
    for layer, error, words in (
        (holding(1), TypeError, r"Own.layers must hold layers, or lists of layers, got 1"),
        (holding(twice, [twice]), ValueError, "one FCLayer is used twice"),
    ):
        with pytest.raises(error, match=words):
            Network([layer])
    circle = Own()
    circle.layers = [circle]
    with pytest.raises(ValueError, match="one Own is used twice"):
        Network([circle])

    class NoSuper(FCLayer):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"NoSuper is not ready to be added: .*call super\(\).__init__"):
        Network([NoSuper()])


def test_a_layer_that_was_refused_draws_for_the_network_it_goes_to():
    layer = FCLayer(2, 3)
    layer.bias = array_api_strict.ones((1, 3), device=ELSEWHERE)
    with pytest.raises(TypeError):
        Network(seed=5).add(layer)
    layer.bias = np.ones((1, 3))
    assert np.array_equal(
        Network([layer], seed=7).layers[0].weights, Network([FCLayer(2, 3)], seed=7).layers[0].weights
    )
    alone = FCLayer(2, 3)
    alone(np.ones((1, 2), np.float32))
    assert np.array_equal(
        Network([alone], seed=7).layers[0].weights, Network([FCLayer(2, 3)], seed=7).layers[0].weights
    )


def test_a_move_that_fails_moves_nothing():
    class Full(type(strict_backend())):
        count = 0

        def asarray(self, host, dtype=None, *, copy=False):
            self.count += 1
            if self.count > 2:
                raise MemoryError("planted")
            return super().asarray(host, dtype, copy=copy)

    net = network()
    before = net.predict(X)
    with pytest.raises(MemoryError):
        net.to(Full(array_api_strict, strict_backend().device))
    assert net.backend.name == "cpu"
    assert np.array_equal(net.predict(X), before)


def test_unknown_devices():
    with pytest.raises(ValueError, match="array_api_strict has no device 'moon'"):
        get_backend(array_api_strict, device="moon")


# -- functions that the namespace does not have ----------------------------------------------------------------------------


class Joined(Own):
    """Y = gain * X with functions by NumPy's names, which xp does not have, in ``forward`` or in ``backward``."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def forward(self, X, *, training=False):
        if self.where == "forward":
            X = self.xp.concatenate([X[:, :1], X[:, 1:]], axis=1)
        return super().forward(X)

    def backward(self, output_error, *, need_input_error=True):
        if self.where == "backward":
            output_error = self.xp.einsum("si->si", output_error)
        return super().backward(output_error)


CONCATENATE = "xp has no concatenate, only the functions of the array API standard, .*: write xp.concat"


@pytest.mark.parametrize("call", ["alone", "fit", "predict", "gradcheck"])
def test_a_function_that_only_numpy_has_in_forward(call):
    layer = Joined("forward")
    net = Network([layer])
    net.use("mse")
    calls = {
        "alone": lambda: Joined("forward").forward_propagation(np.ones((3, 2))),
        "fit": lambda: net.fit(np.ones((3, 2)), np.ones((3, 2)), epochs=1, learning_rate=0.1, verbose=0),
        "predict": lambda: net.predict(np.ones((3, 2))),
        "gradcheck": lambda: gradcheck(layer, input_shape=(2,)),
    }
    with pytest.raises(AttributeError, match=CONCATENATE):
        calls[call]()


def test_a_function_that_only_numpy_has_in_backward():
    net = Network([Joined("backward")])
    net.use("mse")
    with pytest.raises(AttributeError, match=r"xp has no einsum, .* write xp.matmul"):
        net.fit(np.ones((3, 2)), np.ones((3, 2)), epochs=1, learning_rate=0.1, verbose=0)
    diagnosis = gradcheck(Joined("backward"), input_shape=(2,)).diagnosis
    assert "backward raised AttributeError: xp has no einsum" in diagnosis
    assert "keep in training" not in diagnosis


def test_other_missing_attributes_keep_their_message():
    class Forgot(Own):
        def forward(self, X, *, training=False):
            return X * self.gain

    with pytest.raises(AttributeError, match="'Forgot' object has no attribute 'gain'"):
        Network([Forgot()]).predict(np.ones((3, 2)))


def test_what_to_write_instead_is_in_the_standard_and_what_it_replaces_is_numpys():
    names = {word for text in _INSTEAD.values() for word in re.findall(r"xp\.(\w+)", text)}
    assert names <= set(STANDARD.split())
    assert all(hasattr(np, name) for name in _INSTEAD)
    assert not set(_INSTEAD) & set(STANDARD.split())
