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


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows_of_the_table_in_float64(case, tmp_path):
    """ONNX stores epsilon as a float32: here it is one."""
    net, path = network([case.make()], case.sample, "float64", epsilon=2.0**-14), tmp_path / "net.onnx"
    portnn.onnx.export(net, path, input_shape=case.sample)
    exact = "gelu" not in case.name or "tanh" in case.name  # the evaluator's erf has 8 digits
    check(net, path, case.sample, 1e-12 if exact else 1e-7)


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


def test_probabilities_of_numbers_or_of_probabilities_are_an_error(tmp_path):
    net = network([FCLayer(4, 3), SequentialLayer(SoftmaxLayer())], (4,))
    with pytest.raises(ValueError, match="this one ends in SoftmaxLayer, leave it out"):
        portnn.onnx.export(net, tmp_path / "net.onnx", probabilities=True)
    net = network([FCLayer(4, 3)], (4,))
    net.use("mse")
    with pytest.raises(ValueError, match="was trained to return numbers"):
        portnn.onnx.export(net, tmp_path / "net.onnx", probabilities=True)


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
