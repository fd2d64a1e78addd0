"""Constants that a graph computes, such as the shape that it gives to Reshape, and what they are.

In the shape of a batch the number of samples is not known; ``BATCH`` stands for it. It may be moved, not computed with.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from portnn.exchange.onnx_graph.proto import MOST_VALUES, Node
from portnn.files.errors import FileError

BATCH = -(1 << 60)


class UnfoldableError(Exception):
    """What a node computes cannot be known from the file."""


class Folder:
    """Computes nodes of constants. The numbers that all of them make are limited."""

    def __init__(self, opset: int):
        self.opset, self.left = opset, 2 * MOST_VALUES

    def fold(self, node: Node, inputs: list[np.ndarray | None]) -> np.ndarray:
        """What the node makes. UnfoldableError if it is none of those below, or does not suit its inputs."""
        if node.operator not in FOLDS or node.domain:
            raise UnfoldableError
        unknown = any(each is not None and each.dtype.kind == "i" and bool(np.any(each == BATCH)) for each in inputs)
        if unknown and node.operator not in MOVES:
            raise UnfoldableError
        try:
            with np.errstate(all="ignore"):
                made = FOLDS[node.operator](self, node.attributes, *inputs)
        except FileError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise UnfoldableError from error
        self.pay(made.size)
        return np.asarray(made)

    def pay(self, count: int) -> None:
        """Counts numbers that are about to be made."""
        self.left -= count
        if self.left < 0:
            raise FileError(f"the constants that the graph computes hold more than {2 * MOST_VALUES:,} numbers")


def _axes(attributes: dict[str, Any], given: np.ndarray | None, usual: Any = None) -> Any:
    axes = attributes.get("axes") if given is None else given.tolist()
    return usual if axes is None else axes


def _unsqueeze(f: Folder, a: dict[str, Any], x: np.ndarray, axes: Any = None) -> np.ndarray:
    return np.expand_dims(x, tuple(_axes(a, axes)))


def _squeeze(f: Folder, a: dict[str, Any], x: np.ndarray, axes: Any = None) -> np.ndarray:
    found = _axes(a, axes)
    return np.squeeze(x, None if found is None else tuple(found))


def _slice(f: Folder, a: dict[str, Any], x: np.ndarray, *given: Any) -> np.ndarray:
    if given:
        parts: list[Any] = [None if each is None else each.tolist() for each in (*given, None, None)[:4]]
        starts, ends, axes, steps = parts
    else:
        starts, ends, axes, steps = a["starts"], a["ends"], a.get("axes"), None
    place = [slice(None)] * x.ndim
    axes = range(len(starts)) if axes is None else axes
    for i, (axis, start, end) in enumerate(zip(axes, starts, ends, strict=True)):
        step = steps[i] if steps else 1
        place[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(place)]


def _reshape(f: Folder, a: dict[str, Any], x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = [x.shape[i] if n == 0 and not a.get("allowzero") else n for i, n in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _constant(f: Folder, a: dict[str, Any]) -> np.ndarray:
    if "value" in a:
        if not isinstance(a["value"], np.ndarray):
            raise TypeError
        return a["value"]
    if "value_float" in a or "value_floats" in a:
        return np.array(a.get("value_float", a.get("value_floats")), np.float32)
    return np.array(a["value_int"] if "value_int" in a else a["value_ints"], np.int64)


def _filled(f: Folder, a: dict[str, Any], shape: np.ndarray) -> np.ndarray:
    _check_size(f, shape.tolist())
    value = a.get("value", np.zeros(1, np.float32))
    return np.full(shape.tolist(), value.reshape(()), value.dtype)


def _expand(f: Folder, a: dict[str, Any], x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = np.broadcast_shapes(x.shape, tuple(shape.tolist()))
    _check_size(f, sizes)
    return np.broadcast_to(x, sizes).copy()


def _check_size(f: Folder, shape: Any) -> None:
    if any(n < 0 for n in shape) or prod(shape) > f.left:
        raise FileError(f"the graph computes a constant of shape {tuple(shape)!s:.80}")


def _elementwise(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def fold(f: Folder, a: dict[str, Any], *inputs: np.ndarray) -> np.ndarray:
        _check_size(f, np.broadcast_shapes(*(each.shape for each in inputs)))
        return np.asarray(function(*inputs))

    return fold


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype)


def _cast(f: Folder, a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x.astype({1: "float32", 11: "float64", 6: "int32", 7: "int64", 9: "bool"}[a["to"]])


def _concat(f: Folder, a: dict[str, Any], *parts: np.ndarray) -> np.ndarray:
    f.pay(sum(part.size for part in parts))
    return np.concatenate(parts, axis=a["axis"])


FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "Ceil": _elementwise(np.ceil),
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Div": _elementwise(_quotient),
    "Exp": _elementwise(np.exp),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": lambda f, a, x, i: np.take(x, i, axis=a.get("axis", 0)),
    "Identity": lambda f, a, x: x,
    "Max": _elementwise(np.maximum),
    "Min": _elementwise(np.minimum),
    "Mod": _elementwise(np.mod),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Pow": _elementwise(lambda x, y: np.power(x, y).astype(x.dtype)),
    "Reciprocal": _elementwise(lambda x: 1 / x),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda f, a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze,
}
MOVES = {"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"}
