"""The page as a whole: one HTML document with styles, scripts and weights inside."""

import html
import json
import re
from importlib.resources import files
from itertools import product as places
from math import prod
from typing import Any

from portnn import losses
from portnn._typing import Shape
from portnn.exchange.page import forward
from portnn.exchange.samples import PIXELS, most, sample_shape
from portnn.functions import name_of
from portnn.version import __version__

FIELDS = 64  # a network that takes more numbers gets one field for all of them
BARS = 40  # one that returns more has them listed


def page(network: Any) -> str:
    """The page for a network, whose layers have their paths and parameters."""
    forward.check(network)
    shape = sample_shape(network)
    writer = forward.Writer()
    result, output = writer.chain(network.layers, "x", shape)
    pad = [n for n in shape if n > 1] in ([28, 28], [PIXELS])
    script = forward.script(writer, result, network.dtype, asset("layers.js"), ("softmax", "product", "tensor"))
    input_js = asset("digits.js") + "\n" + asset("pad.js") if pad else asset("fields.js")
    about = _about(network, writer, shape, output, pad)
    return _filled(
        asset("page.html"),
        {
            "title": "Draw a digit" if pad else "Try the network",
            "subtitle": html.escape(_subtitle(network, pad)),
            "css": asset("page.css").strip(),
            "kind": "with-pad" if pad else "with-fields",
            "input": _sections(shape, output, pad),
            "made": "\n".join(f"    <p>{line}</p>" for line in _made(network)),
            "network": script,
            "about": f"const ABOUT = {_json(about)};",
            "page": f"{asset('page.js').strip()}\n\n{input_js.strip()}",
            "weights": forward.weights_script(writer),
        },
    )


def asset(name: str) -> str:
    """The text of a file in ``assets``."""
    return (files("portnn.exchange.page") / "assets" / name).read_text(encoding="utf-8")


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with ``@name@`` replaced; what is put in is not looked at."""
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template)


def _json(value: Any) -> str:
    """JSON that can stand in a script: no text in it ends the script or begins a comment."""
    return json.dumps(value, indent=1).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# -- what the page knows of the network --------------------------------------------------------------------------------


def _about(network: Any, writer: Any, shape: Shape, output: Shape, pad: bool) -> dict[str, Any]:
    outputs, meaning = prod(output), _meaning(network, output)
    chooses = meaning in ("logits", "shares") or (pad and outputs <= BARS)  # else an autoencoder would be read
    classes = chooses and 1 < outputs == output[-1]
    return {
        "inputShape": shape,
        "inputs": [] if pad or prod(shape) > FIELDS else _labels("x", shape),
        "most": most(network.layers),
        "outputShape": output,
        "outputs": _labels("y", output) if outputs <= BARS else [],
        "classes": [str(i) for i in range(outputs)] if classes else None,
        "reading": "Read as" if pad else "Class",
        "meaning": meaning,
        "bars": outputs <= BARS,
        "layers": [{"path": path, "about": about, "shape": shape} for path, about, shape in writer.steps],
    }


def _labels(letter: str, shape: Shape) -> list[str]:
    return [f"{letter}[{', '.join(map(str, place))}]" for place in places(*map(range, shape))]


def _meaning(network: Any, output: Shape) -> str:
    """What the outputs are: logits of classes, logits of yes or no, shares of one, or numbers."""
    if losses.takes_classes(network.loss) and output[-1] == prod(output):
        return "logits"
    if network.loss is losses.binary_cross_entropy:
        return "logit"
    last = network.layers[-1]
    while last.layers and type(last).__name__ == "SequentialLayer":
        last = last.layers[-1]
    return "shares" if type(last).__name__ == "SoftmaxLayer" else "numbers"


def _subtitle(network: Any, pad: bool) -> str:
    leaves = list(network.walk())
    numbers = sum(prod(array.shape) for layer in leaves for array in layer.parameters.values())
    what = f"A neural network of {_count(len(network.layers), 'layer')} and {_count(numbers, 'weight')}"
    does = "reads it while you draw" if pad else "computes while you type"
    return f"{what} {does}. It runs in this page: nothing is sent, nothing is fetched."


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _sections(shape: Shape, output: Shape, pad: bool) -> str:
    """What goes in and what comes out, as HTML."""
    what = (
        ""
        if pad
        else f'      <p class="quiet">{_count(prod(output), "number")}, of shape {forward.shown(output)}</p>\n'
    )
    words = {"heading": "What it reads" if pad else "The output", "output": what}
    parts = {"output": _filled(asset("output.html"), words).rstrip()}
    if pad:
        return _filled(asset("pad.html"), parts).rstrip()
    n = prod(shape)
    parts["words"] = f"The network takes {_count(n, 'number')}, a sample of shape {forward.shown(shape)}."
    parts["list"] = ""
    if n > FIELDS:
        parts["words"] += " Separate them by commas, spaces or lines."
        parts["list"] = '      <textarea id="list" autocomplete="off" aria-label="The numbers"></textarea>\n'
    return _filled(asset("fields.html"), parts).rstrip()


def _made(network: Any) -> list[str]:
    """How the page was made, as HTML: the version, how the network was trained, how it computes."""
    lines = [
        f"Made by portnn {html.escape(__version__)}, a neural network library in Python, with "
        f"<code>network.export(&quot;page.html&quot;)</code>. It holds the weights, computes in {network.dtype}, and "
        "returns what <code>network.predict</code> returns."
    ]
    if network.step:
        steps = f"Trained for {_count(network.epoch, 'epoch')}, {_count(network.step, 'step')}"
        loss = f", with the loss {_quoted(name_of(network.loss))}" if network.loss is not None else ""
        made = f" by {_quoted(network.optimizer)}" if network.optimizer is not None else ""
        lines.append(f"{steps}{loss}{made}.{_results(network.history)}")
    return lines


def _quoted(thing: Any) -> str:
    return f"<code>{html.escape(f'{thing!s:.120}')}</code>"


def _results(history: Any) -> str:
    """The last value of each column of the history."""
    known = [(name, values[-1]) for name, values in history.items() if values and isinstance(values[-1], (int, float))]
    shown = ", ".join(f"{html.escape(f'{name:.60}')} {value:.4g}" for name, value in known if name != "learning_rate")
    return f" At its end: {shown}." if shown else ""
