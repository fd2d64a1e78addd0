"""The layers of an ONNX model: its nodes one after the other as steps, and from these the network's structure."""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from portnn._typing import Shape
from portnn.exchange.onnx_graph import moments, proto, structure
from portnn.exchange.onnx_graph.elementwise import ALL, Finder, Found
from portnn.exchange.onnx_graph.folding import BATCH, DTYPES, FOLDS, Folder, UnfoldableError
from portnn.exchange.onnx_graph.normalizing import plain_layer_norm
from portnn.exchange.onnx_graph.operators import OPERATORS, activation
from portnn.exchange.onnx_graph.steps import NoLayerError, Steps, Var
from portnn.files import reading
from portnn.files.errors import FileError
from portnn.layers import SequentialLayer

LISTED = 30  # of what has no layer
COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
IMAGES = {"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"}  # take images, channels second
# Operators that make what has the dtype of their first input.
FLOATS = (OPERATORS.keys() | ALL.keys()) - COMPARISONS - {"Cast", "Where"}


class Read(NamedTuple):
    """What a file holds: layers with their parameters, the dtype, and the shape of one sample."""

    layers: list[Any]
    dtype: str
    shape: Shape


class ProblemsError(Exception):
    """What has no layer, all of it."""


def read(path: Any) -> Read:
    """The layers of the model in a file. FileError if it cannot be used, or that lists what has no layer."""
    model = proto.read(path)
    with reading.naming(str(path)):
        problems: list[list[str]] = []
        # The axes of the input are as portnn has them, or, if that does not do, the channels come second.
        for second in [False, True] if len(model.shape) > 1 else [False]:
            try:
                with np.errstate(all="ignore"):  # what overflows is infinite, as it is in ONNX
                    return _read(model, second)
            except ProblemsError as error:
                problems.append(error.args[0])
        fewest = min(problems[::-1], key=len)
        more = [f"and {len(fewest) - LISTED} more"] if len(fewest) > LISTED else []
        listed = "".join(f"\n  {line}" for line in [*fewest[:LISTED], *more])
        own = (
            "\nThe model has operators of its own: onnx.inliner.inline_local_functions writes them as those of ONNX"
            if model.functions
            else ""
        )
        raise FileError(f"portnn has no layer for {len(fewest)} of the model's operators:{listed}{own}")


def _read(model: proto.Model, second: bool) -> Read:
    network = _Graph(model, second)
    last = network.run()
    try:
        made = structure.layers(network.steps.all, last)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"the model cannot be a network: {error!s:.200}") from error
    return Read(made or [SequentialLayer()], model.dtype, network.shape)


class _Graph:
    """Goes through the nodes; ``values`` are what they make: constants, and variables with their axes."""

    def __init__(self, model: proto.Model, second: bool):
        self.model, self.folder = model, Folder(model.opset)
        shape = (*model.shape[1:], model.shape[0]) if second else model.shape
        self.shape = shape
        self.constants = dict(model.constants)
        self.steps = Steps(model.dtype, model.opset, model.batch)
        self.variables: dict[str, Var | None] = {}  # None: what a node made that has no layer
        self.floats = {model.input}  # what has the model's dtype
        self.problems: list[str] = []
        self.nodes = self._live()
        self.users: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in node.inputs:
                self.users.setdefault(name, []).append(i)
        for name in [name for node in self.nodes for name in node.outputs]:
            self.users.setdefault(name, [])
        self.users.setdefault(model.output, []).append(-1)
        self.variables[model.input] = self.steps.begin(shape, second)

    def _live(self) -> list[proto.Node]:
        """The nodes that the output depends on."""
        needed, live = {self.model.output}, []
        for node in reversed(self.model.nodes):
            if needed.intersection(filter(None, node.outputs)):
                needed.update(node.inputs)
                live.append(node)
        return live[::-1]

    def run(self) -> int:
        """Makes the steps; returns the last. ProblemsError if there is no layer for a node."""
        for node in self.nodes:
            self._fold(node)
            if node.operator in FLOATS and not node.domain and not self.floats.isdisjoint(node.inputs):
                self.floats.add(node.outputs[0])
        activations = self._activations()
        last_of = {i: last for last, found in activations.items() for i in found.nodes}
        inner = last_of.keys() - activations.keys()
        for i, node in enumerate(self.nodes):
            if node.outputs[0] in self.constants or i in inner:
                continue
            self.steps.path = node.name.rpartition("/")[0] if self.model.ours else ""
            made = self._made(node, activations.get(i))
            if made is not None and self._uses(node.outputs[0], last_of) > 1:
                with suppress(NoLayerError):
                    made = self.steps.settled(made)  # once, not for each of those that use it
                    if made.free and self._is_image(node.outputs[0]):
                        made = self.steps.image(made)
                self.steps.shared.add(made.step)
            self.variables[node.outputs[0]] = made
            for name in filter(None, node.outputs[1:]):
                self.variables[name] = None
                if self.users[name]:
                    self.problems.append(f"{node}: its output {name!r:.60}, which no layer has, is used")
        last = self._last()
        if self.problems:
            raise ProblemsError(self.problems)
        assert last is not None
        return last

    def _uses(self, name: str, last_of: dict[int, int]) -> int:
        """How often a value, not only its shape, is used: by the nodes of one activation, ``last_of``, it is once."""
        users = [i for i in self.users[name] if i < 0 or self.nodes[i].operator not in ("Shape", "CastLike")]
        return len({last_of.get(i, -2 - k) for k, i in enumerate(users)})

    def _is_image(self, name: str) -> bool:
        """Whether one of those that use a value wants an image with the channels second."""
        return any(i >= 0 and self.nodes[i].operator in IMAGES for i in self.users[name])

    def _fold(self, node: proto.Node) -> None:
        """Computes a node whose inputs are constants, or the shape of a variable where it is known."""
        if node.domain or not node.outputs[0]:
            return
        if node.operator == "CastLike" and len(node.inputs) == 2 and node.inputs[0] in self.constants:
            self._cast_like(node, *node.inputs)
            return
        names = [name for name in node.inputs if name]
        if node.operator not in FOLDS or not all(name in self.constants for name in names):
            return
        try:
            self.constants[node.outputs[0]] = self.folder.fold(node, [self.constants.get(name) for name in node.inputs])
        except UnfoldableError:
            return

    def _cast_like(self, node: proto.Node, name: str, like: str) -> None:
        """Numbers in the dtype of another value."""
        if like in self.constants:
            dtype = self.constants[like].dtype.name
        elif like in self.floats:
            dtype = self.model.dtype
        else:
            return
        to = next((number for number, known in DTYPES.items() if known == dtype), 0)
        cast = node._replace(operator="Cast", attributes={"to": to})
        try:
            self.constants[node.outputs[0]] = self.folder.fold(cast, [self.constants[name]])
        except UnfoldableError:
            return

    def _activations(self) -> dict[int, Found]:
        """Activations by their last node. What several of them hold is left to the one that comes last."""
        folded = {i for i, node in enumerate(self.nodes) if node.outputs[0] in self.constants}  # such as CastLike
        users = {name: [i for i in nodes if i not in folded] for name, nodes in self.users.items()}
        finder = Finder(self.nodes, self.constants, users, one_path=self.model.ours)
        found, taken = dict[int, Found](), set[int]()
        for i in range(len(self.nodes) - 1, -1, -1):
            if i not in taken and self.nodes[i].outputs[0] not in self.constants:
                activation: Any = moments.find(finder, i) or finder.layer_norm(i) or finder.find(i)
                if activation and not activation.nodes & taken:
                    found[i] = activation
                    taken |= activation.nodes
        return found

    def _made(self, node: proto.Node, found: Found | None) -> Var | None:
        if found is not None:
            x = self.variables.get(found.input)
            if x is None:
                if found.input in self.model.unread:
                    self.problems.append(f"{node}: {self.model.unread[found.input]}")
                return None
            try:
                if found.axes > len(x.seen) + 1:
                    raise NoLayerError(f"its constants have {found.axes} axes, more than the batch")
                if found.name == "layer_norm":
                    return plain_layer_norm(self.steps, x, found.epsilon, self._meets_reshape(node))
                if isinstance(found, moments.Moments):
                    return moments.normalized(self.steps, x, found)
                return activation(self.steps, x, found.name)
            except NoLayerError as error:
                self.problems.append(f"{node}: {error!s:.300}")
                return None
        if node.operator == "Shape" and not node.domain:
            self._shape(node)
            return None
        self._fold(node)  # what follows from a shape
        if node.outputs[0] in self.constants:
            return None
        known = node.operator in OPERATORS and not node.domain
        unread = [self.model.unread[name] for name in node.inputs if name in self.model.unread]
        unread += [each.why for each in node.attributes.values() if isinstance(each, proto.Strange) and each.why]
        if not known or unread:
            self.problems.append(f"{node}: {'; '.join(unread)[:300]}" if unread else str(node))
            return None
        inputs: list[Any] = []
        for name in node.inputs:
            value = self.constants[name] if name in self.constants else self.variables.get(name) if name else None
            inputs.append(value)
        if any(name and value is None for name, value in zip(node.inputs, inputs, strict=True)):
            # It depends on a node without a layer, which is listed. Of a product of two values that is all to know.
            if node.operator == "Mul" and not any(isinstance(value, np.ndarray) for value in inputs):
                self.problems.append(f"{node}: a product of two values")
            return None
        try:
            self._check(node, inputs)
            return OPERATORS[node.operator](self.steps, node, inputs)
        except NoLayerError as error:
            self.problems.append(f"{node}: {error!s:.300}")  # shapes may be long
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            if isinstance(error, FileError):
                raise
            self.problems.append(f"{node}: {error!s:.200}")
        return None

    def _meets_reshape(self, node: proto.Node) -> bool:
        """Whether what a node makes goes into Reshape, and nowhere else."""
        users = self.users[node.outputs[0]]
        return len(users) == 1 and users[0] >= 0 and self.nodes[users[0]].operator == "Reshape"

    def _check(self, node: proto.Node, inputs: list[Any]) -> None:
        if not any(isinstance(value, Var) for value in inputs[:2]) and node.operator != "Concat":
            raise NoLayerError("it does not depend on the model's input, and is no constant that portnn computes")
        if any(isinstance(value, Var) and value.pads for value in inputs) and node.operator not in (
            "Conv",
            "Pad",
            "Identity",
            "Transpose",
        ):
            raise NoLayerError("its input is padded, which only convolution may have done for it")

    def _shape(self, node: proto.Node) -> None:
        """The shape of a value as a constant, in which BATCH stands for the number of samples."""
        name = node.inputs[0] if node.inputs else ""
        value = self.variables.get(name)
        if name in self.constants:
            sizes: Any = self.constants[name].shape
        elif value is not None and not value.pads:
            batch = BATCH if self.model.batch is None else self.model.batch
            sizes = (batch, *value.seen)
        else:
            self.problems.append(f"{node}: of a value whose shape is not known")
            return
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        self.constants[node.outputs[0]] = np.array(sizes, np.int64)[start:end]

    def _last(self) -> int | None:
        """The step that makes the output, as the network returns it."""
        if self.model.output in self.constants:
            raise FileError("the model's output does not depend on its input")
        y = self.variables.get(self.model.output)
        if y is None:
            assert self.problems, "what has no layer is listed"
            return None
        try:
            y = self.steps.full(y)
        except NoLayerError as error:
            self.problems.append(f"the output {self.model.output!r:.60}: {error}")
            return None
        if y.order is not None:
            self.problems.append(f"the output {self.model.output!r:.60} is flattened with the channels first")
        elif y.axes not in (y.plain, y.channels_second):
            self.problems.append(f"the output {self.model.output!r:.60} has its axes in another order: {y.axes}")
        elif y.pads:
            self.problems.append(f"the output {self.model.output!r:.60} is padded")
        return y.step
