"""Reading a file: every byte is checked before a number in it is used."""

import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portnn import checks
from portnn._typing import Shape
from portnn.files import building, digest, header, text
from portnn.files.errors import FileError
from portnn.files.registry import Known
from portnn.files.values import NOT_FINITE, decoded

FORMAT = 1
CHUNK = 1 << 20  # bytes read at a time
MOST = 1 << 40  # steps, epochs, positions

# What the metadata must hold, and of which type each part is.
KEYS: dict[str, Any] = {
    "format": int,
    "version": str,
    "layers": list,
    "dtype": str,
    "seed": int,
    "loss": (str, dict, type(None)),
    "optimizer": (dict, type(None)),
    "metrics": list,
    "step": int,
    "epoch": int,
    "position": int,
    "history": dict,
    "learning_rate_factor": (int, float),
    "stop_training": bool,
    "callbacks": list,
    "environment": dict,
}


@dataclass(frozen=True)
class Contents:
    """What a file holds: ``about`` are its metadata, ``arrays`` the tensors by name, on the host.

    ``callbacks`` are pairs of class name and state, ``counters`` the arrays of the epoch that was going on,
    ``environment`` what the bits of the run depend on (see ``differences``).
    """

    path: str
    about: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)
    history: dict[str, list[float]] = field(repr=False)
    callbacks: list[tuple[str, Any]] = field(repr=False)

    @property
    def step(self) -> int:
        """The updates made since ``use()``."""
        return int(self.about["step"])

    @property
    def epoch(self) -> int:
        """The epochs finished since ``use()``."""
        return int(self.about["epoch"])

    @property
    def position(self) -> int:
        """The batches that the current epoch has had."""
        return int(self.about["position"])

    @property
    def stop_training(self) -> bool:
        """Whether the run had been told to stop."""
        return bool(self.about["stop_training"])

    @property
    def learning_rate_factor(self) -> float:
        return float(self.about["learning_rate_factor"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.about["environment"])

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each tensor."""
        return {name: array.dtype.name for name, array in self.arrays.items()}

    @property
    def counters(self) -> dict[str, np.ndarray]:
        start = "counters/"
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}


class Source:
    """An open file whose header and digest have been checked, and whose tensors are yet to be read."""

    digits_at: int  # where the digits of the digest begin

    def __init__(self, path: str, file: Any, size: int):
        self.path, self.file = path, file
        start = file.read(8)
        raw = file.read(header.length(start, size))
        self.head = start + raw
        self.header = header.parsed(raw, size)
        self.about = text.parsed(self.header.metadata["portnn"].encode("utf-8", "surrogatepass"), "the metadata portnn")
        _check_format(self.about)
        self._check_digest()
        _check_metadata(self.about)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each tensor."""
        return {name: tensor.shape for name, tensor in self.header.tensors.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each tensor."""
        return {name: tensor.dtype for name, tensor in self.header.tensors.items()}

    def _check_digest(self) -> None:
        at, said = digest.place(self.head), self.header.metadata["sha256"]
        if at is None or self.head[at : at + digest.DIGITS] != said.encode("ascii", "replace"):
            raise FileError(f"the file's sha256 is {said!r:.80}, expected {digest.DIGITS} digits: the file is damaged")
        self.digits_at = at
        found = digest.of(self.head, at, iter(lambda: self.file.read(CHUNK), b""))
        if found != said:
            raise FileError(
                f"the file is damaged: its SHA-256 is {found[:16]}..., expected {said[:16]}... Use another copy of it"
            )

    def contents(self) -> Contents:
        """Everything in the file."""
        arrays = self._arrays()
        history = {name: [_number(value) for value in values] for name, values in self.about["history"].items()}
        return Contents(self.path, self.about, arrays, history, _callbacks(self.about["callbacks"], arrays))

    def _arrays(self) -> dict[str, np.ndarray]:
        """The tensors by name. The digest is computed again, of the very bytes that are used: the file may change."""
        arrays: dict[str, np.ndarray] = {}
        if digest.of(self.head, self.digits_at, self._read(arrays)) != self.header.metadata["sha256"]:
            raise FileError("the file was changed while it was read: read it again")
        return dict(sorted(arrays.items()))

    def _read(self, arrays: dict[str, np.ndarray]) -> Iterator[bytearray]:
        """Reads the tensors into ``arrays``, in the order of the file; yields the bytes of each."""
        self.file.seek(len(self.head))
        for name, tensor in sorted(self.header.tensors.items(), key=lambda item: item[1][2:]):
            data = bytearray(tensor.end - tensor.begin)
            if self.file.readinto(data) == len(data):  # else the digest is another one
                stored = np.dtype(tensor.dtype).newbyteorder("<")
                arrays[name] = np.ndarray(tensor.shape, stored, data).astype(tensor.dtype, copy=False)
            yield data


@contextmanager
def opened(path: Any) -> Iterator[Source]:
    """The file at ``path``, checked; errors within name the file. OSError where there is no such file."""
    path = checks.path("path", path)
    about = os.stat(path)
    with naming(path):
        if not stat.S_ISREG(about.st_mode):
            raise FileError(f"this is {'a folder' if stat.S_ISDIR(about.st_mode) else 'no ordinary file'}")
        with open(path, "rb") as file:
            yield Source(path, file, os.fstat(file.fileno()).st_size)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors about a file within name it."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{path}: {error}") from error.__cause__


def read(path: Any) -> Contents:
    """Everything in the file at ``path``. FileError if it is damaged or holds no network, OSError if there is none."""
    with opened(path) as source:
        return source.contents()


def _check_format(about: dict[str, Any]) -> None:
    found, version = about.get("format"), about.get("version")
    if type(found) is not int or found < 1:
        raise FileError(f"the file's format is {found!r:.40}, expected a whole number")
    if found > FORMAT:
        raise FileError(
            f"the file has format {found}, which portnn {version!s:.40} wrote; this version reads formats up to "
            f"{FORMAT}: install portnn {version!s:.40} or a newer one"
        )


def _check_metadata(about: dict[str, Any]) -> None:
    for name, kind in KEYS.items():
        if name not in about:
            raise FileError(f"the file's metadata lack {name}: they hold {', '.join(about)!s:.200}")
        value = about[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise FileError(f"{name} of the file is {value!r:.60}")
    for name in ("step", "epoch", "position"):
        _check_range(about, name, MOST)
    _check_range(about, "seed", (1 << 64) - 1)
    _check_range(about, "learning_rate_factor", 1e300)
    for name, values in about["history"].items():
        if not isinstance(values, list):
            raise FileError(f"history {name!r:.60} of the file is {values!r:.60}, expected a list of numbers")
    if about["loss"] is not None and "error" not in about["history"]:
        raise FileError(f"history of the file holds {', '.join(about['history'])[:80] or 'nothing'}, but no error")
    building.check_costs(about["layers"])
    if not all(isinstance(value, str) for value in about["environment"].values()):
        raise FileError(f"environment of the file is {about['environment']!r:.80}, expected texts by name")
    for each in about["callbacks"]:
        if not isinstance(each, dict) or set(each) != {"class", "state"} or not isinstance(each["class"], str):
            raise FileError(f"a callback of the file is {each!r:.80}, expected its class and its state")


def _check_range(about: dict[str, Any], name: str, most: float) -> None:
    if not 0 <= about[name] <= most:
        raise FileError(f"{name} of the file is {about[name]!r:.60}, expected a number from 0 to {most:g}")


def _number(value: Any) -> float:
    if isinstance(value, dict) and list(value) == ["float"] and value["float"] in NOT_FINITE:
        return NOT_FINITE[value["float"]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FileError(f"history of the file holds {value!r:.60}, expected a number")
    return float(value)


def _callbacks(entries: list[Any], arrays: dict[str, np.ndarray]) -> list[tuple[str, Any]]:
    found = []
    for i, entry in enumerate(entries):
        start = f"callbacks/{i}/"
        own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        found.append((entry["class"], decoded(entry["state"], Known(), arrays=own)))
    return found


def newest(path: Any) -> str | None:
    """The file of a checkpoint: of those that ``path`` stands for with {epoch} and {step}, the last written."""
    pattern = checks.path("resume", path)
    parts = checks.template("resume", pattern)
    if "{" not in pattern:
        return pattern if os.path.exists(pattern) else None  # a link that leads nowhere yet is to be written through
    stars = "".join(glob.escape(before) + "*" * (name is not None) for before, name, _ in parts)
    numbers = re.compile(
        "".join(re.escape(before) + _number_as(form) * (name is not None) for before, name, form in parts)
    )

    def age(file: str) -> tuple[int, list[tuple[int, str]]]:
        """When it was written; clocks are coarse, so that two files may differ in their numbers only."""
        bare = [number.lstrip(" _0") for number in numbers.fullmatch(file).groups()]  # type: ignore[union-attr]
        return os.stat(file).st_mtime_ns, [(len(number), number) for number in bare]

    return max(
        (file for file in glob.glob(stars) if numbers.fullmatch(file) and os.path.exists(file)), key=age, default=None
    )


def _number_as(form: str) -> str:
    """A pattern of the numbers in a format such as ``03``; of anything, where the format is an unusual one."""
    kind = form[-1] if form else "d"
    if kind.isdigit() or kind in "d,_":
        return "([ _]*[0-9][0-9_,]*)"
    return "([ _0-9a-fA-FxXo]+)" if kind in "xXob" else "(.+)"
