"""Models that Keras' exporters wrote, loaded: they compute, and learn, what they do in Keras.

``tools/record_onnx_keras.py`` recorded them, once on each of Keras' backends, which have exporters of their own. The last
test runs the exporter of the backend that is installed.
"""

import os
from pathlib import Path

import numpy as np
import pytest

import portnn

pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
FOLDER = Path(__file__).parents[2] / "support" / "recorded" / "onnx_keras"
RESULTS = {path.stem: np.load(path) for path in FOLDER.glob("*.npz")}
REFUSED = {  # images that are enlarged or pooled by arithmetic on shapes, or with axes in front of the samples
    "torch": {"decoder"},
    "jax": {"lenet", "parallel", "decoder", "conv1d", "depthwise", "dilation", "layernorm"},
}
FILES = sorted(FOLDER.glob("*.onnx"))
READ = [path for path in FILES if path.stem.split("-")[0] not in REFUSED.get(path.stem.split("-")[1], ())]
FOLDED = {"batchnorm"}  # batch normalization is written as a factor and an offset, which learn otherwise
STEPS, RATE = 10, 0.02


def difference(got, expected):
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / np.abs(expected).max()


def check(network, name, x, y, targets, trained):
    assert difference(network.predict(x), y) < 1e-5
    if name in FOLDED:
        return
    network.use("mse")
    network.fit(x, targets, epochs=STEPS, batch_size=len(x), learning_rate=RATE, verbose=0)
    assert difference(trained, y) > 1e-2, "ten steps change the outputs"
    assert difference(network.predict(x), trained) < 1e-4


@pytest.mark.parametrize("file", READ, ids=lambda path: path.stem)
def test_models_of_keras_compute_and_learn_as_there(file):
    name, backend = file.stem.split("-")
    results = (RESULTS[backend][f"{name} {part}"] for part in ("x", "y", "targets", "trained"))
    check(portnn.onnx.load(file), name, *results)


@pytest.mark.parametrize("file", sorted({*FILES} - {*READ}), ids=lambda path: path.stem)
def test_others_are_refused_with_the_list(file):
    with pytest.raises(portnn.files.FileError, match=r"no layer for \d+ of the model's operators:\n  \w+ '"):
        portnn.onnx.load(file)


def test_every_model_was_recorded_on_each_backend():
    """But for what Keras itself cannot export: layer normalization on PyTorch, for batches of any size."""
    names = {name.split()[0] for results in RESULTS.values() for name in results.files} - {"keras"}
    expected = {f"{name}-{backend}" for name in names for backend in ("tensorflow", "torch", "jax")}
    assert {file.stem for file in FILES} == expected - {"layernorm-torch"}
    assert names >= {"mlp", "lenet", "residual", "conv1d", "batchnorm", "gelu", "activations"}


@pytest.mark.parametrize("file", READ, ids=lambda path: path.stem)
def test_loaded_models_are_written_and_read_again(file, tmp_path):
    network = portnn.onnx.load(file)
    portnn.onnx.export(network, tmp_path / "second.onnx")
    again = portnn.onnx.load(tmp_path / "second.onnx")
    name, backend = file.stem.split("-")
    x = RESULTS[backend][f"{name} x"]
    assert difference(again.predict(x), network.predict(x)) < 1e-5
    portnn.onnx.export(again, tmp_path / "third.onnx")
    assert (tmp_path / "third.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


LAYERS = {
    "lenet": ["Conv", "Activation", "MaxPool", "Conv", "Activation", "AvgPool", "Reshape", "FC", "Activation", "FC"],
    "decoder": ["FC", "Activation", "Reshape", "Upsample", "Upsample", "Conv"],
    "layernorm": ["FC", "Activation", "LayerNorm", "FC"],
    "residual": ["Conv", "Activation", "Residual", "Parallel", "GlobalAvgPool", "FC"],
    "gelu": ["FC", "Activation", "FC", "Activation", "FC", "Activation", "FC", "Activation"],
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_are_those_of_the_model(name):
    network = portnn.onnx.load(FOLDER / f"{name}-tensorflow.onnx")
    assert [type(layer).__name__.removesuffix("Layer") for layer in network.layers] == LAYERS[name]


def test_layer_normalization_has_its_epsilon_scale_and_shift():
    layer = portnn.onnx.load(FOLDER / "layernorm-tensorflow.onnx").layers[2]
    assert layer.epsilon == 1e-3
    assert layer.weights.std() > 0.1
    assert layer.bias.std() > 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["mlp", "lenet", "residual", "conv1d", "batchnorm", "gelu", "activations"])
def test_models_of_the_installed_keras(name, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    backend = keras.backend.backend()
    needed = {"jax": "jax2onnx", "torch": "onnxscript", "tensorflow": "tf2onnx"}[backend]
    pytest.importorskip(needed, reason=f"{needed}, with which Keras exports on {backend}, is not installed")
    if name in REFUSED.get(backend, ()):
        pytest.skip(f"what Keras writes on {backend} for this model has no layers")
    from keras_models import export, made, trained

    model, x = made(name)
    export(model, x, tmp_path / "net.onnx")
    check(portnn.onnx.load(tmp_path / "net.onnx"), name, x, *trained(model, x))
