"""Weights to and from PyTorch: with what PyTorch recorded, and with PyTorch itself where it is installed."""

import copy
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import portnn.layers
import portnn.torch
import torch_nets
from documents import ROOT
from portnn import BatchNormLayer, Callback, FCLayer, FlattenLayer, Layer, Network, ParallelLayer, ResidualLayer
from portnn.exchange import torch_order
from states import leaves

RECORDED = ROOT / "tests" / "support" / "recorded"
FILE = np.load(RECORDED / "torch_weights.npz")
NAMES = list(torch_nets.ROWS)


def recorded(name):
    """The state dict in PyTorch's order, inputs and outputs."""
    start = f"{name}/weights/"
    weights = {key.removeprefix(start): FILE[key] for key in FILE.files if key.startswith(start)}
    return weights, FILE[f"{name}/x"], FILE[f"{name}/y"]


def same(a, b):
    return list(a) == list(b) and all(
        np.array_equal(a[name], b[name]) and a[name].shape == b[name].shape and a[name].dtype == b[name].dtype
        for name in a
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_network_computes_what_pytorch_does(name):
    weights, x, y = recorded(name)
    net = torch_nets.network(name)
    before = {key: array.copy() for key, array in weights.items()}
    portnn.torch.load_state_dict(net, weights)
    np.testing.assert_allclose(net.predict(x), y, rtol=0.0, atol=1e-12)
    assert same(weights, before)
    single = torch_nets.network(name, "float32")
    portnn.torch.load_state_dict(single, weights)
    np.testing.assert_allclose(single.predict(x), y, rtol=0.0, atol=1e-6 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_in_comes_out_again(name):
    """In PyTorch's order, layouts and dtypes, counts of batches included: so PyTorch computes what portnn does."""
    weights, _, _ = recorded(name)
    net = torch_nets.network(name)
    portnn.torch.load_state_dict(net, weights)
    found = portnn.torch.state_dict(net)
    if not torch_nets.ROWS[name].mirrors:  # the names are others, the order is the same
        found = dict(zip(weights, found.values(), strict=True))
    assert same(found, weights)
    assert all(array.flags.c_contiguous and array.flags.owndata for array in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_names_of_our_own_find_their_place_in_any_order(name):
    weights, x, y = recorded(name)
    net = torch_nets.network(name)
    own = list(portnn.torch.state_dict(net))
    renamed = dict(zip(own, weights.values(), strict=True))
    shuffled = {f"module.{key}": renamed[key] for key in sorted(renamed, reverse=True)}
    portnn.torch.load_state_dict(net, shuffled)
    np.testing.assert_allclose(net.predict(x), y, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_files_which_have_no_order(name, tmp_path):
    """In the residual network bn1, layer1.0.bn1 and layer1.0.bn2 have the same shapes: the modules they are in tell."""
    weights, x, y = recorded(name)
    save_file(weights, tmp_path / "net.safetensors")
    net = torch_nets.network(name)
    for source in (tmp_path / "net.safetensors", dict(sorted(weights.items()))):
        portnn.torch.load_state_dict(net, source)
        np.testing.assert_allclose(net.predict(x), y, rtol=0.0, atol=1e-12)
        portnn.torch.load_state_dict(net, {key: array * 0 for key, array in portnn.torch.state_dict(net).items()})


@pytest.mark.parametrize("name", NAMES)
def test_with_pytorch_itself(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: what it recorded is compared instead")
    import safetensors.torch

    x, module, net = torch_nets.batch(name), torch_nets.module(name), torch_nets.network(name)
    with torch.no_grad():
        for each in module.parameters():
            each += 0.05 * torch.randn(each.shape, dtype=each.dtype)
    portnn.torch.load_state_dict(net, module.state_dict())
    np.testing.assert_allclose(net.predict(x), torch_nets.answer(module, name, x), rtol=0.0, atol=1e-12)

    other = torch_nets.network(name)
    path, array = next(iter(other.parameters.items()))
    other.parameters[path] = np.random.default_rng(2).standard_normal(array.shape)
    given = portnn.torch.state_dict(other)
    module.load_state_dict(
        {key: torch.from_numpy(array) for key, array in zip(module.state_dict(), given.values(), strict=True)}
    )
    np.testing.assert_allclose(other.predict(x), torch_nets.answer(module, name, x), rtol=0.0, atol=1e-11)

    safetensors.torch.save_file(module.state_dict(), tmp_path / "net.safetensors")
    portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    np.testing.assert_allclose(net.predict(x), other.predict(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("file", "within"), [("torch_lenet", 1e-6), ("torch_lenet_bfloat16", 0.05)])
def test_files_of_pytorch(file, within):
    _, x, y = recorded("lenet with names")
    net = torch_nets.network("lenet with names", "float32")
    portnn.torch.load_state_dict(net, RECORDED / f"{file}.safetensors")
    assert 0.0 < np.abs(net.predict(x) - y).max() < within * np.abs(y).max()
    bits = net.layers[0].weights.view(np.uint32) & 0xFFFF
    assert bool(bits.any()) == ("bfloat16" not in file)  # the upper half of float32, and nothing more


def test_half_precision_is_cast():
    weights, x, y = recorded("mlp")
    net = torch_nets.network("mlp")
    portnn.torch.load_state_dict(net, {key: array.astype(np.float16) for key, array in weights.items()})
    assert net.layers[0].weights.dtype == np.float64
    assert 0.0 < np.abs(net.predict(x) - y).max() < 0.01


def test_tensors_of_pytorch_in_bfloat16_and_with_a_graph():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = torch_nets.network("mlp")
    module = torch_nets.module("mlp")
    portnn.torch.load_state_dict(net, dict(module.bfloat16().named_parameters()))
    assert np.array_equal(net.layers[0].weights, module[0].weight.detach().double().numpy().T)
    with pytest.raises(TypeError, match=r"give model.state_dict\(\)"):
        portnn.torch.load_state_dict(net, module)
    meta = {key: torch.empty_like(array, device="meta") for key, array in module.state_dict().items()}
    with pytest.raises(TypeError, match=r"0.weight is on backend 'torch on meta'.*portnn.to_numpy\(array\)"):
        portnn.torch.load_state_dict(net, meta)


@pytest.mark.parametrize("layer", [name for name in portnn.layers.__all__ if name != "Layer"])
def test_the_order_of_values_is_followed_through_every_layer(layer):
    followed = (*torch_order.ELEMENTWISE, *torch_order.OF_IMAGES, *torch_order.OTHERS)
    assert issubclass(getattr(portnn, layer), followed), f"{layer} is taken for a layer of somebody's own"


# -- the order behind a Flatten ----------------------------------------------------------------------------------------


def test_the_order_behind_a_flatten_that_comes_first_needs_the_shape():
    weights = {"1.weight": np.arange(24.0).reshape(1, 24), "1.bias": np.zeros(1)}
    make = lambda: Network([FlattenLayer(), FCLayer(24, 1)], dtype="float64")  # noqa: E731
    with pytest.raises(
        ValueError, match=r"layer 0 \(FlattenLayer\(\)\).*input_shape=\(H, W, C\), or call predict once"
    ):
        portnn.torch.load_state_dict(make(), weights)
    with pytest.raises(ValueError, match="input_shape"):
        portnn.torch.state_dict(make())
    rows = np.arange(24.0).reshape(3, 2, 4)
    found = []
    for told in ("given", "predicted", "trained"):
        net = make()
        if told == "predicted":
            net.predict(rows[None])
        if told == "trained":
            net.use("mse")
            net.fit(rows[None], [[0.0]], 1, 0.0, verbose=0)
        portnn.torch.load_state_dict(net, weights, input_shape=(3, 2, 4) if told == "given" else None)
        found.append(net.layers[1].weights[:, 0])
    assert np.array_equal(found[0], np.arange(24.0).reshape(4, 3, 2).transpose(1, 2, 0).ravel())
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_images_of_one_channel_have_one_order():
    net = Network([FlattenLayer(), FCLayer(784, 2)], dtype="float64")
    weights = {"1.weight": np.random.default_rng(0).standard_normal((2, 784)), "1.bias": np.zeros(2)}
    portnn.torch.load_state_dict(net, weights)
    assert np.array_equal(net.layers[1].weights, weights["1.weight"].T)


def test_an_order_that_pytorch_cannot_have_is_an_error():
    from portnn import GroupNormLayer

    net = Network([FlattenLayer(), GroupNormLayer(2), FCLayer(24, 1)])
    net.predict(np.zeros((1, 3, 2, 4)))
    with pytest.raises(ValueError, match=r"layer 1 \(GroupNormLayer\(2\)\) needs values in the order.*net.parameters"):
        portnn.torch.state_dict(net)
    net = Network([ParallelLayer([FlattenLayer()], [FlattenLayer(), ResidualLayer(FCLayer(8, 8))], merge="add")])
    net.predict(np.zeros((1, 2, 2, 2)))
    assert portnn.torch.state_dict(net)["0.1.1.0.weight"].shape == (8, 8)


# -- nothing half loaded, nothing within a fit -------------------------------------------------------------------------


def test_batch_normalization_goes_on_counting():
    weights, _, _ = recorded("1-D")
    net = torch_nets.network("1-D", "float32")
    portnn.torch.load_state_dict(net, weights | {"1.num_batches_tracked": np.array(40)})
    net.use("mse")
    net.fit(torch_nets.batch("1-D", 4), np.zeros((4, 2)), 3, 1e-3, batch_size=2, verbose=0)
    assert portnn.torch.state_dict(net)["1.num_batches_tracked"] == 46
    assert portnn.torch.state_dict(copy.deepcopy(net))["1.num_batches_tracked"] == 46
    without = {key: array for key, array in weights.items() if "num_batches" not in key}
    portnn.torch.load_state_dict(net, without)  # as older versions of PyTorch wrote it
    with pytest.raises(ValueError, match=r"1\.num_batches_tracked must be a number of batches.*got -1"):
        portnn.torch.load_state_dict(net, weights | {"1.num_batches_tracked": np.array(-1)})


def count(net):
    return int(portnn.torch.state_dict(net)["1.num_batches_tracked"])


def test_the_count_of_batches_is_kept(tmp_path):
    """By use(), which counts updates afresh, by a file, and by what begins from it."""
    net = Network([FCLayer(3, 4), BatchNormLayer(), FCLayer(4, 2)], seed=1)
    net.use("mse")
    x, y, options = np.ones((8, 3)), np.zeros((8, 2)), dict(epochs=1, learning_rate=0.1, batch_size=4, verbose=0)
    net.fit(x, y, **options)
    portnn.torch.load_state_dict(net, portnn.torch.state_dict(net) | {"1.num_batches_tracked": np.array(40)})
    net.fit(x, y, **options)
    net.use("mae")
    assert count(net) == 42
    net.fit(x, y, **options)
    assert count(net) == 44
    path = tmp_path / "net.portnn.safetensors"
    net.save(path)
    other = Network.load(path)
    assert count(other) == 44
    other.fit(x, y, **options)
    assert count(other) == 46
    other.layers[1].trainable = False  # its running averages stay as they are
    other.fit(x, y, **options)
    assert count(other) == 46


def test_a_file_has_no_more_counts_than_it_needs(tmp_path):
    net = Network([FCLayer(3, 4), BatchNormLayer(), FCLayer(4, 2)], seed=1)
    net.use("mse")
    net.fit(np.ones((8, 3)), np.zeros((8, 2)), 1, 0.1, batch_size=4, verbose=0)
    net.save(tmp_path / "net.portnn.safetensors")
    assert "counts/1.running_mean" not in load_file(tmp_path / "net.portnn.safetensors")
    assert count(Network.load(tmp_path / "net.portnn.safetensors")) == 2


def test_arrays_of_other_byte_orders_and_without_gaps():
    weights, x, y = recorded("mlp")
    net = torch_nets.network("mlp")
    portnn.torch.load_state_dict(net, {key: array.astype(">f8") for key, array in weights.items()})
    np.testing.assert_allclose(net.predict(x), y, rtol=0.0, atol=1e-12)
    masked = np.ma.masked_array(weights["0.weight"], weights["0.weight"] > 0.0)
    with pytest.raises(TypeError, match=r"0.weight is a masked array: fill the gaps first"):
        portnn.torch.load_state_dict(net, weights | {"0.weight": masked})


def test_tensors_that_numpy_does_not_have():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = {key: torch.tensor(array) for key, array in recorded("mlp")[0].items()}
    net = torch_nets.network("mlp")
    with pytest.raises(TypeError, match=r"0.weight has dtype torch.float8_e4m3fn.*cast it first, x.float\(\)"):
        portnn.torch.load_state_dict(net, weights | {"0.weight": weights["0.weight"].to(torch.float8_e4m3fn)})
    with pytest.raises(TypeError, match=r"0.weight is an array of torch that it does not share.*x.to_dense\(\)"):
        portnn.torch.load_state_dict(net, weights | {"0.weight": weights["0.weight"].to_sparse()})


def test_a_normalization_that_awaits_its_first_batch_is_built():
    net = Network([BatchNormLayer(), FCLayer(3, 1)], dtype="float64")
    other = Network([FCLayer(3, 3), BatchNormLayer(), FCLayer(3, 1)], dtype="float64", seed=4)
    given = {f"{int(key[0]) - 1}{key[1:]}": array for key, array in portnn.torch.state_dict(other).items()}
    del given["-1.weight"], given["-1.bias"]
    given["0.running_mean"] = np.array([1.0, 2.0, 3.0])
    portnn.torch.load_state_dict(net, given)
    x = np.random.default_rng(0).standard_normal((4, 3))
    expected = (x - [1.0, 2.0, 3.0]) / np.sqrt(1.0 + 1e-5) @ given["1.weight"].T
    np.testing.assert_allclose(net.predict(x), expected, atol=1e-12)


def test_optimizer_and_frozen_layers_stay_as_they_are():
    weights, _, _ = recorded("mlp")
    net = torch_nets.network("mlp", "float32")
    net.layers[0].trainable = False
    net.use("mse", optimizer="adam")
    net.fit(torch_nets.batch("mlp"), np.zeros((5, 3)), 2, verbose=0)
    slots = {kind: dict(arrays) for kind, arrays in net.slots.items()}
    portnn.torch.load_state_dict(net, weights)
    assert np.array_equal(net.layers[0].weights, weights["0.weight"].T.astype(np.float32))
    assert not net.layers[0].trainable
    assert net.step == 10
    assert all(np.array_equal(net.slots[kind][path], a) for kind, arrays in slots.items() for path, a in arrays.items())


class WithinFit(Callback):
    def __init__(self, call):
        self.call, self.raised, self.answers = call, [], []

    def on_step_end(self, network, step):
        try:
            self.answers.append(self.call(network))
        except RuntimeError as error:
            self.raised.append(str(error))


def test_within_a_fit_weights_are_read_but_not_set():
    weights, x, _ = recorded("mlp")
    net = torch_nets.network("mlp", "float32")
    net.use("mse")
    setting = WithinFit(lambda network: portnn.torch.load_state_dict(network, weights))
    reading = WithinFit(lambda network: portnn.torch.state_dict(network)["0.weight"])
    net.fit(x, np.zeros((5, 3)), 1, 0.1, batch_size=5, callbacks=[setting, reading], verbose=0)
    assert "load_state_dict was called within fit of the same network" in setting.raised[0]
    assert np.array_equal(reading.answers[0], net.layers[0].weights.T)

    errors = []

    def elsewhere(network):
        thread = threading.Thread(
            target=lambda: (
                errors.append(WithinFit(lambda n: portnn.torch.load_state_dict(n, weights)))
                or errors[0].on_step_end(network, 0)
            )
        )
        thread.start()
        thread.join()

    net.fit(x, np.zeros((5, 3)), 1, 0.1, batch_size=5, callbacks=[WithinFit(elsewhere)], verbose=0)
    assert "while another thread is in fit" in errors[0].raised[0]


def test_parameters_of_ones_own_layers_keep_their_names():
    class Gain(Layer):
        def __init__(self):
            self.parameters["gain"] = np.ones(3)

        def forward(self, X):
            return self.parameters["gain"] * X

        def backward(self, output_error):
            self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=0)
            return output_error * self.parameters["gain"]

        def output_shape(self, input_shape):
            return input_shape

    net = Network([FCLayer(2, 3), Gain()])
    assert list(portnn.torch.state_dict(net)) == ["0.weight", "0.bias", "1.gain"]
    portnn.torch.load_state_dict(net, portnn.torch.state_dict(net) | {"1.gain": np.arange(3.0)})
    assert np.array_equal(net.layers[1].parameters["gain"], [0.0, 1.0, 2.0])


def test_an_error_changes_nothing():
    weights, _, _ = recorded("residual")
    net = torch_nets.network("residual", "float32")
    before = leaves(net)
    for change in ({"fc.bias": np.zeros(6)}, {"fc.bias": np.full(5, 1e300)}, {"fc.bias": np.zeros(5, int)}):
        with pytest.raises(ValueError, match=r"fc.bias"):
            portnn.torch.load_state_dict(net, weights | change)
        after = leaves(net)
        assert all(np.array_equal(before[key], after[key]) for key in before)
    with pytest.raises(OSError, match="No such file"):
        portnn.torch.load_state_dict(net, "nowhere.safetensors")
