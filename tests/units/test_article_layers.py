"""Layers written as in the article train together with portnn's layers, one sample at a time."""

import copy
import re

import numpy as np
import pytest

import portnn
from article_layers import (
    EPOCHS,
    IMAGE,
    IMAGES,
    RATE,
    ROWS,
    SAMPLES,
    BatchedFCLayer,
    FCLayer,
    FlattenLayer,
    Witness,
    articles_tanh,
    assert_weights,
    network,
    ours_tanh,
    reference,
    rows,
    strict,
    weights,
)
from article_reference import assert_close
from portnn import SGD


@pytest.fixture(autouse=True)
def _same_weights_each_run():
    np.random.seed(5)  # noqa: NPY002 (the article's classes draw from NumPy's global generator)


# -- training as the article's loop does it ----------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [(1, 4), (4,)], ids=["(N, 1, n)", "(N, n)"])
@pytest.mark.parametrize("mixture", ROWS)
def test_rows_train_as_in_the_article(mixture, sample):
    layers = ROWS[mixture]()
    net = network(layers)
    expected, (x, y) = reference(layers), rows(sample, (*sample[:-1], 3))
    history = net.fit(x, y, epochs=EPOCHS, learning_rate=RATE, verbose=0)
    x, y = x.reshape(SAMPLES, 1, 4), y.reshape(SAMPLES, 1, 3)
    assert_close(np.array(history["error"]), np.array(expected.train(x, y, EPOCHS, RATE)))
    assert_weights(layers, expected)


@pytest.mark.parametrize("mixture", IMAGES)
def test_images_train_as_in_the_article(mixture):
    layers = IMAGES[mixture]()
    net = network(layers)
    expected, (x, y) = reference(layers), rows(IMAGE)
    history = net.fit(x, y, epochs=EPOCHS, learning_rate=RATE, verbose=0)
    assert_close(np.array(history["error"]), np.array(expected.train(x, y, EPOCHS, RATE)))
    assert_weights(layers, expected)


@pytest.mark.parametrize("mixture", [name for name in ROWS if "self.xp" in name])
@pytest.mark.parametrize("sample", [(1, 4), (4,)], ids=["(N, 1, n)", "(N, n)"])
def test_rows_written_with_xp_train_the_same_on_another_device(mixture, sample):
    assert_same_on_device1(ROWS[mixture], *rows(sample, (*sample[:-1], 3)))


@pytest.mark.parametrize("mixture", [name for name in IMAGES if "self.xp" in name])
def test_images_written_with_xp_train_the_same_on_another_device(mixture):
    assert_same_on_device1(IMAGES[mixture], *rows(IMAGE))


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
    x, y = rows(IMAGE, (10,))  # y has shape (N, 10), as from to_categorical; the outputs have (N, 1, 10)
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


# -- the arguments of such a layer -------------------------------------------------------------------------------------


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
    for _ in range(2):  # the second fit continues the count
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
