"""What each of ONNX's operators is in layers: one function for each.

It is given the steps so far, the node, and its inputs, constants as arrays and others as ``Var``; it returns what the
node makes, and raises NoLayerError, with the reason, for what no layer does.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from portnn.exchange.onnx_graph.normalizing import NORMALIZING
from portnn.exchange.onnx_graph.proto import Node
from portnn.exchange.onnx_graph.shaping import SHAPING
from portnn.exchange.onnx_graph.steps import NoLayerError, Scale, Steps, Var, function
from portnn.exchange.onnx_graph.structure import Piece
from portnn.exchange.onnx_graph.windowing import WINDOWING
from portnn.layers import ConvLayer, FCLayer, ReshapeLayer, SoftmaxLayer

Operator = Callable[[Steps, Node, list[Any]], Var]


# -- products ----------------------------------------------------------------------------------------------------------


def _matmul(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, weights = inputs
    if not isinstance(x, Var) or not isinstance(weights, np.ndarray):
        raise NoLayerError("one of its inputs must be the weights, the second one")
    if weights.ndim != 2:
        raise NoLayerError(f"its weights have shape {weights.shape}, expected two axes")
    return _product(s, x, s.weights(weights), None)


def _gemm(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, weights, bias = (*inputs, None, None)[:3]
    a = node.attributes
    if not isinstance(x, Var) or a.get("transA", 0):
        raise NoLayerError("its first input must be samples, not transposed")
    x = s.full(x)
    if len(x.seen) != 1:
        raise NoLayerError(f"it takes rows, but samples come as {x.seen}")
    weights = s.weights(weights)
    if weights.ndim != 2:
        raise NoLayerError(f"its weights have shape {weights.shape}, expected two axes")
    weights = np.ascontiguousarray(weights.T) if a.get("transB", 0) else weights
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    if bias is not None:
        bias = s.weights(bias)
        if bias.size not in (1, weights.shape[1]) or (bias.ndim > 1 and bias.shape[0] != 1):
            raise NoLayerError(f"its bias has shape {bias.shape}, expected ({weights.shape[1]},)")
        bias = np.broadcast_to(bias.reshape(1, -1), (1, weights.shape[1])) * bias.dtype.type(beta)
    return _product(s, x, weights if alpha == 1.0 else weights * weights.dtype.type(alpha), bias)


def _product(s: Steps, x: Var, weights: np.ndarray, bias: np.ndarray | None) -> Var:
    x = s.full(x)
    if x.axes != x.plain:
        raise NoLayerError(f"it acts on an axis that is not the channels: samples come as {x.seen}")
    size, made = weights.shape
    if x.shape[-1] != size:
        raise NoLayerError(f"it takes {size} values, but samples come as {x.seen}")
    arrays = {"weights": s.in_order(x, weights)} | ({} if bias is None else {"bias": np.array(bias)})
    piece = Piece("linear", lambda bias: FCLayer(size, made, bias=bias), arrays)
    return s.add(replace(x, order=None), piece, (*x.shape[:-1], made))


# -- sums and constants ------------------------------------------------------------------------------------------------


def _add(s: Steps, node: Node, inputs: list[Any]) -> Var:
    values = [each for each in inputs if isinstance(each, Var)]
    if len(values) == 1 and len(inputs) == 2:
        (constant,) = (each for each in inputs if not isinstance(each, Var))
        return _shifted(s, values[0], _aligned(s, node, values[0], constant))
    if len(values) < len(inputs):
        raise NoLayerError("a sum of constants and several values")
    return _merged(s, values, "add")


def _merged(s: Steps, values: list[Var], how: str) -> Var:
    values = [s.settled(each) for each in values]
    if any(each.axes != values[0].axes or each.order != values[0].order for each in values):
        raise NoLayerError("its inputs have their axes in different orders")
    if how == "concat":
        first = values[0]
        if first.order is not None or first.axes is None:
            raise NoLayerError("its inputs were flattened with the channels first")
        if any(each.shape[:-1] != first.shape[:-1] for each in values):
            raise NoLayerError(f"its inputs have shapes {[each.seen for each in values]}")
        return s.merge(values, how, (*first.shape[:-1], sum(each.shape[-1] for each in values)))
    if any(each.seen != values[0].seen or each.shape != values[0].shape for each in values):
        raise NoLayerError(f"a sum of values of different shapes, {' and '.join(str(each.seen) for each in values)}")
    return s.merge(values, how, values[0].shape) if len(values) > 1 else values[0]


def _concat(s: Steps, node: Node, inputs: list[Any]) -> Var:
    if not all(isinstance(each, Var) for each in inputs):
        raise NoLayerError("one of its inputs is a constant")
    values = [s.settled(each) for each in inputs]
    axis = node.attributes.get("axis", 1) % (len(values[0].seen) + 1)
    if len(values) == 1:
        return values[0]
    if axis != values[0].channel:
        raise NoLayerError("it joins another axis than the channels")
    return _merged(s, values, "concat")


def _sub(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, y = inputs
    if isinstance(x, Var) and isinstance(y, Var):
        return _merged(s, [x, s.add(s.settled(y), Scale(-1.0))], "add")
    if isinstance(x, Var):
        return _shifted(s, x, -_aligned(s, node, x, y))
    return _shifted(s, s.add(s.settled(y), Scale(-1.0)), _aligned(s, node, y, x))


def _mul(s: Steps, node: Node, inputs: list[Any]) -> Var:
    values = [each for each in inputs if isinstance(each, Var)]
    if len(values) != 1:
        raise NoLayerError("a product of two values")
    (constant,) = (each for each in inputs if not isinstance(each, Var))
    return _scaled(s, values[0], _aligned(s, node, values[0], constant))


def _div(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, y = inputs
    if not isinstance(x, Var) or isinstance(y, Var):
        raise NoLayerError("a quotient by a value that is not constant")
    constant = _aligned(s, node, x, y)
    if not constant.all():
        raise NoLayerError("a quotient by zero")
    return _scaled(s, x, 1.0 / constant)


def _aligned(s: Steps, node: Node, x: Var, constant: Any) -> np.ndarray:
    """A constant with axes as NumPy has them; before opset 7 an attribute says at which axis of x its first one is."""
    array = s.weights(constant)
    if array.ndim > len(x.seen) + 1:
        raise NoLayerError(f"its constant has shape {array.shape}, more axes than the batch")
    if s.opset >= 7 or "axis" not in node.attributes:
        return array
    behind = len(x.seen) + 1 - node.attributes["axis"] % (len(x.seen) + 1) - array.ndim
    return array.reshape(*array.shape, *(1 for _ in range(behind)))


def _channels(x: Var, constant: np.ndarray) -> np.ndarray | None:
    """A constant as one number for each channel, (C,); None if it is something else."""
    axes, channels = len(x.seen) + 1, x.shape[-1]
    shape = (1,) * (axes - constant.ndim) + constant.shape
    expected = tuple(channels if axis == x.channel else 1 for axis in range(axes))
    return constant.reshape(channels) if constant.ndim and shape == expected else None


def _with_weights(s: Steps, x: Var) -> Piece | None:
    """The layer with weights that makes x, or makes what x is another shape of, with the same channels."""
    while (piece := s.before(x, "reshape")) and piece.before[-1:] == x.shape[-1:]:
        x = replace(x, step=s.all[x.step].inputs[0], shape=piece.before)
    return s.before(x, "linear", "norm")


def _shifted(s: Steps, x: Var, constant: np.ndarray) -> Var:
    x = s.settled(x)
    each, piece = _channels(x, constant), _with_weights(s, x)
    if each is not None and piece is not None:
        each = s.in_order(x, each)
        if piece.kind == "linear":
            each = each.reshape(1, -1) if piece.arrays["weights"].ndim == 2 else each
        old = piece.arrays.get("bias")
        piece.arrays["bias"] = each if old is None or not old.any() else old + each
        return x
    if constant.size != 1:
        if each is None:
            raise NoLayerError(f"it adds a constant of shape {constant.shape}, not one number for each channel")
        return _by_channel(s, x, np.ones_like(each), each)
    offset = float(constant.reshape(()))
    before = s.before(x, "scale")
    if isinstance(before, Scale) and not before.offset and before.factor != 1.0 and before.path == s.path:
        before.offset = offset
        return x
    return s.add(x, Scale(1.0, offset))


def _scaled(s: Steps, x: Var, constant: np.ndarray) -> Var:
    x = s.settled(x)
    each, piece = _channels(x, constant), _with_weights(s, x)
    if each is not None and piece is not None:
        each = s.in_order(x, each)
        piece.arrays["weights"] = piece.arrays["weights"] * each  # the last axis of all weights is that of channels
        if "bias" in piece.arrays and piece.arrays["bias"].any():
            piece.arrays["bias"] = piece.arrays["bias"] * each
        return x
    if constant.size != 1:
        if each is None:
            raise NoLayerError(
                f"it multiplies by a constant of shape {constant.shape}, not one number for each channel"
            )
        return _by_channel(s, x, each)
    return s.add(x, Scale(float(constant.reshape(()))))


def _by_channel(s: Steps, x: Var, factors: np.ndarray, offsets: np.ndarray | None = None) -> Var:
    """A factor and an offset for each channel of what no layer with weights has made: a convolution of one pixel, in
    which each channel is a group. Keras' exporters write batch normalization so."""
    x = s.full(x)
    arrays = {"weights": s.in_order(x, factors)} | ({} if offsets is None else {"bias": s.in_order(x, offsets)})
    row, channels = len(x.shape) == 1, x.shape[-1]
    shape = (1, channels) if row else x.shape
    if len(shape) > 3:
        raise NoLayerError("it has a number for each channel of an image with three axes")
    s.pay(2 * channels)
    window = (1,) * (len(shape) - 1)
    arrays["weights"] = arrays["weights"].reshape(*window, 1, channels)
    piece = Piece("linear", lambda bias: ConvLayer(shape, window, channels, groups=channels, bias=bias), arrays)
    if not row:
        return s.add(replace(x, free=False), piece)
    made = s.add(replace(x, free=False), Piece("reshape", lambda: ReshapeLayer(shape)))
    return s.add(s.add(made, piece), Piece("reshape", lambda: ReshapeLayer((channels,))))


# -- functions ---------------------------------------------------------------------------------------------------------


def activation(s: Steps, x: Var, name: str) -> Var:
    """An activation of portnn's."""
    return s.add(s.settled(x), function(name))


def _mixed(s: Steps, x: Var, name: str, share: float, other: Piece) -> Var:
    """share * other(x) + (1 - share) * the activation, as a parallel layer."""
    x = s.settled(x)
    mixed = s.add(s.add(x, other), Scale(share)) if other.kind != "scale" else s.add(x, other)
    return s.merge([mixed, s.add(s.add(x, function(name)), Scale(1.0 - share))], "add", x.shape)


def _leaky_relu(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """max(x, 0) + a min(x, 0) = a x + (1 - a) relu(x)."""
    slope = node.attributes.get("alpha", 0.01)
    if node.operator == "PRelu":
        constant = s.weights(inputs[1])
        if constant.size != 1 or constant.ndim > len(inputs[0].seen) + 1:
            raise NoLayerError(f"it has a slope for each channel, of shape {constant.shape}")
        slope = float(constant.reshape(()))
    slope = decimal(slope)
    return _mixed(s, inputs[0], "relu", slope, Scale(slope))


def _elu(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """max(x, 0) + a (exp(min(x, 0)) - 1) = a elu(x) + (1 - a) relu(x)."""
    return _mixed(s, inputs[0], "relu", decimal(node.attributes.get("alpha", 1.0)), function("elu"))


def _celu(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """a elu(x / a)."""
    alpha = decimal(node.attributes.get("alpha", 1.0))
    if alpha <= 0.0:
        raise NoLayerError(f"alpha={alpha}")
    return s.add(activation(s, s.add(s.settled(inputs[0]), Scale(1.0 / alpha)), "elu"), Scale(alpha))


def _swish(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """x sigmoid(a x) = silu(a x) / a."""
    alpha = decimal(node.attributes.get("alpha", 1.0))
    if alpha == 0.0:
        return s.add(s.settled(inputs[0]), Scale(0.5))
    return s.add(activation(s, s.add(s.settled(inputs[0]), Scale(alpha)), "silu"), Scale(1.0 / alpha))


def _hard_sigmoid(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """max(0, min(1, a x + b)) is our function of 6 (a x + b - 1/2)."""
    alpha, beta = decimal(node.attributes.get("alpha", 0.2)), decimal(node.attributes.get("beta", 0.5))
    return activation(s, s.add(s.settled(inputs[0]), Scale(6.0 * alpha, 6.0 * (beta - 0.5))), "hard_sigmoid")


def _clip(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """Values from a to b: a + (b - a) hard_sigmoid(6 (x - a) / (b - a) - 3)."""
    x, *limits = inputs
    a = node.attributes
    low, high = (
        float(limits[i].reshape(())) if i < len(limits) and isinstance(limits[i], np.ndarray) else a.get(name)
        for i, name in enumerate(("min", "max"))
    )
    if not isinstance(x, Var) or low is None or high is None or not np.isfinite([low, high]).all() or high <= low:
        raise NoLayerError(f"it keeps values from {low} to {high}")
    width = high - low
    x = s.add(s.settled(x), Scale(6.0 / width, -6.0 * low / width - 3.0))
    return s.add(activation(s, x, "hard_sigmoid"), Scale(width, low))


def _softmax(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = s.settled(inputs[0])
    axes = len(x.seen) + 1
    axis = node.attributes.get("axis", -1 if s.opset >= 13 else 1) % axes
    flattens = (
        s.opset < 13 and prod(x.seen[axis - 1 :]) != x.seen[axis - 1]
    )  # older ones take all axes from this one on
    if axis != x.channel or flattens or x.axes is None:
        raise NoLayerError("it acts on another axis than the channels")
    return s.add(x, Piece("softmax", SoftmaxLayer))


def _dropout(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, _, training = (*inputs, None, None)[:3]
    if s.opset < 7 and not node.attributes.get("is_test", 0):
        raise NoLayerError("it drops values in prediction too")
    if training is not None and not (isinstance(training, np.ndarray) and not training.any()):
        raise NoLayerError("it drops values in prediction too")
    return x


def _same(s: Steps, node: Node, inputs: list[Any]) -> Var:
    return inputs[0]


def _cast(s: Steps, node: Node, inputs: list[Any]) -> Var:
    if node.attributes.get("to") != {"float32": 1, "float64": 11}[s.dtype]:
        raise NoLayerError(f"it makes another dtype than {s.dtype}")
    return inputs[0]


def decimal(value: float) -> float:
    """The shortest decimal number that is this float32, which is how attributes are stored: 0.1, not 0.100000001."""
    return float(str(np.float32(value)))


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "Cast": _cast,
    "Celu": _celu,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _elu,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": lambda s, node, inputs: s.add(s.settled(inputs[0]), Scale(-1.0)),
    "PRelu": _leaky_relu,
    "Softmax": _softmax,
    "Sub": _sub,
    "Sum": _add,
    "Swish": _swish,
    **NORMALIZING,
    **SHAPING,
    **WINDOWING,
}
