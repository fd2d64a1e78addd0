"""network.to_source: the network in PyTorch and in Keras, run where these are installed."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

import leaving
import portnn
from cases import ACTIVATIONS, LOSSES, OwnLayer
from drawn_networks import drawn
from leaving import ALL, NETWORKS, TOLERANCE, made
from pages import difference, touched
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GlobalMaxPoolLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    SequentialLayer,
    UpsampleLayer,
)
from portnn.exchange.source import keras as keras_source
from portnn.exchange.source import torch as torch_source

LANGUAGES = ["torch", "keras"]
RECORDED = Path(leaving.__file__).parent / "recorded"


def small(**options):
    return Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, **options)


def defined(source):
    """What a source defines."""
    names = {}
    exec(compile(source, "net.py", "exec"), names)
    return names


def model_of(network, x):
    """The network in PyTorch, with its weights, for prediction."""
    import portnn.torch

    names = defined(network.to_source("torch"))
    model = names["build"]()
    names["load_weights"](model, portnn.torch.state_dict(network, input_shape=x.shape[1:]))
    return model.eval()


def in_pytorch(network, x):
    """What PyTorch's network returns for samples."""
    import torch

    with torch.no_grad():
        return model_of(network, x)(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ALL)
def test_it_is_python(name, language):
    network, _ = made(name, "float32")
    text = network.to_source(language)
    compile(text, "net.py", "exec")
    assert text == network.to_source(language)
    assert f"Written by portnn {portnn.__version__}" in text
    assert text.isascii()
    for layer in network.walk():
        assert f"# {layer.path}  {type(layer).__name__}" in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["LeNet", "mixed"])
def test_it_reads_as_recorded(name, language):
    """To record again: ``(RECORDED / f"source_{name}_{language}.txt").write_text(text)``, and read what has changed."""
    text = made(name, "float32")[0].to_source(language).replace(portnn.__version__, "VERSION")
    assert text == (RECORDED / f"source_{name}_{language}.txt").read_text()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ALL)
def test_in_pytorch(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    network, x = made(name, dtype)
    model = model_of(network, x)
    found = in_pytorch(network, x)
    assert found.dtype == x.dtype
    assert difference(found, network.predict(x)) < TOLERANCE[dtype]
    model.train()
    assert tuple(model(torch.from_numpy(x)).shape) == found.shape


# What PyTorch's order of axes makes difficult: rows of numbers, in another order behind a Flatten, that are taken for
# images again; branches whose channels end at different places; branches within branches.
TURNED = {
    "row, convolved": ([ConvLayer((3, 6), (1,), 4), ReshapeLayer((1, 12)), ConvLayer((1, 12), (1,), 3)], (3, 6)),
    "row, upsampled": (
        [ReshapeLayer((1, 24)), BatchNormLayer(), UpsampleLayer(3), MaxPoolLayer(2), FlattenLayer(), FCLayer(24, 2)],
        (2, 3, 4),
    ),
    "rows side by side, pooled": (
        [
            ParallelLayer([FlattenLayer()], [GlobalMaxPoolLayer()]),
            ReshapeLayer((1, 28)),
            BatchNormLayer(),
            AvgPoolLayer(1),
        ],
        (2, 3, 4),
    ),
    "row, pooled as a whole": (
        [ReshapeLayer((1, 24)), ParallelLayer([FCLayer(24, 24), FlattenLayer()], GlobalMaxPoolLayer()), FCLayer(48, 3)],
        (2, 3, 4),
    ),
    "branches end turned": (
        [
            ParallelLayer(
                [ConvLayer((1, 4), (1,), 3)],
                [SequentialLayer(ConvLayer((1, 4), (1,), 2), FCLayer(2, 6)), FlattenLayer(), ReshapeLayer((1, 6))],
                [],
            )
        ],
        (1, 4),
    ),
    "a branch that is no chain": (
        [
            ParallelLayer(
                [ReshapeLayer((4, 6)), ReshapeLayer((2, 3, 4))], ResidualLayer(ConvLayer((2, 3, 4), (1, 1), 4)), []
            )
        ],
        (2, 3, 4),
    ),
    "one branch of one branch": (
        [
            FCLayer(5, 4),
            ParallelLayer([LayerNormLayer()], [ParallelLayer([SequentialLayer(), FCLayer(4, 4)])], merge="add"),
            ParallelLayer([], [ParallelLayer([])], merge="add"),
        ],
        (5,),
    ),
    "a row becomes a sequence within a residual": (
        [ResidualLayer(MaxPoolLayer(1), FlattenLayer(), FCLayer(12, 12), ReshapeLayer((4, 3))), MaxPoolLayer(1)],
        (4, 3),
    ),
    "a sequence of a row, in residuals": (
        [
            *(FCLayer(5, 12), ReshapeLayer((4, 3)), ResidualLayer(ActivationLayer("tanh")), UpsampleLayer(2)),
            *(FlattenLayer(), FCLayer(24, 12), ReshapeLayer((4, 3)), ResidualLayer(FCLayer(3, 3), MaxPoolLayer(1))),
            *(ResidualLayer(FCLayer(3, 3)), FlattenLayer(), FCLayer(12, 2)),
        ],
        (5,),
    ),
    "a sequence of a row, in branches": (
        [
            *(
                FCLayer(5, 12),
                ReshapeLayer((4, 3)),
                ParallelLayer(FCLayer(3, 2), [UpsampleLayer(1)], [], LayerNormLayer()),
            ),
            FlattenLayer(),
            FCLayer(44, 2),
        ],
        (5,),
    ),
    "window larger than the volume": ([AvgPoolLayer((3, 1, 3), stride=1, padding="same")], (2, 3, 1, 4)),
}


@pytest.mark.parametrize("name", TURNED)
def test_orders_in_pytorch(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    layers, shape = TURNED[name]
    x = leaving.samples(shape)
    network = touched(Network(copy.deepcopy(layers), dtype="float64"), x)
    assert difference(in_pytorch(network, x), network.predict(x)) < 1e-12


@pytest.mark.parametrize(
    "behind",
    [
        [FCLayer(6, 2)],
        [LayerNormLayer()],
        [ReshapeLayer((6, 4)), FCLayer(4, 2)],
        [ResidualLayer(FlattenLayer(), ReshapeLayer((4, 6))), FlattenLayer()],
        [ParallelLayer([], FCLayer(6, 2)), GlobalMaxPoolLayer()],
    ],
)
def test_a_row_of_images_that_becomes_a_sequence(behind):
    """PyTorch's row has the channels first, and no weights can turn its values to what a sequence needs."""
    network = Network([ConvLayer((2, 3, 4), (1, 1), 4), FlattenLayer(), ReshapeLayer((4, 6)), *copy.deepcopy(behind)])
    with pytest.raises(ValueError, match=r"needs values in the order of this network's images"):
        portnn.torch.state_dict(network, input_shape=(2, 3, 4))


@pytest.mark.slow
def test_drawn_networks_in_pytorch():
    """Up to 1e-12, or the weights are refused, since PyTorch's order of a row does not suit a layer."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    compared = 0
    for seed in range(200):
        network, x = drawn(seed)
        try:
            found = in_pytorch(network, x)
        except ValueError as error:
            if "needs values in the order of this network's images" not in str(error):
                raise
            continue
        assert difference(found, network.predict(x)) < 1e-12, (seed, network)
        compared += 1
    assert compared > 150


@pytest.mark.parametrize("seed", range(40))
def test_no_line_is_too_long(seed):
    """Deep networks, and layers with many options, are folded; the linter's usual rules find nothing."""
    network, _ = drawn(seed)
    text = network.to_source("torch")
    compile(text, "net.py", "exec")
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(3)
    network = small(dtype="float64")
    network.use(LOSSES[name].given)
    y, targets = rng.standard_normal((5, 2)), LOSSES[name].targets(rng, 5, 2)
    loss = defined(network.to_source("torch"))["loss"]
    found = loss(torch.from_numpy(targets), torch.from_numpy(y))
    assert abs(float(found) - float(LOSSES[name].loss(targets, y))) < 1e-12


def test_weights_that_do_not_fit():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    names = defined(small().to_source("torch"))
    with pytest.raises(ValueError, match=r"missing or not of this network: 2\.weight, 2\.bias"):
        names["load_weights"](names["build"](), {"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(4)})


@pytest.mark.parametrize("name", ALL)
def test_in_keras(name, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("keras", reason="Keras is not installed")
    network, x = made(name, "float32")
    network.save(tmp_path / "net.portnn.safetensors")
    names = defined(network.to_source("keras"))
    model = names["build"]()
    names["load_weights"](model, tmp_path / "net.portnn.safetensors")
    assert difference(np.asarray(model(x)), network.predict(x)) < 1e-5
    assert np.asarray(model(x, training=True)).shape == network.predict(x).shape


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_counterpart(name, language):
    network = small()
    assert "loss" not in network.to_source(language)
    network.use(LOSSES[name].given)
    assert "loss" in network.to_source(language)


def test_every_layer_and_activation_is_known():
    layers = {name for name in portnn.__all__ if name.endswith("Layer")} - {"Layer"}
    assert layers == torch_source.KNOWN == {*keras_source.LAYERS, *torch_source.COMPOSITES}
    assert set(ACTIVATIONS) == set(torch_source.MODULES) == set(keras_source.FUNCTIONS)


def square(x):
    return x * x


def mean_of(y_true, y_pred):
    return (y_pred - y_true).mean()


@pytest.mark.parametrize(("language", "spelt"), [("torch", "PyTorch"), ("keras", "Keras")])
def test_all_that_has_no_counterpart_is_listed(language, spelt):
    network = Network([FCLayer(3, 2), OwnLayer(2), ResidualLayer(ActivationLayer(square, square))])
    network.use(mean_of, mean_of)
    with pytest.raises(ValueError, match=f"{spelt} has no counterpart for 3 of the network's parts") as caught:
        network.to_source(language)
    assert str(caught.value).splitlines()[1:] == [
        "  layer 1 OwnLayer",
        "  layer 2.0 ActivationLayer with the function square",
        "  loss mean_of",
    ]
    network = Network([MaxPoolLayer(2)])
    network.predict(np.zeros((1, 2, 2, 2, 2, 1)))
    with pytest.raises(ValueError, match=r"layer 0 MaxPoolLayer\(2\) on samples .*, an image of 4 axes"):
        network.to_source(language)


@pytest.mark.parametrize("language", ["pytorch", "Torch", None, 3, "jax"])
def test_other_languages(language):
    with pytest.raises(ValueError, match="to_source writes 'torch' or 'keras', got"):
        small().to_source(language)


def test_no_layers():
    with pytest.raises(RuntimeError, match=r"no layers: add them first, net\.add"):
        Network().to_source("torch")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_layer_that_calls_itself_evil(language, monkeypatch):
    monkeypatch.setattr(FCLayer, "__repr__", lambda self: '"""\nraise SystemExit\n\u2028\r#@reshape0@@')
    text = small().to_source(language)
    assert "\nraise" not in text
    compile(text, "net.py", "exec")


def test_networks_are_as_different_as_they_are():
    texts = {made(name, "float32")[0].to_source("torch") for name in NETWORKS}
    assert len(texts) == len(NETWORKS)
