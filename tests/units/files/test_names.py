"""A name in a file stands for one object only, and a file can be loaded with the call that the error message shows."""

import functools

import numpy as np
import pytest

import portnn
from portnn import SGD, ActivationLayer, Callback, Checkpoint, FCLayer, Layer, Network
from portnn.files import FileError
from portnn.files.reading import read


def scaling(k):
    def act(x):
        return k * x

    def act_prime(x):
        return k + 0 * x

    return act, act_prime


def gain(k):
    class Gain(Layer):
        def forward(self, X):
            return k * X

        def backward(self, output_error):
            return k * output_error

    return Gain


class Swish:
    """An activation function object with its derivative."""

    def __init__(self, b):
        self.b = b

    def config(self):
        return {"b": self.b}

    def __call__(self, x):
        return self.b * x

    def prime(self, x):
        return self.b + 0 * x

    def __eq__(self, other):
        return isinstance(other, Swish)

    __hash__ = None


def rate(k):
    return 0.1


DOUBLE, TRIPLE = scaling(2.0), scaling(3.0)
TWO = {
    "functions": [ActivationLayer(*DOUBLE), ActivationLayer(*TRIPLE)],
    "lambdas": [ActivationLayer(lambda x: x**2, lambda x: 2 * x)],
    "classes": [gain(2.0)(), gain(3.0)()],
    "a class and a function": [gain(2.0)(), ActivationLayer(functools.wraps(gain(3.0))(lambda x: x), rate)],
    "methods of equal objects": [ActivationLayer(Swish(1.0).prime, rate), ActivationLayer(Swish(1.0).prime, rate)],
    "objects of a class": [ActivationLayer(functools.partial(max, k), rate) for k in (0.1, 0.2)],
}


@pytest.mark.parametrize("layers", TWO.values(), ids=TWO.keys())
def test_two_things_of_one_name_are_refused(layers, tmp_path):
    net = Network([FCLayer(3, 3), *layers], seed=1)
    with pytest.raises(TypeError, match=r"layer 1.* and .*are two different things called .*different ones"):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_functions_of_the_loss_count_too(tmp_path):
    net = Network([FCLayer(3, 3), ActivationLayer(*DOUBLE)], seed=1)
    net.use(lambda y_true, y_pred: 0.0, scaling(1.0)[0], optimizer=SGD(0.1))
    match = r"activation of layer 1 \(ActivationLayer\) and the loss's derivative are two different things called act"
    with pytest.raises(TypeError, match=match):
        net.save(tmp_path / "net")


def test_one_thing_twice(tmp_path):
    swish, Gain = Swish(0.5), gain(2.0)
    layers = [FCLayer(3, 3), Gain(), ActivationLayer(*DOUBLE), ActivationLayer(*DOUBLE), Gain()]
    layers += [ActivationLayer(swish.prime, rate), ActivationLayer(swish.prime, rate)]
    net = Network(layers, seed=1)
    net.save(tmp_path / "net")
    given = [Gain, *DOUBLE, swish.prime, rate, swish.prime]
    x = np.ones((2, 3))
    assert np.array_equal(portnn.load(tmp_path / "net", layers=given).predict(x), net.predict(x))


# -- saved, and loaded as the error advises ----------------------------------------------------------------------------


def test_an_activation_with_its_derivative_is_made_by_its_class(tmp_path):
    net = Network([FCLayer(3, 3), ActivationLayer(Swish(0.5)), ActivationLayer(Swish(0.25))], seed=1)
    net.save(tmp_path / "net")
    with pytest.raises(FileError, match=r"layers=\[Swish\]"):
        portnn.load(tmp_path / "net")
    loaded = portnn.load(tmp_path / "net", layers=[Swish])
    assert [layer.activation.b for layer in loaded.layers[1:]] == [0.5, 0.25]
    assert loaded.layers[1].activation_prime(2.0) == 0.5
    loaded.save(tmp_path / "again")
    assert read(tmp_path / "again").about == read(tmp_path / "net").about


class Told(tuple):
    """A schedule that is created by ``__new__`` and has no ``config``."""

    def __new__(cls, rate):
        return super().__new__(cls, (rate,))

    def __call__(self, k):
        return self[0]


@pytest.mark.parametrize("schedule", [functools.partial(max, 0.01), Told(0.1)], ids=["partial", "tuple"])
def test_a_schedule_that_does_not_say_how_it_is_made_is_given_itself(schedule, tmp_path):
    net = Network([FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer=SGD(schedule))
    net.save(tmp_path / "net")
    with pytest.raises(FileError, match=f"names '{type(schedule).__name__}'.* function or object"):
        portnn.load(tmp_path / "net")
    assert portnn.load(tmp_path / "net", layers=[schedule]).optimizer.learning_rate is schedule


# -- states of callbacks ---------------------------------------------------------------------------------------------------


def test_keys_with_slashes_keep_their_arrays(tmp_path):
    class Both(Callback):
        def state_dict(self):
            return {"a/b": np.zeros(2), "a": {"b": np.ones(3), "b'": np.full(1, 2.0)}, "list/0": np.arange(2.0)}

        def load_state_dict(self, state):
            seen.append(state)

    seen = []
    for epochs in (1, 2):
        net = Network([FCLayer(3, 1)], seed=1)
        net.use("mse", optimizer=SGD(0.1))
        calls = [Both(), Checkpoint(tmp_path / "run")]
        net.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=calls, resume=tmp_path / "run")
    (state,) = seen
    assert state["a/b"].tolist() == [0.0, 0.0]
    assert {key: array.tolist() for key, array in state["a"].items()} == {"b": [1.0, 1.0, 1.0], "b'": [2.0]}
    assert state["list/0"].tolist() == [0.0, 1.0]
