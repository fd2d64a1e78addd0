"""One-hot encoding of class numbers."""

from typing import Any

import numpy as np

from portnn import checks
from portnn.habits import answered
from portnn.transfer import host_array, is_foreign


@answered
def to_categorical(labels: Any, classes: int | None = None) -> np.ndarray:
    """Returns class numbers as one-hot rows: 1 at the place of the class, 0 elsewhere.

    ``labels`` are N whole numbers from 0 to classes - 1, of shape (N,) or (N, 1), in a NumPy array or a list.
    ``classes`` is the length of a row; None means the largest label plus one, so give it where the highest class may
    be missing. Returns float32 of shape (N, classes).

    Raises ValueError, which names the label and the range, for a label that is negative, too large or not whole, and
    for other shapes; TypeError for labels that are not numbers, and for arrays of libraries other than NumPy.

    >>> to_categorical([0, 2, 1])
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    >>> to_categorical([1, 0], classes=4).shape
    (2, 4)
    """
    numbers = _host(labels)
    if classes is None and numbers.size == 0:
        raise ValueError("no labels to count the classes of: give their number, to_categorical(labels, classes=10)")
    _check(numbers, None if classes is None else checks.size("classes", classes))
    if classes is None:
        classes = int(numbers.max()) + 1
    try:
        rows = np.zeros((len(numbers), classes), dtype=np.float32)
    except (MemoryError, OverflowError, ValueError):
        raise ValueError(
            f"{len(numbers)} rows of {classes} values do not fit into memory: are these labels class numbers?"
        ) from None
    rows[np.arange(len(numbers)), numbers.astype(np.int64)] = 1
    return rows


def _host(labels: Any) -> np.ndarray:
    """The labels as a NumPy array of shape (N,)."""
    if is_foreign(labels):
        raise TypeError(
            f"to_categorical takes NumPy arrays and lists, got {type(labels).__module__}.{type(labels).__name__}: "
            "call portnn.to_device(to_categorical(portnn.to_numpy(labels)), backend)"
        )
    numbers = host_array(labels, "labels")
    if numbers.ndim == 1 or (numbers.ndim == 2 and numbers.shape[1] == 1):
        return numbers.reshape(-1)  # (N, 1) -> (N,)
    hint = ": one-hot rows need no conversion, give them to the network as they are" if numbers.ndim == 2 else ""
    raise ValueError(f"labels have shape {numbers.shape}, expected (N,) or (N, 1){hint}")


def _check(numbers: np.ndarray, classes: int | None) -> None:
    """Raises ValueError for the first label that is not a class number; before a cast, which would hide it."""
    rule, bad = "a label is a whole number from 0", numbers < 0
    if numbers.dtype.kind == "f":
        bad |= ~np.isfinite(numbers) | (numbers != np.floor(numbers))
    if classes is not None:
        rule, bad = f"{rule} to {classes - 1} (classes={classes})", bad | (numbers >= classes)
    if bad.any():
        place = int(bad.argmax())
        raise ValueError(f"labels[{place}] is {numbers[place]}, but {rule}")
