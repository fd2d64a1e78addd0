"""A network and its loaded copy: the same layers, and bitwise equal predictions and further training."""

import copy
import json
import os

import numpy as np
import pytest
from safetensors import safe_open

import portnn
from cases import ACTIVATIONS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES, OwnLayer
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    LayerNormLayer,
    Network,
    ParallelLayer,
    ResidualLayer,
    SequentialLayer,
)
from portnn.files import describing
from portnn.files.reading import KEYS
from replay import ReplayBackend
from states import leaves, same


def again(net, path, **options):
    net.save(path)
    return portnn.load(path, layers=[OwnLayer], **options)


def data(net, sample, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, *sample))
    return x, rng.standard_normal(net.predict(x).shape)


def alike(a, b):
    assert repr(a) == repr(b)
    assert describing.network(a) == describing.network(b)
    assert (a.step, a.epoch, a.seed, a.dtype, a.kernels) == (b.step, b.epoch, b.seed, b.dtype, b.kernels)
    assert a.history == b.history
    assert list(a.history) == list(b.history)
    assert list(a.parameters) == list(b.parameters)
    assert same(leaves(a), leaves(b))


def trained_on(net, loaded, x, y, **options):
    """Trains both; they must stay equal."""
    for each in (net, loaded):
        each.fit(x, y, epochs=2, batch_size=3, shuffle=True, verbose=0, **options)
    alike(net, loaded)
    assert np.array_equal(net.predict(x), loaded.predict(x), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYERS, ids=[case.name for case in LAYERS])
def test_every_layer(case, dtype, tmp_path):
    net = Network([case.make()], dtype=dtype, seed=5)
    net.use("mse", optimizer=Adam(1e-2))
    x, y = data(net, case.sample)
    alike(net, again(net, tmp_path / "net"))
    net.fit(x, y, epochs=2, batch_size=3, shuffle=True, verbose=0)
    loaded = again(net, tmp_path / "net")
    alike(net, loaded)
    assert np.array_equal(net.predict(x), loaded.predict(x))
    trained_on(net, loaded, x, y)


@pytest.mark.parametrize("case", LAYERS, ids=[case.name for case in LAYERS])
def test_every_layer_that_was_never_used(case, tmp_path):
    """Without a loss or data: layers that are built on the first batch are not built yet."""
    net = Network([case.make()], seed=5)
    loaded = again(net, tmp_path / "net")
    alike(net, loaded)
    assert [layer.complete for layer in net.walk()] == [layer.complete for layer in loaded.walk()]
    x = np.random.default_rng(0).standard_normal((4, *case.sample))
    assert np.array_equal(net.predict(x), loaded.predict(x))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name, tmp_path):
    net = Network([FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 2)], seed=1)
    net.use("mse", optimizer=OPTIMIZERS[name]())
    x, y = data(net, (4,))
    net.fit(x, y, epochs=3, batch_size=4, verbose=0)
    net.save(tmp_path / "net")
    rate = net.optimizer.learning_rate
    loaded = portnn.load(tmp_path / "net", layers=[rate] if callable(rate) else [])
    assert type(loaded.optimizer) is type(net.optimizer)
    assert vars(loaded.optimizer) == vars(net.optimizer)
    slots, loaded_slots = ({kind: list(home) for kind, home in each.slots.items()} for each in (net, loaded))
    assert slots == loaded_slots
    trained_on(net, loaded, x, y)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(name, tmp_path):
    net = Network([FCLayer(4, 2)], seed=1)
    net.use("mse", optimizer=SGD(SCHEDULES[name](), momentum=0.5))
    loaded = again(net, tmp_path / "net")
    then, now = net.optimizer.learning_rate, loaded.optimizer.learning_rate
    assert repr(then) == repr(now)
    assert [then(k) for k in range(50)] == [now(k) for k in range(50)]
    trained_on(net, loaded, *data(net, (4,)))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name, tmp_path):
    case = LOSSES[name]
    net = Network([FCLayer(4, 3)], seed=1)
    net.use(case.given, optimizer="adam", metrics=["accuracy"] if "cross" in name else [])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 4)), case.targets(rng, 8, 3)
    loaded = again(net, tmp_path / "net")
    assert repr(loaded.loss) == repr(net.loss)
    assert loaded.metrics == net.metrics
    trained_on(net, loaded, x, y)
    assert net.evaluate(x, y) == loaded.evaluate(x, y)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_found_by_its_name(name, tmp_path):
    net = Network([ActivationLayer(name)])
    (layer,) = again(net, tmp_path / "net").layers
    assert layer.activation is getattr(portnn, name)
    assert layer.activation_prime is getattr(portnn, f"{name}_prime")


def deep():
    return [
        ConvLayer((6, 6, 2), (3, 3), 4, padding=((1, 0), (0, 1)), stride=[1, 1], initializer="he_normal"),
        BatchNormLayer(momentum=0.3),
        ResidualLayer(SequentialLayer(ActivationLayer("gelu"), DropoutLayer(0.3)), LayerNormLayer(epsilon=1e-3)),
        FlattenLayer(),
        ParallelLayer([FCLayer(100, 3), ResidualLayer(FCLayer(3, 3))], [FCLayer(100, 2, bias=False)], merge="concat"),
    ]


def test_a_deep_network(tmp_path):
    net = Network(deep(), seed=2**64 - 1)
    net.use("mse", optimizer=Adam(1e-2, clip_norm=0.5))
    net.layers[0].trainable = net.layers[4].layers[0].layers[1].trainable = False
    x, y = data(net, (6, 6, 2))
    net.fit(x, y, epochs=3, batch_size=4, shuffle=True, verbose=0)
    loaded = again(net, tmp_path / "net")
    assert [layer.trainable for layer in loaded.walk()] == [layer.trainable for layer in net.walk()]
    assert not loaded.layers[0].trainable
    trained_on(net, loaded, x, y)
    net.layers[0].trainable = loaded.layers[0].trainable = True
    trained_on(net, loaded, x, y)


def test_a_list_of_layers_that_took_the_place_of_one(tmp_path):
    net = Network([ParallelLayer(FCLayer(3, 3), FCLayer(3, 3))], seed=1)
    net.layers[0].layers[1] = SequentialLayer(FCLayer(3, 4), FCLayer(4, 3))
    loaded = again(net, tmp_path / "net")
    alike(net, loaded)


def test_layers_that_came_later_keep_their_own_counts(tmp_path):
    net = Network([FCLayer(4, 4)], seed=1)
    net.use("mse", optimizer="adam")
    x, y = data(net, (4,))
    net.fit(x, y, epochs=2, batch_size=3, verbose=0)
    net.add(FCLayer(4, 4))
    net.fit(x, y, epochs=1, batch_size=3, verbose=0)
    loaded = again(net, tmp_path / "net")
    counts = [layer._updates("weights", net.step) for layer in net.layers]
    assert counts == [layer._updates("weights", loaded.step) for layer in loaded.layers] == [6, 2]
    trained_on(net, loaded, x, y)


def test_the_order_in_which_parameters_were_set_leaves_no_trace(tmp_path):
    """The order matters for clipping: the norm of all gradients is summed in the order of the parameters."""
    layer = FCLayer(7, 5)
    layer.bias, layer.weights = np.ones((1, 5)), np.random.default_rng(1).standard_normal((7, 5))
    net = Network([layer, FCLayer(5, 5)], seed=1)
    assert list(net.parameters) == ["0.weights", "0.bias", "1.weights", "1.bias"]
    net.use("mse", optimizer=SGD(0.1, clip_norm=0.01))
    x, y = data(net, (7,))
    trained_on(net, again(net, tmp_path / "net"), x, y)


def test_values_that_are_no_numbers(tmp_path):
    net = Network([FCLayer(2, 2)], seed=1)
    net.use("mse", optimizer="adam")
    net.parameters["0.weights"] = [[np.nan, np.inf], [-np.inf, -0.0]]
    net.history["error"] += [float("nan"), float("inf"), float("-inf"), -0.0, 1e-320]
    loaded = again(net, tmp_path / "net")
    assert loaded.parameters["0.weights"].tobytes() == net.parameters["0.weights"].tobytes()
    assert repr(loaded.history) == repr(net.history)


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_kernels_are_kept(kernels, tmp_path):
    net = Network(deep(), seed=1, kernels=kernels)
    net.use("mse", optimizer="adam")
    trained_on(net, again(net, tmp_path / "net"), *data(net, (6, 6, 2)))


def test_a_network_from_another_backend(tmp_path):
    """For instance a network from a GPU, on a machine without one, and vice versa."""
    net = Network(deep(), seed=1, backend=ReplayBackend())
    net.use("mse", optimizer="adam")
    x, y = data(net, (6, 6, 2))
    net.fit(x, y, epochs=2, batch_size=3, verbose=0)
    host = again(net, tmp_path / "net")
    assert host.backend.name == "cpu"
    there = again(host, tmp_path / "net", backend=ReplayBackend())
    assert isinstance(there.backend, ReplayBackend)
    alike(Network.load(tmp_path / "net"), host)
    trained_on(net, there, x, y)


def test_networks_of_a_class_of_ones_own(tmp_path):
    class Mine(Network):
        pass

    net = Mine([FCLayer(2, 3)], seed=1)
    net.save(tmp_path / "net")
    assert type(Mine.load(tmp_path / "net")) is Mine
    assert type(portnn.load(tmp_path / "net")) is Network


def test_a_network_without_layers(tmp_path):
    alike(Network(seed=4), again(Network(seed=4), tmp_path / "net"))


def test_the_path_is_a_text_or_a_path(tmp_path):
    net = Network([FCLayer(2, 3)], seed=1)
    net.save(str(tmp_path / "net"))
    alike(net, portnn.load(str(tmp_path / "net")))
    for wrong in (3, None, ["net"]):
        with pytest.raises(TypeError):
            net.save(wrong)
        with pytest.raises(TypeError):
            portnn.load(wrong)


def test_a_missing_file_is_no_bad_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        portnn.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="create it first"):
        Network([FCLayer(2, 3)]).save(tmp_path / "no folder" / "net")


def test_what_is_in_a_file(tmp_path):
    """Read with only the safetensors library."""
    net = Network([FCLayer(4, 3), BatchNormLayer(), FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer=Adam(1e-2))
    x, y = data(net, (4,))
    net.fit(x, y, epochs=2, batch_size=3, verbose=0)
    net.save(tmp_path / "net")
    with safe_open(tmp_path / "net", framework="np") as file:
        metadata, names = file.metadata(), set(file.keys())
        assert np.array_equal(file.get_tensor("parameters/0.weights"), net.parameters["0.weights"])
        assert file.get_tensor("counts/2.bias") == 4
    assert set(metadata) == {"portnn", "sha256"}
    about = json.loads(metadata["portnn"])
    assert set(about) == set(KEYS)
    assert (about["format"], about["version"], about["step"]) == (1, portnn.__version__, 4)
    paths = ["0.weights", "0.bias", "1.weights", "1.bias", "2.weights", "2.bias"]
    slots = [f"slots/{kind}/{path}" for kind in ("mean", "square") for path in paths]
    expected = [f"{kind}/{path}" for kind in ("parameters", "counts") for path in paths] + slots
    assert names == {*expected, "buffers/1.running_mean", "buffers/1.running_var"}


def test_saving_within_training_and_beside_it(tmp_path):
    """A layer saves in the middle of a step: the file contains the state before that step."""
    path, seen = tmp_path / "net", []

    class Saves(ActivationLayer):
        def __init__(self):
            super().__init__("tanh")

        def forward(self, X):
            if len(seen) == 2:
                net.save(path)
                seen.append(copy.deepcopy(net))
            seen.append(None)
            return super().forward(X)

    net = Network([FCLayer(3, 3), Saves()], seed=1)
    net.use("mse", optimizer="adam")
    net.fit(np.ones((6, 3)), np.zeros((6, 3)), epochs=1, batch_size=1, verbose=0)
    loaded = portnn.load(path, layers=[Saves])
    alike(next(each for each in seen if each is not None), loaded)
    assert loaded.step == 2


def test_a_load_draws_no_initial_weights(tmp_path, monkeypatch):
    net = Network([FCLayer(4, 3, initializer="orthogonal"), LayerNormLayer()], seed=1)
    net.save(tmp_path / "net")
    monkeypatch.setattr(portnn.initializers, "_orthogonal", None)
    alike(net, portnn.load(tmp_path / "net"))


def test_two_saves_of_one_network_hold_the_same(tmp_path):
    net = Network([FCLayer(4, 3)], seed=1)
    net.save(tmp_path / "a")
    net.save(tmp_path / "b")
    assert os.path.getsize(tmp_path / "a") == os.path.getsize(tmp_path / "b")
