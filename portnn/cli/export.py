"""``portnn export``: a saved network as a page, a program or a file for others."""

import argparse
from typing import Any

from portnn.cli import arguments

DESCRIPTION = """Writes a network to a file of another kind, told by its ending: .html, a page that works without a network;
.py, a program that needs NumPy alone; .c, C99 without libraries; .onnx."""

EXAMPLES = """examples:
  portnn export model.portnn.safetensors page.html
  portnn export model.portnn.safetensors digits.py
"""


def add(command: Any) -> None:
    parser = command("export", help="write a network as a page or program", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.add_argument("file", metavar="FILE", help="such as page.html")
    parser.set_defaults(run=export)


def export(options: argparse.Namespace) -> int:
    arguments.opened(options).export(options.file)
    print(f"written: {options.file}")
    return 0
