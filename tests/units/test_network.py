"""The network's public interface: the article's examples, fit, predict with several kinds of arrays, and to."""

import re

import numpy as np
import pytest

from array_libraries import strict_backend
from portnn import (
    SGD,
    ActivationLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Network,
    ScaleLayer,
    load_mnist,
    mse,
    mse_prime,
    tanh,
    tanh_prime,
    to_categorical,
    to_device,
    to_numpy,
)
from regressions import regression, same, weights

X_XOR = np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
Y_XOR = np.array([[[0]], [[1]], [[1]], [[0]]])


def xor_network(seed=1, **options):
    net = Network(seed=seed, **options)
    for layer in (FCLayer(2, 3), ActivationLayer(tanh, tanh_prime), FCLayer(3, 1), ActivationLayer(tanh, tanh_prime)):
        net.add(layer)
    net.use(mse, mse_prime)
    return net


# -- the article -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 6))
def test_xor_is_learned(seed):
    net = xor_network(seed)
    history = net.fit(X_XOR, Y_XOR, epochs=1000, learning_rate=0.1, verbose=0)
    assert history["error"][-1] < 0.001
    assert np.array_equal(net.predict(X_XOR).round().astype(int), Y_XOR)


@pytest.mark.parametrize(
    ("epochs", "error", "right"), [(8, 0.02, 0.8), pytest.param(35, 0.005, 0.85, marks=pytest.mark.slow)]
)
def test_the_articles_mnist_recipe(epochs, error, right):
    (x_train, y_train), (x_test, y_test) = load_mnist()
    net = Network(seed=0)
    for layer in (FCLayer(784, 100), FCLayer(100, 50), FCLayer(50, 10)):
        net.add(layer)
        net.add(ActivationLayer(tanh, tanh_prime))
    net.use(mse, mse_prime)

    def rows(images):
        return images.reshape(-1, 1, 784).astype("float32") / 255

    history = net.fit(rows(x_train[:1000]), to_categorical(y_train[:1000]), epochs=epochs, learning_rate=0.1, verbose=0)
    assert history["error"][-1] <= error
    digits = net.predict(rows(x_test)).reshape(-1, 10).argmax(axis=1)
    assert (digits == y_test).mean() >= right


def test_printed_lines_have_the_articles_form(capsys):
    xor_network().fit(X_XOR, Y_XOR, epochs=3, learning_rate=0.1)
    lines = capsys.readouterr().out.splitlines()
    assert [bool(re.fullmatch(rf"epoch {k}/3   error=\d\.\d{{6}}", line)) for k, line in enumerate(lines, 1)] == [
        True
    ] * 3


def test_names_and_functions_are_one_thing():
    by_name = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1), ActivationLayer("tanh")], seed=1)
    by_name.use("mse")
    by_function = xor_network()
    for net in (by_name, by_function):
        net.fit(X_XOR, Y_XOR, epochs=2, learning_rate=0.1, verbose=0)
    assert same(weights(by_name), weights(by_function))


def test_a_users_pair_of_functions():
    def square(y_true, y_pred):
        return np.mean((y_true - y_pred) ** 2)

    def square_prime(y_true, y_pred):
        return 2 * (y_pred - y_true) / y_true.size

    own = Network(
        [FCLayer(2, 3), ActivationLayer(lambda x: np.tanh(x), lambda x: 1 - np.tanh(x) ** 2), FCLayer(3, 1)], seed=0
    )
    own.use(square, square_prime)
    ours = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=0)
    ours.use("mse")
    for net in (own, ours):
        net.fit(X_XOR, Y_XOR, epochs=5, learning_rate=0.1, verbose=0)
    for path, array in weights(ours).items():
        assert np.allclose(weights(own)[path], array, rtol=1e-5, atol=1e-6)


def test_a_loss_object_with_prime():
    class Half:
        def __call__(self, y_true, y_pred):
            return 0.5 * mse(y_true, y_pred)

        def prime(self, y_true, y_pred):
            return 0.5 * mse_prime(y_true, y_pred)

    halved, x, y = regression()
    halved.use(Half())
    halved.fit(x, y, epochs=1, learning_rate=0.2, verbose=0)
    plain, _, _ = regression()
    plain.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
    for path, array in weights(plain).items():
        assert np.allclose(weights(halved)[path], array, rtol=1e-6)


# -- fit ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 99])
def test_every_sample_counts_once_whatever_the_batch(batch_size):
    net, x, y = regression(dtype="float64")
    before = np.mean((net.predict(x) - y) ** 2)
    history = net.fit(x, y, epochs=1, learning_rate=0.0, batch_size=batch_size, verbose=0)
    assert history["error"] == [pytest.approx(before, rel=1e-12)]
    assert net.step == -(-10 // min(batch_size, 10))


def test_shuffling_depends_on_seed_and_epoch_alone():
    results = []
    for shuffle, seed in ((True, 0), (True, 0), (False, 0), (True, 1)):
        start, x, y = regression()
        net = Network([FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=seed)
        net.parameters.update(start.parameters)
        net.use("mse")
        net.fit(x, y, epochs=2, learning_rate=0.1, shuffle=shuffle, verbose=0)
        results.append(weights(net))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])
    assert not same(results[0], results[3])


def test_a_second_fit_continues_and_use_starts_afresh():
    optimizer = SGD(lambda k: 0.1 / (k + 1), momentum=0.9)
    once, x, y = regression()
    once.use("mse", optimizer=optimizer)
    once.fit(x, y, epochs=4, shuffle=True, verbose=0)
    twice, _, _ = regression()
    twice.use("mse", optimizer=optimizer)
    for _ in range(2):
        twice.fit(x, y, epochs=2, shuffle=True, verbose=0)
    assert same(weights(once), weights(twice))
    assert (twice.step, twice.epoch) == (40, 4)
    assert set(twice.slots["velocity"]) == set(twice.parameters)
    twice.use("mse", optimizer=optimizer)
    assert (twice.step, twice.epoch, twice.slots) == (0, 0, {})


def test_history_and_metrics():
    x = np.eye(3)
    net = Network([FCLayer(3, 3)], seed=0)

    def largest_output(y_true, y_pred):
        return y_pred.max(axis=-1)

    net.use("mse", metrics=["accuracy", largest_output])
    history = net.fit(x, x, epochs=60, learning_rate=0.5, batch_size=2, verbose=0)
    assert list(history) == ["error", "accuracy", "largest_output"]
    assert history["accuracy"][-1] == 1.0
    assert all(len(values) == 60 for values in history.values())
    result = net.evaluate(x, x)
    assert result["accuracy"] == 1.0
    assert result["error"] == pytest.approx(np.mean((net.predict(x) - x) ** 2), rel=1e-5)


def test_integers_are_cast_but_never_scaled():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    by_bytes, by_floats = (Network([ScaleLayer(0.5), FCLayer(4, 1)], seed=0) for _ in range(2))
    for net, x in ((by_bytes, pixels), (by_floats, pixels.astype(float))):
        net.use("mse")
        net.fit(x, [[1], [2], [3]], epochs=2, learning_rate=0.001, verbose=0)
    assert same(weights(by_bytes), weights(by_floats))
    assert by_bytes.predict(pixels).dtype == np.float32


def test_float32_stays_float32():
    net, x, y = regression()
    net.use("mse", optimizer=SGD(0.1, momentum=0.9))
    net.fit(x, y, epochs=1, batch_size=3, verbose=0)
    arrays = [*net.parameters.values(), *net.gradients.values(), *net.slots["velocity"].values(), net.predict(x)]
    assert {a.dtype for a in arrays} == {np.dtype("float32")}


def test_data_is_never_changed():
    net, x, y = regression(dtype="float64")
    x_before, y_before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    net.fit(x, y, epochs=2, learning_rate=0.1, batch_size=3, verbose=0)
    assert np.array_equal(x, x_before)
    assert np.array_equal(y, y_before)


def test_targets_fit_outputs_of_another_shape():
    rng = np.random.default_rng(0)
    for sample, target in (((1, 4), (2,)), ((4,), (1, 2)), ((1, 4), (2, 1))):
        net = Network([FCLayer(4, 2)], seed=0)
        net.use("mse")
        history = net.fit(rng.standard_normal((5, *sample)), np.ones((5, *target)), 1, 0.1, verbose=0)
        assert np.isfinite(history["error"][0])
    flat = Network([ConvLayer((3, 3, 1), (2, 2), 2)], seed=0)
    flat.use("mse")
    flat.fit(np.ones((2, 3, 3, 1)), np.ones((2, 8)), 1, 0.1, verbose=0)


def test_portable_kernels_learn_the_same():
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 8, 8, 1)), rng.random((6, 2))
    nets = []
    for kernels in ("auto", "portable"):
        layers = [ConvLayer((8, 8, 1), (3, 3), 2), ActivationLayer("relu"), FlattenLayer(), FCLayer(72, 2)]
        net = Network(layers, seed=1, dtype="float64", kernels=kernels)
        net.use("mse")
        net.fit(x, y, epochs=3, learning_rate=0.1, batch_size=2, verbose=0)
        nets.append(weights(net))
    for path, array in nets[0].items():
        assert np.allclose(nets[1][path], array, rtol=1e-12, atol=1e-14)


def test_no_input_error_is_computed_below_the_lowest_layer_that_learns():
    asked = []

    class Spy(FCLayer):
        def backward(self, output_error, *, need_input_error=True):
            asked.append((self.path, need_input_error))
            return super().backward(output_error, need_input_error=need_input_error)

    class Frozen(ScaleLayer):
        def backward(self, output_error, *, need_input_error=True):
            raise AssertionError("this input error is not needed")

    net = Network([Frozen(0.5), Spy(4, 3), Spy(3, 2)], seed=0)
    net.use("mse")
    net.fit(np.ones((1, 4)), np.ones((1, 2)), 1, 0.1, verbose=0)
    assert asked == [("2", True), ("1", False)]


# -- predict with several kinds of arrays ------------------------------------------------------------------------------


def test_answers_are_of_the_kind_of_the_question():
    net, x, _ = regression(backend=strict_backend())
    plain = net.predict(x)
    assert isinstance(plain, np.ndarray)
    assert isinstance(net.predict(x.tolist()), np.ndarray)
    assert isinstance(net.predict(list(x)), np.ndarray)
    own = to_device(x, net.backend)
    answer = net.predict(own)
    assert net.backend.owns(answer)
    assert np.array_equal(to_numpy(answer), plain)
    samples = [own[i, ...] for i in range(10)]
    assert np.array_equal(net.predict(samples), plain)


def test_predict_goes_in_batches_and_takes_no_samples():
    net, x, _ = regression(dtype="float64")
    assert np.allclose(net.predict(x, batch_size=3), net.predict(x), rtol=1e-13)
    assert net.predict(np.zeros((0, 4))).shape == (0, 2)


def test_training_on_the_standards_own_device(no_hidden_reads):
    strict, x, y = regression(backend=strict_backend(), dtype="float64")
    plain, _, _ = regression(dtype="float64")
    for net in (strict, plain):
        net.use("mse", optimizer=SGD(0.1, momentum=0.9), metrics=["accuracy"])
    a = strict.fit(to_device(x, strict.backend), y, epochs=2, batch_size=3, shuffle=True, verbose=0)
    b = plain.fit(x, y, epochs=2, batch_size=3, shuffle=True, verbose=0)
    assert a["error"] == pytest.approx(b["error"], rel=1e-12)
    assert a["accuracy"] == b["accuracy"]
    for path, array in weights(plain).items():
        assert np.allclose(weights(strict)[path], array, rtol=1e-12), path


def test_same_initial_weights_everywhere():
    for seed in range(3):
        a, b = regression(seed=seed)[0], regression(seed=seed, backend=strict_backend())[0]
        assert same(weights(a), weights(b))
    assert not same(weights(regression(seed=0)[0]), weights(regression(seed=1)[0]))


def test_to_moves_all_that_training_has_gathered():
    stays, x, y = regression(dtype="float64")
    moves, _, _ = regression(dtype="float64")
    for net in (stays, moves):
        net.use("mse", optimizer=SGD(0.1, momentum=0.9))
        net.fit(x, y, epochs=1, verbose=0)
    assert moves.to(strict_backend()) is moves
    assert all(moves.backend.owns(array) for array in moves.parameters.values())
    for net in (stays, moves):
        net.fit(x, y, epochs=1, verbose=0)
    moves.to("cpu")
    for path, array in weights(stays).items():
        assert np.allclose(moves.parameters[path], array, rtol=1e-12)
