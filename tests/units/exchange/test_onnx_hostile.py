"""Files that are damaged, or made to do harm: refused, with nothing read but the folder's own, and little time spent."""

import os
import time

import numpy as np
import pytest

import portnn
from portnn import FCLayer, Network
from portnn.exchange.onnx_graph import steps
from portnn.files.errors import FileError

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT


def info(name, *sizes, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, sizes)


def tensor(name, *values):
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def model(nodes, constants=(), x=("N", 4), opset=18, y="y", **options):
    graph = helper.make_graph(nodes, "g", [info("x", *x)], [info(y, "N", 4)], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **options)


def node(operator, *inputs, to="y", **attributes):
    return helper.make_node(operator, list(inputs), [to], **attributes)


def refused(tmp_path, made, match):
    path = tmp_path / "net.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    begin = time.perf_counter()
    with pytest.raises(FileError, match=match) as error:
        portnn.onnx.load(path)
    assert str(error.value).startswith(str(path))
    assert time.perf_counter() - begin < 20.0, "memory and time are bounded"
    return str(error.value)


# -- the bytes ---------------------------------------------------------------------------------------------------------


def exported(tmp_path):
    Network([FCLayer(4, 4), FCLayer(4, 4)], seed=1).export(tmp_path / "good.onnx")
    return (tmp_path / "good.onnx").read_bytes()


def test_cut_off_files(tmp_path):
    content = exported(tmp_path)
    for length in range(0, len(content), 7):
        refused(tmp_path, content[:length], "cut off|damaged|needs|has no|opset|inputs|uses|used|made|bytes|no array")


def test_damaged_bytes_do_nothing_worse_than_an_error(tmp_path):
    content, rng = exported(tmp_path), np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "net.onnx").write_bytes(damaged)
        try:
            portnn.onnx.load(tmp_path / "net.onnx")
        except FileError:
            refusals += 1
    assert refusals > 30


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        portnn.onnx.load(tmp_path / "none.onnx")
    with pytest.raises(FileError, match="this is a folder"):
        portnn.onnx.load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="no ordinary file"):
            portnn.onnx.load(tmp_path / "pipe")
    refused(tmp_path, b"PK\x03\x04 something else", "no ONNX model")


# -- other files -------------------------------------------------------------------------------------------------------


def external(location, dims=(4, 4), **entries):
    weights = TensorProto(name="w", data_type=FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(value))
    return model([node("MatMul", "x", "w")], [weights])


def test_weights_in_a_file_beside_the_model(tmp_path):
    weights = np.arange(16, dtype="<f4").reshape(4, 4)
    (tmp_path / "net.data").write_bytes(b"12345678" + weights.tobytes())
    (tmp_path / "net.onnx").write_bytes(external("net.data", offset=8, length=64).SerializeToString())
    np.testing.assert_array_equal(portnn.onnx.load(tmp_path / "net.onnx").layers[0].weights, weights)


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "/etc/passwd",
        "sub/../../secret",
        "sub/secret",
        "..",
        ".",
        "",
        "..\\secret",
        "C:secret",
        "a\0b",
        "\\\\a\\b",
    ],
)
def test_weights_elsewhere_are_not_read(location, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "secret", folder / "sub" / "secret"):
        path.write_bytes(bytes(64))
    refused(folder, external(location), "only files in the model's own folder are read")


def test_links_pipes_and_short_files_of_weights(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(folder, external("link"), "which is a link")
    os.mkfifo(folder / "pipe")
    refused(folder, external("pipe"), "no ordinary file")
    refused(folder, external("none"), "cannot be read")
    (folder / "short").write_bytes(bytes(63))
    refused(folder, external("short"), "beyond the end of 'short', which has 63 bytes")
    refused(folder, external("short", length=60), "needs 64 bytes, but has 60")
    refused(folder, external("short", offset=-4), "from byte -4")
    refused(folder, external("short", offset="x"), "expected whole numbers")
    refused(folder, external("short", dims=(1 << 30, 1 << 30)), "beyond the end")


def test_many_weights_at_one_place_of_a_file(tmp_path):
    (tmp_path / "net.data").write_bytes(bytes(64))
    made = external("net.data")
    made.graph.initializer.append(made.graph.initializer[0])
    made.graph.initializer[1].name = "v"
    refused(tmp_path, made, "'v' and others lie at the same place in 'net.data'")


def test_weights_that_many_nodes_share(tmp_path, monkeypatch):
    """A small file would take much memory: each layer has weights of its own."""
    monkeypatch.setattr(steps, "MOST_NUMBERS", 16 * 20)
    nodes = [node("MatMul", f"v{i}" if i else "x", "w", to=f"v{i + 1}") for i in range(20)]
    refused(tmp_path, model([*nodes, node("MatMul", "v20", "w")], [tensor("w", *np.eye(4))]), "more than 320 weights")
    (tmp_path / "net.onnx").write_bytes(
        model([*nodes, node("Relu", "v20")], [tensor("w", *np.eye(4))]).SerializeToString()
    )
    assert len(portnn.onnx.load(tmp_path / "net.onnx").layers) == 21


# -- the graph ---------------------------------------------------------------------------------------------------------


def nested(depth):
    graph = helper.make_graph([node("Relu", "x")], "g", [], [info("y", 4)])
    for _ in range(depth):
        graph = helper.make_graph([node("If", "c", then_branch=graph, else_branch=graph)], "g", [], [info("y", 4)])
        if graph.ByteSize() > 1 << 22:
            break
    return graph


def claimed(dims, kind=FLOAT, **fields):
    return TensorProto(name="w", data_type=kind, dims=dims, **fields)


SHAPE = numpy_helper.from_array(np.array([1 << 30, 1 << 20], np.int64), "s")
BAD = {
    "a cycle": (model([node("Add", "x", "b", to="a"), node("Relu", "a", to="b"), node("Relu", "b")]), "cycle"),
    "itself": (model([node("Add", "x", "y")]), "'y', which is made after it, or by itself"),
    "nothing": (model([node("Add", "x", "q")]), "uses 'q', which is not there"),
    "twice": (model([node("Relu", "x"), node("Relu", "x")]), "makes 'y', which is there already"),
    "the input again": (model([node("Relu", "x", to="x"), node("Relu", "x")]), "makes 'x'"),
    "no output": (model([node("Relu", "x", to="z")]), "output 'y' is made by no node"),
    "an output of constants": (model([node("Identity", "w")], [tensor("w", 1.0)]), "does not depend on its input"),
    "a huge constant": (model([node("MatMul", "x", "w")], [claimed((1 << 40, 1 << 40))]), "but 0 numbers"),
    "a huge constant of bytes": (model([node("MatMul", "x", "w")], [claimed((1 << 31, 4), raw_data=b"1234")]), "but 4 bytes"),
    "negative sizes": (model([node("MatMul", "x", "w")], [claimed((-1, -4))]), "shape"),
    "many axes": (model([node("MatMul", "x", "w")], [claimed((1,) * 40, raw_data=b"1234")]), "at most 32 sizes"),
    "half precision": (model([node("MatMul", "x", "w")], [claimed((4, 4), 10, raw_data=bytes(32))]), "dtype float16"),
    "an unknown dtype": (model([node("MatMul", "x", "w")], [claimed((4, 4), 99, raw_data=bytes(32))]), "dtype 99"),
    "weights of another shape": (model([node("MatMul", "x", "w")], [tensor("w", [1.0, 2.0], [1.0, 2.0])]), "takes 2 values"),
    "a huge image": (model([node("Relu", "x")], x=("N", 1 << 40, 1 << 20)), "more than 67,108,864 values"),
    "a huge shape": (model([node("ConstantOfShape", "s", to="a"), node("Add", "x", "a")], [SHAPE]), "computes a constant of shape"),
    "sizes of images unknown": (model([node("Relu", "x")], x=("N", "H", 4)), "all but the first, the batch, must be known"),
    "no batch": (model([node("Relu", "x")], x=(4,)), "2 or more"),
    "an old opset": (model([node("Relu", "x")], opset=1), r"opset 1, the installed onnx knows 6 to \d+"),
    "an opset to come": (model([node("Relu", "x")], opset=999), "or install a newer onnx"),
    "two inputs": (helper.make_model(helper.make_graph([node("Add", "x", "z")], "g", [info("x", 1, 4), info("z", 1, 4)], [info("y", 1, 4)])), r"2 inputs \('x', 'z'\) and 1 output:"),
    "whole numbers": (helper.make_model(helper.make_graph([node("Relu", "x")], "g", [info("x", 1, 4, kind=TensorProto.INT64)], [info("y", 1, 4)])), "is int64"),
    "a graph in a graph": (model([node("If", "x", then_branch=nested(1), else_branch=nested(1))]), "no layer for 1 of the model's operators:\n  If"),
    "graphs within each other": (model([node("If", "x", then_branch=nested(12), else_branch=nested(0))]), "If"),
    "another domain": (model([node("Relu", "x", domain="evil")]), r"evil\.Relu"),
    "attributes of other kinds": (model([node("Flatten", "x", axis="a")]), "Flatten"),
    "a huge window": (model([node("MaxPool", "x", kernel_shape=[8000, 8000])], x=("N", 1, 8000, 8000)), "positions"),
    "many windows": (model([node("MaxPool", "x" if i == 0 else f"v{i}", to="y" if i == 8 else f"v{i + 1}", kernel_shape=[500, 500], strides=[1, 1], pads=[250, 250, 249, 249]) for i in range(9)], x=("N", 1, 600, 600)), "positions in all"),
    "a stride of nothing": (model([node("MaxPool", "x", kernel_shape=[2], strides=[0])], x=("N", 1, 8)), "stride"),
    "a huge enlargement": (model([node("Upsample", "x", "w")], [tensor("w", 1.0, 1.0, 1e6, 1e6)], x=("N", 1, 8, 8), opset=9), "."),
    "many groups": (model([node("Conv", "x", "w", group=1 << 50)], [tensor("w", [[1.0]])], x=("N", 1, 8)), "groups"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_graphs(name, tmp_path):
    refused(tmp_path, *BAD[name])


def test_protobuf_that_is_nested_too_deeply(tmp_path):
    def field(number, content):
        length, size = b"", len(content)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    content = b""
    for _ in range(2000):  # a node with an attribute that is a graph, and so on
        content = field(1, field(5, field(6, content)))
    refused(tmp_path, field(7, content), "damaged|no array|inputs|opset|If|no ONNX")


def test_too_many_nodes(tmp_path):
    nodes = [node("Relu", "x" if i == 0 else f"v{i}", to=f"v{i + 1}") for i in range(10_001)]
    refused(tmp_path, model([*nodes, node("Relu", "v10001")]), "10,002 nodes, portnn reads 10,000 at most")


def test_many_doubled_constants(tmp_path):
    """Each node doubles a constant: 60 of them would fill any memory."""
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    made = model([*nodes, node("Add", "x", "c60")], [tensor("c0", *range(1000))])
    refused(tmp_path, made, "constants that the graph computes hold more than")


def test_sums_within_each_other(tmp_path):
    """Each sum doubles what it is given: as branches of branches they would be 2**300 ways."""
    nodes = [node("Add", "x" if i == 0 else f"v{i}", "x" if i == 0 else f"v{i}", to=f"v{i + 1}") for i in range(300)]
    (tmp_path / "net.onnx").write_bytes(model([*nodes, node("Relu", "v300")]).SerializeToString())
    assert len(portnn.onnx.load(tmp_path / "net.onnx").layers) == 301
    nodes = [node("Add", f"r{i}" if i else "x", "x", to=f"a{i}") for i in range(60)]
    nodes = [each for i, add in enumerate(nodes) for each in (add, node("Relu", f"a{i}", to=f"r{i + 1}"))]
    refused(tmp_path, model([*nodes, node("Relu", "r60")]), "more than 40 deep")


def test_long_rows_of_arithmetic(tmp_path):
    nodes = [node("Abs", "x" if i == 0 else f"v{i}", to=f"v{i + 1}") for i in range(9_000)]
    refused(tmp_path, model([*nodes, node("Relu", "v9000")]), "more arithmetic in a row than portnn looks through")


def test_everything_without_a_layer_is_listed(tmp_path):
    nodes = [
        node("Sin", "x", to="a"),
        node("LSTM", "a", "w", "w", to="b"),
        helper.make_node("Mul", ["x", "b"], ["c"], name="gate"),
        node("MatMul", "x", "w", to="d"),
        node("Mul", "x", "d", to="e"),
        node("Cos", "x", to="unused"),
        node("Add", "c", "e"),
    ]
    listed = refused(tmp_path, model(nodes, [tensor("w", *np.eye(4))]), "no layer for 4 of the model's operators")
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["Sin", "LSTM", "Mul", "Mul"]
    assert "Cos" not in listed, "nothing depends on it"


def test_values_that_several_parts_share(tmp_path):
    w = [tensor("w", *np.eye(4))]
    nodes = [node("MatMul", "x", "w", to="a"), node("Concat", "x", "a", to="b", axis=1), node("Relu", "b", to="c")]
    dense = [*nodes, node("Concat", "x", "a", "c", axis=1)]
    refused(tmp_path, model(dense, w), "densely connected")


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        node("Re\x1b[31mlu\n  Sin", "x"),
        node("Relu", "x", domain="a\x1b]0;title\x07\u202e"),
        helper.make_node("Sin", ["x"], ["y"], name="a\x1b[2J\nb"),
        node("Relu", "q\x1b[2J\x9b"),
        node("Transpose", "x", perm=range(1000)),
        node("S" * 1_000_000, "x"),
    ],
    ids=["operator", "domain", "name", "value", "a long attribute", "a long operator"],
)
def test_messages_are_short_and_hold_no_control_characters(bad, tmp_path):
    said = refused(tmp_path, model([bad]), "Re|Sin|Transpose|SSS")
    assert all(character.isprintable() for character in said.replace("\n  ", "", 1))
    assert len(said) < 700


def test_inputs_and_outputs_are_named(tmp_path):
    made = model([node("Relu", "x"), node("Neg", "x", to="z")])
    made.graph.output.append(info("z", "N", 4))
    refused(tmp_path, made, r"1 input and 2 outputs \('y', 'z'\)")


# -- more bytes and graphs ---------------------------------------------------------------------------------------------


def test_names_that_are_no_text(tmp_path):
    """protobuf hands these on as bytes."""
    made = external("QQQQQQ").SerializeToString()
    refused(tmp_path, made.replace(b"QQQQQQ", b"\xff\xfe\x80\x81ab"), "is no text")
    refused(tmp_path, model([node("QQQQQQ", "x")]).SerializeToString().replace(b"QQQQQQ", b"\xff" * 6), "is no text")


def test_empty_parts_take_no_memory(tmp_path):
    """A node of nothing is two bytes of a file, and 150 of memory."""
    content = model([node("Relu", "x")]).graph.SerializeToString() + b"\x0a\x00" * (1 << 20)
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    refused(tmp_path, b"\x3a" + length + bytes([size]) + content, "more than 1,048,576 parts")


def test_groups_of_protobuf_which_hide_parts(tmp_path):
    refused(
        tmp_path, model([node("Relu", "x")]).SerializeToString() + b"\xfb\x3e\xfc\x3e", "do not fit into each other"
    )


def test_weights_beside_the_model_are_limited(tmp_path):
    with open(tmp_path / "net.data", "wb") as file:
        file.truncate(1 << 36)  # takes no room on the disk
    refused(tmp_path, external("net.data", dims=(1 << 17, 1 << 16)), "more than 4,294,967,296 bytes of weights")


def test_two_attributes_of_one_name(tmp_path):
    twice = node("Gemm", "x", "w", transB=1)
    twice.attribute.append(helper.make_attribute("transB", 0))
    refused(tmp_path, model([twice], [tensor("w", *np.eye(4))]), "two attributes of one name")


def test_sums_and_nodes_of_many_values(tmp_path):
    refused(tmp_path, model([node("Sum", *["x"] * 50_000)]), "joins 50,000 values")
    refused(tmp_path, model([node("Sum", *["x"] * 100_001)]), "name 100,002 values, portnn reads 100,000 at most")


@pytest.mark.parametrize("operator", ["Conv", "MaxPool"])
def test_padding_that_no_memory_holds(operator, tmp_path):
    options = {"pads": [1 << 19] * 4, "strides": [1 << 19] * 2}
    inputs = ["x", "w"] if operator == "Conv" else ["x"]
    options |= {} if operator == "Conv" else {"kernel_shape": [1, 1]}
    made = model([node(operator, *inputs, **options)], [tensor("w", *np.ones((1, 1, 1, 1)))], x=("N", 1, 5, 5))
    refused(tmp_path, made, "with its padding, has samples of shape")
