"""Arguments of several commands: what argparse converts and checks, and the model that a command opens."""

import argparse
import math
from collections.abc import Callable
from typing import Any

import portnn

MODEL = "a file that `portnn train --save` or net.save(...) has written"


def whole(least: int, limit: int | None = None) -> Callable[[str], int]:
    """A converter of whole numbers from ``least``, below ``limit``."""
    expected = f"a whole number from {least}" + ("" if limit is None else f" to {limit - 1}")

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (limit is not None and value >= limit):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return convert


seed = whole(0, 1 << 32)  # what np.random.seed takes, too


def positive(text: str) -> float:
    """A converter of finite numbers above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0.0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def shape(text: str) -> tuple[int, ...]:
    """A converter of shapes: ``28,28,1``."""
    try:
        sizes = tuple(int(part) for part in text.strip("()").rstrip(",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected the shape of one sample, such as 28,28,1, got {text!r}")
    return sizes


def model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)


def opened(options: argparse.Namespace, **more: Any) -> portnn.Network:
    """The network in the file that was named."""
    return portnn.load(options.model, **more)


class BadArgumentsError(ValueError):
    """Arguments that do not go together: exit status 2."""
