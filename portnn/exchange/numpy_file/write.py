"""The Python file: the forward pass written out layer by layer, the functions that it calls, the weights."""

import base64
import json
import re
from collections.abc import Callable
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import called, folded, one_line, shown

LINE = 116  # characters of base64; what closes the text fits after them


def source(network: Any) -> str:
    """The text of the file for a network, whose layers have their paths and parameters."""
    counterparts.check(network, "the file", "NumPy", {*CALLS, *COMPOSITES})
    shape = counterparts.shape_of_samples(network)
    writer = Writer()
    output = writer.chain(network.layers, shape)
    lines = [*_taken(network, shape), *writer.lines, "return x"]
    predict = "\n".join(part for line in lines for part in folded(f"    {line}"))
    about = f"x is a batch of samples, (N, {_inside(shape)}), the result is (N, {_inside(output)}), in {network.dtype}."
    parts = [
        _filled(HEAD, made=counterparts.how_it_was_made('network.export("net.py")'), dtype=network.dtype, about=about),
        f'@np.errstate(all="ignore")  # infinity and NaN go through, as they do in the network\n'
        f'def predict(x):\n    """{about}"""\n{predict}',
        *functions(asset("layers.py"), f"{predict} {'unpack' if writer.arrays else ''}"),
        _weights(writer),
        MAIN,
    ]
    text = "\n\n\n".join(parts) + "\n"
    return text if writer.arrays else text.replace("import base64\n", "", 1)


HEAD = '''"""A neural network that computes with NumPy alone: predict(x) returns what it returned in portnn.

@made@
@about@

    python net.py x.npy          prints predict(x) for the array in x.npy, a sample a line
    python net.py x.npy y.npy    writes it to y.npy
"""

import base64
import sys

import numpy as np

DTYPE = "@dtype@"'''


MAIN = """def main(arguments):
    if len(arguments) not in (1, 2) or "--help" in arguments or "-h" in arguments:
        print(__doc__.strip())
        return 0 if "--help" in arguments or "-h" in arguments else 2
    try:
        y = predict(np.load(arguments[0], allow_pickle=False))
        if len(arguments) == 2:
            np.save(arguments[1], y)
            return 0
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for sample in y.reshape(len(y), int(np.prod(y.shape[1:]))):
        print(*map(str, sample))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))"""


def asset(name: str) -> str:
    """The text of a file in ``assets``."""
    return (files("portnn.exchange.numpy_file") / "assets" / name).read_text(encoding="utf-8")


def _filled(template: str, **parts: str) -> str:
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template)


def _inside(shape: Shape) -> str:
    return ", ".join(map(str, shape))


class Writer:
    """Writes the lines of ``predict``, a layer at a time, and notes the arrays that they use.

    Before and after each layer's lines, the values in flight are in the variable ``x``.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}  # by path

    def chain(self, layers: Any, shape: Shape) -> Shape:
        """Lines for layers in order; returns the shape of one sample after the last."""
        for layer in layers:
            shape = self.layer(layer, shape)
        return shape

    def layer(self, layer: Any, shape: Shape) -> Shape:
        after = counterparts.shape_after(layer, shape)
        name = type(layer).__name__
        whole = name in COMPOSITES
        about = f"{name}, as a whole" if whole else one_line(repr(layer))
        self.lines.append(f"# {layer.path}  {about}: {shown(shape)} -> {shown(after)}")
        if whole:
            COMPOSITES[name](self, layer, shape)
        elif call := CALLS[name](self, layer, shape):
            self.lines.append(f"x = {call}")
        return after

    def array(self, layer: Any, name: str) -> str:
        """A parameter or buffer of a layer; ``None`` for one that it does not have."""
        home = layer.parameters if name in layer.parameters else layer.buffers
        if name not in home:
            return "None"
        path = f"{layer.path}.{name}"
        self.arrays[path] = np.asarray(layer.backend.to_numpy(home[name]))
        return f"WEIGHTS[{json.dumps(path)}]"

    def arrays_of(self, layer: Any, *names: str) -> str:
        return ", ".join(self.array(layer, name) for name in names)


def _taken(network: Any, shape: Shape) -> list[str]:
    """The first lines of ``predict``: they refuse what the network does not take."""
    if all(layer.last_axis_only for layer in network.layers):
        fits, what = f"x.ndim < 2 or x.shape[-1] != {shape[-1]}", f"(N, ..., {shape[-1]})"
    elif _begins_with_a_new_shape(network.layers):
        fits, what = f"x.ndim < 2 or np.prod(x.shape[1:]) != {prod(shape)}", f"(N, ...), of {prod(shape)} values each"
    else:
        fits, what = f"x.shape[1:] != {shown(shape)}", f"(N, {_inside(shape)})"
    if not shape:
        fits, what = "x.ndim != 1", "(N,)"
    return [
        "x = np.asarray(x, DTYPE)",
        f"if {fits}:",
        f'    raise ValueError(f"x must be a batch of samples, {what}, got shape {{x.shape}}")',
    ]


def _begins_with_a_new_shape(layers: Any) -> bool:
    for layer in layers:
        name = type(layer).__name__
        if name in ("FlattenLayer", "ReshapeLayer"):
            return True
        if name == "SequentialLayer":
            if layer.layers:
                return _begins_with_a_new_shape(layer.layers)
        elif name not in ("ScaleLayer", "ActivationLayer", "DropoutLayer"):
            return False
    return False


# -- a function for each kind of layer: what x becomes; an empty text where it stays as it is --------------------------


def _fully_connected(w: Writer, layer: Any, shape: Shape) -> str:
    return f"fully_connected(x, {w.arrays_of(layer, 'weights', 'bias').removesuffix(', None')})"


def _convolution(w: Writer, layer: Any, shape: Shape) -> str:
    plan = counterparts.convolution(layer)
    usual = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    given = {"stride": plan.stride, "padding": plan.padding, "dilation": plan.dilation, "groups": layer.groups}
    options = "".join(f", {name}={value}" for name, value in given.items() if value != usual[name])
    arrays = w.arrays_of(layer, "weights", "bias").removesuffix(", None")
    return f"convolution(x, {arrays}{options})"


def _pool(function: str) -> Callable[..., str]:
    def call(w: Writer, layer: Any, shape: Shape) -> str:
        plan = counterparts.pooling(layer, shape)
        return f"{function}(x, window={plan.window}, stride={plan.stride}, padding={plan.padding})"

    return call


def _plain(function: str) -> Callable[..., str]:
    return lambda w, layer, shape: f"{function}(x)"


def _nothing(w: Writer, layer: Any, shape: Shape) -> str:
    return ""


def _reshape(w: Writer, layer: Any, shape: Shape) -> str:
    after = layer.shape if type(layer).__name__ == "ReshapeLayer" else None
    return f"reshape(x, {_inside(after or (prod(shape),))})"


def _flatten(w: Writer, layer: Any, shape: Shape) -> str:
    return "reshape(x, int(np.prod(x.shape[1:])))"


def _scale(w: Writer, layer: Any, shape: Shape) -> str:
    return f"{float(layer.factor)!r} * x + {float(layer.offset)!r}"


def _batch_norm(w: Writer, layer: Any, shape: Shape) -> str:
    arrays = w.arrays_of(layer, "weights", "bias", "running_mean", "running_var")
    return f"batch_norm(x, {arrays}, epsilon={float(layer.epsilon)!r})"


def _layer_norm(w: Writer, layer: Any, shape: Shape) -> str:
    return f"layer_norm(x, {w.arrays_of(layer, 'weights', 'bias')}, epsilon={float(layer.epsilon)!r})"


def _group_norm(w: Writer, layer: Any, shape: Shape) -> str:
    arrays = w.arrays_of(layer, "weights", "bias")
    return f"group_norm(x, {arrays}, groups={layer.groups}, epsilon={float(layer.epsilon)!r})"


CALLS: dict[str, Callable[..., str]] = {
    "FCLayer": _fully_connected,
    "ConvLayer": _convolution,
    "ActivationLayer": lambda w, layer, shape: f"{counterparts.activation_name(layer)}(x)",
    "FlattenLayer": _flatten,
    "ReshapeLayer": _reshape,
    "ScaleLayer": _scale,
    "MaxPoolLayer": _pool("max_pool"),
    "AvgPoolLayer": _pool("avg_pool"),
    "GlobalMaxPoolLayer": _plain("global_max_pool"),
    "GlobalAvgPoolLayer": _plain("global_avg_pool"),
    "UpsampleLayer": lambda w, layer, shape: f"upsample(x, {layer.factors(len(shape) - 1)})",
    "DropoutLayer": _nothing,  # in training only
    "RandomAffineLayer": _nothing,
    "BatchNormLayer": _batch_norm,
    "LayerNormLayer": _layer_norm,
    "GroupNormLayer": _group_norm,
    "SoftmaxLayer": _plain("softmax"),
}


def _sequential(w: Writer, layer: Any, shape: Shape) -> None:
    w.chain(layer.layers, shape)


def _variable(letter: str, layer: Any) -> str:
    return f"{letter}_{layer.path.replace('.', '_')}"


def _residual(w: Writer, layer: Any, shape: Shape) -> None:
    kept = _variable("x", layer)
    w.lines.append(f"{kept} = x")
    w.chain(layer.layers, shape)
    w.lines.append(f"x = {kept} + x")


def _parallel(w: Writer, layer: Any, shape: Shape) -> None:
    if len(layer.layers) == 1:
        w.layer(layer.layers[0], shape)
        return
    kept = _variable("x", layer)
    w.lines.append(f"{kept} = x")
    for branch in layer.layers:
        if branch is not layer.layers[0]:
            w.lines.append(f"x = {kept}")
        w.layer(branch, shape)
        w.lines.append(f"{_variable('y', branch)} = x")
    found = [_variable("y", branch) for branch in layer.layers]
    merged = " + ".join(found) if layer.merge == "add" else f"np.concatenate([{', '.join(found)}], axis=-1)"
    w.lines.append(f"x = {merged}")


COMPOSITES: dict[str, Callable[..., None]] = {
    "SequentialLayer": _sequential,
    "ResidualLayer": _residual,
    "ParallelLayer": _parallel,
}


# -- functions and weights ---------------------------------------------------------------------------------------------


def functions(text: str, calling: str) -> list[str]:
    """The functions of a file that some code calls, and those that they call, with the comments above them."""
    blocks = {}
    for block in text.split("\n\n\n")[1:]:
        found = re.search(r"^def (\w+)", block, re.MULTILINE)
        assert found is not None, block
        blocks[found[1]] = block.strip()
    return called(blocks, calling, _words)


def _words(code: str) -> set[str]:
    """The names in code that are called or handed on, without its comments."""
    return set(re.findall(r"(?<![.\w])[a-z]\w*", re.sub(r"#.*", "", code)))


def _weights(writer: Writer) -> str:
    lines = ["WEIGHTS = {"] if writer.arrays else ["WEIGHTS = {}"]
    for path, array in writer.arrays.items():
        kind = f"<f{array.dtype.itemsize}"
        data = base64.b64encode(array.astype(kind).tobytes()).decode()
        text = "\n".join(data[i : i + LINE] for i in range(0, len(data), LINE))
        lines.append(f'    {json.dumps(path)}: unpack({shown(array.shape)}, "{kind}", """\n{text}"""),')
    return "\n".join([*lines, "}"] if writer.arrays else lines)
