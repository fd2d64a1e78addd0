"""Metrics: measures of a network besides its loss.

A metric is a function of (y_true, y_pred) that returns one value per sample (N,), whose mean is reported, or an object
for what is no mean over samples: a ``name``, ``sums(y_true, y_pred, weights)`` of one batch, an array of fixed shape
that is added up on the device, and ``value(sums)``, a float, on the host. Targets whose number fits neither the rows
nor the elements of the outputs raise ValueError.

Weights (N,) count each sample so many times; one of weight 0 counts nothing, whatever it holds. Sums are float64 where
the device has it, since an epoch has many terms.
"""

import re
from math import prod
from typing import Any

import numpy as np

from portnn import checks, losses, names, ops
from portnn._typing import Array
from portnn.backend import Backend, namespace
from portnn.confusion import confusion_matrix as confusion_matrix
from portnn.ops import portable
from portnn.settings import Fixed, WithSettings

# -- functions: one value per sample -----------------------------------------------------------------------------------


def accuracy(y_true: Array, y_pred: Array) -> Array:
    """The fraction of each sample's rows whose largest output is at the right class: 1.0 or 0.0 where it has one row.

    ``y_pred`` is (N, ..., classes); ``y_true`` is class numbers (N, ...), or one-hot rows with as many elements as
    ``y_pred``. With a single output per row, an output of more than 0.5 predicts 1, any other 0. A row that holds NaN
    is wrong. Returns (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    array([1., 0.])
    """
    if _shape(y_pred)[2] == 1:
        return _on_one_side(y_true, y_pred, 0.5)
    xp = namespace(y_pred)
    guess, truth, known = _classes(y_true, y_pred)
    return xp.mean(xp.astype(xp.logical_and(guess == truth, known), y_pred.dtype), axis=1)


def logit_accuracy(y_true: Array, y_pred: Array) -> Array:
    """The fraction of each sample's outputs that are on the right side of zero.

    This is ``"accuracy"`` with the losses binary_cross_entropy and hinge, where each output is a prediction of its own.
    ``y_pred`` (N, ...) holds logits; ``y_true`` has as many elements, more than 0.5 for class 1. NaN is wrong. Returns
    (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> logit_accuracy(np.array([[1.0, 0.0]]), np.array([[2.0, 3.0]]))
    array([0.5])
    """
    return _on_one_side(y_true, y_pred, 0.0)


def _on_one_side(y_true: Array, y_pred: Array, threshold: float) -> Array:
    xp = namespace(y_pred)
    shape = (y_pred.shape[0], prod(y_pred.shape[1:]))
    y = xp.reshape(y_pred, shape)
    right = xp.logical_and((y > threshold) == (_in_shape(y_true, y_pred, shape) > 0.5), y == y)
    return xp.mean(xp.astype(right, y_pred.dtype), axis=1)


def mean_absolute_error(y_true: Array, y_pred: Array) -> Array:
    """The mean of |Y* - Y| over each sample's elements, (N,) of ``y_pred``'s dtype.

    >>> import numpy as np
    >>> mean_absolute_error(np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 4.0], [0.5, -0.5]]))
    array([1. , 0.5])
    """
    xp, elements = namespace(y_pred), prod(y_pred.shape[1:])
    error = xp.abs(xp.astype(losses.matched(y_true, y_pred), y_pred.dtype) - y_pred)
    return portable.total(xp.reshape(error, (y_pred.shape[0], elements)), 1, xp=xp) / max(1, elements)


# -- objects: sums over batches ----------------------------------------------------------------------------------------


class Metric:
    """The base of portnn's own metric objects. ``name`` is its key in the history."""

    name = ""

    def prepared(self, targets: Array) -> "Metric":
        """The metric for one epoch, or for one evaluation; called before the first batch.

        ``targets`` (N, ...), an array of the network's backend, are those to come, or some of them. Here it is the
        metric itself; one that needs to know something of the targets returns another object.
        """
        return self

    def sums(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        """Sums over a batch, an array on the device, whose shape depends on that of a sample of ``y_pred`` alone."""
        raise NotImplementedError

    def value(self, sums: np.ndarray) -> float:
        """The metric's value, from the sums of all batches added up."""
        raise NotImplementedError


class TopK(Metric, WithSettings):
    """The fraction of rows whose right class is among the k largest outputs; TopK(2) is called ``"top_2"``.

    Targets and outputs are those of ``accuracy``, which is k = 1, with a column per class. Of equal outputs, those of
    lower classes count as larger. A row that holds NaN is wrong. ``k`` is a whole number, 1 or more.

    >>> import numpy as np
    >>> TopK(2).values(np.array([0, 1]), np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]))
    array([0., 0.])
    >>> TopK(2).values(np.array([1, 2]), np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]))
    array([1., 1.])
    """

    k: Any = Fixed(checks.size)

    def __init__(self, k: int):
        self.k = k
        self.name = f"top_{self.k}"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        """1.0 or 0.0 for each sample, or the fraction of its rows: (N,)."""
        xp, shape = namespace(y_pred), _shape(y_pred)
        if shape[2] == 1:
            raise ValueError(f"{self.name} needs an output for each class, but y_pred has shape {tuple(y_pred.shape)}")
        _, truth, known = _classes(y_true, y_pred)
        y, truth = xp.reshape(y_pred, shape), xp.expand_dims(truth, axis=2)  # (N, rows, classes), (N, rows, 1)
        number = xp.arange(shape[2], dtype=truth.dtype, device=truth.device)
        at_truth = number == truth
        own = xp.sum(xp.where(at_truth, y, xp.zeros_like(y)), axis=2, keepdims=True)  # the right class's output
        ahead = xp.logical_or(y > own, xp.logical_and(y == own, number < truth))
        near = xp.sum(xp.astype(ahead, xp.int64), axis=2) < self.k
        right = xp.logical_and(xp.logical_and(near, known), xp.any(at_truth, axis=2))
        return xp.mean(xp.astype(right, y_pred.dtype), axis=1)

    def sums(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        """(2,): the sum of w v over the samples' values v, and the sum of w."""
        xp = namespace(y_pred)
        total = _sum(xp.reshape(self.values(y_true, y_pred), (y_pred.shape[0], 1)), weights, _float64(y_pred))  # (1,)
        return xp.reshape(_as_rows(total, _count(y_pred, weights, total)), (2,))

    def value(self, sums: np.ndarray) -> float:
        return float(_ratio(sums[0], sums[1]))

    def __repr__(self) -> str:
        return f"TopK({self.k})"


class ClassScore(Metric):
    """The base of scores of classes: the mean over the classes that occur in targets or predictions ("macro").

    ``y_true`` and ``y_pred`` are those of ``accuracy``; of (N, rows, classes) each row counts by itself. A row that
    holds NaN predicts no class. With one output, the score is that of the positive class, which an output of more than
    0.5 predicts. With ``logits``, as with the losses binary_cross_entropy and hinge, each output is a prediction of
    its own, by a value of more than 0. A score of 0/0 is 0.

    The sums (3, classes) are, for each class, the weights of the rows that are rightly predicted to be of it, of those
    that are predicted to be, and of those that are.
    """

    def __init__(self, *, logits: bool = False):
        self.logits = logits

    def sums(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        predicted, actual = self._marks(y_true, y_pred)
        marks = namespace(y_pred).logical_and(predicted, actual), predicted, actual
        return _as_rows(*(_sum(mark, weights, _float64(y_pred)) for mark in marks))

    def _marks(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Whether each row is predicted to be of each class, and whether it is: (N, rows, classes) both."""
        xp, shape = namespace(y_pred), _shape(y_pred)
        if self.logits or shape[2] == 1:
            predicted = xp.reshape(y_pred, shape) > (0.0 if self.logits else 0.5)
            return predicted, _in_shape(y_true, y_pred, shape) > 0.5
        guess, truth, known = (xp.expand_dims(rows, axis=2) for rows in _classes(y_true, y_pred))
        number = xp.arange(shape[2], dtype=guess.dtype, device=guess.device)
        return xp.logical_and(number == guess, known), number == truth

    def value(self, sums: np.ndarray) -> float:
        right, predicted, actual = sums
        occurs = predicted + actual > 0.0
        return float(_ratio(np.sum(self.scores(right, predicted, actual)[occurs]), np.sum(occurs)))

    def scores(self, right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """The score of each class, (classes,)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


class Precision(ClassScore):
    """Of the rows that are predicted to be of a class, the fraction that are; the mean over classes."""

    name = "precision"

    def scores(self, right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        return _ratio(right, predicted)


class Recall(ClassScore):
    """Of the rows of a class, the fraction that are predicted to be of it; the mean over classes."""

    name = "recall"

    def scores(self, right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        return _ratio(right, actual)


class F1(ClassScore):
    """The harmonic mean of a class's precision and recall, 2 right / (predicted + actual); the mean over classes.

    Source: C. van Rijsbergen, "Information Retrieval", 1979, chapter 7.
    """

    name = "f1"

    def scores(self, right: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        return _ratio(2.0 * right, predicted + actual)


class R2(Metric):
    """The coefficient of determination, R2 = 1 - sum of w (Y* - Y)**2 / sum of w (Y* - mean of Y*)**2.

    It is computed for each output of a sample, and averaged over the outputs. For targets that are all equal it is 1 if
    every output is right, else 0.

    With T = Y* - c, for any constant c, the second sum is sum of w T**2 - (sum of w T)**2 / sum of w: so one pass over
    the batches will do. It cancels where c is far from the mean, so ``prepared`` takes the mean of the targets as c;
    without it, c is 0.

    The sums (4, outputs) are those of w (Y* - Y)**2, w T**2, w T and w.
    """

    name = "r2"

    def __init__(self, constant: Array | None = None):
        self.constant = constant  # c, (outputs,)

    def prepared(self, targets: Array) -> "R2":
        """The metric with the mean of these targets as its constant; NaN and infinity among them are left out."""
        xp = namespace(targets)
        y = xp.astype(xp.reshape(targets, (targets.shape[0], prod(targets.shape[1:]))), _float64(targets))
        finite = xp.isfinite(y)
        y, count = xp.where(finite, y, xp.zeros_like(y)), xp.sum(xp.astype(finite, y.dtype), axis=0)
        mean = portable.total(y, 0, xp=xp) / xp.where(count == 0.0, xp.ones_like(count), count)
        return type(self)(mean)

    def sums(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        xp, dtype = namespace(y_pred), _float64(y_pred)
        shape = (y_pred.shape[0], prod(y_pred.shape[1:]))
        true = xp.astype(xp.reshape(losses.matched(y_true, y_pred), shape), dtype)
        off = true - xp.astype(xp.reshape(y_pred, shape), dtype)
        T = true if self.constant is None else true - self.constant
        off, squares, shifted = (_sum(x, weights, dtype) for x in (off * off, T * T, T))
        return _as_rows(off, squares, shifted, _count(y_pred, weights, shifted))

    def value(self, sums: np.ndarray) -> float:
        off, squares, shifted, weight = sums
        if not weight.any():
            return 0.0
        spread = squares - _ratio(shifted * shifted, weight)
        spread = np.where(spread <= 1e-13 * squares, 0.0, spread)  # equal targets, but for rounding
        of_equal = np.where(off > 0.0, 0.0, 1.0 - off)  # NaN stays NaN
        return float(np.mean(np.where(spread == 0.0, of_equal, 1.0 - _ratio(off, spread))))

    def __repr__(self) -> str:
        return self.name


precision, recall, f1, r2 = Precision(), Recall(), F1(), R2()


# -- what they share ---------------------------------------------------------------------------------------------------


def _shape(y_pred: Array) -> tuple[int, int, int]:
    """(N, rows, classes) for outputs (N, ..., classes); outputs (N,) are one column."""
    n, *rows, classes = y_pred.shape if y_pred.ndim > 1 else (*y_pred.shape, 1)
    return n, prod(rows), classes


def _classes(y_true: Array, y_pred: Array) -> tuple[Array, Array, Array]:
    """For each row (N, rows) the class it predicts, its true class, and whether it predicts one: not if it has NaN."""
    xp, shape = namespace(y_pred), _shape(y_pred)
    y = xp.reshape(y_pred, shape)
    guess, largest = xp.argmax(y, axis=2), xp.max(y, axis=2)
    if prod(y_true.shape) == shape[0] * shape[1]:
        truth = xp.reshape(y_true, shape[:2])
    else:
        truth = xp.argmax(_in_shape(y_true, y_pred, shape), axis=2)
    return guess, xp.astype(truth, guess.dtype), largest == largest


def _in_shape(y_true: Array, y_pred: Array, shape: tuple[int, ...]) -> Array:
    """Targets with as many elements as the outputs, in the shape that these have been given."""
    if prod(y_true.shape) != prod(shape):
        raise ValueError(
            f"y_true has shape {tuple(y_true.shape)}, but y_pred has {tuple(y_pred.shape)}: a metric takes class "
            "numbers, one for each row of outputs, or as many targets as outputs"
        )
    return namespace(y_true).reshape(y_true, shape)


def _sum(x: Array, weights: Array | None, dtype: Any) -> Array:
    """The sum of w x, for an array (N, ..., K), over all axes but the last, (K,); of (N,) over all, 0-d."""
    xp = namespace(x)
    x = xp.astype(x, dtype)
    if weights is not None:
        w = losses.by_sample(weights, x)
        x = w * xp.where(w == 0.0, xp.zeros_like(x), x)  # not 0 * NaN
    return portable.total(x, tuple(range(x.ndim - 1)) or 0, xp=xp)


def _count(y_pred: Array, weights: Array | None, like: Array) -> Array:
    """The sum of w, or the number of samples, in an array like ``like``."""
    xp = namespace(like)
    if weights is None:
        return xp.zeros_like(like) + float(y_pred.shape[0])
    return xp.zeros_like(like) + portable.total(xp.astype(weights, like.dtype), xp=xp)


def _as_rows(*rows: Array) -> Array:
    """Arrays (K,) as the rows of one. Not by stack: some libraries upload addresses then, which a capture forbids."""
    xp = namespace(rows[0])
    number = xp.reshape(xp.arange(len(rows), device=rows[0].device), (-1, 1))
    matrix = rows[0]
    for i, row in enumerate(rows[1:], 1):
        matrix = xp.where(number == i, row, matrix)
    return matrix


def _float64(x: Array) -> Any:
    """The dtype of sums: float64 if the device of ``x`` has it, else the dtype of ``x``, or float32 for integers."""
    xp = namespace(x)
    try:
        return xp.empty(0, dtype=xp.float64, device=x.device).dtype
    except (TypeError, ValueError, RuntimeError):
        return x.dtype if xp.isdtype(x.dtype, "real floating") else xp.float32


def _ratio(a: Any, b: Any) -> Any:
    """a / b, elementwise on the host; 0 where b is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0.0)


# -- names, and what fit and evaluate call -----------------------------------------------------------------------------

METRICS = {
    "accuracy": accuracy,
    "top_5": TopK(5),
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "mean_absolute_error": mean_absolute_error,
    "r2": r2,
}
_OF_LOGITS = {
    "accuracy": logit_accuracy,
    "precision": Precision(logits=True),
    "recall": Recall(logits=True),
    "f1": F1(logits=True),
}


def find(name: str, loss: Any) -> Any:
    """The metric of that name for use with ``loss``; None if there is none. Every k has its ``"top_k"``."""
    own = _OF_LOGITS if losses.takes_logits(loss) else {}
    if (k := re.fullmatch(r"top_([1-9][0-9]{0,8})", name)) and name not in METRICS:
        return TopK(int(k[1]))
    return own.get(name) or METRICS.get(name)


def known_names(given: str) -> list[str]:
    """The names of metrics, for an error message; with ``"top_3"`` if that is what was meant, as by "top3"."""
    k = re.fullmatch(r"top([1-9][0-9]{0,8})", names.squeezed(given))
    return list(dict.fromkeys([*METRICS, f"top_{k[1]}"] if k else METRICS))


def name_in_table(metric: Any) -> str | None:
    """The name of one of portnn's own metrics that was given as itself: as by name, it suits the loss then."""
    return next((name for name, own in METRICS.items() if own is metric), None)


def is_object(metric: Any) -> bool:
    """Whether a metric is an object with ``name``, ``sums`` and ``value``, rather than a function."""
    methods = (getattr(metric, "sums", None), getattr(metric, "value", None))
    return isinstance(getattr(metric, "name", None), str) and all(map(callable, methods))


def prepared(metric: Any, targets: Array, weights: Array | None = None) -> Any:
    """A metric object for one epoch with these targets, or targets like these; see ``Metric.prepared``.

    Targets of weight 0 are NaN for it.
    """
    if not hasattr(metric, "prepared"):
        return metric
    xp = namespace(targets)
    if weights is not None and xp.isdtype(targets.dtype, "real floating"):
        w = losses.by_sample(weights, targets)
        targets = xp.where(w == 0.0, xp.full_like(targets, float("nan")), targets)
    return metric.prepared(targets)


def batch_sums(name: str, metric: Any, y_true: Array, y_pred: Array, weights: Array | None, backend: Backend) -> Array:
    """What a batch adds to a metric's sums: those of an object, or the (weighted) sum of a function's values, 0-d.

    What a user wrote is given copies, and its answer is checked.
    """
    given = [y_true, y_pred, weights]
    if not ops.is_ours(metric):  # it may write into what it is given
        given = [None if a is None else backend.xp.asarray(a, copy=True) for a in given]
    if is_object(metric):
        sums = metric.sums(*given)
        if ops.is_ours(metric):
            return sums
        if not backend.owns(sums):
            raise TypeError(
                f"metric {name}: sums returned {type(sums).__module__}.{type(sums).__name__}, but must return an "
                f"array of backend {backend.name!r}: write it with portnn.backend.namespace(y_pred)"
            )
        return backend.xp.astype(sums, _float64(y_pred))
    values, n = metric(*given[:2]), y_pred.shape[0]
    if not backend.owns(values) or tuple(values.shape) != (n,):
        shown = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else f"{values!r:.40}"
        raise ValueError(
            f"metric {name} returned {shown} for {n} samples: it must return an array with one value per sample, shape "
            f"({n},); fit averages them"
        )
    return _sum(values, weights, _float64(y_pred))


def zero_sums(name: str, metric: Any, y_true: Array, y_pred: Array, backend: Backend) -> Array:
    """The sums of no batch at all: zeros, in the shape that they have for samples like these."""
    if not is_object(metric):
        return _sum(backend.xp.reshape(y_pred[:0, ...], (0,)), None, _float64(y_pred))
    return backend.xp.zeros_like(batch_sums(name, metric, y_true[:1, ...], y_pred[:1, ...], None, backend))


def value(metric: Any, sums: Any, weight: float) -> float:
    """A metric's value from its sums, on the host; ``weight`` is the number of samples, or their total weight."""
    if is_object(metric):
        return float(metric.value(np.asarray(sums)))
    return float(sums) / weight if weight else 0.0
