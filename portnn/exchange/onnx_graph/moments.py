"""Layer normalization as Keras exports it: x r + (shift - mean r), where r = scale / sqrt(variance + epsilon)."""

from typing import Any, NamedTuple

import numpy as np

from portnn.exchange.onnx_graph.elementwise import Finder
from portnn.exchange.onnx_graph.proto import Node
from portnn.exchange.onnx_graph.steps import NoLayerError, Steps, Var
from portnn.exchange.onnx_graph.structure import Piece
from portnn.layers import LayerNormLayer

Constants = dict[str, np.ndarray]


class Moments(NamedTuple):
    """What is normalized, over which axis of the graph, by what, and the indices of the nodes that do it."""

    input: str
    axis: int
    epsilon: float
    scale: np.ndarray | None
    shift: np.ndarray
    nodes: frozenset[int]
    name: str = "moments"  # as an activation has one
    axes: int = 0


class _Reader:
    """Reads parts of the formula, and remembers their nodes. LookupError where the graph has something else."""

    def __init__(self, nodes: list[Node], makers: dict[str, int], constants: Constants):
        self.nodes, self.makers, self.constants = nodes, makers, constants
        self.read: set[int] = set()

    def made(self, name: str, *operators: str) -> Node:
        node = self.nodes[self.makers[name]]
        if node.operator not in operators or node.domain:
            raise LookupError
        self.read.add(self.makers[name])
        return node

    def with_constant(self, name: str, *operators: str) -> tuple[str, np.ndarray]:
        """A sum or product of a value and a constant, in either order."""
        inputs = self.made(name, *operators).inputs
        known = [each for each in inputs if each in self.constants]
        if len(inputs) != 2 or len(known) != 1:
            raise LookupError
        return next(each for each in inputs if each not in self.constants), self.constants[known[0]]

    def mean(self, name: str) -> tuple[str, int]:
        """What a mean is of, and its one axis."""
        node = self.made(name, "ReduceMean")
        given: Any = node.attributes.get("axes")
        if len(node.inputs) > 1:
            given = self.constants[node.inputs[1]].tolist()
        if given is None or len(given) != 1 or not node.attributes.get("keepdims", 1):
            raise LookupError
        return node.inputs[0], given[0]

    def square(self, name: str) -> str:
        node = self.made(name, "Mul", "Pow")
        if node.operator == "Pow":
            if node.inputs[1] not in self.constants or not np.all(self.constants[node.inputs[1]] == 2.0):
                raise LookupError
        elif node.inputs[0] != node.inputs[1]:
            raise LookupError
        return node.inputs[0]

    def normalization(self, x: str, factor: str, rest: str) -> Moments:
        """Of ``x * factor + rest``."""
        negative, shift = self.with_constant(rest, "Add")
        product = self.made(negative, "Mul").inputs
        (other,) = {*product} - {factor}
        mean = self.made(other, "Neg").inputs[0]
        scale = None
        if self.nodes[self.makers[factor]].operator == "Mul":
            factor, scale = self.with_constant(factor, "Mul")
        root = self.made(self.made(factor, "Reciprocal").inputs[0], "Sqrt")
        variance, epsilon = self.with_constant(root.inputs[0], "Add")
        squares, axis = self.mean(variance)
        centred = self.made(self.square(squares), "Sub").inputs
        if epsilon.size != 1 or [*centred] != [x, mean] or self.mean(mean) != (x, axis):
            raise LookupError
        return Moments(x, axis, float(epsilon.reshape(())), scale, shift, frozenset(self.read))


def find(finder: Finder, last: int) -> Moments | None:
    """The normalization that ends with a node, a sum; nothing but that sum may be used elsewhere."""
    nodes, users = finder.nodes, finder.users
    if nodes[last].operator != "Add" or nodes[last].domain or len(nodes[last].inputs) != 2:
        return None
    for product, rest in (nodes[last].inputs, nodes[last].inputs[::-1]):
        for first in (0, 1):
            reader = _Reader(nodes, finder.makers, finder.constants)
            try:
                factors = reader.made(product, "Mul").inputs
                found = reader.normalization(factors[first], factors[1 - first], rest)
            except (LookupError, ValueError, TypeError):
                continue
            inside = found.nodes | {last}
            if all(user in inside for i in found.nodes for user in users[nodes[i].outputs[0]]):
                return found._replace(nodes=inside)
    return None


def normalized(s: Steps, x: Var, found: Moments) -> Var:
    """The layer."""
    x = s.full(x)
    if x.channel != len(x.seen) or found.axis % (len(x.seen) + 1) != x.channel:
        raise NoLayerError("it normalizes over another axis than the channels")
    channels = x.shape[-1]
    s.pay(2 * channels)
    arrays = {"weights": np.ones(channels, s.dtype), "bias": np.zeros(channels, s.dtype)}
    for name, given in (("weights", found.scale), ("bias", found.shift)):
        if given is not None:
            if given.size not in (1, channels) or given.shape[-1:] != (given.size,) * bool(given.ndim):
                raise NoLayerError(f"its scale or shift has shape {given.shape}, expected ({channels},)")
            arrays[name][:] = s.weights(given).reshape(-1)
    arrays = {name: s.in_order(x, array) for name, array in arrays.items()}
    epsilon = float(str(np.float32(found.epsilon))) if s.dtype == "float32" else found.epsilon
    return s.add(x, Piece("norm", lambda: LayerNormLayer(epsilon=epsilon), arrays))
