"""The forward pass of a network in JavaScript, written out layer by layer."""

import base64
import json
import re
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import activation_name, called, shown

MOST_BYTES = 200_000_000  # of weights: browsers hold no text of much more than their base64
LINE = 120  # characters of base64


class Step(NamedTuple):
    """One layer on the page: its path, how it is called, the shape of its output."""

    path: str
    about: str
    shape: Shape


class Writer:
    """Writes the lines of ``forward``, a layer at a time, and notes the arrays that they use.

    ``x`` is where a layer's input is, in JavaScript: ``x``, the network's, or ``y["2.0"]``, what that layer returned.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[Step] = []
        self.arrays: dict[str, np.ndarray] = {}  # by path

    def chain(self, layers: Any, x: str, shape: Shape) -> tuple[str, Shape]:
        """Lines for layers in order: where the last one's output is, and its shape."""
        for layer in layers:
            x, shape = self.layer(layer, x, shape)
        return x, shape

    def layer(self, layer: Any, x: str, shape: Shape) -> tuple[str, Shape]:
        after = counterparts.shape_after(layer, shape)
        if type(layer).__name__ in COMPOSITES:
            call, about = COMPOSITES[type(layer).__name__](self, layer, x, shape), f"{type(layer).__name__}, as a whole"
        else:
            call, about = CALLS[type(layer).__name__](self, layer, x, shape), repr(layer)
        target = f"y[{json.dumps(layer.path)}]"
        self.lines += [f"// {layer.path}  {about}: {shown(shape)} -> {shown(after)}", f"{target} = {call};"]
        self.steps.append(Step(layer.path, about, after))
        return target, after

    def array(self, layer: Any, name: str) -> str:
        """A parameter or buffer of a layer; ``null`` for one that it does not have."""
        home = layer.parameters if name in layer.parameters else layer.buffers
        if name not in home:
            return "null"
        path = f"{layer.path}.{name}"
        self.arrays[path] = np.asarray(layer.backend.to_numpy(home[name]))
        return f"weights[{json.dumps(path)}]"


def _number(value: float) -> str:
    return repr(float(value))


# -- a function for each kind of layer: what is called for it ----------------------------------------------------------


def _fully_connected(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"fullyConnected({x}, {w.array(layer, 'weights')}, {w.array(layer, 'bias')})"


def _convolution(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    plan = counterparts.convolution(layer)
    options = {
        "stride": plan.stride,
        "padding": plan.padding,
        "dilation": plan.dilation,
        "groups": layer.groups,
    }
    return f"convolution({x}, {w.array(layer, 'weights')}, {w.array(layer, 'bias')}, {_options(options)})"


def _options(options: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{name}: {json.dumps(value)}" for name, value in options.items()) + " }"


def _pool(function: str) -> Callable[..., str]:
    def call(w: Writer, layer: Any, x: str, shape: Shape) -> str:
        plan = counterparts.pooling(layer, shape)
        return f"{function}({x}, {json.dumps(plan.window)}, {json.dumps(plan.stride)}, {json.dumps(plan.padding)})"

    return call


def _plain(function: str) -> Callable[..., str]:
    return lambda w, layer, x, shape: f"{function}({x})"


def _upsample(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"upsample({x}, {json.dumps(layer.factors(len(shape) - 1))})"


def _reshape(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"reshape({x}, {json.dumps(getattr(layer, 'shape', (prod(shape),)))})"


def _scale(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"scale({x}, {_number(layer.factor)}, {_number(layer.offset)})"


def _activation(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    name = activation_name(layer)
    assert name is not None, "others are refused before"
    return f"activation({x}, {name})"


def _nothing(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return x


def _batch_norm(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    arrays = ", ".join(w.array(layer, name) for name in ("weights", "bias", "running_mean", "running_var"))
    return f"batchNorm({x}, {arrays}, {_number(layer.epsilon)})"


def _layer_norm(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"layerNorm({x}, {w.array(layer, 'weights')}, {w.array(layer, 'bias')}, {_number(layer.epsilon)})"


def _group_norm(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    arrays = f"{w.array(layer, 'weights')}, {w.array(layer, 'bias')}"
    return f"groupNorm({x}, {arrays}, {layer.groups}, {_number(layer.epsilon)})"


CALLS: dict[str, Callable[..., str]] = {
    "FCLayer": _fully_connected,
    "ConvLayer": _convolution,
    "ActivationLayer": _activation,
    "FlattenLayer": _reshape,
    "ReshapeLayer": _reshape,
    "ScaleLayer": _scale,
    "MaxPoolLayer": _pool("maxPool"),
    "AvgPoolLayer": _pool("avgPool"),
    "GlobalMaxPoolLayer": _plain("globalMaxPool"),
    "GlobalAvgPoolLayer": _plain("globalAvgPool"),
    "UpsampleLayer": _upsample,
    "DropoutLayer": _nothing,  # in training only
    "RandomAffineLayer": _nothing,
    "BatchNormLayer": _batch_norm,
    "LayerNormLayer": _layer_norm,
    "GroupNormLayer": _group_norm,
    "SoftmaxLayer": _plain("softmax"),
}


def _sequential(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return w.chain(layer.layers, x, shape)[0]


def _residual(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    return f"add({x}, {w.chain(layer.layers, x, shape)[0]})"


def _parallel(w: Writer, layer: Any, x: str, shape: Shape) -> str:
    branches = [w.layer(branch, x, shape)[0] for branch in layer.layers]
    return f"{'add' if layer.merge == 'add' else 'concatenate'}({', '.join(branches)})"


COMPOSITES: dict[str, Callable[..., str]] = {
    "SequentialLayer": _sequential,
    "ResidualLayer": _residual,
    "ParallelLayer": _parallel,
}


# -- what has no counterpart -------------------------------------------------------------------------------------------


def check(network: Any) -> None:
    """ValueError that lists all layers without a counterpart; RuntimeError for parameters that do not exist yet."""
    counterparts.check(network, "the page", "JavaScript", {*CALLS, *COMPOSITES}, MOST_BYTES)


# -- the script --------------------------------------------------------------------------------------------------------


def script(writer: Writer, result: str, dtype: str, library: str, also: tuple[str, ...] = ()) -> str:
    """``forward``, which returns ``result``, and all functions of the ``library`` that it needs; ``also`` these."""
    body = "\n".join(f"  {_one_line(line)}" for line in writer.lines)
    single = dtype == "float32"
    kind, rounded = ("Float32Array", "Math.fround") if single else ("Float64Array", "(x) => x")
    forward = (
        "// The forward pass. x is one sample; y gets what each layer returns, by its path in the network.\n"
        f"function forward(x, y = {{}}) {{\n{body}\n  return {result};\n}}"
    )
    needed = functions(library, f"{forward} {' '.join(also)}")
    return (
        f"const Numbers = {kind}; // the network computes in {dtype}\n"
        f"const round = {rounded};\n"
        "const weights = {}; // read at the end of this page\n\n" + "\n\n".join([forward, *needed])
    )


def _one_line(text: str) -> str:
    """Text for a comment or a call, which can neither leave its line nor end the script."""
    return re.sub(r"[\r\n\u2028\u2029]", " ", text).replace("</", "<\\/").replace("<!--", "<\\!--")


def functions(source: str, calling: str) -> list[str]:
    """The functions of a file that some code calls, and those that they call, in the order of the file."""
    blocks = {}
    for block in source.split("\n\n"):
        if found := re.search(r"^function (\w+)", block, re.MULTILINE):
            blocks[found[1]] = block.strip()
    return called(blocks, calling, _words)


def _words(code: str) -> set[str]:
    """The names in code, without its comments."""
    return set(re.findall(r"\w+", re.sub(r"//.*", "", code)))


def weights_script(writer: Writer) -> str:
    """The weights, as the bytes of little-endian numbers in base64."""
    parts = [
        "// Weights: the bytes of little-endian numbers, in base64.",
        "function unpack(shape, text) {",
        "  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));",
        "  const view = new DataView(bytes.buffer);",
        "  const size = Numbers.BYTES_PER_ELEMENT;",
        "  const read = (_, i) => (size === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true));",
        "  return tensor(shape, Numbers.from({ length: bytes.length / size }, read));",
        "}",
    ]
    for path, array in writer.arrays.items():
        data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
        lines = "\n".join(data[i : i + LINE] for i in range(0, len(data), LINE))
        parts.append(f"weights[{json.dumps(path)}] = unpack({json.dumps(array.shape)}, `\n{lines}`);")
    return "\n".join(parts)
