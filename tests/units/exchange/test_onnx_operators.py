"""portnn.onnx.load: operators one by one, on the cases that the ONNX project ships, and in the forms of other exporters.

The cases are graphs of one operator with inputs and outputs. Those whose other inputs are weights have these made
constants first. What is loaded must give ONNX's outputs; what is refused must be said to have no layer.
"""

import importlib
import pkgutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import portnn
from portnn.exchange.onnx_graph.operators import OPERATORS
from portnn.files.errors import FileError

onnx = pytest.importorskip("onnx", minversion="1.17", reason="the cases come with ONNX 1.17 or newer")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
# Of the operators with cases, how many are loaded at least; newer versions of ONNX have more.
LEAST = {
    "AveragePool": 10,
    "BatchNormalization": 2,
    "Clip": 2,
    "Conv": 5,
    "Elu": 2,
    "Flatten": 2,
    "Gelu": 2,
    "Gemm": 6,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "GroupNormalization": 2,
    "HardSigmoid": 2,
    "HardSwish": 1,
    "InstanceNormalization": 2,
    "LeakyRelu": 2,
    "MaxPool": 6,
    "PRelu": 0,
    "Relu": 1,
    "Resize": 1,
    "Selu": 1,
    "Sigmoid": 1,
    "Softmax": 2,
    "Softplus": 1,
    "Softsign": 1,
    "Tanh": 1,
}
STORED = 60  # of the stored models


def generated():
    """ONNX's cases of one node, by operator."""
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
    loaded, refused = dict.fromkeys(LEAST, 0), {}
    for operator, name, model, (inputs, outputs) in generated():
        x, y = np.asarray(inputs[0]), np.asarray(outputs[0])
        if x.dtype not in (np.float32, np.float64) or x.ndim < 2 or len(outputs) > 1:
            continue
        try:
            compared(tmp_path / "net.onnx", with_constants(model, inputs), x, y)
        except FileError as error:
            refused[name] = str(error)
            continue
        except Exception as error:
            raise AssertionError(name) from error
        loaded[operator] += 1
    assert {operator: count for operator, count in loaded.items() if count < LEAST[operator]} == {}
    assert all("portnn has no layer for 1 of the model's operators" in why for why in refused.values())


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
    assert len(loaded) >= STORED
    assert {"test_Conv2d_depthwise_padded", "test_MaxPool2d", "test_BatchNorm2d_eval", "test_GLU"} - {*loaded} == {
        "test_GLU"
    }
    assert all("no layer for" in why or "a network " in why or "of a batch" in why for why in refused.values())


# -- forms in which exporters write what portnn has a layer for --------------------------------------------------------


def loaded(tmp_path, nodes, constants=(), x=("N", 4), y=("N", 4), opset=17):
    info = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()]
    graph = helper.make_graph(
        [helper.make_node(operator, ins.split(), [out], **options) for operator, ins, out, options in nodes],
        "g",
        [info("x", TensorProto.FLOAT, x)],
        [info("y", TensorProto.FLOAT, y)],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(made, tmp_path / "net.onnx")
    return portnn.onnx.load(tmp_path / "net.onnx")


def number(value):
    return np.array(value, np.float32)


PIECES = {
    "gelu, divided": ("gelu", [("Div", "x r", "a"), ("Erf", "a", "b"), ("Add", "b i", "c"), ("Mul", "x c", "d"), ("Mul", "d h", "y")], {"r": 2.0**0.5, "i": 1.0, "h": 0.5}),
    "gelu, halved first": ("gelu", [("Mul", "x h", "d"), ("Mul", "x r", "a"), ("Erf", "a", "b"), ("Add", "i b", "c"), ("Mul", "c d", "y")], {"r": 0.5**0.5, "i": 1.0, "h": 0.5}),
    "gelu_tanh, a power": ("gelu_tanh", [("Pow", "x t", "p"), ("Mul", "p k", "q"), ("Add", "x q", "s"), ("Mul", "s r", "u"), ("Tanh", "u", "v"), ("Add", "v i", "w"), ("Mul", "x h", "z"), ("Mul", "z w", "y")], {"t": 3.0, "k": 0.044715, "r": 0.7978846, "i": 1.0, "h": 0.5}),
    "silu": ("silu", [("Sigmoid", "x", "a"), ("Mul", "a x", "y")], {}),
    "sigmoid in pieces": ("sigmoid", [("Neg", "x", "a"), ("Exp", "a", "b"), ("Add", "b i", "c"), ("Reciprocal", "c", "y")], {"i": 1.0}),
    "hard_swish, clipped": ("hard_swish", [("Add", "x t", "a"), ("Clip", "a o s", "b"), ("Mul", "x b", "c"), ("Div", "c s", "y")], {"t": 3.0, "o": 0.0, "s": 6.0}),
    "hard_swish": ("hard_swish", [("HardSigmoid", "x", "a", {"alpha": 1 / 6}), ("Mul", "x a", "y")], {}),
    "hard_sigmoid, clipped": ("hard_sigmoid", [("Add", "x t", "a"), ("Clip", "a o s", "b"), ("Div", "b s", "y")], {"t": 3.0, "o": 0.0, "s": 6.0}),
    "softplus in pieces": ("softplus", [("Exp", "x", "a"), ("Add", "a i", "b"), ("Log", "b", "y")], {"i": 1.0}),
    "softplus with a threshold": ("softplus", [("Softplus", "x", "a"), ("Greater", "x t", "b"), ("Where", "b x a", "y")], {"t": 20.0}),
    "softsign in pieces": ("softsign", [("Abs", "x", "a"), ("Add", "i a", "b"), ("Div", "x b", "y")], {"i": 1.0}),
    "relu as a maximum": ("relu", [("Max", "x o", "y")], {"o": 0.0}),
    "relu as a clip": ("relu", [("Clip", "x o", "y")], {"o": 0.0}),
    "leaky_relu as a maximum": ("leaky_relu", [("Mul", "x k", "a"), ("Max", "a x", "y")], {"k": 0.01}),
    "leaky_relu": ("leaky_relu", [("PRelu", "x k", "y")], {"k": 0.01}),
    "tanh from sigmoid": ("tanh", [("Mul", "x t", "a"), ("Exp", "a", "b"), ("Sub", "b i", "c"), ("Add", "b i", "d"), ("Div", "c d", "y")], {"t": 2.0, "i": 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_activations_in_pieces(name, tmp_path):
    """Behind and in front of other layers, of which no part of them is taken."""
    expected, nodes, constants = PIECES[name]
    swap = {"x": "first", "y": "last"}
    nodes = [
        (op, " ".join(swap.get(n, n) for n in ins.split()), swap.get(out, out), options[0] if options else {})
        for op, ins, out, *options in nodes
    ]
    nodes = [("MatMul", "x W", "first", {}), *nodes, ("MatMul", "last W", "y", {})]
    weights = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    net = loaded(tmp_path, nodes, {"W": weights} | {key: number(value) for key, value in constants.items()})
    assert [repr(layer) for layer in net.layers] == [
        "FCLayer(4, 4, bias=False)",
        f"ActivationLayer({expected})",
        "FCLayer(4, 4, bias=False)",
    ]


X = np.random.default_rng(3).standard_normal((50, 4)).astype(np.float32) * 5
FUNCTIONS = {
    "leaky relu": (("LeakyRelu", {"alpha": 0.2}), np.where(X > 0, X, 0.2 * X)),
    "elu": (("Elu", {"alpha": 0.5}), np.where(X > 0, X, 0.5 * np.expm1(X))),
    "celu": (("Celu", {"alpha": 2.0}), np.where(X > 0, X, 2.0 * np.expm1(X / 2.0))),
    "hard sigmoid": (("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), np.clip(0.3 * X + 0.4, 0, 1)),
    "neg": (("Neg", {}), -X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_with_other_constants(name, tmp_path):
    (operator, options), expected = FUNCTIONS[name]
    net = loaded(tmp_path, [(operator, "x", "y", options)])
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-5)
    assert portnn.gradcheck(net, input_shape=(4,)).passed


def test_values_kept_within_limits(tmp_path):
    net = loaded(tmp_path, [("Clip", "x a b", "y", {})], {"a": number(-1.5), "b": number(4.0)})
    np.testing.assert_allclose(net.predict(X), np.clip(X, -1.5, 4.0), rtol=1e-5, atol=1e-5)


def test_constants_are_folded_into_the_layer_in_front(tmp_path):
    rng = np.random.default_rng(0)
    W, b, s = rng.standard_normal((4, 4)), rng.standard_normal(4), rng.standard_normal(4)
    nodes = [("MatMul", "x W", "a", {}), ("Add", "b a", "c", {}), ("Mul", "c s", "d", {}), ("Sub", "d b", "e", {})]
    nodes.append(("Div", "e k", "y", {}))
    constants = {name: array.astype(np.float32) for name, array in {"W": W, "b": b, "s": s}.items()}
    net = loaded(tmp_path, nodes, constants | {"k": number(4.0)})
    assert [repr(layer) for layer in net.layers] == ["FCLayer(4, 4)", "ScaleLayer(0.25)"]
    np.testing.assert_allclose(net.predict(X), ((X @ W + b) * s - b) / 4, rtol=1e-4, atol=1e-4)


def test_a_model_of_keras_with_channels_last(tmp_path):
    """As tf2onnx writes it: transposes around the images, padding as a node of its own, a mean over axes 1 and 2."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((3, 2, 3, 3)).astype(np.float32)
    nodes = [
        ("Transpose", "x", "a", {"perm": [0, 3, 1, 2]}),
        ("Pad", "a pads", "b", {}),
        ("Conv", "b W", "c", {"strides": [2, 2]}),
        ("Transpose", "c", "d", {"perm": [0, 2, 3, 1]}),
        ("Relu", "d", "e", {}),
        ("ReduceMean", "e", "f", {"axes": [1, 2], "keepdims": 0}),
        ("MatMul", "f V", "g", {}),
        ("Softmax", "g", "y", {}),
    ]
    constants = {"W": W, "V": np.eye(3, dtype=np.float32), "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])}
    net = loaded(tmp_path, nodes, constants, ("N", 6, 5, 2), ("N", 3))
    assert [type(layer).__name__ for layer in net.layers] == [
        "ConvLayer",
        "ActivationLayer",
        "GlobalAvgPoolLayer",
        "FCLayer",
        "SoftmaxLayer",
    ]
    assert net.layers[0].padding == ((0, 1), (0, 1))
    x = rng.standard_normal((2, 6, 5, 2)).astype(np.float32)
    from onnx.reference import ReferenceEvaluator

    expected = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"x": x})[0]
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-5)


def test_every_operator_is_named_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "howto" / "onnx.md").read_text()
    assert not [name for name in OPERATORS if f"`{name}`" not in text]
