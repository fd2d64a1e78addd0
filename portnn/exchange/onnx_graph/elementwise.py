"""Activations that a graph computes in several nodes.

There are many ways to write GELU; but as a function of one number it is the same in all of them. So a part of the graph
that makes each number from one other is computed for some numbers, and what comes out is compared with the activations.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from portnn.exchange.onnx_graph.functions import PAIRS
from portnn.exchange.onnx_graph.proto import Node
from portnn.files.errors import FileError
from portnn.ops import portable

MOST = 16  # nodes of an activation
MOST_COMPUTED = 60_000  # nodes in all that are computed to find activations: some seconds
POINTS = np.concatenate([np.linspace(-9.0, 9.0, 181) + 0.013, [-17.0, 17.0, -3.0, 3.0, 0.0]])
# Functions that are cut off there, such as relu at 20, are others. Exponentials in pieces may overflow that far out.
FAR = np.array([-1e6, -1e4, -1e3, -1e2, -4e1, 4e1, 1e2, 1e3, 1e4, 1e6])
POINTS = np.concatenate([FAR, POINTS])
NEAR = 3e-6  # constants in files are float32, and some are written with 6 digits


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _gelu(a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.asarray(PAIRS["gelu_tanh" if a.get("approximate") == "tanh" else "gelu"][0](x))


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _celu(a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    alpha = a.get("alpha", 1.0)
    return np.asarray(np.maximum(x, 0.0) + np.minimum(alpha * np.expm1(x / alpha), 0.0))


def _selu(a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.asarray(a.get("gamma", 1.0507009873554805) * _elu(x, a.get("alpha", 1.6732632423543772)))


def _hard_sigmoid(a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0.0, 1.0)


def _clip(a: dict[str, Any], x: np.ndarray, low: Any = None, high: Any = None) -> np.ndarray:
    low, high = a.get("min") if low is None else low, a.get("max") if high is None else high
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)


Function = Callable[..., np.ndarray]
# Operators that have an activation of their own, and those that are only part of one.
WHOLE: dict[str, Function] = {
    "Celu": _celu,
    "Elu": lambda a, x: _elu(x, a.get("alpha", 1.0)),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda a, x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "LeakyRelu": lambda a, x: np.where(x > 0, x, a.get("alpha", 0.01) * x),
    "PRelu": lambda a, x, slope: np.where(x > 0, x, slope * x),
    "Relu": lambda a, x: np.maximum(x, 0.0),
    "Selu": _selu,
    "Sigmoid": lambda a, x: _sigmoid(x),
    "Softplus": lambda a, x: np.logaddexp(x, 0.0),
    "Softsign": lambda a, x: x / (1.0 + np.abs(x)),
    "Swish": lambda a, x: x * _sigmoid(a.get("alpha", 1.0) * x),
    "Tanh": lambda a, x: np.tanh(x),
}
AFFINE: dict[str, Function] = {
    "Add": lambda a, x, y: x + y,
    "Div": lambda a, x, y: x / y,
    "Identity": lambda a, x: x,
    "Mul": lambda a, x, y: x * y,
    "Sub": lambda a, x, y: x - y,
}
PARTS: dict[str, Function] = {
    "Abs": lambda a, x: np.abs(x),
    "Clip": _clip,
    "Equal": lambda a, x, y: x == y,
    "Erf": lambda a, x: np.asarray(portable.erf(x, xp=np)),
    "Erfc": lambda a, x: 1.0 - np.asarray(portable.erf(x, xp=np)),  # none of ONNX's, but tf2onnx writes it
    "Exp": lambda a, x: np.exp(x),
    "Greater": lambda a, x, y: x > y,
    "GreaterOrEqual": lambda a, x, y: x >= y,
    "Less": lambda a, x, y: x < y,
    "LessOrEqual": lambda a, x, y: x <= y,
    "Log": lambda a, x: np.log(x),
    "Max": lambda a, *x: np.maximum(x[0], x[-1]),
    "Min": lambda a, *x: np.minimum(x[0], x[-1]),
    "Neg": lambda a, x: -x,
    "Pow": lambda a, x, y: np.power(x, y),
    "Reciprocal": lambda a, x: 1.0 / x,
    "Sqrt": lambda a, x: np.sqrt(x),
    "Where": lambda a, c, x, y: np.asarray(np.where(c, x, y)),
}
ALL = WHOLE | AFFINE | PARTS
JOINS = {"Max": 2, "Min": 2}  # operators that may have more inputs than are computed here


class Found(NamedTuple):
    """An activation in a graph: its name, the value that goes in, and the indices of the nodes that make it.

    Or layer normalization, with its ``epsilon``. ``axes`` are as many as the constants have that come in between.
    """

    name: str
    input: str
    nodes: frozenset[int]
    epsilon: float = 0.0
    axes: int = 0


class Finder:
    """Looks for activations. ``constants`` are the values that are known, ``users`` the nodes that use each value.

    ``one_path``: the nodes of one layer have names that begin with its path, as in graphs that portnn has written. So
    x + relu(-x) stays what it was there, though it is relu(x).
    """

    def __init__(
        self, nodes: list[Node], constants: dict[str, np.ndarray], users: dict[str, list[int]], one_path: bool = False
    ):
        self.nodes, self.constants, self.users, self.one_path = nodes, constants, users, one_path
        self.left = MOST_COMPUTED
        self.makers = {name: i for i, node in enumerate(nodes) for name in node.outputs[:1]}

    def find(self, last: int) -> Found | None:
        """The activation that ends with a node: that of the most nodes."""
        if not self._may_be(last):
            return None
        inside, found = {last}, None
        while len(inside) <= MOST:
            outside = self._outside(inside)
            if len(outside) == 1 and self._is_more_than_affine(inside):
                (name,) = outside
                known = self._named(inside, last, name)
                found = Found(known, name, frozenset(inside), axes=self._axes_of_constants(inside)) if known else found
            if self.nodes[last].operator in WHOLE:
                break
            before = [
                i
                for name in outside
                if (i := self.makers.get(name, -1)) >= 0 and self._may_join(i, inside) and self._of_one_layer(i, last)
            ]
            if not before:
                break
            inside.add(max(before))
        return found

    def layer_norm(self, last: int) -> Found | None:
        """Layer normalization in pieces, (x - mean) / sqrt(mean of its square + epsilon), which ends with a quotient.

        Scale and shift follow it, and are a product and a sum as others.
        """
        node = self.nodes[last]
        over = self._before(node, 1, "Sqrt") if node.operator == "Div" and not node.domain else None
        added = self._before(over, 0, "Add") if over else None
        if node.operator != "Div" or over is None or added is None or node.inputs[0] not in self.makers:
            return None
        epsilon = next((self.constants[name] for name in added.inputs if name in self.constants), None)
        variance = next((name for name in added.inputs if name not in self.constants), "")
        centred = self.nodes[self.makers[node.inputs[0]]]
        mean_square, mean = self._maker(variance, "ReduceMean"), self._before(centred, 1, "ReduceMean")
        square = self._before(mean_square, 0, "Pow", "Mul") if mean_square else None
        if centred.operator != "Sub" or mean is None or mean_square is None or square is None or epsilon is None:
            return None
        is_square = square.operator == "Mul" or self._is_number(square.inputs[1], 2.0)
        if epsilon.size != 1 or not is_square or {*square.inputs} - self.constants.keys() != {node.inputs[0]}:
            return None
        parts = (node, over, added, centred, mean_square, mean, square)
        last_axis = all(
            self._axes(each) == [-1] and each.attributes.get("keepdims", 1) == 1 for each in (mean, mean_square)
        )
        if not last_axis or mean.inputs[0] != centred.inputs[0]:
            return None
        nodes = frozenset(self.makers[each.outputs[0]] for each in parts)
        return Found("layer_norm", centred.inputs[0], nodes, float(epsilon.reshape(())))

    def _maker(self, name: str, *operators: str) -> Node | None:
        node = self.nodes[self.makers[name]] if name in self.makers else None
        return node if node and node.operator in operators and not node.domain else None

    def _before(self, node: Node, i: int, *operators: str) -> Node | None:
        return self._maker(node.inputs[i], *operators) if len(node.inputs) > i else None

    def _is_number(self, name: str, value: float) -> bool:
        return name in self.constants and self.constants[name].size == 1 and bool(np.all(self.constants[name] == value))

    def _axes(self, node: Node) -> Any:
        return (
            self.constants.get(node.inputs[1], np.array(0)).tolist()
            if len(node.inputs) > 1
            else node.attributes.get("axes")
        )

    def _may_be(self, i: int) -> bool:
        node = self.nodes[i]
        if node.operator not in ALL or node.domain or len(node.outputs) != 1:
            return False
        if len(node.inputs) > JOINS.get(node.operator, 3):
            return False
        return all(self.constants[name].size == 1 for name in node.inputs if name in self.constants)

    def _may_join(self, i: int, inside: set[int]) -> bool:
        return self._may_be(i) and all(user in inside for user in self.users[self.nodes[i].outputs[0]])

    def _of_one_layer(self, i: int, j: int) -> bool:
        path, other = (self.nodes[each].name.rpartition("/")[0] for each in (i, j))
        return path == other or not self.one_path

    def _outside(self, inside: set[int]) -> set[str]:
        made = {self.nodes[i].outputs[0] for i in inside}
        names = {name for i in inside for name in self.nodes[i].inputs if name}
        return names - made - self.constants.keys()

    def _axes_of_constants(self, inside: set[int]) -> int:
        names = {name for i in inside for name in self.nodes[i].inputs} & self.constants.keys()
        return max((self.constants[name].ndim for name in names), default=0)

    def _is_more_than_affine(self, inside: set[int]) -> bool:
        """Whether it is one operator that is an activation, or holds one that is only part of one, or a join."""
        nodes = [self.nodes[i] for i in inside]
        if len(nodes) == 1 and nodes[0].operator in WHOLE:
            return True
        joins = [node for node in nodes if sum(name not in self.constants for name in filter(None, node.inputs)) > 1]
        return bool(joins) or any(node.operator in PARTS for node in nodes)

    def _named(self, inside: set[int], last: int, name: str) -> str | None:
        values: dict[str, Any] = {name: POINTS}
        self.left -= len(inside)
        if self.left < 0:
            raise FileError("the graph has more arithmetic in a row than portnn looks through for activations")
        with np.errstate(all="ignore"):
            for i in sorted(inside):
                node = self.nodes[i]
                inputs = [self._value(each, values) if each else None for each in node.inputs]
                try:
                    values[node.outputs[0]] = ALL[node.operator](node.attributes, *inputs)
                except (TypeError, ValueError):  # too few inputs, or attributes of another kind
                    return None
            given = np.broadcast_to(np.asarray(values[self.nodes[last].outputs[0]], np.float64), POINTS.shape)
            names, known = _known()
            alike = np.abs(given - known) <= NEAR * (1.0 + np.abs(known))
            alike[:, : len(FAR)] |= ~np.isfinite(given[: len(FAR)])
            alike = alike.all(axis=1)
            return names[int(alike.argmax())] if alike.any() else None

    def _value(self, name: str, values: dict[str, Any]) -> Any:
        return values[name] if name in values else self.constants[name].reshape(()).astype(np.float64)


@cache
def _known() -> tuple[list[str], np.ndarray]:
    """The names of the activations, and for each its values at the points."""
    return list(PAIRS), np.stack([np.asarray(pair[0](POINTS)) for pair in PAIRS.values()])
