"""portnn.onnx.export: every row of the table of cases, run by onnxruntime, and what the graphs look like."""

import copy
import sys

import numpy as np
import pytest

import portnn
from cases import OwnLayer
from onnx_models import ROWS, check, network, operators, run
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
)
from portnn.exchange.onnx_graph.writing import NODES

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.mark.parametrize("opset", [18, 20, 22])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows_of_the_table_in_float32(case, opset, tmp_path):
    net, path = network([case.make()], case.sample), tmp_path / "net.onnx"
    portnn.onnx.export(net, path, input_shape=case.sample, opset=opset)
    model = onnx.load(path)
    assert {each.domain: each.version for each in model.opset_import} == {"": opset}
    onnx.checker.check_model(model, full_check=True)
    check(net, path, case.sample, 1e-5)


@pytest.mark.parametrize("opset", [18, 20, 22])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows_of_the_table_in_float64(case, opset, tmp_path):
    net, path = network([case.make()], case.sample, "float64"), tmp_path / "net.onnx"
    portnn.onnx.export(net, path, input_shape=case.sample, opset=opset)
    exact = "gelu" not in case.name or "tanh" in case.name  # the evaluator's erf has 8 digits
    check(net, path, case.sample, 1e-12 if exact else 1e-7)


def test_every_opset_that_the_package_knows(tmp_path):
    net, path = network([*lenet(), LayerNormLayer()], (12, 10, 1)), tmp_path / "net.onnx"
    for opset in range(18, onnx.defs.onnx_opset_version() + 1):
        portnn.onnx.export(net, path, opset=opset)
        check(net, path, (12, 10, 1), 1e-5)


def test_the_table_of_nodes_is_complete():
    assert set(NODES) == {name for name in portnn.__all__ if name.endswith("Layer")} - {"Layer"}


LENET = [
    ConvLayer((12, 10, 1), (3, 3), 3, padding="same"),
    ActivationLayer("relu"),
    MaxPoolLayer(2),
    ConvLayer((6, 5, 3), (3, 3), 4),
    BatchNormLayer(),
    ActivationLayer("gelu"),
    MaxPoolLayer(2),
    FlattenLayer(),
    DropoutLayer(0.5),
    ActivationLayer("tanh"),
    FCLayer(8, 6),
    FCLayer(6, 3),
]


def lenet():
    return copy.deepcopy(LENET)


def test_one_transpose_for_a_run_of_layers_on_images_and_none_in_front_of_weights(tmp_path):
    net, path = network(lenet(), (12, 10, 1)), tmp_path / "net.onnx"
    net.export(path)
    assert operators(path).count("Transpose") == 1
    assert "Dropout" not in operators(path)
    check(net, path, (12, 10, 1), 1e-5)


def conv(channels=2):
    return ConvLayer((4, 5, 2), (3, 3), channels, padding="same")


TRANSPOSES = {
    "in and out": ([conv(), ActivationLayer("silu"), BatchNormLayer(), conv()], (4, 5, 2), 2),
    "residual": ([ResidualLayer(conv(), ActivationLayer("relu"), conv()), ScaleLayer(2.0), conv()], (4, 5, 2), 2),
    "parallel": ([ParallelLayer(conv(3), [], [conv(), ActivationLayer("relu")]), SoftmaxLayer()], (4, 5, 2), 2),
    "flattened": ([conv(), FlattenLayer(), FCLayer(40, 3)], (4, 5, 2), 1),
    "flattened, no weights": ([conv(), FlattenLayer(), LayerNormLayer()], (4, 5, 2), 2),
    "flattened and normalized": (
        [conv(), FlattenLayer(), BatchNormLayer(), SoftmaxLayer(), LayerNormLayer(), FCLayer(40, 3)],
        (4, 5, 2),
        1,
    ),
    "flattened, each in a layer": (
        [conv(), SequentialLayer(FlattenLayer()), ParallelLayer(FCLayer(40, 3))],
        (4, 5, 2),
        1,
    ),
    "one channel": ([conv(1), FlattenLayer()], (4, 5, 2), 1),
    "pooled": ([conv(), GlobalAvgPoolLayer(), FCLayer(2, 3)], (4, 5, 2), 1),
    "last axis only": ([FCLayer(2, 3), LayerNormLayer(), GlobalAvgPoolLayer()], (4, 5, 2), 0),
    "unflattened": ([FCLayer(3, 40), ReshapeLayer((4, 5, 2)), conv()], (3,), 2),
}


@pytest.mark.parametrize("name", TRANSPOSES)
def test_there_are_as_few_transposes_as_can_be(name, tmp_path):
    layers, sample, count = TRANSPOSES[name]
    net, path = network(copy.deepcopy(layers), sample), tmp_path / "net.onnx"
    portnn.onnx.export(net, path)
    assert operators(path).count("Transpose") == count
    check(net, path, sample, 1e-5)


def test_names_are_paths_and_the_batch_has_a_symbol(tmp_path):
    net, path = network([ParallelLayer([FCLayer(4, 3), FCLayer(3, 2)], []), FCLayer(6, 1)], (4,)), tmp_path / "net.onnx"
    net.export(path)
    model = onnx.load(path)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(weights) == {f"{path}.{name}" for path in ("0.0.0", "0.0.1", "1") for name in ("weights", "bias")}
    for name, array in weights.items():
        np.testing.assert_array_equal(array, net.parameters[name].reshape(array.shape))
    assert [node.name for node in model.graph.node] == ["0.0.0/Gemm", "0.0.1/Gemm", "0/Concat", "1/Gemm"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert (model.producer_name, model.producer_version) == ("portnn", portnn.__version__)


@pytest.mark.parametrize(("outputs", "operator"), [(3, "Softmax"), (1, "Sigmoid")])
def test_probabilities(outputs, operator, tmp_path):
    net, path = network([FCLayer(4, outputs)], (4,)), tmp_path / "net.onnx"
    net.use("softmax_cross_entropy" if outputs > 1 else "binary_cross_entropy")
    portnn.onnx.export(net, path, probabilities=True)
    assert operators(path) == ["Gemm", operator]
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    np.testing.assert_allclose(run(path, x), net.predict_proba(x), rtol=1e-5)
    portnn.onnx.export(net, path)
    assert operators(path) == ["Gemm"]


LOSSES = ["mse", "mae", "hinge", portnn.Huber(0.5)]
ENDS = {
    "softmax": [SoftmaxLayer()],
    "softmax, and nothing behind it": [SequentialLayer(SoftmaxLayer(), DropoutLayer(0.5)), FlattenLayer()],
    "sigmoid": [SequentialLayer(ActivationLayer("sigmoid"))],
}


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_of_probabilities_are_an_error(name, tmp_path):
    net = network([FCLayer(4, 3), *copy.deepcopy(ENDS[name])], (4,))
    with pytest.raises(
        ValueError, match=r"this one ends in (SoftmaxLayer\(\)|ActivationLayer\(sigmoid\)), which makes"
    ):
        portnn.onnx.export(net, tmp_path / "net.onnx", probabilities=True)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_probabilities_of_numbers_are_an_error(loss, tmp_path):
    net = network([FCLayer(4, 3)], (4,))
    net.use(loss)
    with pytest.raises(ValueError, match=r"the loss of this one, \w+, does not say so"):
        portnn.onnx.export(net, tmp_path / "net.onnx", probabilities=True)


PROBABLE = {  # layers, loss, what is appended
    "images": ([ConvLayer((4, 5, 2), (3, 3), 3)], "softmax_cross_entropy", "Softmax"),
    "images of one channel": ([ConvLayer((4, 5, 2), (3, 3), 1)], "binary_cross_entropy", "Sigmoid"),
    "several answers": ([GlobalAvgPoolLayer(), FCLayer(2, 3)], "binary_cross_entropy", "Sigmoid"),
    "one class": ([GlobalAvgPoolLayer(), FCLayer(2, 1)], "softmax_cross_entropy", "Softmax"),
    "shares": ([GlobalAvgPoolLayer(), FCLayer(2, 3)], portnn.SoftmaxCrossEntropy(label_smoothing=0.1), "Softmax"),
    "no loss": ([GlobalAvgPoolLayer(), FCLayer(2, 3)], None, "Softmax"),
    "no loss, one output": ([FCLayer(2, 1)], None, "Sigmoid"),
}


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_are_those_of_predict_proba_and_come_back(name, tmp_path):
    layers, loss, operator = PROBABLE[name]
    net, first, second = network(copy.deepcopy(layers), (4, 5, 2)), tmp_path / "first.onnx", tmp_path / "second.onnx"
    if loss is not None:
        net.use(loss)
    portnn.onnx.export(net, first, probabilities=True)
    assert [each for each in operators(first) if each in ("Softmax", "Sigmoid")] == [operator]
    portnn.onnx.export(portnn.onnx.load(first), second)
    assert first.read_bytes() == second.read_bytes()
    if loss is not None:
        x = np.random.default_rng(0).standard_normal((5, 4, 5, 2)).astype("float32")
        np.testing.assert_allclose(run(first, x), net.predict_proba(x), rtol=1e-5)


def test_layers_of_a_users_are_one_error_that_lists_them(tmp_path):
    net = Network([FCLayer(4, 4), OwnLayer(4), ResidualLayer(OwnLayer(4)), ActivationLayer(np.sin, np.cos)])
    with pytest.raises(ValueError, match="no operators for 3 of the network's layers") as error:
        net.export(tmp_path / "net.onnx")
    assert str(error.value).splitlines()[1:] == [
        "  layer 1 OwnLayer",
        "  layer 2.0 OwnLayer",
        "  layer 3 ActivationLayer with the function sin",
    ]
    assert not list(tmp_path.iterdir())


def test_bad_arguments(tmp_path):
    net, path = Network([FCLayer(4, 3)]), tmp_path / "net.onnx"
    with pytest.raises(TypeError, match="network must be a Network"):
        portnn.onnx.export(path, net)
    with pytest.raises(ValueError, match=r"opset must be from 18 to \d+"):
        portnn.onnx.export(net, path, opset=9)
    with pytest.raises(ValueError, match="FCLayer"):
        portnn.onnx.export(net, path, input_shape=(5,))
    with pytest.raises(RuntimeError, match="no layers"):
        portnn.onnx.export(Network(), path)
    with pytest.raises(RuntimeError, match="on the first batch"):
        portnn.onnx.export(Network([BatchNormLayer()]), path, input_shape=(4,))


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="python -m pip install onnx"):
        Network([FCLayer(4, 3)]).export(tmp_path / "net.onnx")


def test_the_samples_that_were_predicted_last_say_the_shape(tmp_path):
    net, path = network([FCLayer(2, 3)], (4, 5, 2)), tmp_path / "net.onnx"
    net.export(path)
    check(net, path, (4, 5, 2), 1e-5)
