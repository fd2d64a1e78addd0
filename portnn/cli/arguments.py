"""Arguments of several commands: what argparse converts and checks, and the model that a command opens."""

import argparse
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import portnn
from portnn import names
from portnn.backend import known_backends

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


def given(text: str) -> str:
    """A converter of names of files to read: not empty, as ``"$UNSET"`` of a shell is."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, got an empty one")
    return text


def output(*endings: str) -> Callable[[str], str]:
    """A converter of names of files to write, with one of the endings if there are any."""

    def convert(text: str) -> str:
        given(text)
        if text == "-":
            raise argparse.ArgumentTypeError("- does not stand for stdout here; ./- is a file of that name")
        if text.endswith(("/", os.sep)):
            raise argparse.ArgumentTypeError(f"expected the name of a file, got that of a folder, {text!r}")
        if endings and Path(text).suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"expected a file that ends in {endings[0]}, got {text!r}")
        return text

    return convert


page = output(".html", ".htm")


def backend(text: str) -> str:
    """A converter of names of backends; whether one works here shows later."""
    if text not in known_backends():
        raise argparse.ArgumentTypeError(names.unknown("backend", text, known_backends(), quoted=True))
    return text


def distinct(written: dict[str, str | None], read: dict[str, str | None]) -> None:
    """BadArgumentsError where a file to write is one that is read, or two are the same: ``{"--save": "x", ...}``."""
    places = {what: path for what, path in (written | read).items() if path}
    for what in written:
        for other in list(places)[list(places).index(what) + 1 :] if what in places else ():
            if _same(places[what], places[other]):
                raise BadArgumentsError(f"{what} {places[what]}: that is {other}'s file too, and would be overwritten")


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist yet
        return os.path.realpath(one) == os.path.realpath(other)


def check_ordinary(path: str) -> None:
    """OSError for what cannot be read, ValueError for a device or a pipe, which might never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("this is no ordinary file")


def model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=given, help=MODEL)


def opened(options: argparse.Namespace, **more: Any) -> portnn.Network:
    """The network in the file that was named."""
    return portnn.load(options.model, **more)


class BadArgumentsError(ValueError):
    """Arguments that do not go together: exit status 2."""
