"""``portnn explain``: the whole calculation for one image, with its numbers."""

import argparse
from typing import Any

import numpy as np

from portnn import Network, losses
from portnn.cli import arguments, console
from portnn.cli.inputs import samples

DESCRIPTION = """Shows how a network computes its answer to one image, and how it would learn
from it: each layer's output, the error, the derivatives, and the new weights."""

EXAMPLES = """examples:
  portnn explain model.portnn.safetensors digit.png
  portnn explain model.portnn.safetensors digit.png --label 7 --output page.html
"""


def add(command: Any) -> None:
    parser = command("explain", help="show the calculation for an image", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.add_argument(
        "image", metavar="IMAGE", type=arguments.given, help="a picture or an .npy file, as for predict"
    )
    parser.add_argument("--label", type=arguments.whole(0), help="the right class; default: the network's answer")
    parser.add_argument(
        "--output", metavar="FILE.html", type=arguments.page, help="write a page, instead of text to the terminal"
    )
    parser.add_argument("--as-is", action="store_true", help="take an image of the network's own size as it is")
    parser.set_defaults(run=explain)


def explain(options: argparse.Namespace) -> int:
    arguments.distinct({"--output": options.output}, {"MODEL": options.model, "IMAGE": options.image})
    net = arguments.opened(options)
    with console.about(options.image):
        found = samples(net, options.image, options.as_is)
        if len(found) > 1:
            raise ValueError(f"it holds {len(found)} samples: give a file with one")
    x = found[0].x
    explanation = net.explain(x, target(net, x, options.label))
    if options.output:
        explanation.save(options.output)
        print(f"written: {options.output}")
    else:
        print(explanation.text)
    return 0


def target(net: Network, x: np.ndarray, label: int | None) -> Any:
    """What the loss compares the outputs with: a class number, or a row with 1 at its place."""
    output = net.predict(x[None])[0]
    classes = output.shape[-1] if output.ndim else 1
    if label is not None and label >= max(classes, 2):
        raise ValueError(f"--label {label}: the network has the classes 0 to {max(classes, 2) - 1}")
    number = int(net.predict_classes(x[None]).reshape(-1)[0]) if label is None else label
    if losses.takes_classes(net.loss):
        return number
    row = np.zeros(output.shape, output.dtype)
    row[..., number if classes > 1 else 0] = 1.0 if classes > 1 else float(number)
    return row
