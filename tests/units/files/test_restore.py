"""Resuming a run: write, read and restore, with equal and with different networks; loading only the weights."""

import copy

import numpy as np
import pytest

import portnn
from portnn import SGD, ActivationLayer, Adam, BatchNormLayer, CosineDecay, DropoutLayer, FCLayer, Network
from portnn.files import FileError
from portnn.files.environment import differences, environment
from portnn.files.filling import restore
from portnn.files.reading import read
from portnn.files.writing import write
from states import leaves, same


def network(seed=1, **options):
    net = Network([BatchNormLayer(), FCLayer(4, 5), DropoutLayer(0.5), FCLayer(5, 2)], seed=seed, **options)
    net.use("mse", optimizer=Adam(1e-2), metrics=[])
    return net


def train(net, epochs=2):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    return net.fit(x, y, epochs=epochs, batch_size=3, shuffle=True, verbose=0)


def state(net):
    return leaves(net), net.step, net.epoch, dict(net.history), net.seed, [layer.trainable for layer in net.walk()]


def unchanged(net, before):
    now = state(net)
    return same(now[0], before[0]) and now[1:] == before[1:]


def test_an_equal_network_goes_on_as_the_first(tmp_path):
    """Another seed, other values, or a normalization layer that is not built yet make no difference."""
    net, other = network(), network(seed=2)
    net.layers[1].trainable = False
    train(net)
    write(net, tmp_path / "net")
    restore(other, read(tmp_path / "net"))
    assert unchanged(other, state(net))
    assert other.seed == 1
    for each in (net, other):
        train(each, 3)
    assert unchanged(other, state(net))
    used = network(seed=3)
    train(used, 5)
    restore(used, read(tmp_path / "net"))
    train(used, 3)
    assert unchanged(used, state(net))


def test_what_a_run_adds(tmp_path):
    states = [
        ("EarlyStopping", {"best": 0.5, "wait": 3, "weights": {"0.weights": np.arange(6.0).reshape(2, 3)}}),
        ("EarlyStopping", {"best": float("inf"), "seen": [1, None, True, "x"], "pair": (1, [2.5]), "none": None}),
        ("Mine", {}),
    ]
    counters = {"sum of error": np.array(2.5), "sum of r2": np.arange(3.0)}
    net = network()
    net.progress["position"] = 7
    write(net, tmp_path / "net", stop_training=True, callbacks=states, counters=counters)
    found = read(tmp_path / "net")
    assert (found.position, found.stop_training, found.step, found.epoch) == (7, True, 0, 0)
    assert [name for name, _ in found.callbacks] == ["EarlyStopping", "EarlyStopping", "Mine"]
    assert np.array_equal(found.callbacks[0][1].pop("weights")["0.weights"], states[0][1].pop("weights")["0.weights"])
    assert found.callbacks == states
    assert {name: array.tolist() for name, array in found.counters.items()} == {
        "sum of error": 2.5,
        "sum of r2": [0.0, 1.0, 2.0],
    }
    loaded = portnn.load(tmp_path / "net")  # load does not resume, so it ignores them
    assert loaded.step == 0
    train(loaded)


def test_the_factor_of_the_learning_rate(tmp_path):
    net = network()
    vars(net)["learning_rate_factor"] = 0.25
    net.save(tmp_path / "net")
    assert read(tmp_path / "net").learning_rate_factor == 0.25
    assert portnn.load(tmp_path / "net").learning_rate_factor == 0.25


@pytest.mark.parametrize("bad", [{1: 2}, {"x": {1, 2}}, {"x": object()}, {"x": np.array(["a"])}, {"x": 1j}, {"x": b""}])
def test_states_that_no_file_can_hold(bad, tmp_path):
    with pytest.raises(TypeError, match="callback"):
        write(network(), tmp_path / "net", callbacks=[("Mine", bad)])
    assert list(tmp_path.iterdir()) == []


def others():
    yield "layers", Network([FCLayer(4, 2)], seed=1), "4 layers in the file, but 1"
    net = Network([BatchNormLayer(), FCLayer(4, 5), DropoutLayer(0.4), FCLayer(5, 2)], seed=1)
    yield "an argument", net, r"layer 2 is DropoutLayer\(rate=0.5\) in the file, but DropoutLayer\(rate=0.4\)"
    net = Network([BatchNormLayer(), FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1)
    yield "a class", net, r"layer 2 is DropoutLayer\(rate=0.5\) in the file, but ActivationLayer"
    yield "a dtype", network(dtype="float64"), "dtype is 'float32' in the file, but 'float64'"
    net = network()
    net.use("mae", optimizer=Adam(1e-2))
    yield "a loss", net, "loss is 'mse' in the file, but 'mae'"
    net = network()
    net.use("mse", optimizer=SGD(1e-2))
    yield "an optimizer", net, r"optimizer is Adam\(...\) in the file, but SGD\(...\)"
    net = network()
    net.use("mse", optimizer=Adam(CosineDecay(1e-2, 50)))
    yield "a schedule", net, r"optimizer.learning_rate is 0.01 in the file, but CosineDecay\(...\)"
    net = network()
    net.use("mse", optimizer=Adam(1e-2, weight_decay=0.1))
    yield "a setting of the optimizer", net, "optimizer.weight_decay is 0.0 in the file, but 0.1"
    net = network()
    net.use("mse", optimizer=Adam(1e-2), metrics=["accuracy"])
    yield "metrics", net, r"metrics is \[\] in the file, but \['accuracy'\]"
    yield "no use", Network(copy.deepcopy(network().layers), seed=1), "loss is 'mse' in the file, but None"


@pytest.mark.parametrize(("other", "match"), [pytest.param(*each[1:], id=each[0]) for each in others()])
def test_another_network_is_left_as_it_is(other, match, tmp_path):
    net = network()
    train(net)
    net.save(tmp_path / "net")
    before = state(other)
    with pytest.raises(FileError, match=f"(?s)net: the file is that of another network:\n  .*{match}"):
        restore(other, read(tmp_path / "net"))
    assert unchanged(other, before)


def test_channels_of_another_number(tmp_path):
    """Networks with equal descriptions whose layers were built for different data."""
    net, other = (Network([BatchNormLayer()], seed=1) for _ in range(2))
    net.predict(np.ones((2, 3)))
    other.predict(np.ones((2, 4)))
    net.save(tmp_path / "net")
    before = state(other)
    with pytest.raises(FileError, match=r"parameters/0.weights has shape \(3,\), expected \(4,\)"):
        restore(other, read(tmp_path / "net"))
    assert unchanged(other, before)


# -- only the weights --------------------------------------------------------------------------------------------------


def test_load_weights(tmp_path):
    net = network()
    train(net)
    net.save(tmp_path / "net")
    other = Network([BatchNormLayer(), FCLayer(4, 5), ActivationLayer("relu"), FCLayer(5, 2)], seed=9, dtype="float64")
    other.use("mae", optimizer=SGD(0.1, momentum=0.5))
    train(other, 1)
    slots = copy.deepcopy(other.slots["velocity"].copy())
    other.load_weights(tmp_path / "net")
    assert same(dict(other.parameters.items()), {path: a.astype("float64") for path, a in net.parameters.items()})
    assert np.array_equal(other.layers[0].buffers["running_mean"], net.layers[0].buffers["running_mean"])
    assert same(other.slots["velocity"].copy(), slots)
    assert (other.step, other.epoch, other.seed) == (2, 1, 9)
    assert other.parameters["1.weights"].dtype == np.float64


def test_load_weights_into_layers_that_are_not_built_yet(tmp_path):
    net = network()
    train(net)
    net.save(tmp_path / "net")
    other = network(seed=5)
    other.load_weights(tmp_path / "net")
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert np.array_equal(other.predict(x), net.predict(x))


def test_weights_that_do_not_fit_are_all_listed(tmp_path):
    net = network()
    train(net)
    net.save(tmp_path / "net")
    other = Network([FCLayer(4, 5, bias=False), FCLayer(5, 3), FCLayer(3, 5), FCLayer(5, 2)], seed=1)
    before = state(other)
    with pytest.raises(FileError, match="which was left as it is:") as caught:
        other.load_weights(tmp_path / "net")
    for line in (
        "parameters/2.weights is missing, shape (3, 5)",
        "parameters/1.weights has shape (4, 5), expected (5, 3)",
        "parameters/0.bias of shape (4,) belongs to no layer",
        "buffers/0.running_mean of shape (4,) belongs to no layer",
    ):
        assert line in str(caught.value)
    assert unchanged(other, before)


def test_load_weights_of_a_damaged_file(tmp_path):
    net = network()
    train(net)
    net.save(tmp_path / "net")
    data = bytearray((tmp_path / "net").read_bytes())
    data[-1] ^= 1
    (tmp_path / "net").write_bytes(data)
    before = state(net)
    with pytest.raises(FileError, match="damaged"):
        net.load_weights(tmp_path / "net")
    assert unchanged(net, before)


# -- the environment, on which results may depend ----------------------------------------------------------------------


def test_the_environment_is_in_the_file(tmp_path):
    net = network(kernels="portable")
    net.save(tmp_path / "net")
    then, now = read(tmp_path / "net").environment, environment(net)
    assert then == now
    assert differences(then, now) == []
    assert {"portnn", "python", "system", "numpy", "backend", "kernels", "backend: BLAS"} <= set(now)
    assert (now["numpy"], now["backend"], now["kernels"]) == (np.__version__, "cpu", "portable")


def test_differences_name_both_sides():
    then = {"numpy": "2.1.0", "backend": "cpu", "backend: Numba": "0.68"}
    now = {"numpy": "2.1.0", "backend": "gpu", "backend: device": "H100"}
    assert differences(then, now) == [
        "backend cpu, now gpu",
        "backend: Numba 0.68, now unknown",
        "backend: device unknown, now H100",
    ]
