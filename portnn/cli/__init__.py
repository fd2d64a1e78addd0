"""The command line, ``portnn`` or ``python -m portnn``: a module per command."""

import argparse

import portnn
from portnn.cli.info import info


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="portnn", description=portnn.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="say which backends work on this machine, and why the others do not")
    parser.parse_args(arguments)
    print(info())
    return 0
