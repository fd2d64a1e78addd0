"""A graph being written: nodes, initializers, and the order of the axes of each value in it."""

from typing import Any, NamedTuple

import numpy as np

from portnn._typing import Shape
from portnn.exchange.onnx_graph.extra import onnx


class Value(NamedTuple):
    """A value of the graph: its name, and the shape of one sample as portnn has it, channels last.

    ``second``: in the graph the channels come second, (N, C, H, W), as ONNX's operators for images want it.
    ``order``: of a row that was flattened so, the sizes (C, H, W); the row is portnn's with its values permuted.
    """

    name: str
    shape: Shape
    second: bool = False
    order: Shape | None = None


class Graph:
    """Collects nodes and initializers. Each is named by the path of the layer that it belongs to."""

    def __init__(self, dtype: str, opset: int):
        self.dtype, self.opset = np.dtype(dtype), opset
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._turned: dict[tuple[str, bool], str] = {}  # values of which both orders of the axes are there
        self._names: set[str] = set()

    @property
    def exact(self) -> bool:
        """Whether constants must not be attributes, which are float32."""
        return bool(self.dtype == np.float64)

    def node(self, path: str, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Appends a node; returns the name of its output."""
        name = self._free(f"{path}/{operator}")
        self.nodes.append(onnx().helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, path: str, what: str, value: Any, dtype: Any = None) -> str:
        """Adds an initializer, ``path.what``; returns its name."""
        array = np.array(value, dtype or self.dtype, order="C")
        name = self._free(f"{path}.{what}")
        self.initializers[name] = array
        return name

    def number(self, path: str, what: str, value: float) -> str:
        """A constant of no axes."""
        return self.constant(path, what, np.asarray(value))

    def _free(self, name: str) -> str:
        free, count = name, 1
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        self._names.add(free)
        return free

    def reserve(self, *names: str) -> None:
        """Names that no node may have."""
        self._names.update(names)

    def turned(self, path: str, value: Value, second: bool) -> Value:
        """The value with its channels second, or last; a transpose is added unless one is there already."""
        if value.second == second or len(value.shape) < 2:
            return value
        key = value.name, second
        if key not in self._turned:
            axes = len(value.shape)
            order = [0, axes, *range(1, axes)] if second else [0, *range(2, axes + 1), 1]
            name = self.node(path, "Transpose", [value.name], perm=order)
            self._turned[key], self._turned[name, not second] = name, value.name
        return value._replace(name=self._turned[key], second=second)

    def has(self, value: Value, second: bool) -> bool:
        """Whether the value is there in that order of the axes, without another transpose."""
        return value.second == second or len(value.shape) < 2 or (value.name, second) in self._turned

    def alike(self, path: str, values: list[Value]) -> list[Value]:
        """The values in one order of the axes, by the fewest transposes."""
        missing = {second: sum(not self.has(value, second) for value in values) for second in (True, False)}
        return [self.turned(path, value, missing[True] <= missing[False]) for value in values]

    def after(self, value: Value, name: str, shape: Shape | None = None) -> Value:
        """The value that a node made of another one, with the same order of the axes."""
        return value._replace(name=name, shape=value.shape if shape is None else shape)


def rounded(path: str, number: float, dtype: Any) -> float:
    """A number as a graph's dtype holds it; ValueError for one that is too large."""
    with np.errstate(over="ignore"):
        found = float(dtype(number))
    if not np.isfinite(found):
        raise ValueError(f"layer {path} has the constant {number}, which is infinite as a {dtype.__name__} of ONNX")
    return found
