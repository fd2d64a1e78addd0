"""portnn.onnx.load: graphs that are legal and odd. What is loaded computes what ONNX does; what would not is refused.

The expected outputs are those of ONNX's own reference implementation.
"""

import numpy as np
import pytest

import portnn
from portnn.exchange.onnx_graph.folding import BATCH, Folder, UnfoldableError
from portnn.exchange.onnx_graph.proto import Node
from portnn.files.errors import FileError

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
ROW, IMAGE, KERAS = ("N", 4), ("N", 2, 5, 6), ("N", 5, 6, 2)


def drawn(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def number(value):
    return np.array(value, np.float32)


def whole(*values):
    return np.array(values, np.int64)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(" ") if inputs else [], [output], **attributes)


W, KERNEL = drawn(4, 4), drawn(3, 2, 3, 3)
NORM = {"s": drawn(36), "b": drawn(36), "m": drawn(36), "v": drawn(36) ** 2 + 0.5}
BEHIND = {"w": KERNEL, "k": drawn(36), "V": drawn(36, 3)} | NORM


def written(path, nodes, constants, x, opset, functions=()):
    info = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [info("x", FLOAT, x)], [info("y", FLOAT, None)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, functions=functions)
    path.write_bytes(model.SerializeToString())
    return model


def last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim > 2 else array


# What is loaded: nodes, constants, shape of the input, opset, and by how much the input is enlarged.
LOADED = {
    "relu that is cut off at 20": ([node("Clip", "x a b", "y")], {"a": number(0), "b": number(20)}, ROW, 17, 40),
    "tanh of what is cut off": ([node("Clip", "x a b", "c"), node("Tanh", "c", "y")], {"a": number(-50), "b": number(50)}, ROW, 17, 100),
    "relu by a comparison": ([node("Less", "x k", "c"), node("Where", "c k x", "y")], {"k": number(0)}, ROW, 17, 1e4),
    "silu in pieces, far out": ([node("Sigmoid", "x", "s"), node("Mul", "x s", "y")], {}, ROW, 17, 1e4),
    "the greatest of three constants": ([node("Neg", "k", "z"), node("Max", "l m z", "a"), node("Mul", "x z", "b"), node("Add", "b a", "y")], {"k": number(5), "l": number(1), "m": number(2)}, ROW, 17, 1),
    "the rest of a division": ([node("Mod", "k l", "a", fmod=1), node("MatMul", "x a", "y")], {"k": drawn(4, 4), "l": drawn(4, 4)}, ROW, 17, 1),
    "a division of whole numbers": ([node("Div", "k l", "a"), node("Cast", "a", "b", to=FLOAT), node("Add", "x b", "y")], {"k": whole(-7), "l": whole(2)}, ROW, 17, 1),
    "batch normalization of a flattened image": ([node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("BatchNormalization", "f s b m v", "g"), node("Mul", "g k", "p"), node("Add", "p b", "q"), node("MatMul", "q V", "y")], BEHIND, IMAGE, 17, 1),
    "layer normalization of a flattened image": ([node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("LayerNormalization", "f s b", "g"), node("Mul", "g k", "p"), node("Add", "p b", "q"), node("MatMul", "q V", "y")], BEHIND, IMAGE, 17, 1),
    "padding before padding": ([node("Pad", "x p", "a"), node("Conv", "a w", "y", strides=[2, 2], auto_pad="SAME_UPPER")], {"p": whole(0, 0, 1, 0, 0, 0, 0, 0), "w": KERNEL}, IMAGE, 17, 1),
    "padding before padding below": ([node("Pad", "x p", "a"), node("Conv", "a w", "y", strides=[2, 2], auto_pad="SAME_LOWER")], {"p": whole(0, 0, 1, 2, 0, 0, 0, 0), "w": KERNEL}, ("N", 2, 6, 6), 17, 1),
    "padding before a transpose": ([node("Pad", "x p", "a"), node("Transpose", "a", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Transpose", "c", "y", perm=[0, 2, 3, 1])], {"p": whole(0, 1, 2, 0, 0, 0, 1, 0), "w": KERNEL}, KERAS, 17, 1),
    "one channel by a reshape": ([node("Reshape", "x s", "t"), node("Conv", "t w", "c"), node("Transpose", "c", "y", perm=[0, 2, 3, 1])], {"s": whole(-1, 1, 5, 6), "w": drawn(3, 1, 3, 3)}, ("N", 5, 6, 1), 17, 1),
    "one channel by a reshape and an activation": ([node("Reshape", "x s", "r"), node("Tanh", "r", "t"), node("Conv", "t w", "c"), node("Transpose", "c", "y", perm=[0, 2, 3, 1])], {"s": whole(-1, 1, 5, 6), "w": drawn(3, 1, 3, 3)}, ("N", 5, 6, 1), 17, 1),
    "one channel by a reshape, used twice": ([node("Reshape", "x s", "t"), node("Conv", "t w", "c", pads=[1, 1, 1, 1]), node("Add", "c t", "a"), node("Transpose", "a", "y", perm=[0, 2, 3, 1])], {"s": whole(-1, 1, 5, 6), "w": drawn(1, 1, 3, 3)}, ("N", 5, 6, 1), 17, 1),
    "a row that becomes an image, used twice": ([node("MatMul", "x W", "r"), node("Reshape", "r s", "t"), node("Conv", "t w", "c", pads=[1, 1, 1, 1]), node("Add", "c t", "y")], {"s": whole(-1, 2, 3, 4), "W": drawn(4, 24), "w": drawn(2, 2, 3, 3)}, ROW, 17, 1),
    "one channel back by a reshape": ([node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Reshape", "c s", "y")], {"s": whole(-1, 3, 4, 1), "w": drawn(1, 2, 3, 3)}, KERAS, 17, 1),
    "enlarging by half pixels": ([node("Resize", "x  s", "y", mode="nearest", coordinate_transformation_mode="pytorch_half_pixel", nearest_mode="round_prefer_floor")], {"s": number([1, 1, 3, 2])}, IMAGE, 17, 1),
    "swish of nothing": ([node("Mul", "x k", "a"), node("Sigmoid", "a", "b"), node("Mul", "x b", "y")], {"k": number(1)}, ROW, 17, 1),
    "a shape in int32": ([node("Shape", "x", "s"), node("Cast", "s", "i", to=INT32), node("Slice", "i a b", "n"), node("Concat", "n r", "t", axis=0), node("Cast", "t", "u", to=INT64), node("Reshape", "x u", "v"), node("MatMul", "v V", "y")], {"a": whole(0), "b": whole(1), "r": np.array([60], np.int32), "V": drawn(60, 3)}, KERAS, 17, 1),
    "constants cast like a value": ([node("MatMul", "x W", "a"), node("CastLike", "k a", "b"), node("Mul", "a b", "c"), node("CastLike", "l c", "d"), node("Max", "c d", "y")], {"W": W, "k": whole(2), "l": np.array(0.0)}, ROW, 17, 1),
    "a row that becomes an image, its shape asked for": ([node("MatMul", "x V", "a"), node("Relu", "a", "r"), node("Shape", "r", "s"), node("Gather", "s i", "n"), node("Concat", "n t", "u", axis=0), node("Reshape", "r u", "v"), node("Conv", "v w", "y")], {"V": drawn(4, 24), "i": whole(0), "t": whole(2, 3, 4), "w": drawn(3, 2, 2, 2)}, ROW, 17, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADED)
def test_loaded_graphs_compute_what_onnx_does(name, tmp_path):
    from onnx.reference import ReferenceEvaluator

    nodes, constants, shape, opset, factor = LOADED[name]
    model = written(tmp_path / "net.onnx", nodes, constants, shape, opset)
    x = drawn(3, *shape[1:]) * np.float32(factor)
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    net = portnn.onnx.load(tmp_path / "net.onnx")
    ours = x if net._checked == x.shape[1:] else last(x)
    got = net.predict(ours)
    if got.shape != expected.shape or (ours is not x and expected.ndim > 2):
        expected = last(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in LOADED if name.startswith("one channel by a reshape")])
def test_a_reshape_that_moves_no_value_leaves_no_layer(name, tmp_path):
    nodes, constants, shape, opset, _ = LOADED[name]
    written(tmp_path / "net.onnx", nodes, constants, shape, opset)
    kinds = {type(layer).__name__ for layer in portnn.onnx.load(tmp_path / "net.onnx").walk()}
    assert "ConvLayer" in kinds
    assert "ReshapeLayer" not in kinds


def test_enlarging_as_in_opset_10(tmp_path):
    """Which had two inputs, and one rule; ONNX's reference implementation does not run it."""
    written(tmp_path / "net.onnx", [node("Resize", "x s", "y", mode="nearest")], {"s": number([1, 1, 2, 3])}, IMAGE, 10)
    x = drawn(3, 5, 6, 2)
    np.testing.assert_array_equal(
        portnn.onnx.load(tmp_path / "net.onnx").predict(x), x.repeat(2, axis=1).repeat(3, axis=2)
    )


RESIZE = {"mode": "nearest", "coordinate_transformation_mode": "pytorch_half_pixel"}
# What is refused, since a layer would compute something else: the last entry is what is said.
REFUSED = {
    "a least value": ([node("Relu", "x", "a"), node("Min", "a k", "y")], {"k": number(30)}, ROW, 17, "Min that makes 'y'"),
    "softplus that jumps": ([node("Softplus", "x", "a"), node("Greater", "x k", "g"), node("Where", "g k a", "y")], {"k": number(30)}, ROW, 17, "Where that makes 'y'"),
    "more axes, by a sum": ([node("Add", "x k", "y")], {"k": number([[[2.0]]])}, ROW, 17, "more axes than the batch"),
    "more axes, by a difference": ([node("Sub", "k x", "y")], {"k": number([[[2.0]]])}, ROW, 17, "more axes than the batch"),
    "more axes, by an activation": ([node("Max", "x k", "y")], {"k": number([[[0.0]]])}, ROW, 17, "3 axes, more than the batch"),
    "more axes, by a slope": ([node("PRelu", "x k", "y")], {"k": number([[[0.3]]])}, ROW, 17, "slope"),
    "the number of samples as a factor": ([node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Cast", "n", "f", to=FLOAT), node("Mul", "x f", "y")], {"i": whole(0)}, ROW, 17, "Cast that makes 'f'"),
    "the number of samples as a factor, by int32": ([node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Cast", "n", "j", to=INT32), node("Cast", "j", "f", to=FLOAT), node("Mul", "x f", "y")], {"i": whole(0)}, ROW, 17, "Cast that makes 'f'"),
    "the shape of what is padded": ([node("Pad", "x p", "a"), node("Shape", "a", "s"), node("Gather", "s i", "n"), node("Cast", "n", "f", to=FLOAT), node("Conv", "a w", "c"), node("Mul", "c f", "y")], {"p": whole(0, 0, 1, 0, 0, 0, 0, 0), "w": KERNEL, "i": whole(2)}, IMAGE, 17, "Shape that makes 's'"),
    "the axis of one sample": ([node("Unsqueeze", "x a", "u"), node("Squeeze", "u", "y")], {"a": whole(1)}, (1, 4), 17, "size is not 1"),
    "pixels rounded down": ([node("Resize", "x  s", "y", nearest_mode="floor", **RESIZE)], {"s": number([1, 1, 3, 2])}, IMAGE, 17, "does not repeat pixels"),
    "pixels rounded up": ([node("Resize", "x  s", "y", nearest_mode="ceil", **RESIZE)], {"s": number([1, 1, 3, 2])}, IMAGE, 17, "does not repeat pixels"),
    "sides in one ratio": ([node("Resize", "x   s", "y", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", keep_aspect_ratio_policy="not_larger", axes=[2, 3])], {"s": whole(10, 24)}, IMAGE, 18, "ratio"),
    "celu of no slope": ([node("Celu", "x", "y", alpha=0.0)], {}, ROW, 17, "alpha=0.0"),
    "celu of a negative slope": ([node("Celu", "x", "y", alpha=-2.0)], {}, ROW, 17, "alpha=-2.0"),
    "a product that overflows": ([node("Div", "x k", "y")], {"k": number(1e-42)}, ROW, 17, "finite"),
    "gemm of sequences": ([node("Gemm", "x W", "y")], {"W": W}, ("N", 3, 4), 17, "it takes rows"),
    "old sums along another axis": ([node("Add", "k l", "a", broadcast=1, axis=0), node("MatMul", "x a", "y")], {"k": W, "l": drawn(4)}, ROW, 6, "Add that makes 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_computes_is_refused(name, tmp_path):
    *graph, said = REFUSED[name]
    written(tmp_path / "net.onnx", *graph)
    with pytest.raises(FileError, match=said):
        portnn.onnx.load(tmp_path / "net.onnx")


def test_weights_of_dtypes_that_are_not_read_are_listed_with_all_else(tmp_path):
    nodes = [
        node("Sin", "x", "a"),
        node("MatMul", "x h", "b"),
        node("Cast", "q", "c", to=FLOAT),
        node("Add", "b c", "d"),
    ]
    nodes += [node("Add", "a d", "y"), helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(W))]
    constants = {"h": W.astype(np.float16), "q": np.ones(4, np.int8), "unused too": np.ones(3, np.uint8)}
    written(tmp_path / "net.onnx", nodes, constants, ROW, 17)
    with pytest.raises(FileError, match="no layer for 3 of") as error:
        portnn.onnx.load(tmp_path / "net.onnx")
    lines = str(error.value).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["Sin", "MatMul", "Cast"]
    assert "'h' has dtype float16" in lines[1]
    assert "'q' has dtype int8" in lines[2]


def test_constants_that_nobody_uses_may_have_any_dtype(tmp_path):
    written(tmp_path / "net.onnx", [node("Relu", "x", "y")], {"q": np.ones(3, np.uint8)}, ROW, 17)
    assert len(portnn.onnx.load(tmp_path / "net.onnx").layers) == 1


def test_functions_of_a_file_are_not_taken_for_operators(tmp_path):
    opsets = [helper.make_opsetid("", 17)]
    own = helper.make_function("", "Relu", ["a"], ["b"], [node("Neg", "a", "b")], opsets)
    written(tmp_path / "net.onnx", [node("Relu", "x", "y")], {}, ROW, 17, [own])
    with pytest.raises(FileError, match=r"ai\.onnx\.Relu that makes 'y'\n.*inline_local_functions"):
        portnn.onnx.load(tmp_path / "net.onnx")


def test_the_mark_of_an_unknown_number_is_moved_only():
    def fold(operator, *inputs, **attributes):
        return Folder(17).fold(Node(operator, "", "", (), ("y",), attributes), list(inputs))

    sizes = np.array([BATCH, 5], np.int64)
    in_short = fold("Cast", sizes, to=INT32)
    assert in_short.dtype == np.int32
    np.testing.assert_array_equal(fold("Cast", in_short, to=INT64), sizes)
    np.testing.assert_array_equal(fold("Gather", sizes, whole(1)), [5])
    for operator, inputs, attributes in [
        ("Cast", [sizes], {"to": FLOAT}),
        ("Cast", [in_short], {"to": BOOL}),
        ("Add", [in_short, np.array([1], np.int32)], {}),
        ("Slice", [whole(1, 2, 3), sizes[:1], whole(3)], {}),
        ("Concat", [in_short, whole(3)], {"axis": 0}),
    ]:
        with pytest.raises(UnfoldableError):
            fold(operator, *inputs, **attributes)


def test_what_a_constant_would_take_is_known_before_it_is_made():
    with pytest.raises(FileError, match="computes a constant of shape"):
        Folder(17).fold(
            Node("Gather", "", "", (), ("y",), {}), [np.zeros((1, 1 << 20), bool), np.zeros(1 << 18, np.int64)]
        )
