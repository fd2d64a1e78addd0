"""``portnn summary``: the layers of a saved network, and how it was trained."""

import argparse
from typing import Any

from portnn.cli import arguments
from portnn.cli.inputs import input_shape
from portnn.functions import name_of

DESCRIPTION = """Prints a network's layers with shapes, parameters, bytes and multiply-adds, and
how it was trained."""

EXAMPLES = """examples:
  portnn summary model.portnn.safetensors
"""


def add(command: Any) -> None:
    parser = command("summary", help="show a network's layers", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.set_defaults(run=summary)


def summary(options: argparse.Namespace) -> int:
    net = arguments.opened(options)
    print(net.summary(input_shape(net)))
    lines = {"dtype": net.dtype, "seed": net.seed}
    if net.loss is not None:
        lines["loss"] = name_of(net.loss)
    if net.optimizer is not None:
        rate = getattr(net.optimizer, "learning_rate", None)
        lines["optimizer"] = type(net.optimizer).__name__ + (f", learning rate {rate:g}" if type(rate) is float else "")
    if net.step:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in net.history.items() if values)
        lines["trained"] = f"{net.epoch:,} epochs, {net.step:,} steps{f': {last}' if last else ''}"
    for name, value in lines.items():
        print(f"{name + ':':<11}{value}")
    return 0
