"""Activation functions in ONNX's operators.

Attributes of operators are float32. In a graph of float64 the constants are tensors instead, and the functions that
ONNX has with such attributes are written in pieces. So are those that onnxruntime computes in float32 only.
"""

from collections.abc import Callable
from math import pi, sqrt

from portnn.activations import GELU_CUBE, LEAK, SELU_ALPHA, SELU_SCALE
from portnn.exchange.onnx_graph.graph import Graph

GELU_OPERATOR = 20  # the opset from which ONNX has Gelu


def _single(operator: str) -> Callable[[Graph, str, str], str]:
    return lambda g, path, x: g.node(path, operator, [x])


def _leaky_relu(g: Graph, path: str, x: str) -> str:
    if not g.exact:
        return g.node(path, "LeakyRelu", [x], alpha=LEAK)
    return g.node(path, "Max", [x, g.node(path, "Mul", [x, g.number(path, "slope", LEAK)])])


def _elu(g: Graph, path: str, x: str) -> str:
    """relu(x) + exp(-relu(-x)) - 1."""
    if not g.exact:
        return g.node(path, "Elu", [x], alpha=1.0)
    return g.node(path, "Add", [g.node(path, "Relu", [x]), _below(g, path, x)])


def _below(g: Graph, path: str, x: str) -> str:
    """elu(min(x, 0)) = exp(-relu(-x)) - 1."""
    negative = g.node(path, "Neg", [g.node(path, "Relu", [g.node(path, "Neg", [x])])])
    return g.node(path, "Sub", [g.node(path, "Exp", [negative]), g.number(path, "one", 1.0)])


def _selu(g: Graph, path: str, x: str) -> str:
    """s relu(x) + s a elu(min(x, 0))."""
    if not g.exact:
        return g.node(path, "Selu", [x], alpha=SELU_ALPHA, gamma=SELU_SCALE)
    above = g.node(path, "Mul", [g.node(path, "Relu", [x]), g.number(path, "scale", SELU_SCALE)])
    below = g.node(path, "Mul", [_below(g, path, x), g.number(path, "slope", SELU_SCALE * SELU_ALPHA)])
    return g.node(path, "Add", [above, below])


def _softplus(g: Graph, path: str, x: str) -> str:
    """log(1 + exp x) = relu(x) + log(1 + exp(-|x|))."""
    if not g.exact:
        return g.node(path, "Softplus", [x])
    small = g.node(path, "Exp", [g.node(path, "Neg", [g.node(path, "Abs", [x])])])
    small = g.node(path, "Log", [g.node(path, "Add", [small, g.number(path, "one", 1.0)])])
    return g.node(path, "Add", [g.node(path, "Relu", [x]), small])


def _softsign(g: Graph, path: str, x: str) -> str:
    """x / (1 + |x|)."""
    if not g.exact:
        return g.node(path, "Softsign", [x])
    divisor = g.node(path, "Add", [g.node(path, "Abs", [x]), g.number(path, "one", 1.0)])
    return g.node(path, "Div", [x, divisor])


def _gelu(g: Graph, path: str, x: str) -> str:
    """x (1 + erf(x / sqrt 2)) / 2."""
    if g.opset >= GELU_OPERATOR and not g.exact:
        return g.node(path, "Gelu", [x])
    inner = g.node(path, "Erf", [g.node(path, "Mul", [x, g.number(path, "root", 1.0 / sqrt(2.0))])])
    return _half(g, path, x, inner)


def _gelu_tanh(g: Graph, path: str, x: str) -> str:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2."""
    if g.opset >= GELU_OPERATOR and not g.exact:
        return g.node(path, "Gelu", [x], approximate="tanh")
    cube = g.node(path, "Mul", [g.node(path, "Mul", [x, x]), x])
    inner = g.node(path, "Add", [x, g.node(path, "Mul", [cube, g.number(path, "cube", GELU_CUBE)])])
    inner = g.node(path, "Mul", [inner, g.number(path, "root", sqrt(2.0 / pi))])
    return _half(g, path, x, g.node(path, "Tanh", [inner]))


def _half(g: Graph, path: str, x: str, inner: str) -> str:
    shifted = g.node(path, "Add", [inner, g.number(path, "one", 1.0)])
    return g.node(path, "Mul", [g.node(path, "Mul", [x, g.number(path, "half", 0.5)]), shifted])


def _silu(g: Graph, path: str, x: str) -> str:
    return g.node(path, "Mul", [x, g.node(path, "Sigmoid", [x])])


def _hard_sigmoid(g: Graph, path: str, x: str) -> str:
    if not g.exact:
        return g.node(path, "HardSigmoid", [x], alpha=1.0 / 6.0, beta=0.5)
    x = g.node(path, "Mul", [x, g.number(path, "sixth", 1.0 / 6.0)])
    x = g.node(path, "Add", [x, g.number(path, "half", 0.5)])
    return g.node(path, "Clip", [x, g.number(path, "least", 0.0), g.number(path, "most", 1.0)])


def _hard_swish(g: Graph, path: str, x: str) -> str:
    return g.node(path, "Mul", [x, _hard_sigmoid(g, path, x)])


PIECES: dict[str, Callable[[Graph, str, str], str]] = {
    "tanh": _single("Tanh"),
    "sigmoid": _single("Sigmoid"),
    "relu": _single("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "softplus": _softplus,
    "softsign": _softsign,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
}
