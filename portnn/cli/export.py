"""``portnn export``: a saved network as a file for other programs."""

import argparse
from typing import Any

from portnn.cli import arguments
from portnn.exchange.export import WRITERS

DESCRIPTION = """Writes a network, for prediction, to a file that needs neither portnn nor any
other file. The ending of FILE says what is written:
"""

EXAMPLES = """examples:
  portnn export model.portnn.safetensors page.html
"""


def add(command: Any) -> None:
    endings = "\n".join(f"  {ending:<8}{what}" for ending, (_, what) in WRITERS.items())
    parser = command(
        "export", help="write a network for other programs", description=DESCRIPTION + endings, epilog=EXAMPLES
    )
    arguments.model(parser)
    parser.add_argument("file", metavar="FILE", type=arguments.output(), help="such as page.html")
    parser.set_defaults(run=export)


def export(options: argparse.Namespace) -> int:
    arguments.distinct({"FILE": options.file}, {"MODEL": options.model})
    arguments.opened(options).export(options.file)
    print(f"written: {options.file}")
    return 0
