"""An ONNX file, read with suspicion: its nodes and constants in plain Python, or a FileError.

The package onnx only parses the bytes. Nothing of the file's is executed; weights may lie in another file, which must
be an ordinary one in the same folder; and every size is compared with the bytes that are there before memory is taken.
"""

import math
import os
import stat
from math import prod
from typing import Any, NamedTuple

import numpy as np

from portnn import checks
from portnn._typing import Shape
from portnn.checks import MOST_AXES
from portnn.exchange.onnx_graph.extra import onnx
from portnn.files import reading
from portnn.files.errors import FileError

OLDEST = 6  # the opset of the models that the ONNX project stores
MOST_NODES = 10_000
MOST_ENDS = 100_000  # inputs and outputs of all nodes
MOST_VALUES = 1 << 26  # of one sample, and of a constant that is computed
MOST_BYTES = (1 << 31) - 1  # of a file: protobuf reads no more
MOST_BESIDE = 1 << 32  # bytes of weights in other files
MOST_PARTS = 1 << 20  # of a file: protobuf takes some 100 bytes for each, an empty one too, of which the file has 2
MOST_LISTED = 1 << 16  # numbers in an attribute


class Node(NamedTuple):
    """An operator with its attributes, and the names of what it takes and makes; "" for what is left out."""

    operator: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        first = next(filter(None, self.outputs), "")
        where = f" {self.name!r:.60}" if self.name else f" that makes {first!r:.60}"
        called = f"{self.domain[:60]}.{self.operator[:60]}" if self.domain else self.operator[:60]
        return (called if called.isprintable() else repr(called)) + where


class Model(NamedTuple):
    """A graph of one input and one output. ``shape`` is that of one sample; ``batch`` is None where it is left open.

    ``unread`` are constants that portnn has no dtype for, by name, each with what is said of it where a node uses it.
    ``functions`` says whether the file has operators of its own.
    """

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    unread: dict[str, str]
    input: str
    output: str
    shape: Shape
    batch: int | None
    dtype: str
    opset: int
    functions: bool
    ours: bool = False  # written by portnn, as the file says: nodes of one layer begin with its path


class Strange:
    """An attribute that no operator with a layer has, such as a graph; ``why`` may say more."""

    def __init__(self, why: str = ""):
        self.why = why


class UnreadError(Exception):
    """A tensor has a dtype that portnn does not read; what is to be said of it."""


def read(path: Any) -> Model:
    """The model in a file. FileError if it cannot be used, OSError if there is no such file."""
    path, package = checks.path("path", path), onnx()
    about = os.stat(path)
    with reading.naming(path):
        if not stat.S_ISREG(about.st_mode):
            raise FileError(f"this is {'a folder' if stat.S_ISDIR(about.st_mode) else 'no ordinary file'}")
        if about.st_size > MOST_BYTES:
            raise FileError(f"the file has {about.st_size:,} bytes, an ONNX file has {MOST_BYTES:,} at most")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        check_parts(content, package.ModelProto.DESCRIPTOR)
        model = package.ModelProto()
        try:
            model.ParseFromString(content)
        except Exception as error:  # google.protobuf.message.DecodeError, or one of its implementations' own
            raise FileError(f"the file is no ONNX model, was cut off, or is damaged: {error!s:.200}") from error
        if not model.HasField("graph"):
            raise FileError("the file is no ONNX model, was cut off, or is damaged: it has no graph")
        try:
            return _Reader(package, os.path.dirname(os.path.abspath(path))).model(model)
        except (UnicodeError, OverflowError, MemoryError) as error:
            raise FileError(f"the file is damaged: {error!s:.200}") from error


def check_parts(content: bytes, kind: Any) -> None:
    """Counts the parts of a message and of all within it, before protobuf takes memory for each. FileError if too many.

    ``kind`` is protobuf's description of the message. A part begins with a number that says which field it is and how
    it is written: 0 a number, 1 and 5 eight and four bytes, 2 a length and as many bytes, which may be a message.
    """
    damaged = FileError("the file is no ONNX model, was cut off, or is damaged: its parts do not fit into each other")
    left, within = MOST_PARTS, [(0, len(content), kind)]
    try:
        while within:
            at, end, kind = within.pop()
            messages = {number: field.message_type for number, field in kind.fields_by_number.items()}
            while at < end:
                left -= 1
                if left < 0:
                    raise FileError(f"the file has more than {MOST_PARTS:,} parts: nodes, attributes, names, sizes")
                tag, at = _number(content, at)
                if tag & 7 == 0:
                    _, at = _number(content, at)
                elif tag & 7 == 2:
                    size, at = _number(content, at)
                    if size > end - at:
                        raise damaged
                    if messages.get(tag >> 3) is not None:
                        within.append((at, at + size, messages[tag >> 3]))
                    at += size
                elif tag & 7 in (1, 5):
                    at += 8 if tag & 7 == 1 else 4
                else:
                    raise damaged
            if at > end:
                raise damaged
    except IndexError:
        raise damaged from None


def _number(content: bytes, at: int) -> tuple[int, int]:
    """A number written 7 bits a byte, the lowest first, and where it ends."""
    byte = content[at]
    value, shift = byte & 127, 0
    while byte & 128:
        at, shift = at + 1, shift + 7
        byte = content[at]
        value |= (byte & 127) << shift
        if shift > 63:
            raise IndexError
    return value, at + 1


class _Reader:
    def __init__(self, package: Any, folder: str):
        self.package, self.folder = package, folder
        self.taken: dict[str, int] = {}  # bytes that were read of each file of weights
        kinds = package.TensorProto
        # by the number of a dtype: NumPy's name, and the field of the numbers that are not raw bytes
        self.dtypes = {
            kinds.FLOAT: ("float32", "float_data"),
            kinds.DOUBLE: ("float64", "double_data"),
            kinds.INT64: ("int64", "int64_data"),
            kinds.INT32: ("int32", "int32_data"),
            kinds.BOOL: ("bool", "int32_data"),
        }

    def model(self, model: Any) -> Model:
        opset, graph = self._opset(model), model.graph
        if len(graph.node) > MOST_NODES:
            raise FileError(f"the graph has {len(graph.node):,} nodes, portnn reads {MOST_NODES:,} at most")
        if graph.sparse_initializer:
            raise FileError("the graph has sparse weights: portnn reads dense ones only")
        if (ends := sum(len(each.input) + len(each.output) for each in graph.node)) > MOST_ENDS:
            raise FileError(f"the nodes of the graph name {ends:,} values, portnn reads {MOST_ENDS:,} at most")
        constants: dict[str, np.ndarray] = {}
        unread: dict[str, str] = {}
        for tensor in graph.initializer:
            if tensor.name in constants or tensor.name in unread or not tensor.name:
                raise FileError(f"the graph has two constants of the name {tensor.name!r:.80}, or one without a name")
            try:
                constants[tensor.name] = self.tensor(tensor, f"the constant {tensor.name!r:.80}")
            except UnreadError as error:
                unread[tensor.name] = str(error)
        inputs = [each for each in graph.input if each.name not in constants and each.name not in unread]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise FileError(
                f"the model has {_counted('input', inputs)} and {_counted('output', graph.output)}: a network has one "
                "of each"
            )
        shape, batch, dtype = self._input(inputs[0])
        own = {(each.domain, each.name) for each in model.functions}
        nodes = [self._node(node, own) for node in graph.node]
        _check_order(nodes, {inputs[0].name, *constants, *unread}, graph.output[0].name)
        names, ours = (inputs[0].name, graph.output[0].name), model.producer_name == "portnn"
        return Model(nodes, constants, unread, *names, shape, batch, dtype, opset, bool(own), ours)

    def _opset(self, model: Any) -> int:
        found = {each.domain: each.version for each in model.opset_import}
        opset, newest = found.get("", found.get("ai.onnx")), self.package.defs.onnx_opset_version()
        if opset is None or not OLDEST <= opset <= newest:
            raise FileError(
                f"the model has opset {opset}, the installed onnx knows {OLDEST} to {newest}: export it with one of "
                "these" + (", or install a newer onnx" if opset is not None and opset > newest else "")
            )
        return int(opset)

    def _input(self, given: Any) -> tuple[Shape, int | None, str]:
        kind = given.type.tensor_type
        if given.type.WhichOneof("value") != "tensor_type":
            raise FileError(f"the input {given.name!r:.80} is no array of float32 or float64")
        dtype = self.named(kind.elem_type)
        if dtype not in ("float32", "float64"):
            raise FileError(f"the input {given.name!r:.80} is {dtype}, a network takes float32 or float64")
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        first, *others = sizes or [None]
        if not others or len(others) > MOST_AXES:
            raise FileError(f"the input {given.name!r:.80} has {len(sizes)} axes, expected those of a batch: 2 or more")
        if not all(others) or min(n or 0 for n in others) < 1:
            raise FileError(
                f"the input {given.name!r:.80} has sizes {sizes}: all but the first, the batch, must be known. Export "
                "the model for images of one size"
            )
        shape = tuple(int(n) for n in others if n)
        check_values(shape, f"the input {given.name!r:.80}")
        return shape, first if first and first > 0 else None, dtype

    def _node(self, node: Any, own: set[tuple[str, str]]) -> Node:
        """``own`` are the functions of the file: one that has the name of an ONNX operator takes its place."""
        operator, domain, name = map(_text, (node.op_type, node.domain, node.name))
        if len({each.name for each in node.attribute}) < len(node.attribute):
            raise FileError(f"a node {operator!r:.60} has two attributes of one name")
        attributes = {_text(each.name): self._attribute(each, operator) for each in node.attribute}
        domain = "" if domain == "ai.onnx" else domain
        if not domain and {("", operator), ("ai.onnx", operator)} & own:
            domain = "ai.onnx"
        return Node(operator, domain, name, tuple(map(_text, node.input)), tuple(map(_text, node.output)), attributes)

    def _attribute(self, given: Any, operator: str) -> Any:
        kinds = self.package.AttributeProto
        fields = {kinds.FLOAT: "f", kinds.INT: "i", kinds.FLOATS: "floats", kinds.INTS: "ints"}
        if given.type in fields:
            value = getattr(given, fields[given.type])
            if given.type in (kinds.FLOATS, kinds.INTS) and len(value) > MOST_LISTED:
                return Strange(f"its attribute {given.name!r:.40} has {len(value):,} numbers")
            numbers = list(value) if given.type in (kinds.FLOATS, kinds.INTS) else value
            for number in numbers if isinstance(numbers, list) else [numbers]:
                if not math.isfinite(number):
                    return Strange()
            return numbers
        if given.type == kinds.STRING:
            return given.s.decode("utf-8", "replace")
        if given.type == kinds.TENSOR:
            try:
                return self.tensor(given.t, f"the attribute {given.name!r:.40} of {operator!r:.40}")
            except UnreadError as error:
                return Strange(str(error))
        return Strange()

    def named(self, kind: int) -> str:
        """The name of a dtype, by its number."""
        if kind in self.dtypes:
            return self.dtypes[kind][0]
        known = self.package.TensorProto.DataType.items()
        return next((name.lower() for name, number in known if number == kind), f"dtype {kind}")

    def tensor(self, tensor: Any, what: str) -> np.ndarray:
        """The numbers of a tensor, read-only. UnreadError if they are of another dtype than those of ``dtypes``."""
        if tensor.data_type not in self.dtypes:
            name = self.named(tensor.data_type).removeprefix("dtype ")
            raise UnreadError(f"{what} has dtype {name}, portnn reads float32, float64, int32, int64 and bool")
        dtype, field = self.dtypes[tensor.data_type]
        shape = tuple(int(n) for n in tensor.dims)
        if len(shape) > MOST_AXES or any(n < 0 or n > 1 << 40 for n in shape):
            raise FileError(f"{what} has shape {shape!s:.80}, expected at most {MOST_AXES} sizes")
        count, stored = prod(shape), np.dtype(dtype).newbyteorder("<")
        if tensor.data_location == self.package.TensorProto.EXTERNAL or tensor.external_data:
            raw = self._external(tensor, count * stored.itemsize, what)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            numbers = getattr(tensor, field)
            if len(numbers) != count:
                raise FileError(f"{what} has shape {shape!s:.80}, but {len(numbers):,} numbers")
            return _locked(np.array(numbers, dtype).reshape(shape))
        if len(raw) != count * stored.itemsize:
            raise FileError(f"{what} has shape {shape!s:.80} and dtype {dtype}, but {len(raw):,} bytes")
        return _locked(np.frombuffer(raw, stored).astype(dtype, copy=False).reshape(shape))

    def _external(self, tensor: Any, size: int, what: str) -> bytes:
        """The bytes of a tensor in another file, which must be an ordinary one in the model's folder."""
        said = {_text(each.key): _text(each.value) for each in tensor.external_data}
        name = said.get("location", "")
        parts = name.replace("\\", "/").split("/")
        if name != os.path.basename(name) or len(parts) > 1 or name in ("", ".", "..") or "\0" in name or ":" in name:
            raise FileError(f"{what} lies in the file {name!r:.120}: only files in the model's own folder are read")
        try:
            offset, length = int(said.get("offset", "0")), int(said.get("length", str(size)))
        except ValueError:
            raise FileError(f"{what} lies at {said!r:.120} of another file, expected whole numbers") from None
        if length != size or offset < 0:
            raise FileError(f"{what} needs {size:,} bytes, but has {length:,} from byte {offset:,} of {name!r:.80}")
        path = os.path.join(self.folder, name)
        try:
            # Never through a link, which may lead out of the folder; O_NONBLOCK: opening a pipe would wait for ever.
            flags = (
                os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
            if os.path.islink(path):
                raise FileError(f"{what} lies in {name!r:.80}, which is a link: only an ordinary file is read")
            with open(os.open(path, flags), "rb") as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise FileError(f"{what} lies in {name!r:.80}, which is no ordinary file")
                if about.st_size < offset + length:
                    raise FileError(f"{what} lies beyond the end of {name!r:.80}, which has {about.st_size:,} bytes")
                self.taken[name] = self.taken.get(name, 0) + length
                if self.taken[name] > about.st_size:  # each would take memory of its own
                    raise FileError(f"{what} and others lie at the same place in {name!r:.80}")
                if sum(self.taken.values()) > MOST_BESIDE:
                    raise FileError(f"{what} and others need more than {MOST_BESIDE:,} bytes of weights")
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise FileError(f"{what} lies in {name!r:.80}, which cannot be read: {error}") from error


def _counted(what: str, found: Any) -> str:
    """``2 inputs ('a', 'b')``; of many names the first ones."""
    if len(found) == 1:
        return f"1 {what}"
    names = ", ".join(f"{each.name!r:.40}" for each in found[:4])
    return f"{len(found)} {what}s" + (f" ({names}{', ...' if len(found) > 4 else ''})" if names else "")


def _text(given: Any) -> str:
    """A string of the file; protobuf returns one that is no UTF-8 as bytes."""
    if not isinstance(given, str):
        raise FileError(f"the file is damaged: {given!r:.60} is no text")
    return given


def _locked(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def check_values(shape: Shape, what: str) -> None:
    """FileError for samples that no memory holds."""
    if prod(shape) > MOST_VALUES:
        raise FileError(f"{what} has samples of shape {shape!s:.80}, more than {MOST_VALUES:,} values")


def _check_order(nodes: list[Node], known: set[str], output: str) -> None:
    """Each node must use what is made before it, so that there is no cycle; each name is made once."""
    made = set(known)
    for node in nodes:
        for name in node.inputs:
            if name and name not in made:
                later = any(name in each.outputs for each in nodes)
                fault = (
                    "made after it, or by itself: the graph has a cycle, or is not in order" if later else "not there"
                )
                raise FileError(f"{node} uses {name!r:.80}, which is {fault}")
        for name in filter(None, node.outputs):
            if name in made:
                raise FileError(f"{node} makes {name!r:.80}, which is there already")
            made.add(name)
    if output not in made:
        raise FileError(f"the output {output!r:.80} is made by no node")
