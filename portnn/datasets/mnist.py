"""MNIST, Fashion-MNIST and KMNIST as four arrays of bytes."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from portnn import checks, names
from portnn._typing import Array
from portnn.backend import Backend, get_backend
from portnn.datasets.download import download
from portnn.datasets.idx import read_idx
from portnn.datasets.sources import SOURCES, TEST, TRAIN
from portnn.habits import answered
from portnn.transfer import to_device

SAMPLE = Path(__file__).with_name("sample")
SIDE = 28  # pixels, both ways
CLASSES = 10

Pair = tuple[Array, Array]


@answered
def load_mnist(
    *,
    full: bool = False,
    dataset: str = "mnist",
    folder: str | os.PathLike[str] | None = None,
    backend: str | Backend | Any = None,
) -> tuple[Pair, Pair]:
    """Returns ``(x_train, y_train), (x_test, y_test)``: images and the classes they show.

    Images are uint8 (N, 28, 28), not scaled, 0 for the background and 255 for full ink; labels are uint8 (N,), 0 to 9.

    ``load_mnist()`` returns the sample that comes with portnn, offline: the first 5,000 training and the first 1,000
    test digits of MNIST. ``full=True`` returns all 60,000 and 10,000, downloaded once and kept in a cache folder (the
    environment variable PORTNN_DATA, or the platform's own); it needs ``python -m pip install pooch tqdm``. ``folder``
    reads the four files in a folder instead, compressed or not, offline. ``dataset`` is ``"mnist"``,
    ``"fashion_mnist"`` (clothes) or ``"kmnist"`` (Japanese characters). ``backend`` is where to put the arrays, such
    as ``"gpu"``; None means NumPy.

    Raises ValueError for an unknown data set or backend, and for files that are missing (it names them), damaged, or
    inconsistent; DownloadError (a RuntimeError), which lists each source with its reason, if the download fails; and
    BackendUnavailableError, before anything is downloaded, if the backend cannot run here.

    >>> (x_train, y_train), (x_test, y_test) = load_mnist()
    >>> x_train.shape, x_test.shape, x_train.dtype
    ((5000, 28, 28), (1000, 28, 28), dtype('uint8'))
    >>> y_train[:5].tolist()
    [5, 0, 4, 1, 9]
    """
    if not isinstance(dataset, str) or dataset not in SOURCES:
        raise ValueError(names.unknown("data set", dataset, SOURCES, quoted=True))
    full = checks.flag("full", full)
    target = None if backend is None else get_backend(backend)
    sizes: tuple[int | None, int | None] = (None, None)  # any number, unless it is known
    if folder is not None:
        paths = find_files(_given(folder))
    elif full:
        place, sizes = download(dataset), (SOURCES[dataset].train, SOURCES[dataset].test)
        paths = [place / f"{name}.gz" for name in (*TRAIN, *TEST)]  # only those whose hash was compared
    elif dataset == "mnist":
        paths = find_files(SAMPLE)
    else:
        raise ValueError(
            f"the sample that comes with portnn is of MNIST: for {dataset!r} call load_mnist(dataset={dataset!r}, "
            f"full=True), which downloads it, or load_mnist(dataset={dataset!r}, folder=...)"
        )
    x_train, y_train, x_test, y_test = paths
    train, test = _half(x_train, y_train, sizes[0]), _half(x_test, y_test, sizes[1])
    if target is None:
        return train, test
    return (
        (to_device(train[0], target), to_device(train[1], target)),
        (to_device(test[0], target), to_device(test[1], target)),
    )


def _given(folder: str | os.PathLike[str]) -> Path:
    try:
        place = Path(folder).expanduser()
    except TypeError:
        raise TypeError(f"folder must be a path, got {folder!r} ({type(folder).__name__})") from None
    if not place.is_dir():
        raise ValueError(f"folder={str(folder)!r} {'is not a folder' if place.exists() else 'does not exist'}")
    return place


def find_files(folder: Path) -> list[Path]:
    """The paths of the four files, each under the first of its usual names that exists."""
    found, missing = [], []
    for name in (*TRAIN, *TEST):
        dotted = name.replace("-idx", ".idx")  # train-images.idx3-ubyte: some decompression programs rename it so
        spellings = [name, f"{name}.gz", dotted, f"{dotted}.gz"]
        path = next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)
        if path:
            found.append(path)
        else:
            missing.append(" or ".join(spellings))
    if missing:
        listed = "".join(f"\n  {line}" for line in missing)
        raise ValueError(f"the folder {folder} lacks {len(missing)} of the 4 files, looked for:{listed}")
    return found


def _half(images_path: Path, labels_path: Path, size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the training or the test half, checked against each other and against the known ``size``."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(
            f"{images_path} holds {images.dtype} of shape {images.shape}, expected images: uint8 (N, {SIDE}, {SIDE})"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(f"{labels_path} holds {labels.dtype} of shape {labels.shape}, expected labels: uint8 (N,)")
    if len(images) != len(labels):
        raise ValueError(f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels")
    if size is not None and len(images) != size:
        raise ValueError(f"{images_path} holds {len(images)} images, expected {size}")
    if labels.max() >= CLASSES:
        place = int((labels >= CLASSES).argmax())
        raise ValueError(f"{labels_path}: label {place} is {labels[place]}, expected 0 to {CLASSES - 1}")
    return images, labels
