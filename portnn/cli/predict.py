"""``portnn predict``: what a saved network takes pictures for."""

import argparse
from typing import Any

import numpy as np

from portnn import Network
from portnn.cli import arguments, console
from portnn.cli.inputs import Sample, samples

DESCRIPTION = """Prints a line for each image: its class, the probability of that class, and what
was taken for ink.

An IMAGE is an .npy file, or a picture that Pillow reads (PNG, JPEG, ...;
python -m pip install Pillow). For a network that takes 28 x 28 pixels it may
have any size, be dark on light or light on dark, and have transparency: the
digit is cut out, scaled and centred as MNIST's are. For other networks an image
has the shape of a sample. An .npy file may hold several, (N, 28, 28) or
(N, 784)."""

EXAMPLES = """Where an image cannot be read, the others are predicted all the same; the exit
status is then 1.

examples:
  portnn predict model.portnn.safetensors digit.png
  portnn predict model.portnn.safetensors scans/*.jpg
  portnn predict clothes.portnn.safetensors --as-is shirt.png
"""


def add(command: Any) -> None:
    parser = command("predict", help="say what images show", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.add_argument("images", metavar="IMAGE", type=arguments.given, nargs="+")
    parser.add_argument(
        "--as-is", action="store_true", help="take images of the network's own size as they are: 28 x 28, light on dark"
    )
    parser.set_defaults(run=predict)


def predict(options: argparse.Namespace) -> int:
    net = arguments.opened(options)
    failed = False
    for path in options.images:
        lines = []
        try:
            for sample in samples(net, path, options.as_is):
                lines.append(f"{console.one_line(path)}{sample.place}: {answer(net, sample)}")
        except (ValueError, OSError, ImportError, MemoryError) as error:
            if getattr(options, "debug", False):
                raise
            failed = True
            console.flush()
            told, name = console.message(error), console.one_line(path)
            console.tell(f"portnn predict: error: {told if told.startswith(name) else f'{name}: {told}'}")
        if lines:
            print("\n".join(lines))  # its own errors are not the image's
    return console.FAILED if failed else 0


def answer(net: Network, sample: Sample) -> str:
    """``7, probability 0.9987 (dark on light)``."""
    outputs = net.predict(sample.x[None])
    if sum(n > 1 for n in outputs.shape) > 1:
        raise ValueError(f"the network answers with shape {outputs.shape[1:]}, not with a value for each class")
    found = int(net.predict_classes(sample.x[None]).reshape(-1)[0])
    try:
        values, what = net.predict_proba(sample.x[None]).reshape(-1), "probability"
    except RuntimeError:  # the loss does not say what the outputs mean
        values, what = outputs.reshape(-1), "output"
    value = float(values[found] if len(values) > 1 else values[0])
    if len(values) == 1 and what == "probability" and not found:
        value = 1.0 - value
    if not np.isfinite(value):
        raise ValueError(f"the network's output is {value}")
    return f"{found}, {what} {value:.4f}{f' ({sample.how})' if sample.how else ''}"
