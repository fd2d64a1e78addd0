"""Models that PyTorch's exporters wrote, loaded: they compute, and learn, what they do in PyTorch.

``tools/record_onnx.py`` recorded them, once by the exporter that traces (opsets 14 and 20), once by the one that
captures graphs. The last tests run the exporters, where PyTorch is installed.
"""

from pathlib import Path

import numpy as np
import pytest

import portnn

pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
FOLDER = Path(__file__).parents[2] / "support" / "recorded" / "onnx"
RESULTS = np.load(FOLDER / "results.npz")
FILES = sorted(FOLDER.glob("*.onnx"))
STEPS, RATE = 10, 0.02
FOLDED = {"folded"}  # batch normalization is folded into the weights, which then learn otherwise


def ours(x):
    """PyTorch's images and sequences with the channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim > 2 else x


def difference(got, expected):
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / np.abs(expected).max()


def given(name, results):
    x, y = results[f"{name} x"], results[f"{name} y"]
    return (x, y) if name == "gelu" else (ours(x), ours(y))


def check(network, name, results):
    x, y = given(name, results)
    assert difference(network.predict(x), y) < 1e-5
    if name in FOLDED:
        return
    targets, trained = (results[f"{name} {part}"] for part in ("targets", "trained"))
    targets, trained = (targets, trained) if name == "gelu" else (ours(targets), ours(trained))
    network.use("mse")
    network.fit(x, targets, epochs=STEPS, batch_size=len(x), learning_rate=RATE, verbose=0)
    assert difference(trained, y) > 1e-2, "ten steps change the outputs"
    assert difference(network.predict(x), trained) < 1e-4


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_models_of_pytorch_compute_and_learn_as_there(file):
    check(portnn.onnx.load(file), file.stem.split("-")[0], RESULTS)


def test_every_model_was_recorded_by_each_exporter():
    names = {name.split()[0] for name in RESULTS.files} - {"torch"}
    assert {file.stem for file in FILES} == {
        f"{n}-{exporter}" for n in names for exporter in ("script", "old", "dynamo")
    }
    assert names >= {"mlp", "lenet", "residual", "conv1d", "depthwise", "dilation", "gelu", "groupnorm"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_loaded_models_are_written_and_read_again(file, tmp_path):
    """The second file has the channels last; it and the third are the same."""
    network = portnn.onnx.load(file)
    portnn.onnx.export(network, tmp_path / "second.onnx")
    again = portnn.onnx.load(tmp_path / "second.onnx")
    x = given(file.stem.split("-")[0], RESULTS)[0]
    assert difference(again.predict(x), network.predict(x)) < 1e-5
    portnn.onnx.export(again, tmp_path / "third.onnx")
    assert (tmp_path / "third.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


LAYERS = {
    "lenet": ["Conv", "Activation", "MaxPool", "Conv", "Activation", "AvgPool", "Flatten", "FC", "Activation", "FC"],
    "gelu": ["FC", "Activation", "LayerNorm", "FC", "Activation", "FC", "Activation"],
    "groupnorm": ["Conv", "GroupNorm", "Activation", "AvgPool", "Activation", "Flatten", "FC"],
    "residual": ["Conv", "Residual", "Parallel", "GlobalAvgPool", "FC"],
    "parallel": ["Parallel", "Activation", "Flatten", "FC"],
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("exporter", ["script", "old", "dynamo"])
def test_the_layers_are_those_of_the_model(name, exporter):
    network = portnn.onnx.load(FOLDER / f"{name}-{exporter}.onnx")
    assert [type(layer).__name__.removesuffix("Layer") for layer in network.layers] == LAYERS[name]


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "residual", "conv1d", "depthwise", "dilation", "gelu", "groupnorm"])
@pytest.mark.filterwarnings("ignore")
def test_models_of_the_installed_pytorch(name, exporter, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch's exporter needs, is not installed")
    from torch_models import EXPORTERS, made, trained

    model, x = made(name)
    options = EXPORTERS[exporter] | ({"external_data": True} if exporter == "dynamo" else {})
    torch.onnx.export(model, (x,), str(tmp_path / "net.onnx"), **options)
    assert (tmp_path / "net.onnx.data").exists() == (exporter == "dynamo")
    network = portnn.onnx.load(tmp_path / "net.onnx")
    y, targets, after = trained(model, x)
    check(network, name, {f"{name} x": x.numpy(), f"{name} y": y, f"{name} targets": targets, f"{name} trained": after})
