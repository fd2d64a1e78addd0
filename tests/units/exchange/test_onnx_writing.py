"""portnn.onnx.export: the file, the shape of samples, limits, and numbers that operators store in float32."""

import threading

import numpy as np
import pytest

import portnn
from onnx_models import network, run
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GroupNormLayer,
    LayerNormLayer,
    Network,
    ReshapeLayer,
    ScaleLayer,
    SequentialLayer,
)

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")


def input_shape(path):
    sizes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    return tuple(each.dim_param or each.dim_value for each in sizes)


SHAPES = {  # layers that were given no samples, and the shape that they say
    "rows": ([ActivationLayer("relu"), FCLayer(5, 3)], ("N", 5)),
    "images": ([SequentialLayer(ConvLayer((4, 5, 2), (3, 3), 1))], ("N", 4, 5, 2)),
    "flattened": ([FlattenLayer(), FCLayer(12, 3)], ("N", 12)),
    "reshaped": ([ReshapeLayer((3, 2, 2)), FlattenLayer()], ("N", 12)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_network_that_was_given_no_samples(name, tmp_path):
    layers, shape = SHAPES[name]
    net, path = Network(layers), tmp_path / "net.onnx"
    net.export(path)
    assert input_shape(path) == shape


def test_a_shape_that_nobody_has_said_is_not_guessed(tmp_path):
    net, path = Network([FlattenLayer(), ActivationLayer("tanh")]), tmp_path / "net.onnx"
    with pytest.raises(ValueError, match=r"FlattenLayer\(\) takes several: say it, .*input_shape=\(28, 28, 1\)"):
        net.export(path)
    portnn.onnx.export(net, path, input_shape=[2, 3])
    assert input_shape(path) == ("N", 2, 3)
    net.predict(np.zeros((4, 5, 6)))
    net.export(path)
    assert input_shape(path) == ("N", 5, 6)


def test_samples_that_are_single_numbers_have_no_model(tmp_path):
    net = Network([ActivationLayer("relu")])
    net.predict(np.zeros(4))
    for options in ({}, {"input_shape": ()}):
        with pytest.raises(ValueError, match=r"samples are single numbers.*x\[:, None\]"):
            portnn.onnx.export(net, tmp_path / "net.onnx", **options)


class ExportBeside(portnn.Callback):
    """Exports the network within fit, from another thread."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, network, *given):
        thread = threading.Thread(target=network.export, args=(self.path,))
        thread.start()
        thread.join()


def test_a_network_that_is_being_trained_knows_the_shape_of_its_samples(tmp_path):
    net, path = Network([FlattenLayer(), FCLayer(6, 2)]), tmp_path / "net.onnx"
    net.use("mse", optimizer="adam")
    net.fit(np.ones((4, 3, 2)), np.ones((4, 2)), epochs=1, batch_size=2, verbose=0, callbacks=[ExportBeside(path)])
    assert input_shape(path) == ("N", 3, 2)


def test_a_network_that_no_file_holds(monkeypatch, tmp_path):
    monkeypatch.setattr("portnn.exchange.onnx_graph.writing.MOST_BYTES", 100)
    for dtype, size in (("float32", 104), ("float64", 208)):
        net = Network([FCLayer(4, 4), ActivationLayer("relu"), FCLayer(4, 1, bias=False), FCLayer(1, 1)], dtype=dtype)
        with pytest.raises(ValueError, match=rf"{size} bytes of weights, and an ONNX file may hold 100"):
            net.export(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    Network([FCLayer(4, 4)]).export(tmp_path / "net.onnx")


@pytest.mark.parametrize("where", ["portnn.files.durable.os.replace", "portnn.files.durable.os.fsync"])
def test_an_interruption_leaves_the_old_file(where, monkeypatch, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            Network([FCLayer(4, 3)]).export(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    portnn.onnx.export(Network([FCLayer(4, 3)]), path)
    assert portnn.onnx.load(path).layers[0].weights.shape == (4, 3)


def test_paths(tmp_path):
    net = Network([FCLayer(4, 3)], seed=1)
    for path in (tmp_path / "no ending", str(tmp_path / "ü.ONNX"), tmp_path / "a.b.onnx"):
        portnn.onnx.export(net, path)
        assert portnn.onnx.load(path).layers[0].weights.tolist() == net.layers[0].weights.tolist()
    with pytest.raises(FileNotFoundError, match="no such folder"):
        portnn.onnx.export(net, tmp_path / "missing" / "net.onnx")
    with pytest.raises(IsADirectoryError):
        portnn.onnx.export(net, tmp_path)
    with (tmp_path / "file.onnx").open("wb") as file, pytest.raises(TypeError, match="a file's path"):
        portnn.onnx.export(net, file)


NORMS = [
    lambda **options: BatchNormLayer(momentum=0.996284, **options),
    lambda **options: LayerNormLayer(**options),
    lambda **options: GroupNormLayer(2, **options),
    lambda **options: GroupNormLayer(4, **options),
]


@pytest.mark.parametrize("epsilon", [1e-5, 0.123456789123, 1e-40])
@pytest.mark.parametrize("sample", [(4,), (3, 4), (3, 2, 4), (2, 3, 2, 4)])
@pytest.mark.parametrize("make", NORMS)
def test_in_float64_an_epsilon_is_exact(make, sample, epsilon, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net, first, second = network([make(epsilon=epsilon)], sample, "float64"), tmp_path / "1.onnx", tmp_path / "2.onnx"
    portnn.onnx.export(net, first)
    portnn.onnx.export(portnn.onnx.load(first), second)
    assert first.read_bytes() == second.read_bytes()
    x = np.random.default_rng(0).standard_normal((5, *sample))
    expected = net.predict(x)
    for found in (run(first, x), portnn.onnx.load(first).predict(x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.3, 0.996284, 0.9999999999, 1.0, 1 / 3])
def test_the_momentum_of_batch_normalization_comes_back(momentum, tmp_path):
    net, first, second = network([BatchNormLayer(momentum=momentum)], (4,)), tmp_path / "1.onnx", tmp_path / "2.onnx"
    net.export(first)
    back = portnn.onnx.load(first)
    assert back.layers[0].momentum == pytest.approx(momentum, abs=1e-7)
    if momentum != 1 / 3:  # which has more digits than a float32
        assert back.layers[0].momentum == momentum
    back.export(second)
    assert first.read_bytes() == second.read_bytes()


def test_constants_that_float32_does_not_hold(tmp_path):
    first, second = tmp_path / "1.onnx", tmp_path / "2.onnx"
    for layers in ([ScaleLayer(1e39)], [ScaleLayer(1.0, offset=-1e39)], [LayerNormLayer(epsilon=1e39)]):
        with pytest.raises(ValueError, match=r"layer 0 has the constant -?1e\+39, which is infinite as a float32"):
            portnn.onnx.export(network(layers, (4,)), first)
    for layer in (ScaleLayer(1.0, offset=1e-50), ScaleLayer(1.0 + 1e-12, offset=3.0), ScaleLayer(1e-50)):
        portnn.onnx.export(network([layer], (4,)), first)
        portnn.onnx.export(portnn.onnx.load(first), second)
        assert first.read_bytes() == second.read_bytes()
