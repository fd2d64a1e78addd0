"""What a pass caches in users' layers and functions, such as the last batch, is not in copies, pickles or files."""

import copy
import pickle
from collections import deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from portnn import Adam, Callback, FCLayer, Layer, Network, ResidualLayer, load
from portnn.layers import kept
from portnn.layers.activation import ActivationLayer

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((16, 3)).astype(np.float32)


class Keeps(Layer):
    """The identity; in training, ``keep`` stores something in the layer."""

    passes = 0

    def forward(self, X, *, training=False):
        if training:
            self.passes += 1
            self.keep(X)
        return X

    def backward(self, output_error):
        return output_error


class Late(Keeps):
    def keep(self, X):
        if self.passes > 3:
            self.late = X


class InPlaceOfAnother(Keeps):
    def __init__(self):
        self.mask = np.zeros(3)

    def keep(self, X):
        self.mask = X


class InDict(Keeps):
    def __init__(self):
        self.cache = {}

    def keep(self, X):
        self.cache["X"] = X


class InList(Keeps):
    def __init__(self):
        self.cache = deque(maxlen=2)

    def keep(self, X):
        self.cache.append([(X,)])


class InNamespace(Keeps):
    def __init__(self):
        self.cache = SimpleNamespace(size=3)

    def keep(self, X):
        self.cache.X = X


class Store:
    def __init__(self):
        self.size = 3


class InObject(Keeps):
    def __init__(self):
        self.store = Store()

    def keep(self, X):
        self.store.X = X


class WithSlots:
    __slots__ = ("X", "__size")

    def __init__(self):
        self.__size = 3


class InSlots(Keeps):
    def __init__(self):
        self.store = WithSlots()

    def keep(self, X):
        self.store.X = X


def scaled(cache, X):
    return X


class InPartial(Keeps):
    def __init__(self):
        self.function = partial(scaled, {})

    def keep(self, X):
        self.function.args[0]["X"] = X


class Patches(Keeps):
    """Keeps several rows for each sample, and a number for each."""

    def keep(self, X):
        self.patches = X.reshape(-1, 2)
        self.sums = X.sum(axis=1)


class InActivation:
    def __call__(self, X):
        self.X = X
        return 2.0 * X

    def prime(self, X):
        return 0.0 * X + 2.0


def caching_activation():
    f = InActivation()
    return ActivationLayer(f, f.prime)


def inside_another():
    return ResidualLayer(InDict())


class Loss:
    def __call__(self, y_true, y_pred):
        self.error = y_true - y_pred
        return (self.error**2).mean()

    def prime(self, y_true, y_pred):
        return 2.0 * (y_pred - y_true) / y_pred.size


class Metric:
    name = "mine"

    def sums(self, y_true, y_pred, weights):
        self.error = y_true - y_pred
        return (self.error**2).sum()

    def value(self, sums):
        return float(sums)


MAKERS = [Late, InPlaceOfAnother, InDict, InList, InNamespace, InObject, InSlots, InPartial, Patches]
MAKERS += [caching_activation, inside_another]


class Copies(Callback):
    """Copies the network during a fit, when its layers have cached something."""

    def on_step_end(self, network, step):
        if step == 6:
            self.copy, self.pickle = copy.deepcopy(network), pickle.dumps(network)


def trained(*layers, callbacks=()):
    loss = Loss()
    net = Network([*layers, FCLayer(8, 3)], seed=0)
    net.use(loss, loss.prime, optimizer=Adam(0.01), metrics=[Metric()])
    go_on(net, 4, callbacks)
    return net


def go_on(net, epochs=1, callbacks=()):
    net.fit(X, Y, epochs=epochs, batch_size=4, verbose=0, callbacks=list(callbacks))


def holds_a_batch(data):
    return any(X[i : i + 4].tobytes() in data or Y[i : i + 4].tobytes() in data for i in range(0, 16, 4))


@pytest.mark.parametrize("make", MAKERS)
def test_no_pickle_of_a_network_or_of_a_layer_holds_the_batch(make):
    copies = Copies()
    net = trained(make(), callbacks=[copies])
    for data in (pickle.dumps(net), copies.pickle, pickle.dumps(copies.copy), pickle.dumps(net.layers[0])):
        assert not holds_a_batch(data)
    assert not hasattr(copy.deepcopy(net).loss, "error") or copy.deepcopy(net).loss.error is None


@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_trains_on_with_the_bits_of_the_original(make):
    net = trained(make())
    copied, unpickled = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for each in (net, copied, unpickled):
        go_on(each)
    for each in (copied, unpickled):
        assert all(np.array_equal(each.parameters[path], array) for path, array in net.parameters.items())


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_layer_called_on_its_own_keeps_is_in_no_pickle(make):
    layer = make()
    for start in range(0, 16, 4):
        layer.forward_propagation(X[start : start + 4])
    layer.backward_propagation(X[:4])
    assert not holds_a_batch(pickle.dumps(layer))


class CountsMeans(Keeps):
    """Has state in plain attributes, which are replaced in each pass."""

    def __init__(self):
        self.mean = np.zeros(8, np.float32)

    def keep(self, X):
        self.mean = 0.9 * self.mean + 0.1 * X.mean(axis=0)
        self.again = self.mean
        self.gain = self.parameters.setdefault("gain", np.ones(8, np.float32))


def test_a_users_own_state_stays():
    net = trained(CountsMeans())
    before = net.layers[0].mean
    for found in (copy.deepcopy(net).layers[0], pickle.loads(pickle.dumps(net.layers[0]))):
        assert np.array_equal(found.mean, before)
        assert np.abs(before).max() > 0.0
        assert found.again is found.mean
        assert found.passes == 16
        assert np.array_equal(found.gain, np.ones(8))


def test_an_array_that_is_set_between_two_fits_stays():
    net = trained(Late())
    net.layers[0].table = np.arange(5.0)
    assert np.array_equal(copy.deepcopy(net).layers[0].table, np.arange(5.0))
    go_on(net)
    assert np.array_equal(copy.deepcopy(net).layers[0].table, np.arange(5.0))


class ArticleKeeps(Layer):
    """Written as in the article: its weights are plain attributes, which are replaced in each step."""

    def __init__(self):
        self.weights = np.eye(8)

    def forward_propagation(self, input):
        self.batch = input
        return input @ self.weights

    def backward_propagation(self, output_error, learning_rate):
        error = output_error @ self.weights.T
        self.weights = self.weights - learning_rate * self.batch.T @ output_error
        self.last = self.weights
        return error


def test_a_layer_of_the_articles_keeps_its_weights(tmp_path):
    net = Network([ArticleKeeps(), FCLayer(8, 3)], seed=0)
    net.use("mse")
    net.fit(X, Y, epochs=2, learning_rate=0.01, verbose=0)
    copied = copy.deepcopy(net)
    assert copied.layers[0].batch is None
    net.save(tmp_path / "net")
    loaded = load(tmp_path / "net", layers=[ArticleKeeps])
    for each in (copied, loaded):
        assert np.array_equal(each.layers[0].weights, net.layers[0].weights)
        assert np.array_equal(each.predict(X), net.predict(X))


class MakesItsWeights(Layer):
    """Written as in the article; its weights are made by the first pass."""

    def __init__(self):
        self.W = None
        self.cache = {}

    def forward_propagation(self, input):
        if self.W is None:
            self.W = np.eye(input.shape[1], dtype=input.dtype)
            self.B = np.zeros((1, input.shape[1]), input.dtype)
        self.x, self.squares = input, input**2
        self.cache["x"] = input
        return input @ self.W + self.B

    def backward_propagation(self, output_error, learning_rate):
        error = output_error @ self.W.T
        self.W = self.W - learning_rate * self.x.T @ output_error
        self.B = self.B - learning_rate * output_error
        return error


def no_passes(net):
    pass


def one_prediction(net):
    net.predict(X[:1])


def predictions(net):
    net.predict(X)


def epochs(net):
    net.fit(X, Y, epochs=2, learning_rate=0.01, verbose=0)


@pytest.mark.parametrize("last", [no_passes, one_prediction, predictions])
@pytest.mark.parametrize("first", [one_prediction, predictions, epochs])
def test_weights_that_the_first_pass_makes_stay_and_batches_go(first, last, tmp_path):
    net = Network([MakesItsWeights(), FCLayer(8, 3)], seed=0)
    net.use("mse")
    first(net)
    last(net)
    net.save(tmp_path / "net")
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), load(tmp_path / "net", layers=[MakesItsWeights])]
    for each in copies:
        for name in ("W", "B"):
            assert np.array_equal(getattr(each.layers[0], name), getattr(net.layers[0], name))
        layer = each.layers[0]
        assert getattr(layer, "x", None) is None
        assert layer.cache.get("x") is None
        if (first, last) != (one_prediction, no_passes):  # a second call tells what each call sets anew
            assert getattr(layer, "squares", None) is None
    for each in copies:
        assert np.array_equal(each.predict(X), net.predict(X))


def test_another_name_for_the_weights_is_an_error(tmp_path):
    class Renamed(MakesItsWeights):
        pass

    net = Network([MakesItsWeights(), FCLayer(8, 3)], seed=0)
    net.predict(X)
    net.layers[0].layers_ = np.ones(3)
    net.save(tmp_path / "net")
    assert np.array_equal(load(tmp_path / "net", layers=[MakesItsWeights]).layers[0].layers_, np.ones(3))
    with pytest.raises(Exception, match="MakesItsWeights"):
        load(tmp_path / "net", layers=[Renamed])


class LazyMean(Layer):
    """Keeps a mean over batches that begins with the first batch, and what it needs for backward."""

    mean = None

    def forward(self, X):
        of_batch = X.mean(axis=0)
        self.mean = of_batch if self.mean is None else 0.9 * self.mean + 0.1 * of_batch
        self.mask = X > 0
        return X * self.mask

    def backward(self, output_error):
        return output_error * self.mask


@pytest.mark.parametrize("last", [no_passes, one_prediction, predictions])
@pytest.mark.parametrize("first", [predictions, epochs])
def test_state_that_begins_with_the_first_batch_stays_and_masks_go(first, last):
    net = Network([LazyMean(), FCLayer(8, 3)], seed=0)
    net.use("mse")
    first(net)
    last(net)
    for each in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(each.layers[0].mean, net.layers[0].mean)
        assert last is one_prediction or each.layers[0].mask is None


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_single_call_leaves_is_in_no_copy(make):
    class Always(make if isinstance(make, type) else InDict):
        def forward(self, X):
            self.keep(X)
            return X

    layer = Always()
    layer(X)
    net = Network([layer])
    net.use(Loss(), Loss().prime)
    net.evaluate(X, X)
    assert not any(array.shape[:1] == (16,) for array in arrays_in(copy.deepcopy(layer)))
    assert not any(array.shape[:1] == (16,) for array in arrays_in(copy.deepcopy(net).layers[0]))
    assert copy.deepcopy(net).loss.error is None


def arrays_in(layer):
    return [array for arrays in kept._arrays_in(layer).values() for array in arrays]
