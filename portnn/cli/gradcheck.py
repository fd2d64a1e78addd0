"""``portnn gradcheck``: are the derivatives of a saved network right?"""

import argparse
from typing import Any

import portnn
from portnn.cli import arguments, console
from portnn.cli.inputs import input_shape

DESCRIPTION = """Compares the derivatives of a network with numerical ones, and says what a wrong
one looks like."""

EXAMPLES = """The exit status is 1 if a derivative is wrong.

examples:
  portnn gradcheck model.portnn.safetensors
"""


def add(command: Any) -> None:
    parser = command("gradcheck", help="check a network's derivatives", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.add_argument(
        "--input-shape", type=arguments.shape, metavar="H,W,C", help="of one sample; default: as the layers say"
    )
    parser.set_defaults(run=gradcheck)


def gradcheck(options: argparse.Namespace) -> int:
    net = arguments.opened(options)
    report = portnn.gradcheck(net, input_shape=options.input_shape or input_shape(net))
    print(report)
    return 0 if report.passed else console.FAILED
