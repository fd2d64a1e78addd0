"""State dicts whose names are not the network's, or that do not fit: what is paired, what is listed, what is refused."""

import pickle
from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import save_file

import portnn.torch
from portnn import ActivationLayer, BatchNormLayer, ConvLayer, FCLayer, FlattenLayer, Network, ParallelLayer
from portnn.exchange.torch_names import pair
from portnn.files.errors import FileError

RNG = np.random.default_rng(0)


def network(*sizes, **options):
    """A chain of fully connected layers with an activation behind each."""
    layers = [layer for each in pairwise(sizes) for layer in (FCLayer(*each), ActivationLayer("tanh"))]
    return Network(layers, dtype="float64", **options)


def weights(*names, n=3, m=3):
    """Linear modules of those names, each with other numbers."""
    found = {}
    for name in names:
        found |= {f"{name}.weight": RNG.standard_normal((m, n)), f"{name}.bias": RNG.standard_normal(m)}
    return found


def placed(net, given, names):
    """Whether the network's layers have the weights of the modules of those names, in that order."""
    layers = [layer for layer in net.layers if layer.parameters]
    return all(
        np.array_equal(layer.weights, given[f"{name}.weight"].T)
        and np.array_equal(layer.bias[0], given[f"{name}.bias"])
        for layer, name in zip(layers, names, strict=True)
    )


@pytest.mark.parametrize(
    "names",
    [
        ("0", "2", "4"),
        ("fc1", "fc2", "fc3"),
        ("layers.0.0", "layers.1.0", "layers.2.0"),
        ("encoder", "decoder", "adversary"),  # a dict's order tells
        ("module.hidden", "module.inner", "module.head"),
        ("module.0", "module.2", "module.4"),
        ("_orig_mod.module.0", "_orig_mod.module.2", "_orig_mod.module.4"),
        ("1", "3", "5"),  # behind a Flatten that portnn's network does not have
        ("2", "4", "6"),
    ],
)
def test_names_of_a_dict_in_the_modules_order(names):
    given, net = weights(*names), network(3, 3, 3, 3)
    portnn.torch.load_state_dict(net, given)
    assert placed(net, given, names)


def test_numbers_are_read_as_numbers_in_what_was_sorted(tmp_path):
    """Sorted by name, layer10 comes before layer2, and biases before weights."""
    names = [f"layer{i}.fc" for i in range(1, 13)]
    given, sizes = weights(*names), [3] * 13
    save_file(given, tmp_path / "sorted.safetensors")
    for source in (tmp_path / "sorted.safetensors", dict(sorted(given.items()))):
        net = network(*sizes)
        portnn.torch.load_state_dict(net, source)
        assert placed(net, given, names)
    sequential = {f"{2 * i}.weight": given[f"{name}.weight"] for i, name in enumerate(names)}
    sequential |= {f"{2 * i}.bias": given[f"{name}.bias"] for i, name in enumerate(names)}
    save_file({f"body.{name}": array for name, array in sequential.items()}, tmp_path / "sorted.safetensors")
    net = network(*sizes)
    portnn.torch.load_state_dict(net, tmp_path / "sorted.safetensors")
    assert placed(net, given, names)


def test_shapes_tell_where_order_does_not(tmp_path):
    given = weights("out", n=5, m=2) | weights("inner", n=4, m=5) | weights("first", n=3, m=4)
    net = network(3, 4, 5, 2)
    portnn.torch.load_state_dict(net, given)
    assert placed(net, given, ("first", "inner", "out"))
    save_file(given, tmp_path / "net.safetensors")
    portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    assert placed(net, given, ("first", "inner", "out"))


def test_what_nothing_tells_is_an_error_that_shows_the_pairs(tmp_path):
    given, net = weights("query", "key", "value"), network(3, 3, 3, 3)
    before = {path: np.array(array) for path, array in net.parameters.items()}
    save_file(given, tmp_path / "net.safetensors")
    with pytest.raises(FileError, match=r"net.safetensors.*not clear which array belongs where") as caught:
        portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    text = str(caught.value)
    assert "0.weight <- key.weight (3, 3)\n  0.bias <- key.bias (3,)\n  2.weight <- query.weight (3, 3)" in text
    assert '{"0.weight": weights["key.weight"], ...}' in text
    assert all(np.array_equal(net.parameters[path], array) for path, array in before.items())

    with pytest.raises(ValueError, match="fc2 and fc1 have arrays of the same shapes"):  # order against numbers
        portnn.torch.load_state_dict(net, weights("fc2", "fc1", "fc3"))
    mixed = weights("b", n=3, m=4) | weights("a", "c") | weights("d", n=4, m=3)  # neither order nor numbers
    with pytest.raises(ValueError, match="a and c have arrays of the same shapes"):
        portnn.torch.load_state_dict(network(3, 3, 3, 4, 3), mixed)


def test_modules_within_modules_tell_the_order(tmp_path):
    """Two layers of one shape: each block is a run of its own, with its first before its second."""
    layers = [
        FCLayer(3, 4),
        *(layer for _ in range(4) for layer in (FCLayer(4, 4), BatchNormLayer())),
        BatchNormLayer(),
    ]
    net = Network(layers, dtype="float64")
    names = [f"{block}.{part}{i}" for block in ("layer1", "layer2") for i in (1, 2) for part in ("fc", "bn")]
    names = ["fc0", *names, "bn3"]
    own = portnn.torch.state_dict(net)
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in own))
    given = {}
    for module, name in zip(modules, names, strict=True):
        leaves = [key for key in own if key.rpartition(".")[0] == module]
        for key in leaves:
            array = own[key]
            given[f"{name}.{key.rpartition('.')[2]}"] = array if array.shape == () else RNG.random(array.shape)
    save_file(given, tmp_path / "net.safetensors")
    portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    found = portnn.torch.state_dict(net)
    assert all(np.array_equal(a, b) for a, b in zip(found.values(), given.values(), strict=True))


def test_sorted_names_of_modules_without_biases_tell_no_order():
    """They might have been sorted, as safetensors does, or not; a dict straight from PyTorch was not."""
    net = Network([FCLayer(3, 3, bias=False), FCLayer(3, 3, bias=False)], dtype="float64")
    given = {"decoder.weight": RNG.standard_normal((3, 3)), "encoder.weight": RNG.standard_normal((3, 3))}
    with pytest.raises(ValueError, match=r"decoder and encoder have arrays of the same shapes"):
        portnn.torch.load_state_dict(net, given)
    for source in (StateDict(given), dict(reversed(given.items()))):
        portnn.torch.load_state_dict(net, source)
        for layer, array in zip(net.layers, source.values(), strict=True):
            assert np.array_equal(layer.weights, array.T)
    numbered = {f"layers.{i}.weight": RNG.standard_normal((3, 3)) for i in (1, 10, 2)}
    net.add(FCLayer(3, 3, bias=False))
    portnn.torch.load_state_dict(net, numbered)
    assert np.array_equal(net.layers[2].weights, numbered["layers.10.weight"].T)


class StateDict(OrderedDict):
    """As PyTorch makes it."""

    _metadata: ClassVar = {}


def test_numbers_that_tell_no_order(tmp_path):
    """conv3x3 comes before conv1x1, as shapes tell, so bn3x3 comes before bn1x1, which have one shape."""
    net = Network(
        [
            ConvLayer((4, 4, 2), (3, 3), 2, padding=1, bias=False),
            BatchNormLayer(),
            ConvLayer((4, 4, 2), (1, 1), 2, bias=False),
            BatchNormLayer(),
        ],
        seed=1,
    )
    own = portnn.torch.state_dict(net)
    names = {"0": "conv3x3", "1": "bn3x3", "2": "conv1x1", "3": "bn1x1"}
    given = {f"{names[key[0]]}{key[1:]}": array for key, array in own.items()}
    portnn.torch.load_state_dict(net, given)  # in the module's order
    save_file(given, tmp_path / "net.safetensors")
    with pytest.raises(FileError, match=r"(bn3x3 and bn1x1|bn1x1 and bn3x3) have arrays"):
        portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")


def test_lists_of_modules_come_by_their_numbers():
    """A list of convolutions and one of their normalizations, used in turn."""
    shapes = {"conv": {"weight": (2, 2, 3, 3)}, "bn": {"weight": (2,), "bias": (2,)}}
    expected, given = {}, {}
    for i in range(12):
        for place, (kind, arrays) in enumerate(shapes.items()):
            expected |= {f"{2 * i + place}.{leaf}": shape for leaf, shape in arrays.items()}
            given |= {f"{kind}s.{i}.{leaf}": shape for leaf, shape in arrays.items()}
    assert pair(expected, dict(sorted(given.items())), False) == dict(zip(expected, given, strict=True))


def bottleneck(name):
    """A block of ResNet-50: its last convolution has the shape of the one that its shortcut has."""
    main = [ConvLayer((4, 4, 2), (1, 1), 2, bias=False), ConvLayer((4, 4, 2), (1, 1), 8, bias=False)]
    net = Network([ParallelLayer(main, [ConvLayer((4, 4, 2), (1, 1), 8, bias=False)], merge="add")], seed=2)
    names = ["block.conv1.weight", "block.conv2.weight", f"block.{name}.weight"]
    return net, dict(zip(names, portnn.torch.state_dict(net).values(), strict=True))


@pytest.mark.parametrize("name", ["downsample.0", "shortcut", "skip"])
def test_a_shortcut_is_a_branch_of_its_own(tmp_path, name):
    net, given = bottleneck(name)
    save_file(given, tmp_path / "net.safetensors")
    other = bottleneck(name)[0]
    other.parameters["0.0.1.weights"] = np.zeros((1, 1, 2, 8))
    portnn.torch.load_state_dict(other, tmp_path / "net.safetensors")
    assert all(np.array_equal(other.parameters[path], array) for path, array in net.parameters.items())


def test_what_may_be_a_shortcut_or_not_is_an_error(tmp_path):
    net, given = bottleneck("other")
    save_file(given, tmp_path / "net.safetensors")
    with pytest.raises(FileError, match="have arrays of the same shapes"):
        portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    expected = {"0.weight": (2, 2), "1.weight": (2, 2), "2.weight": (3, 2)}  # without branches a shortcut may be any
    with pytest.raises(ValueError, match="have arrays of the same shapes"):
        pair(expected, {"conv1.weight": (2, 2), "downsample.weight": (2, 2), "head.weight": (3, 2)}, False)


def test_numbers_too_long_to_be_counted():
    name = "9" * 10_000
    found = pair({"0.weight": (2,), "1.weight": (2,)}, {f"a{name}.weight": (2,), "a1.weight": (2,)}, False)
    assert found == {"0.weight": "a1.weight", "1.weight": f"a{name}.weight"}


def test_a_search_that_takes_too_long_ends_as_ambiguous(tmp_path):
    names = [f"{chr(97 + i)}x" for i in range(20)]
    save_file(weights(*names), tmp_path / "net.safetensors")
    with pytest.raises(FileError, match="ax and bx have arrays of the same shapes"):
        portnn.torch.load_state_dict(network(*[3] * 21), tmp_path / "net.safetensors")


def test_arrays_without_pytorchs_last_names():
    net = network(3, 4, 2)
    given = {"w1": RNG.standard_normal((4, 3)), "b1": np.ones(4), "w2": RNG.standard_normal((2, 4)), "b2": np.zeros(2)}
    portnn.torch.load_state_dict(net, given)
    assert np.array_equal(net.layers[0].weights, given["w1"].T)
    assert np.array_equal(net.layers[2].weights, given["w2"].T)
    alone = Network([FCLayer(3, 2)], dtype="float64")
    portnn.torch.load_state_dict(alone, {"weight": np.ones((2, 3)), "bias": [1, 2.0]})  # of a module without children
    assert np.array_equal(alone.layers[0].bias, [[1.0, 2.0]])


# -- lists of what does not fit ----------------------------------------------------------------------------------------


def test_missing_extra_and_misshapen_come_in_one_list():
    net = network(3, 4, 2, seed=0)
    given = portnn.torch.state_dict(net)
    given["0.weight"] = np.zeros((5, 3))
    del given["2.bias"]
    given["7.weight"] = np.zeros((1, 2, 3))
    given["7.num_batches_tracked"] = np.array(3)
    before = {path: np.array(array) for path, array in net.parameters.items()}
    with pytest.raises(ValueError, match="network, which was left as it is") as caught:
        portnn.torch.load_state_dict(net, given)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines == [
        "2.bias of shape (2,) is missing",
        "0.weight has shape (5, 3), expected (4, 3)",
        "7.weight of shape (1, 2, 3) belongs to no layer",
        "7.num_batches_tracked belongs to no layer",
    ]
    assert all(np.array_equal(net.parameters[path], array) for path, array in before.items())


def test_shapes_are_compared_in_pytorchs_layout():
    net = network(3, 4)
    with pytest.raises(ValueError, match=r"0.weight has shape \(3, 4\), expected \(4, 3\)"):
        portnn.torch.load_state_dict(net, {"0.weight": np.zeros((3, 4)), "0.bias": np.zeros(4)})
    conv = Network([ConvLayer((5, 5, 2), (3, 2), 4)])
    with pytest.raises(ValueError, match=r"0.weight has shape \(3, 2, 2, 4\), expected \(4, 2, 3, 2\)"):
        portnn.torch.load_state_dict(conv, {"0.weight": np.zeros((3, 2, 2, 4)), "0.bias": np.zeros(4)})


def test_lists_where_names_are_others():
    net = Network([ConvLayer((4, 4, 1), (3, 3), 2), BatchNormLayer(), FlattenLayer(), FCLayer(8, 3)])
    given = {
        "conv.weight": np.zeros((2, 1, 3, 3)),
        "norm.weight": np.zeros(2),
        "norm.bias": np.zeros(2),
        "norm.running_mean": np.zeros(2),
        "norm.running_var": np.zeros(2),
        "norm.num_batches_tracked": np.array(0),
        "head.weight": np.zeros((3, 9)),
        "head.bias": np.zeros(3),
    }
    with pytest.raises(ValueError, match="do not fit") as caught:
        portnn.torch.load_state_dict(net, given)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines == [
        "0.bias of shape (2,) is missing",
        "head.weight, for 3.weight, has shape (3, 9), expected (3, 8)",
    ]
    given |= {"conv.bias": np.zeros(2), "head.weight": np.zeros((3, 8)), "other.num_batches_tracked": np.array(1)}
    with pytest.raises(ValueError, match=r"other\.num_batches_tracked belongs to no layer"):
        portnn.torch.load_state_dict(net, given)
    with pytest.raises(ValueError, match=r"0.weight of shape \(2, 1, 3, 3\) is missing"):
        portnn.torch.load_state_dict(net, {})


def test_pairs_of_names_and_shapes_alone():
    expected = {"0.weight": (2, 1, 3, 3), "1.weight": (2,), "1.bias": (2,), "3.weight": (2, 2, 3, 3)}
    given = {"a.c1.weight": (2, 1, 3, 3), "a.n.weight": (2,), "a.n.bias": (2,), "b.c.weight": (2, 2, 3, 3)}
    for ordered in (True, False):
        assert pair(expected, given, ordered) == dict(zip(expected, given, strict=True))
    with pytest.raises(
        ValueError,
        match=r"a.n.bias, for 1.bias, has shape \(3,\), expected \(2,\)\n  x of shape \(1,\) belongs to no layer",
    ):
        pair(expected, {**given, "a.n.bias": (3,)} | {"x": (1,)}, True)


# -- files and things that are refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".PT"])
def test_pickled_files_are_refused_by_name(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(pickle.dumps({"0.weight": [1.0]}))
    with pytest.raises(FileError, match=r"torch.save or of pickle.*safetensors.torch.save_file\(model.state_dict\(\)"):
        portnn.torch.load_state_dict(network(3, 3), path)


def test_pickled_files_are_refused_by_content(tmp_path):
    path = tmp_path / "model.safetensors"
    for data in (*(pickle.dumps({"0.weight": [1.0]}, protocol=p) for p in (2, 3, 4, 5)), b"PK\x03\x04" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"torch.save or of pickle.*safetensors.torch.save_file"):
            portnn.torch.load_state_dict(network(3, 3), path)


def test_other_files_are_told_how_they_are_taken(tmp_path):
    net, given = network(3, 3), weights("0")
    np.savez(tmp_path / "net.npz", **given)
    with pytest.raises(FileError, match=r"a file of numpy.savez: give what is in it, dict\(numpy.load\(path\)\)"):
        portnn.torch.load_state_dict(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as arrays:
        portnn.torch.load_state_dict(net, dict(arrays))
    assert placed(net, given, ["0"])
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FileError, match=r"a model in several files: read each with safetensors\.numpy\.load_file"):
        portnn.torch.load_state_dict(net, tmp_path / "model.safetensors.index.json")
    save_file(given, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="if this is the content of a file, give the path instead"):
        portnn.torch.load_state_dict(net, (tmp_path / "net.safetensors").read_bytes())


@pytest.mark.parametrize("size", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path, size):
    import json

    net, given = network(3, 3), weights("0")
    begin, header = 0, {"__metadata__": {"format": "pt"}}
    for name, array in given.items():
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    data = b"".join(array.tobytes() for array in given.values())
    (tmp_path / "net.safetensors").write_bytes(size.to_bytes(8, "little") + raw.ljust(size) + data)
    portnn.torch.load_state_dict(net, tmp_path / "net.safetensors")
    assert placed(net, given, ["0"])


def test_damaged_files_are_refused_before_they_are_read(tmp_path):
    path, net = tmp_path / "net.safetensors", network(3, 3)
    save_file(weights("0"), path)
    whole = path.read_bytes()
    for data in (whole[:-8], whole + b"12345678", whole[:20], b"", whole.replace(b"[3,3]", b"[3,9]")):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"net\.safetensors: "):
            portnn.torch.load_state_dict(net, path)
    with pytest.raises(FileError, match="this is a folder"):
        portnn.torch.load_state_dict(net, tmp_path)


def test_our_own_files_are_led_to_load_weights(tmp_path):
    net = network(3, 3)
    net.save(tmp_path / "net.portnn.safetensors")
    with pytest.raises(FileError, match=r"portnn wrote this file: call net.load_weights\(path\)"):
        portnn.torch.load_state_dict(net, tmp_path / "net.portnn.safetensors")
    save_file(weights("0"), tmp_path / "other.safetensors")
    with pytest.raises(FileError, match=r"portnn.torch.load_state_dict\(net, path\)"):
        net.load_weights(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (
            {"state_dict": {"0.weight": np.zeros((3, 3))}},
            TypeError,
            r"give the dict of arrays.*checkpoint\['state_dict'\]",
        ),
        ({"0.weight": None, "0.bias": np.zeros(3)}, TypeError, "0.weight must be an array, got NoneType"),
        ({"0.weight": "x", "0.bias": np.zeros(3)}, TypeError, "0.weight must be an array, got str"),
        ({0: np.zeros(3)}, TypeError, "names of a state dict are texts"),
        (
            {"0.weight": np.zeros((3, 3), complex), "0.bias": np.zeros(3)},
            ValueError,
            "0.weight holds complex128, expected",
        ),
        (
            {"0.weight": np.zeros((3, 3), int), "0.bias": np.zeros(3)},
            ValueError,
            "0.weight holds int64, expected floating",
        ),
        ([np.zeros(3)], TypeError, "takes the path of a safetensors file, or a dict of arrays by name, got list"),
        (3, TypeError, "takes the path of a safetensors file"),
    ],
)
def test_what_is_no_state_dict(given, error, match):
    with pytest.raises(error, match=match):
        portnn.torch.load_state_dict(network(3, 3), given)


def test_what_is_no_network():
    net = network(3, 3)
    with pytest.raises(TypeError, match="takes a network of portnn, got dict: the network comes first"):
        portnn.torch.load_state_dict({}, net)
    with pytest.raises(TypeError, match=r"got FCLayer: put the layer into a network, Network\(\[layer\]\)"):
        portnn.torch.state_dict(FCLayer(2, 3))
    with pytest.raises(RuntimeError, match="the network has no layers"):
        portnn.torch.state_dict(Network())
    with pytest.raises(ValueError, match="a sample comes in with shape"):
        portnn.torch.state_dict(net, input_shape=(4,))


def test_values_too_large_for_the_networks_dtype():
    net = Network([FCLayer(1, 1)])
    with pytest.raises(ValueError, match=r"fc.weight holds 1e\+300, too large for float32"):
        portnn.torch.load_state_dict(net, {"fc.weight": np.full((1, 1), 1e300), "fc.bias": np.zeros(1)})
    portnn.torch.load_state_dict(net, {"fc.weight": np.full((1, 1), np.inf), "fc.bias": np.zeros(1)})
    assert np.isinf(net.layers[0].weights).all()
