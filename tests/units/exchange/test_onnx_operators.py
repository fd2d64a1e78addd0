"""portnn.onnx.load: operators one by one, on the cases that the ONNX project ships, and in the forms of other exporters.

The cases are graphs of one operator with inputs and outputs. Those whose other inputs are weights have these made
constants first. What is loaded must give ONNX's outputs; what is refused must be said to have no layer.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

import portnn
from portnn.exchange.onnx_graph.operators import OPERATORS
from portnn.files.errors import FileError

onnx = pytest.importorskip("onnx", minversion="1.17", reason="the cases come with ONNX 1.17 or newer")
from onnx import numpy_helper  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
# Of the operators with cases, how many are loaded at least; newer versions of ONNX have more.
LEAST = {
    "Add": 0,
    "AveragePool": 12,
    "BatchNormalization": 1,
    "Clip": 2,
    "Concat": 3,
    "Conv": 4,
    "Elu": 2,
    "Flatten": 1,
    "Gelu": 4,
    "Gemm": 4,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "GroupNormalization": 2,
    "HardSigmoid": 2,
    "HardSwish": 1,
    "InstanceNormalization": 2,
    "LayerNormalization": 3,
    "LeakyRelu": 2,
    "MaxPool": 9,
    "Relu": 1,
    "Resize": 1,
    "Selu": 1,
    "Sigmoid": 2,
    "Softmax": 2,
    "Softplus": 2,
    "Softsign": 2,
    "Tanh": 2,
}


def generated():
    """ONNX's cases of one node, by operator."""
    import importlib
    import pkgutil

    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(node.__path__):
            if any(name.lower().startswith(module.name.replace("_", "")) for name in LEAST):
                importlib.import_module(f"{node.__name__}.{module.name}")
    for case in node._NodeTestCases:
        if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in LEAST:
            yield case.model.graph.node[0].op_type, case.name, case.model, case.data_sets[0]


def stored():
    """The models that PyTorch's first exporter wrote, as folders."""
    for kind in ("pytorch-converted", "pytorch-operator"):
        yield from sorted((DATA / kind).glob("*/"))


def with_constants(model, inputs):
    """The model with all inputs but the first as constants."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {tensor.name for tensor in made.graph.initializer}
    given = [each for each in made.graph.input if each.name not in weights]
    for each, array in list(zip(given, inputs, strict=True))[1:]:
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), each.name))
        made.graph.input.remove(each)
    return made


def compared(path, model, x, y):
    """Loads the model, and compares what it computes."""
    path.write_bytes(model.SerializeToString())
    net = portnn.onnx.load(path)
    last = lambda array: np.ascontiguousarray(np.moveaxis(array, 1, -1))  # noqa: E731
    if net._checked != x.shape[1:] or (x.ndim > 2 and net.predict(x).shape != y.shape):
        assert net._checked == last(x).shape[1:]
        x, y = last(x), last(y) if y.ndim > 2 else y
    got = net.predict(x)
    if got.shape != y.shape:  # the graph leaves axes of size 1, or has the channels in front
        got = np.moveaxis(got, -1, 1) if np.moveaxis(got, -1, 1).shape == y.shape else got
    assert got.shape == y.shape
    np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-6)


def test_cases_of_one_operator(tmp_path):
    loaded, refused = dict.fromkeys(LEAST, 0), []
    for operator, name, model, (inputs, outputs) in generated():
        x, y = np.asarray(inputs[0]), np.asarray(outputs[0])
        if x.dtype not in (np.float32, np.float64) or x.ndim < 2 or len(outputs) > 1:
            continue
        try:
            compared(tmp_path / "net.onnx", with_constants(model, inputs), x, y)
        except FileError as error:
            assert "portnn has no layer for 1 of the model's operators" in str(error) or "has sizes" in str(error), name
            refused.append(name)
            continue
        except Exception as error:
            raise AssertionError(name) from error
        loaded[operator] += 1
    print(loaded, *refused, sep="\n")
    assert {operator: count for operator, count in loaded.items() if count < LEAST[operator]} == {}


def test_models_that_the_onnx_project_stores(tmp_path):
    loaded, refused = [], {}
    for folder in stored():
        model = onnx.load(folder / "model.onnx")
        arrays = [
            numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / f"{part}_0.pb"))
            for part in ("input", "output")
        ]
        try:
            compared(tmp_path / "net.onnx", model, *arrays)
        except FileError as error:
            refused[folder.name] = str(error)
            continue
        except Exception as error:
            raise AssertionError(folder.name) from error
        loaded.append(folder.name)
    print(len(loaded), *(f"{k}: {v}" for k, v in refused.items()), sep="\n")
    assert len(loaded) >= 30


def test_every_operator_is_named_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "howto" / "onnx.md").read_text()
    assert not [name for name in OPERATORS if f"`{name}`" not in text]
