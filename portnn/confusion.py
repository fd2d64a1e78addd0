"""The confusion matrix, counted on the host."""

from typing import Any

import numpy as np

from portnn.transfer import host_array, is_foreign

MOST = 1 << 12  # classes; the matrix has as many rows and columns, 134 MB


def confusion_matrix(y_true: Any, y_pred: Any) -> np.ndarray:
    """Counts how often samples of each class were predicted to be of each: (C, C) integers, rows the true classes.

    ``y_true`` and ``y_pred`` are NumPy arrays or lists. Either holds class numbers (N,), or rows with a column for each
    class (N, C), of which the largest counts: one-hot rows, probabilities or logits. Fractions (N,) or (N, 1) are
    probabilities of class 1, of two. C is the number of columns; without any, the largest class number plus one.

    Raises ValueError for other shapes, for NaN, for class numbers that cannot be, and for targets (N, C) that do not
    sum to 1; TypeError for arrays of other libraries than NumPy.

    >>> confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2])
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 0, 1]])
    """
    given = {"y_true": _on_host(y_true, "y_true"), "y_pred": _on_host(y_pred, "y_pred")}
    true, predicted = given.values()
    if len(true) != len(predicted):
        raise ValueError(f"y_true holds {len(true)} targets, y_pred {len(predicted)} predictions: give as many of each")
    widths = {y.shape[1] for y in given.values() if y.ndim == 2}
    if len(widths) > 1:
        raise ValueError(
            f"y_true has {true.shape[1]} columns, y_pred {predicted.shape[1]}: both need one for each class"
        )
    _check_targets(true)
    columns = widths.pop() if widths else None
    rows, guesses = (_class_numbers(y, name, columns) for name, y in given.items())
    classes = _most(rows, guesses) if columns is None else columns
    return np.bincount(rows * classes + guesses, minlength=classes**2).reshape(classes, classes)


def class_numbers(y: Any, name: str) -> np.ndarray:
    """The class of each sample, (N,), of what ``confusion_matrix`` takes; ``name`` stands for it in errors."""
    numbers = _on_host(y, name)
    return _class_numbers(numbers, name, numbers.shape[1] if numbers.ndim == 2 else None)


def _on_host(y: Any, name: str) -> np.ndarray:
    """Class numbers (N,), or rows (N, C), as a NumPy array; axes of length 1 are dropped, as in (N, 1, C)."""
    if is_foreign(y):
        raise TypeError(
            f"confusion_matrix takes NumPy arrays and lists, but {name} is {type(y).__module__}.{type(y).__name__}: "
            f"give portnn.to_numpy({name})"
        )
    array = host_array(y, name)
    sample = [n for n in array.shape[1:] if n != 1]
    if array.ndim == 0 or len(sample) > 1:
        raise ValueError(
            f"{name} has shape {array.shape}: give class numbers (N,), or rows with a column for each class (N, C). "
            f"Of several rows in each sample, each counts by itself: {name}.reshape(-1, C)"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{name}[{int(np.argwhere(np.isnan(array))[0][0])}] holds NaN: it is of no class")
    return array.reshape(len(array), *sample)


def _check_targets(true: np.ndarray) -> None:
    """Raises ValueError for rows of targets that are neither one-hot nor probabilities."""
    if true.ndim == 2 and (bad := np.abs(true.sum(axis=1, dtype=np.float64) - 1.0) > 1e-3).any():
        first = int(bad.argmax())
        raise ValueError(
            f"the row y_true[{first}] sums to {true[first].sum():g}, but a row of targets marks one class, or holds "
            "probabilities that sum to 1"
        )


def _class_numbers(y: np.ndarray, name: str, columns: int | None) -> np.ndarray:
    """The class of each sample, (N,), which must be one of the columns if there are any."""
    if y.ndim == 2:
        return y.argmax(axis=1)
    whole = np.floor(y) == y
    if not whole.all() and np.all((y >= 0.0) & (y <= 1.0)):
        return (y > 0.5).astype(np.int64)
    bad = ~whole | (y < 0) | (y >= (columns or MOST))
    if bad.any():
        first = int(bad.argmax())
        rule = f"0 to {columns - 1}, the number of columns less one" if columns else f"0 to {MOST - 1}"
        hint = "" if whole[first] else ", or fractions from 0 to 1, the probabilities of class 1; of logits give y > 0"
        raise ValueError(f"{name}[{first}] is {y[first]:g}, but class numbers are whole numbers from {rule}{hint}")
    return y.astype(np.int64)


def _most(*numbers: np.ndarray) -> int:
    """The largest class number plus one."""
    if not all(map(len, numbers)):
        raise ValueError("y_true and y_pred hold no samples: nothing says how many classes there are")
    return 1 + max(int(n.max()) for n in numbers)
