"""Results depend only on values: not on the memory layout of data and weights, nor on who owns the memory."""

import copy
import pickle

import numpy as np
import pytest

from array_libraries import strict_backend
from cases import LAYERS
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    Network,
    ReshapeLayer,
    ResidualLayer,
)
from states import leaves, lenet, same


def in_c_order(net):
    arrays = [*net.parameters.values(), *(a for layer in net.walk() for a in layer.buffers.values())]
    arrays += [a for home in net.slots.values() for a in home.values()]
    return all(type(a) is np.ndarray and a.flags.c_contiguous and a.flags.aligned for a in arrays)


# -- memory layout -----------------------------------------------------------------------------------------------------


def reversed_view(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def every_second(a):
    wide = np.zeros((2 * len(a), *a.shape[1:]), a.dtype)
    wide[::2] = a
    return wide[::2]


def batch_fastest(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    b = raw[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


def one_further(a):
    """Aligned for its dtype, but not beyond that."""
    raw = np.zeros(a.size + 1, a.dtype)
    b = raw[1:].reshape(a.shape)
    b[...] = a
    return b


def other_bytes(a):
    return a.astype(a.dtype.newbyteorder())


class Subclass(np.ndarray):
    pass


def subclass(a):
    return a.view(Subclass)


ORDERS = [
    np.asfortranarray,
    reversed_view,
    every_second,
    batch_fastest,
    read_only,
    misaligned,
    one_further,
    other_bytes,
    subclass,
]
orders = pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)

# Large enough that compiled loops and fused layers are used.
NETWORKS = {
    "lenet": (lenet, (12, 12, 1)),
    "conv first, no bias": (
        lambda: [
            ConvLayer((9, 8, 3), (3, 2), 70, bias=False),
            ActivationLayer("tanh"),
            FlattenLayer(),
            FCLayer(3430, 3),
        ],
        (9, 8, 3),
    ),
    "groups": (
        lambda: [
            ConvLayer((8, 8, 4), (3, 3), 12, groups=2),
            ResidualLayer(BatchNormLayer()),
            FlattenLayer(),
            FCLayer(432, 3),
        ],
        (8, 8, 4),
    ),
    "activation first": (lambda: [ActivationLayer("tanh"), FlattenLayer(), FCLayer(144, 3)], (12, 12, 1)),
    "norms": (lambda: [BatchNormLayer(), ActivationLayer("relu"), FlattenLayer(), FCLayer(144, 3)], (12, 12, 1)),
    "mlp": (lambda: [FCLayer(300, 200), ActivationLayer("tanh"), FCLayer(200, 3)], (300,)),
}


@orders
@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_data_and_weights_changes_no_bit(name, order):
    make, sample = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, *sample)).astype(np.float32)
    y = rng.standard_normal((80, 3)).astype(np.float32)
    results = []
    for f in (np.array, order):
        net = Network(make(), seed=1)
        net.predict(x[:1])
        for path, array in net.parameters.items():
            net.parameters[path] = f(array.copy())
        net.use("mse", optimizer=Adam(1e-3))
        before = net.predict(f(x))
        history = net.fit(f(x), f(y), epochs=2, batch_size=32, verbose=0)
        assert in_c_order(net)
        for layer in net.walk():  # slots and parameters in a layout that a user may have left them in
            for home in (layer.parameters, *layer._slots_by_kind.values()):
                home.update({key: f(a) for key, a in home.items()} if f is not other_bytes else {})
        history = [history["error"], net.fit(f(x), f(y), epochs=1, batch_size=32, verbose=0)["error"]]
        assert in_c_order(net)
        results.append((leaves(net), {"before": before, "after": net.predict(f(x))}, history, net.evaluate(f(x), f(y))))
    assert same(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])
    assert results[0][2:] == results[1][2:]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_the_order_of_data_changes_no_bit_of_any_layer(case):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, *case.sample)).astype(np.float32)
    results = []
    for f in (np.array, *ORDERS):
        layer = case.make()
        Y = layer.forward_propagation(f(X))
        D = np.random.default_rng(1).standard_normal(Y.shape).astype(np.float32)
        dX = layer.backward_propagation(f(D), 0.1)
        net = Network([case.make(), FlattenLayer(), FCLayer(int(np.prod(Y.shape[1:])), 2)], seed=3)
        net.use("mse", optimizer=SGD(0.01, momentum=0.9))
        net.fit(f(X), f(np.ones((6, 2))), epochs=2, batch_size=3, verbose=0)
        arrays = {"Y": Y, "dX": dX, "predict": net.predict(f(X)), "alone": layer(f(X)), **leaves(net)}
        for part in layer.walk():
            arrays |= {f"{part.path}.{name}": a for name, a in part.parameters.items()}
        results.append({name: np.array(a) for name, a in arrays.items()})
    for other in results[1:]:
        assert same(results[0], other)


class Turned(Layer):
    """A user's layer whose gradient is in Fortran order."""

    def __init__(self):
        self.parameters["w"] = np.ones((5, 4))

    def forward(self, X, *, training=False):
        if training:
            self.input = X
        return self.xp.matmul(X, self.parameters["w"])

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["w"] = np.asfortranarray(self.xp.matmul(self.input.T, output_error))
        return self.xp.matmul(output_error, self.parameters["w"].T)


class TurningOptimizer(SGD):
    def update(self, parameters, gradients, slots, hyper):
        new, slots = super().update(parameters, gradients, slots, hyper)
        return [np.asfortranarray(w) for w in new], {k: [np.asfortranarray(a) for a in s] for k, s in slots.items()}


@pytest.mark.parametrize("optimizer", [SGD(1e-3, momentum=0.9), Adam(), TurningOptimizer(1e-3, momentum=0.5)], ids=repr)
def test_leaves_lie_in_c_order_whoever_makes_them(optimizer):
    net = Network([Turned(), FCLayer(4, 3)], seed=0)
    net.use("mse", optimizer=optimizer)
    net.fit(np.ones((6, 5)), np.ones((6, 3)), epochs=2, batch_size=2, verbose=0)
    assert in_c_order(net)
    layer = Turned()
    layer.backward_propagation(layer.forward_propagation(np.ones((3, 5))), 0.1)
    assert layer.parameters["w"].flags.c_contiguous


@pytest.mark.parametrize(
    "again", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: net.to("cpu")]
)
def test_a_copy_goes_on_with_the_same_bits(again):
    rng = np.random.default_rng(0)
    x, y = rng.random((96, 12, 12, 1)).astype(np.float32), rng.integers(0, 3, 96)
    once = Network([*lenet()[:-1], DropoutLayer(0.3), FCLayer(40, 3)], seed=1)
    once.use("softmax_cross_entropy", optimizer=Adam(1e-2))
    once.fit(x, y, epochs=1, batch_size=32, shuffle=True, verbose=0)
    twice = again(copy.deepcopy(once))
    assert same(leaves(once), leaves(twice))
    assert (once.step, once.epoch, once.history) == (twice.step, twice.epoch, twice.history)
    assert np.array_equal(once.predict(x), twice.predict(x))
    for net in (once, twice):
        net.fit(x, y, epochs=2, batch_size=32, shuffle=True, verbose=0)
    assert same(leaves(once), leaves(twice))
    assert in_c_order(twice)


# -- who owns the memory -----------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("layers", [[FlattenLayer], [lambda: ReshapeLayer((2, 3)), lambda: DropoutLayer(0.5)]])
@pytest.mark.parametrize("kind", ["array", "memmap", "subclass", "holder", "strict"])
def test_an_answer_is_nobody_elses_memory(layers, kind, tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    before = x.copy()
    net = Network([make() for make in layers], seed=0, backend=strict_backend() if kind == "strict" else "cpu")
    given = x
    if kind == "memmap":
        given = x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 6))
        x[...] = before
    elif kind == "subclass":
        given = x.view(Subclass)
    elif kind == "holder":
        given = Holder(x)
    elif kind == "strict":
        given = net.backend.asarray(x)
    for batch_size in (1024, 2):
        answer = net.predict(given, batch_size=batch_size)
        answer[...] = -1.0
        x = net.backend.to_numpy(given) if kind == "strict" else x
        assert np.array_equal(x, before)


class Scribbles(Layer):
    """A user's layer that writes into its input."""

    def forward(self, X, *, training=False):
        X *= 2.0
        return X

    def backward(self, output_error, *, need_input_error=True):
        output_error *= 2.0
        return output_error


class ArticleScribbles(Layer):
    def forward_propagation(self, input):
        input += 1.0  # noqa: A001 - the article's name
        return input

    def backward_propagation(self, output_error, learning_rate):
        return output_error


def scribbling(y_true, y_pred):
    y_true -= y_pred
    return (y_true * y_true).mean()


def scribbling_prime(y_true, y_pred):
    y_true -= 1.0
    return y_pred * 0.0


def scribble(x):
    x += 1.0
    return x


@pytest.mark.parametrize("first", [Scribbles, ArticleScribbles, lambda: ActivationLayer(scribble, lambda x: x)])
@pytest.mark.parametrize("metrics", [[], [lambda y_true, y_pred: scribble(y_true)[:, 0]]])
def test_code_of_the_users_that_writes_into_a_batch_changes_no_data(first, metrics):
    x, y = np.ones((6, 3), np.float32), np.ones((6, 3), np.float32)
    for layers in ([first()], [FlattenLayer(), first()], [ResidualLayer(first())]):
        net = Network(layers, seed=0)
        net.use(scribbling, scribbling_prime, metrics=metrics)
        one = np.array(net.predict(x[:3]))
        assert np.array_equal(net.predict(x[:3]), one)
        net.evaluate(x, y)
        net.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
        assert np.array_equal(x, np.ones((6, 3)))
        assert np.array_equal(y, np.ones((6, 3)))
