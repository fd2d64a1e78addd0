"""Which cells of an array are shown, and how arrays are described."""

import math
from typing import Any

import numpy as np

from portnn.show.explain.arithmetic import shown
from portnn.show.explain.page import Grid

ALL = 6  # cells: an array of no more is shown whole
Index = tuple[int, ...]


def cells(array: np.ndarray, most: int = 2) -> list[Index]:
    """The cells to be shown: all of a few, else the largest by magnitude, and the first or last that is not zero."""
    if array.size <= ALL:
        return list(np.ndindex(array.shape))
    flat = np.abs(array).ravel()
    found = [int(flat.argmax()), int((flat != 0.0).argmax()), flat.size - 1 - int((flat[::-1] != 0.0).argmax())]
    places = list(dict.fromkeys(found))[:most]
    return [tuple(map(int, np.unravel_index(place, array.shape))) for place in sorted(places)]


def strongest(array: np.ndarray) -> Index:
    """The largest cell by magnitude, the first of equal ones: ``cells`` holds it."""
    return tuple(map(int, np.unravel_index(int(np.abs(array).argmax()), array.shape)))


def described(array: np.ndarray) -> str:
    """The values of a small array, the shape and the range of any other."""
    values = array.ravel()
    if values.size <= ALL + 2:
        numbers = ", ".join(shown(v, 4) for v in values)
        return numbers if array.ndim <= 1 else f"{numbers} (shape {array.shape})"
    zeros = int((values == 0.0).sum())
    spare = f", {zeros:,} of them 0" if zeros else ""
    ends = f"from {shown(values.min(), 4)} to {shown(values.max(), 4)}"
    return f"{values.size:,} numbers of shape {array.shape}, {ends}{spare}"


def shaped(array: Any, like: np.ndarray) -> np.ndarray:
    """An array of a layer inside, which may have another axis of length 1, in the shape of its parent's."""
    return np.reshape(array, like.shape)


def grid(title: str, values: np.ndarray, marked: Any = ()) -> Grid:
    """A window (h, w), or (k,), as a table whose numbers have equally many decimals; NaN stands for padding."""
    rows = np.atleast_2d(values)
    largest = float(np.nanmax(np.abs(rows))) if not np.isnan(rows).all() else 0.0
    decimals = 2 - math.floor(math.log10(largest)) if largest else 0
    texts = [[_of_grid(float(v), max(decimals, 0)) for v in row] for row in rows]
    return Grid(title, texts, frozenset(marked))


def _of_grid(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "pad"
    return "0" if value == 0.0 else f"{value:.{decimals}f}" if decimals <= 5 else f"{value:.1e}"


MOST_PICTURES = 6  # of one array
WIDEST, NARROWEST = 128, 4  # pixels


def pictures(array: np.ndarray, most: int = MOST_PICTURES) -> list[np.ndarray]:
    """The channels of an image (H, W, C), or an image (H, W), as pictures; none for other arrays."""
    channels = array[..., None] if array.ndim == 2 else array
    if channels.ndim != 3 or not all(NARROWEST <= n <= WIDEST for n in channels.shape[:2]):
        return []
    return [channels[..., c] for c in range(min(channels.shape[2], most))]


def pictures_of_sample(X: np.ndarray) -> list[np.ndarray]:
    """The same; one row of 784 numbers is taken for a digit of 28 x 28 pixels, as in the article."""
    return pictures(X.reshape(28, 28) if X.size == 784 else X)
