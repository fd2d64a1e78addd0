"""The command line, ``portnn`` or ``python -m portnn``: a module per command.

A module has ``add(commands)``, which declares its arguments, and a function that runs it and returns the exit status.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn

import portnn
from portnn.cli import console, draw, explain, export, gradcheck, info, predict, run, summary, train
from portnn.cli.arguments import BadArgumentsError

DESCRIPTION = """The neural network library of the article "Neural Network from scratch in
Python", for NumPy and CUDA."""

EPILOG = """exit status: 0, done; 1, failed; 2, bad arguments; 130, interrupted by Ctrl-C;
141, the reader of the output closed it; of run, the script's own.
`portnn COMMAND --help` shows the arguments of a command, and examples.

examples:
  portnn train mnist --save model.portnn.safetensors
  portnn predict model.portnn.safetensors digit.png
  portnn draw model.portnn.safetensors
  portnn run xor.py
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage above it."""

    def __init__(self, **options: Any):
        layout = partial(argparse.RawDescriptionHelpFormatter, max_help_position=28)
        super().__init__(formatter_class=layout, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(console.BAD_ARGUMENTS, console.one_line(f"{self.prog}: error: {message} ({self.prog} --help)") + "\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse does, except that a closed pipe is an error, which ``main`` knows."""
        if message and file is not None:
            file.write(message)


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    everywhere = Parser(add_help=False)
    everywhere.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
    )
    made = Parser(prog="portnn", description=DESCRIPTION, epilog=EPILOG, parents=[everywhere])
    made.add_argument("--version", action="version", version=f"portnn {portnn.__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (train, predict, draw, explain, summary, gradcheck, export, run, info):
        command.add(lambda name, **options: commands.add_parser(name, parents=[everywhere], **options))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    with console.any_text():
        try:
            status = _main(arguments)
            console.flush()
        except BrokenPipeError:
            console.give_up_stdout()
            return console.CLOSED_PIPE
        except KeyboardInterrupt:
            console.tell("portnn: interrupted")
            return console.INTERRUPTED
        except OSError as error:  # the output cannot be written: a full disk
            console.tell(f"portnn: error: the output cannot be written: {console.message(error)}")
            console.give_up_stdout()
            return console.FAILED
    return status


def _main(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(run.protected(list(sys.argv[1:] if arguments is None else arguments)))
    except SystemExit as end:
        return int(end.code or 0)
    options.whole_process = arguments is None
    try:
        with console.short_warnings(options.command) if options.command != "run" else nullcontext():
            status: int = options.run(options)
            return status
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interruption:
        if getattr(options, "debug", False):
            traceback.print_exc()
        console.tell(f"portnn {options.command}: interrupted{f': {interruption}' if str(interruption) else ''}")
        return console.INTERRUPTED
    except Exception as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        if sys.stdout is not None:
            console.flush()  # what was printed stands above the error
        console.tell(f"portnn {options.command}: error: {console.message(error)}")
        return console.BAD_ARGUMENTS if isinstance(error, BadArgumentsError) else console.FAILED
