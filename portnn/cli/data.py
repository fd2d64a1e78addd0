"""The data of ``portnn train``: a data set by its name, a folder of IDX files, or an .npz file."""

import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnn import names
from portnn.cli import console
from portnn.cli.arguments import BadArgumentsError, check_ordinary
from portnn.datasets import load_mnist
from portnn.datasets.idx import read_idx
from portnn.datasets.mnist import find_files
from portnn.datasets.sources import SOURCES

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MOST_CLASSES = 100_000


@dataclass
class Data:
    """Samples (N, ...), and the class number of each (N,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x_train.shape[1:])

    @property
    def classes(self) -> int:
        return max(2, 1 + int(max(self.y_train.max(), self.y_test.max())))


def load(source: str, full: bool) -> Data:
    """The data that ``source`` names. ValueError for what is no data, OSError for what cannot be read."""
    if source in SOURCES:
        if source != "mnist" and not full:
            raise ValueError(
                f"only digits of mnist come with portnn: add --full, which downloads {source} once, or give a folder "
                "with its four files"
            )
        (x_train, y_train), (x_test, y_test) = load_mnist(full=full, dataset=source)
        return Data(*map(np.asarray, (x_train, y_train, x_test, y_test)))
    if full:
        raise BadArgumentsError(f"--full goes with {', '.join(SOURCES)}, not with {source}")
    path = Path(source)
    if path.exists() and not path.is_dir():
        with console.about(source):
            check_ordinary(source)
    if path.is_dir():
        paths = find_files(path)
        return _checked({name: read_idx(file) for name, file in zip(ARRAYS, paths, strict=True)}, paths)
    if not path.exists():
        raise ValueError(
            f"{source} is no data set, and no file or folder of that name exists: give {', '.join(SOURCES)}, a folder "
            f"of IDX files, or an .npz file{names.meant('', source, SOURCES)}"
        )
    return _checked(_arrays(path), [f"{path}, {name}" for name in ARRAYS])


def files(source: str) -> dict[str, str | None]:
    """The files that ``load`` reads, by what they are called in errors."""
    if source in SOURCES:
        return {}
    if not Path(source).is_dir():
        return {"DATA": source}
    with suppress(ValueError):
        return {f"DATA ({path.name})": str(path) for path in find_files(Path(source))}
    return {}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    wanted = f"expected an .npz file, np.savez(path, {', '.join(f'{name}={name}' for name in ARRAYS)})"
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is no .npz file: {wanted}")
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ARRAYS if name not in file.files]:
                held = ", ".join(file.files) or "nothing"
                raise ValueError(f"{path} lacks {', '.join(missing)}, it holds {held:.200}: {wanted}")
            return {name: _array(file, name, path) for name in ARRAYS}
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _array(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(file[name])
    except ValueError as error:  # pickled objects, or a header that is none
        raise ValueError(f"{path}, {name}: it cannot be read as numbers: {error}") from error


def _checked(arrays: dict[str, np.ndarray], where: list[Any]) -> Data:
    """The arrays, which fit together, with labels as class numbers."""
    x_train, y_train, x_test, y_test = arrays.values()
    halves = ((x_train, y_train, where[0], where[1]), (x_test, y_test, where[2], where[3]))
    found = []
    for x, y, of_x, of_y in halves:
        if x.dtype.kind not in "buif":
            raise ValueError(f"{of_x}: the samples are of type {x.dtype}, expected numbers")
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"{of_x}: the samples have shape {x.shape}, expected (N, ...), at least one of them")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError(f"{of_x}: the samples hold NaN or infinity")
        least, most = x.min(), x.max()
        if x.dtype.kind == "f" and max(-least, most) > np.finfo(np.float32).max:
            raise ValueError(f"{of_x}: the samples hold numbers from {least:g} to {most:g}, too large for float32")
        labels = _class_numbers(y, of_y)
        if len(labels) != len(x):
            raise ValueError(f"{of_x} holds {len(x)} samples, but {of_y} holds {len(labels)} labels")
        found += [x, labels]
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{where[0]}: samples of shape {x_train.shape[1:]}, but {where[2]}: of shape {x_test.shape[1:]}"
        )
    return Data(*found)


def _class_numbers(y: np.ndarray, where: Any) -> np.ndarray:
    """Labels (N,), (N, 1), or one-hot rows (N, classes), as class numbers int64 (N,)."""
    wanted = "expected class numbers from 0, (N,), or one-hot rows, (N, classes)"
    if y.dtype.kind not in "buif" or y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(f"{where}: the labels are {y.dtype} of shape {y.shape}, {wanted}")
    if y.ndim == 2 and y.shape[1] > 1:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise ValueError(f"{where}: the labels have shape {y.shape}, but the rows are not one-hot: {wanted}")
        return np.argmax(y, axis=1)
    numbers = y.reshape(-1)
    bad = ~((numbers >= 0) & (numbers < MOST_CLASSES) & (numbers == np.floor(numbers)))
    if bad.any():
        place = int(bad.argmax())
        raise ValueError(f"{where}: label {place} is {numbers[place]}, {wanted} (below {MOST_CLASSES:,})")
    return numbers.astype(np.int64)
