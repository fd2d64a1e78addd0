"""A sample at a time with plain SGD: the backward pass moves the parameters of fully connected layers itself."""

import copy

import numpy as np
import pytest

import portnn
from drawn_arrays import numbers
from portnn import SGD, ActivationLayer, FCLayer, Network, activations
from portnn.training import fusion, step
from portnn_numpy import compiled, training
from portnn_numpy.backend import NumpyBackend

USABLE = compiled.trouble() is None
needs_numba = pytest.mark.skipif(not USABLE, reason=f"Numba cannot be used: {compiled.trouble()!r}")
PLAIN = NumpyBackend(compile=False)
FAST = NumpyBackend() if USABLE else PLAIN
N_IN, N_OUT, SAMPLES = 131, 71, 12  # more weights than a compiled loop begins with


class Same(SGD):
    """SGD that the library does not know: it updates after the backward pass."""


def data(dtype="float32"):
    return numbers(0, SAMPLES, N_IN, dtype=dtype), numbers(1, SAMPLES, 3, dtype=dtype)


def network(*, activation="tanh", loss="mse", optimizer=None, backend=None, **options):
    parts = [FCLayer(N_IN, N_OUT), ActivationLayer(activation), FCLayer(N_OUT, 5), ActivationLayer(activation)]
    net = Network([*parts, FCLayer(5, 3)], seed=2, backend=backend or FAST, **options)
    net.use(loss, optimizer=optimizer or SGD(0.1))
    return net


def fitted(net, x, y, **options):
    net.fit(x, y, **{"epochs": 2, "batch_size": 1, "verbose": 0, **options})
    return net


def assert_same(net, other):
    """Equal bits of everything that training leaves."""
    for mine, theirs in ((net.parameters, other.parameters), (net.gradients, other.gradients)):
        assert list(mine) == list(theirs)
        for name, array in mine.items():
            np.testing.assert_array_equal(array, theirs[name], name)
    assert net.history == other.history


@pytest.fixture
def updates(monkeypatch):
    """The number of times that an optimizer was asked for an update."""
    seen = []
    own = step.TrainStep._updated
    monkeypatch.setattr(step.TrainStep, "_updated", lambda *given: (seen.append(1), own(*given))[1])
    return seen


# -- the function --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [None, activations.tanh_chain, activations.relu_chain], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (131, 71), (523, 509)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("need", [False, True])
def test_all_versions_have_equal_bits(chain, shape, dtype, special, need):
    versions = [training.descended]
    if USABLE:
        from portnn_numpy.compiled.training import descended

        versions.append(descended)
    n, m = shape
    x, y, error, w, b = (numbers(i, *s, dtype=dtype) for i, s in enumerate([(1, n), (1, m), (1, m), (n, m), (1, m)]))
    if special:
        wild = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42], dtype)
        for array in (x, y, error, w, b):
            array[0, : len(wild)] = wild[: array.shape[1]]
    x.flags.writeable = False
    with np.errstate(all="ignore"):
        given = x, y, error, chain, w, b, 0.1, need
        expected, products = fusion.descended(*given)[1:], []
        for version in versions:
            product, *others = version(*given)  # of which BLAS's sums may have another order
            products.append(product)
            for found, right in zip(others, expected, strict=True):
                assert (found.dtype, found.shape) == (dtype, right.shape)
                np.testing.assert_array_equal(found, right)
        first = products[0]
        assert (first is not None) == need
        for product in products if need else ():
            np.testing.assert_array_equal(product, first)
        if need and not special:
            right = (expected[1].astype("float64") @ w.T)[0]
            assert np.abs(first[0] - right).max() <= {"float32": 1e-5, "float64": 1e-13}[dtype] * max(1, m)


@needs_numba
def test_a_small_layer_compiles_nothing(monkeypatch):
    from portnn_numpy.compiled import _descent, training

    monkeypatch.setattr(training, "_compiled", set())
    monkeypatch.setattr(_descent, "descend", None)
    training.descended(*(numbers(i, 1, 4) for i in range(3)), None, numbers(3, 4, 4), numbers(4, 1, 4), 0.1, True)


@needs_numba
def test_numpys_function_takes_the_place_of_a_loop_that_does_not_compile(monkeypatch):
    from portnn_numpy.compiled import CompiledLoopsWarning, _descent, jit, troubles

    calls = []

    def broken(*arguments):
        calls.append(arguments)
        raise jit.LoopError("Numba could not compile a loop (of this test)")

    broken.__name__ = "descend"
    monkeypatch.setattr(_descent, "descend", broken)
    monkeypatch.setattr(jit, "_lost", set())
    monkeypatch.setattr(troubles, "_said", set())
    monkeypatch.setattr(troubles, "_found", {})
    with pytest.warns(CompiledLoopsWarning, match="replaces the compiled loop descend"):
        net = fitted(network(), *data())
    assert len(calls) == 1
    assert_same(net, fitted(network(backend=PLAIN), *data()))


@needs_numba
def test_an_error_of_another_shape_or_dtype_is_left_to_numpy():
    from portnn_numpy.compiled import training

    x, y, w, b = numbers(0, 1, N_IN), numbers(1, 1, N_OUT), numbers(2, N_IN, N_OUT), numbers(3, 1, N_OUT)
    with pytest.raises(ValueError, match="broadcast"):
        training.descended(x, y, numbers(4, 1, N_OUT - 1), None, w, b, 0.1, False)
    assert training.descended(x, y, numbers(4, 1, N_OUT, dtype="float64"), None, w, b, 0.1, False)[1].dtype == "float64"


def test_the_mean_squared_error_and_its_derivative_at_once():
    y, target = numbers(0, 1, 10), numbers(1, 1, 10)
    both = portnn.losses.mse, portnn.losses.mse_prime
    fast = [PLAIN.implementation(function) for function in both]
    for chain in (None, activations.tanh_chain):
        error, d, sums = training.whole(target, y, *fast, chain)
        expected_error, expected, _ = fusion.whole(target, y, *fast, chain)
        assert error == expected_error
        assert error.dtype == y.dtype
        assert sums is None
        np.testing.assert_array_equal(d, expected)
    assert training.whole(target, y, *both, None) is NotImplemented  # portable ones were asked for
    assert training.whole(numbers(0, 100, 50), numbers(1, 100, 50), *fast, None) is NotImplemented


# -- networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [FAST, PLAIN], ids=["fast", "plain"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float64"},
        {"activation": "relu"},
        {"activation": "sigmoid"},
        {"activation": "leaky_relu", "loss": "mae"},
        {"loss": "softmax_cross_entropy"},
    ],
    ids=str,
)
def test_it_trains_as_the_optimizer_would(options, backend, updates):
    x, y = data(options.get("dtype", "float32"))
    if "loss" in options and "cross" in options["loss"]:
        y = np.abs(y).argmax(axis=1)
    net = fitted(network(backend=backend, **options), x, y, shuffle=True)
    assert not updates
    assert_same(net, fitted(network(backend=backend, optimizer=Same(0.1), **options), x, y, shuffle=True))
    assert len(updates) == 2 * SAMPLES


@needs_numba
@pytest.mark.parametrize("shape", [(SAMPLES, N_IN), (SAMPLES, 1, N_IN)])
def test_numba_changes_no_bit(shape):
    x, y = data()
    x, y = x.reshape(shape), y.reshape(*shape[:-1], 3)
    assert_same(fitted(network(), x, y), fitted(network(backend=PLAIN), x, y))


def test_weights_of_samples_and_a_schedule():
    (x, y), weights = data(), np.linspace(0.0, 2.0, SAMPLES)
    rate = portnn.StepDecay(0.1, 5, 0.5)
    net = fitted(network(optimizer=SGD(rate)), x, y, sample_weight=weights)
    assert_same(net, fitted(network(optimizer=Same(rate)), x, y, sample_weight=weights))


def test_frozen_layers():
    nets = network(), network(optimizer=Same(0.1))
    for net in nets:
        net.layers[2].trainable = False
        first = np.array(net.layers[2].weights)
        fitted(net, *data())
        np.testing.assert_array_equal(net.layers[2].weights, first)
        assert not net.layers[2].gradients
    assert_same(*nets)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": SGD(0.1, momentum=0.9)},
        {"optimizer": SGD(0.1, weight_decay=0.1)},
        {"optimizer": SGD(0.1, clip_norm=0.1)},
        {"optimizer": SGD(0.1, clip_value=0.1)},
        {"optimizer": portnn.Adam(0.1)},
        {"kernels": "portable"},
    ],
    ids=str,
)
def test_others_move_after_the_backward_pass(change, updates):
    fitted(network(**copy.deepcopy(change)), *data())
    assert len(updates) == 2 * SAMPLES


@pytest.mark.parametrize(
    "extra",
    [lambda: FCLayer(3, 3, bias=False), lambda: portnn.LayerNormLayer(), lambda: portnn.ResidualLayer(FCLayer(3, 3))],
)
def test_networks_with_other_parameters_move_after_the_backward_pass(extra, updates):
    net = network()
    net.add(extra())
    fitted(net, *data())
    assert len(updates) == 2 * SAMPLES


def test_batches_of_more_samples_move_after_the_backward_pass(updates):
    fitted(network(), *data(), batch_size=SAMPLES - 1)  # also the last one, of one sample
    assert len(updates) == 4


# -- what others see -----------------------------------------------------------------------------------------------------


class Watch(portnn.Callback):
    """Calls a function after each step."""

    reads_gradients = True

    def __init__(self, look):
        self.look = look

    def on_step_end(self, network, step):
        self.look(network, step)


def test_gradients_after_each_step():
    """Each step's gradients are those that moved the parameters; what somebody holds never changes."""
    net, held, copies = network(), [], []

    def look(net, number):
        for name, w in net.parameters.items():
            gradient = net.gradients[name]
            assert type(gradient) is np.ndarray
            np.testing.assert_array_equal(w, held[-1][0][name] - np.float32(0.1) * gradient, name)
        held.append((dict(net.parameters), dict(net.gradients)))
        copies.append(copy.deepcopy(held[-1]))

    held.append((dict(net.parameters), {}))
    copies.append(copy.deepcopy(held[-1]))
    fitted(net, *data(), callbacks=[Watch(look)])
    assert len(held) == 1 + 2 * SAMPLES
    for mine, then in zip(held, copies, strict=True):
        for arrays, values in zip(mine, then, strict=True):
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, values[name], name)
    assert set(net.gradients) == set(net.parameters)  # after fit


def test_settings_changed_between_steps():
    def change(net, number):
        net.optimizer.weight_decay = 0.3 if 5 <= number < 9 else 0.0

    nets = [fitted(network(optimizer=kind(0.1)), *data(), callbacks=[Watch(change)]) for kind in (SGD, Same)]
    assert_same(*nets)


def test_momentum_left_off_between_steps():
    """The slots stay, as leaves of the state."""

    def change(net, number):
        net.optimizer.momentum = 0.9 if number < 9 else 0.0

    nets = [
        fitted(network(optimizer=kind(0.1, momentum=0.9)), *data(), callbacks=[Watch(change)]) for kind in (SGD, Same)
    ]
    assert_same(*nets)
    for name, velocity in nets[0].slots["velocity"].items():
        np.testing.assert_array_equal(velocity, nets[1].slots["velocity"][name])


def test_a_step_that_fails_changes_nothing(monkeypatch):
    own, calls = training.descended, []

    def fails(*given):
        calls.append(1)
        if len(calls) == 3 * SAMPLES + 2:  # in the second layer from the end
            raise MemoryError("no room")
        return own(*given)

    monkeypatch.setattr(training, "descended", fails)
    net, other = network(backend=PLAIN), network(backend=PLAIN)
    seen = [dict(net.parameters)]
    with pytest.raises(MemoryError, match="no room"):
        fitted(net, *data(), callbacks=[Watch(lambda net, number: seen.append(dict(net.parameters)))])
    assert net.step == SAMPLES == len(seen) - 1
    assert all(array is seen[-1][name] for name, array in net.parameters.items())
    assert set(net.gradients) == {"4.weights", "4.bias"}  # of the layer that ran
    net.fit(*data(), epochs=1, batch_size=1, verbose=0)
    fitted(other, *data())
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(array, other.parameters[name], name)


def test_divergence_brings_the_weights_back():
    net = fitted(network(activation="relu"), *data())
    before = copy.deepcopy(dict(net.parameters))
    net.optimizer.learning_rate = 1e30
    with pytest.raises(RuntimeError, match="diverged"):
        fitted(net, *data())
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(array, before[name])
