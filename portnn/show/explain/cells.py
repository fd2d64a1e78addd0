"""Which cells of an array are shown, and how arrays are described."""

from typing import Any

import numpy as np

from portnn.show.explain.arithmetic import shown
from portnn.show.explain.page import Grid

ALL = 6  # cells: an array of no more is shown whole
Index = tuple[int, ...]


def cells(array: np.ndarray, most: int = 2) -> list[Index]:
    """The cells to be shown: all of a few, else the largest by magnitude and the first that is not zero."""
    if array.size <= ALL:
        return list(np.ndindex(array.shape))
    flat = np.abs(array).ravel()
    found = [int(flat.argmax()), int((flat != 0.0).argmax()), 0]
    places = list(dict.fromkeys(found))[:most]
    return [tuple(map(int, np.unravel_index(place, array.shape))) for place in sorted(places)]


def described(array: np.ndarray) -> str:
    """The values of a small array, the shape and the range of any other."""
    values = array.ravel()
    if values.size <= ALL + 2:
        numbers = ", ".join(shown(v, 4) for v in values)
        return numbers if array.ndim <= 1 else f"{numbers} (shape {array.shape})"
    zeros = int((values == 0.0).sum())
    spare = f", {zeros} of them 0" if zeros else ""
    return f"{values.size:,} numbers of shape {array.shape}, from {shown(values.min(), 4)} to {shown(values.max(), 4)}{spare}"


def shaped(array: Any, like: np.ndarray) -> np.ndarray:
    """An array of a layer inside, which may have another axis of length 1, in the shape of its parent's."""
    return np.reshape(array, like.shape)


def grid(title: str, values: np.ndarray, marked: Any = ()) -> Grid:
    """A window (h, w), or (k,), as a table; NaN stands for padding."""
    rows = np.atleast_2d(values)
    texts = [["pad" if np.isnan(v) else shown(v, 3) for v in row] for row in rows]
    return Grid(title, texts, frozenset(marked))
