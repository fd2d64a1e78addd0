"""``portnn draw``: a page to draw digits on, which a saved network reads."""

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from portnn.cli import arguments

DESCRIPTION = """Writes a page on which one draws with mouse, finger or pen while the network
says what it sees, and opens it in the browser. The page is one file and needs
no network connection."""

EXAMPLES = """examples:
  portnn draw model.portnn.safetensors
  portnn draw model.portnn.safetensors --output page.html --no-open
"""
ENDING = ".portnn.safetensors"


def add(command: Any) -> None:
    parser = command("draw", help="draw digits for a network to read", description=DESCRIPTION, epilog=EXAMPLES)
    arguments.model(parser)
    parser.add_argument(
        "--output", metavar="FILE.html", type=arguments.page, help="default: beside MODEL, under its name"
    )
    parser.add_argument("--no-open", action="store_true", help="only write the page")
    parser.set_defaults(run=draw)


def draw(options: argparse.Namespace) -> int:
    page = _page(options)
    arguments.distinct({"the page": str(page)}, {"MODEL": options.model})
    arguments.opened(options).export(str(page))
    print(f"written: {page}", flush=True)
    if not options.no_open and not webbrowser.open(page.resolve().as_uri()):
        print("no browser was found: open the page yourself")
    return 0


def _page(options: argparse.Namespace) -> Path:
    if options.output:
        return Path(options.output)
    name = Path(options.model).name
    stem = name.removesuffix(ENDING) if name.endswith(ENDING) and name != ENDING else Path(name).stem
    return Path(options.model).with_name(f"{stem}.html")
