"""Constants that a graph computes, such as the shape that it gives to Reshape, and what they are.

In the shape of a batch the number of samples is not known; ``BATCH`` stands for it, or in int32 another mark. It may be
moved, not computed with.
"""

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from portnn.exchange.onnx_graph.proto import MOST_VALUES, Node
from portnn.files.errors import FileError

BATCH = -(1 << 60)
MARKS = {"int32": -(1 << 30), "int64": BATCH}  # by dtype: TensorFlow's shapes are int32
DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}  # by ONNX's numbers


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
        unknown = [each is not None and bool(np.any(_marked(each))) for each in inputs]
        # All of Concat's inputs are moved, of the others' the first one: the rest says to where.
        if any(unknown) and (node.operator not in MOVES or (node.operator != "Concat" and any(unknown[1:]))):
            raise UnfoldableError
        if self.opset < 7 and "axis" in node.attributes and node.operator in BROADCAST:
            raise UnfoldableError  # these older ones lay the second input's axes elsewhere than NumPy
        try:
            with np.errstate(all="ignore"):
                made = FOLDS[node.operator](self, node.attributes, *inputs)
        except FileError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise UnfoldableError from error
        made = np.asarray(made)
        self.pay(made.size)
        marked = {each.dtype for mark, each in zip(unknown, inputs, strict=True) if mark and each is not None}
        if node.operator != "Cast" and not marked <= {made.dtype}:
            raise UnfoldableError  # the mark of one dtype is a number in another
        return made

    def pay(self, count: int) -> None:
        """Counts numbers that are about to be made."""
        self.left -= count
        if self.left < 0:
            raise FileError(f"the constants that the graph computes hold more than {2 * MOST_VALUES:,} numbers")


def _marked(array: np.ndarray) -> Any:
    """Where an array holds the mark of the number of samples."""
    return array == MARKS[array.dtype.name] if array.dtype.name in MARKS else False


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


def _of_one(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    def fold(f: Folder, a: dict[str, Any], x: np.ndarray) -> np.ndarray:
        _check_size(f, x.shape)
        return function(x)

    return fold


def _of_two(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    def fold(f: Folder, a: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
        _check_size(f, np.broadcast_shapes(x.shape, y.shape))
        return function(x, y)

    return fold


def _of_several(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """One after the other: NumPy's functions of two arrays would take a third one for their output."""
    pair = _of_two(function)

    def fold(f: Folder, a: dict[str, Any], *inputs: np.ndarray) -> np.ndarray:
        return reduce(lambda x, y: pair(f, a, x, y), inputs)

    return fold


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of whole numbers it is rounded towards zero."""
    if x.dtype.kind == "f":
        return x / y
    if not y.all():
        raise ValueError
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))


def _remainder(f: Folder, a: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _of_two(np.fmod if a.get("fmod", 0) else np.mod)(f, a, x, y)


def _gather(f: Folder, a: dict[str, Any], x: np.ndarray, places: np.ndarray) -> np.ndarray:
    axis = a.get("axis", 0)
    _check_size(f, (*np.delete(x.shape, axis).tolist(), *places.shape))
    return np.take(x, places, axis=axis)


def _cast(f: Folder, a: dict[str, Any], x: np.ndarray) -> np.ndarray:
    marked, made = _marked(x), x.astype(DTYPES[a["to"]])
    if np.any(marked):
        made[marked] = MARKS[made.dtype.name]  # KeyError: as another dtype it would be computed with
    return made


def _concat(f: Folder, a: dict[str, Any], *parts: np.ndarray) -> np.ndarray:
    f.pay(sum(part.size for part in parts))
    return np.concatenate(parts, axis=a["axis"])


FOLDS: dict[str, Callable[..., np.ndarray]] = {
    "Abs": _of_one(np.abs),
    "Add": _of_two(np.add),
    "Cast": _cast,
    "Ceil": _of_one(np.ceil),
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Div": _of_two(_quotient),
    "Exp": _of_one(np.exp),
    "Expand": _expand,
    "Floor": _of_one(np.floor),
    "Gather": _gather,
    "Identity": lambda f, a, x: x,
    "Max": _of_several(np.maximum),
    "Min": _of_several(np.minimum),
    "Mod": _remainder,
    "Mul": _of_two(np.multiply),
    "Neg": _of_one(np.negative),
    "Pow": _of_two(lambda x, y: np.power(x, y).astype(x.dtype)),
    "Reciprocal": _of_one(lambda x: 1 / x),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _of_one(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _of_two(np.subtract),
    "Transpose": lambda f, a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze,
}
BROADCAST = {"Add", "Div", "Mul", "Pow", "Sub"}
MOVES = {"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"}
