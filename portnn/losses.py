"""Loss functions E(Y*, Y), each with its derivative dE/dY beside it.

Every loss takes ``y_true`` (Y*) and ``y_pred`` (Y), arrays of one array library, Y of a floating dtype, and returns the
mean over the batch as a 0-d array; its prime is the derivative of that mean, of the shape of ``y_pred``. Shapes must
agree except for axes of length 1, ValueError otherwise: nothing is ever broadcast. The softmax cross-entropies also
take class numbers (N,); ``fit`` and ``evaluate`` check their range, the functions themselves do not.

That mean is the mean of the samples' own errors e_i, E = 1/N * sum of e_i. With a third argument ``weights`` (N,), one
number w_i >= 0 for each sample, it is a weighted mean:

    E = sum of w_i e_i / sum of w_i         dE/dY_i = w_i de_i/dY_i / sum of w_i

A weight of 0 leaves its sample out, even one that holds NaN or infinity, and a weight of 2 counts it twice. If the sum
of the weights is 0, so are E and dE/dY.
"""

from math import prod
from typing import Any

from portnn import activations
from portnn._typing import Array
from portnn.backend import namespace, quiet
from portnn.checks import in_range, positive
from portnn.ops import portable
from portnn.settings import Setting, WithSettings


@quiet
def mse(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Mean squared error over all elements, E = mean((Y* - Y)**2).

    >>> import numpy as np
    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    y_true, y_pred = _counted(y_true, y_pred, weights)
    d = y_true - y_pred
    return _mean(d * d, weights)


@quiet
def mse_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Derivative of ``mse``: dE/dY = 2 * (Y - Y*) / (number of elements)."""
    y_true, y_pred = _counted(y_true, y_pred, weights)
    return (y_pred - y_true) * _share(2.0, y_pred, weights)


@quiet
def mae(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Mean absolute error over all elements, E = mean(|Y* - Y|)."""
    y_true, y_pred = _counted(y_true, y_pred, weights)
    return _mean(namespace(y_pred).abs(y_true - y_pred), weights)


@quiet
def mae_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Derivative of ``mae``: dE/dY = sign(Y - Y*) / (number of elements), 0 at the kink."""
    y_true, y_pred = _counted(y_true, y_pred, weights)
    return namespace(y_pred).sign(y_pred - y_true) * _share(1.0, y_pred, weights)


class Huber(WithSettings):
    """Huber loss: quadratic for small d = Y - Y*, linear for large ones, so that outliers weigh less.

        E     = mean over all elements of d**2 / 2 where |d| <= delta, else delta (|d| - delta / 2)
        dE/dY = d, clipped to [-delta, delta], / (number of elements)

    ``delta`` must be more than 0, ValueError otherwise.

    Source: P. Huber, "Robust estimation of a location parameter", 1964.

    >>> import numpy as np
    >>> float(Huber(delta=1.0)(np.array([0.0, 0.0]), np.array([1.0, 3.0])))
    1.5
    """

    delta: Any = Setting(positive)

    def __init__(self, delta: float = 1.0):
        self.delta = delta

    @quiet
    def __call__(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        xp = namespace(y_pred)
        y_true, y_pred = _counted(y_true, y_pred, weights)
        d = xp.abs(y_true - y_pred)
        near = xp.minimum(d, xp.zeros_like(d) + self.delta)
        return _mean(near * (d - 0.5 * near), weights)  # near is |d|, or delta: both cases in one formula

    @quiet
    def prime(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        """The derivative dE/dY."""
        xp = namespace(y_pred)
        y_true, y_pred = _counted(y_true, y_pred, weights)
        d = y_pred - y_true
        limit = xp.zeros_like(d) + self.delta
        return xp.maximum(xp.minimum(d, limit), -limit) * _share(1.0, y_pred, weights)

    def __repr__(self) -> str:
        return f"Huber(delta={self.delta:g})"


@quiet
def hinge(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Hinge loss over all elements, E = mean(max(0, 1 - Y* Y)), for targets Y* that are -1 or 1.

    >>> import numpy as np
    >>> float(hinge(np.array([1.0, -1.0]), np.array([0.5, -2.0])))
    0.25
    """
    xp = namespace(y_pred)
    y_true, y_pred = _counted(y_true, y_pred, weights)
    margin = 1.0 - y_true * y_pred
    return _mean(xp.maximum(margin, xp.zeros_like(margin)), weights)


@quiet
def hinge_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Derivative of ``hinge``: dE/dY = -Y* / (number of elements) where Y* Y < 1, else 0; NaN for NaN."""
    xp = namespace(y_pred)
    y_true, y_pred = _counted(y_true, y_pred, weights)
    margin = y_true * y_pred
    within = xp.where(margin == margin, xp.astype(margin < 1.0, y_pred.dtype), margin)
    return within * y_true * _share(-1.0, y_pred, weights)


@quiet
def binary_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Cross-entropy of two classes, from logits Y: p = sigmoid(Y) is the probability of class 1.

    E = mean over all elements of -(Y* log p + (1 - Y*) log(1 - p)) = R |Y| + log(1 + exp(-|Y|)), where R is 1 - Y*
    for Y >= 0, else Y*; targets Y* are in [0, 1]. The second form is finite for all finite logits, and for infinite
    ones of the right sign.
    """
    xp = namespace(y_pred)
    y_true, y_pred = _counted(y_true, y_pred, weights)
    size = xp.abs(y_pred)
    away = xp.where(y_pred >= 0.0, 1.0 - y_true, xp.zeros_like(y_pred) + y_true)
    counts = xp.where(away == 0.0, xp.zeros_like(size), size)
    return _mean(away * counts + xp.log1p(xp.exp(-size)), weights)


@quiet
def binary_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Derivative of ``binary_cross_entropy``: dE/dY = (sigmoid(Y) - Y*) / (number of elements)."""
    y_true, y_pred = _counted(y_true, y_pred, weights)
    return (activations.sigmoid(y_pred) - y_true) * _share(1.0, y_pred, weights)


@quiet
def softmax_cross_entropy(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Cross-entropy of one class out of C, from logits Y (N, ..., C): p = softmax(Y) are the classes' probabilities.

    E = 1/N * sum of -(Y* log p), for targets Y* that are class numbers (N,), which are integers, or rows of the shape
    of Y, one-hot or probabilities that sum to one.

    >>> import numpy as np
    >>> float(softmax_cross_entropy(np.array([1]), np.array([[0.0, 0.0]])).round(4))
    0.6931
    """
    return SoftmaxCrossEntropy()(y_true, y_pred, weights)


@quiet
def softmax_cross_entropy_prime(y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
    """Derivative of ``softmax_cross_entropy``: dE/dY = (softmax(Y) - Y*) / N, with Y* as one-hot rows."""
    return SoftmaxCrossEntropy().prime(y_true, y_pred, weights)


class SoftmaxCrossEntropy(WithSettings):
    """``softmax_cross_entropy`` with smoothed targets: a part s of each target is spread evenly over all C classes.

        E = 1/N * sum of -(T log softmax(Y)),  T = (1 - s) Y* + s / C         dE/dY = (softmax(Y) - T) / N

    ``label_smoothing`` s is in [0, 1), ValueError otherwise.

    Source: C. Szegedy et al., "Rethinking the inception architecture", CVPR 2016.
    """

    label_smoothing: Any = Setting(in_range(0.0, 1.0))

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    @quiet
    def __call__(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        xp = namespace(y_pred)
        T, y_pred = _counted(self._rows(y_true, y_pred), y_pred, weights)
        log_p = activations.log_softmax(y_pred)
        lost = T * xp.where(T == 0.0, xp.zeros_like(log_p), log_p)  # log p may be infinite where T is zero
        if weights is None:
            return xp.sum(lost) * (-1.0 / max(1, y_pred.shape[0]))
        return 0.0 - portable.total(lost * _shares(weights, y_pred), xp=xp)  # a sum of 0 gives 0, not -0

    @quiet
    def prime(self, y_true: Array, y_pred: Array, weights: Array | None = None) -> Array:
        """The derivative dE/dY."""
        T, y_pred = _counted(self._rows(y_true, y_pred), y_pred, weights)
        p = activations.softmax(y_pred)
        if not are_class_numbers(y_true, y_pred):
            p = p * namespace(T).sum(T, axis=-1, keepdims=True)  # 1, if the rows are probabilities
        return (p - T) * (1.0 / max(1, y_pred.shape[0]) if weights is None else _shares(weights, y_pred))

    def _rows(self, y_true: Array, y_pred: Array) -> Array:
        """The smoothed targets T, in the shape of Y."""
        rows, s = class_rows(y_true, y_pred), self.label_smoothing
        return (1.0 - s) * rows + s / y_pred.shape[-1] if s else rows

    def __repr__(self) -> str:
        return f"SoftmaxCrossEntropy(label_smoothing={self.label_smoothing:g})"


def takes_classes(loss: Any) -> bool:
    """Whether a loss takes class numbers as targets."""
    return loss is softmax_cross_entropy or isinstance(loss, SoftmaxCrossEntropy)


def takes_logits(loss: Any) -> bool:
    """Whether a loss takes outputs each of which is a logit of its own: above 0 it predicts class 1."""
    return loss is binary_cross_entropy or loss is hinge


def are_class_numbers(y_true: Array, y_pred: Array) -> bool:
    """Whether targets are integers, one for each row of logits, rather than rows themselves."""
    shape, rows = tuple(y_true.shape), tuple(y_pred.shape[:-1])
    whole = namespace(y_true).isdtype(y_true.dtype, "integral")
    return whole and (shape == rows or (shape == (y_pred.shape[0],) and prod(rows) == y_pred.shape[0]))


def class_rows(y_true: Array, y_pred: Array) -> Array:
    """Targets as rows of the shape and dtype of ``y_pred``: class numbers become one-hot."""
    need_arrays(y_true, y_pred)
    if not y_pred.shape or y_pred.shape[-1] == 0:
        raise ValueError(
            f"y_pred has shape {tuple(y_pred.shape)}, but a cross-entropy takes rows of logits, (N, ..., classes)"
        )
    xp = namespace(y_pred)
    if are_class_numbers(y_true, y_pred):
        rows = portable.one_hot(y_true, y_pred.shape[-1], y_pred.dtype, xp=xp)
        return rows if rows.shape == y_pred.shape else xp.reshape(rows, y_pred.shape)
    rows = matched(y_true, y_pred)
    return rows if rows.dtype == y_pred.dtype else xp.astype(rows, y_pred.dtype)


def matched(y_true: Array, y_pred: Array) -> Array:
    """Returns ``y_true`` in the shape of ``y_pred``; ValueError if they differ other than in axes of length 1."""
    need_arrays(y_true, y_pred)
    if y_true.shape == y_pred.shape:
        return y_true
    if [n for n in y_true.shape if n != 1] != [n for n in y_pred.shape if n != 1]:
        raise ValueError(
            f"y_true has shape {tuple(y_true.shape)} but y_pred has {tuple(y_pred.shape)}: they are compared element "
            "with element, so both need the same shape. Reshape y_true; class numbers become rows with to_categorical"
        )
    return namespace(y_true).reshape(y_true, y_pred.shape)


def need_arrays(y_true: Array, y_pred: Array) -> None:
    """Raises TypeError for anything that is not an array."""
    if not all(isinstance(getattr(y, "shape", None), tuple) for y in (y_true, y_pred)):
        given = ", ".join(type(y).__name__ for y in (y_true, y_pred))
        raise TypeError(f"a loss compares two arrays, y_true and y_pred, got {given}: make arrays of them first")


# -- weights -----------------------------------------------------------------------------------------------------------


def _counted(y_true: Array, y_pred: Array, weights: Array | None) -> tuple[Array, Array]:
    """Targets in the shape of the outputs, and the outputs; samples of weight 0 become zeros, since 0 * NaN is NaN."""
    y_true = matched(y_true, y_pred)
    if weights is None:
        return y_true, y_pred
    xp = namespace(y_pred)
    out = by_sample(weights, y_pred) == 0.0
    return xp.where(out, xp.zeros_like(y_true), y_true), xp.where(out, xp.zeros_like(y_pred), y_pred)


def _mean(errors: Array, weights: Array | None) -> Array:
    """The mean of the elements' errors, or of the samples' means by weight."""
    xp = namespace(errors)
    if weights is None:
        return xp.mean(errors)
    return portable.total(errors * _share(1.0, errors, weights), xp=xp)


def _share(factor: float, y_pred: Array, weights: Array | None) -> Any:
    """``factor`` times what one element counts in the mean: a number, or with weights an array (N, 1, ...)."""
    if weights is None:
        return factor / max(1, prod(y_pred.shape))
    return _shares(weights, y_pred) * (factor / max(1, prod(y_pred.shape[1:])))


def _shares(weights: Array, y_pred: Array) -> Array:
    """What each sample counts, w_i / (sum of w), in the shape (N, 1, ...); zeros if that sum is 0."""
    xp, weights = namespace(y_pred), by_sample(weights, y_pred)
    total = portable.total(weights, keepdims=True, xp=xp)
    return weights / xp.where(total == 0.0, xp.ones_like(total), total)


def by_sample(weights: Array, y: Array) -> Array:
    """Weights (N,) in the dtype of ``y`` (N, ...), and in the shape (N, 1, ...) that multiplies it."""
    if not isinstance(getattr(weights, "shape", None), tuple):
        raise TypeError(f"weights must be an array (N,), one number for each sample, got {type(weights).__name__}")
    if y.ndim == 0 or tuple(weights.shape) != (y.shape[0],):
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}, but y_pred has {tuple(y.shape)}: they must be (N,), one "
            "number for each sample"
        )
    xp = namespace(y)
    return xp.reshape(xp.astype(weights, y.dtype, copy=False), (y.shape[0],) + (1,) * (y.ndim - 1))


PAIRS = {
    "mse": (mse, mse_prime),
    "mae": (mae, mae_prime),
    "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_prime),
    "softmax_cross_entropy": (softmax_cross_entropy, softmax_cross_entropy_prime),
    "hinge": (hinge, hinge_prime),
}
