"""The derivatives of an activation and of max pooling after it; cross-entropy with its derivative; for NumPy alone."""

from typing import Any

import numpy as np

from portnn_numpy import losses, namespace
from portnn_numpy._pooling import is_tiled, to_largest
from portnn_numpy.layout import channels_first, channels_last

Array = Any

CROSS_ENTROPY = losses.softmax_cross_entropy, losses.softmax_cross_entropy_prime


def pooled(
    Y: Array, P: Array, output_error: Array, chain: Any, kind: str, plan: Any, routines: Any
) -> tuple[Array, Array | None]:
    """For the maximum of windows that do not overlap: the chain rule on the pooled image, which is smaller.

    The largest pixel of a window has the derivative that the pooled image has there, and the others have no error.
    """
    if kind != "MaxPoolLayer" or plan.is_padded or plan.stride != plan.kernel:
        return NotImplemented
    error = chain(P, output_error)
    sums = namespace.total(channels_first(error).reshape(Y.shape[-1], -1), 1)  # each is the error of one pixel
    if not np.isfinite(sums).all():  # NaN times a mask is NaN also where the mask is zero
        return NotImplemented
    make: Any = np.empty if is_tiled(plan) else np.zeros
    d = make((plan.image[0], Y.shape[-1], *plan.image[1:], len(Y)), Y.dtype)
    d = d.swapaxes(0, 1)  # (F, H', W', N), with rows outermost in memory, as ``convolution_backward`` wants it
    to_largest(Y, P, error, plan, d)
    return channels_last(d), sums


def whole(Y_true: Array, Y: Array, loss: Any, loss_prime: Any, chain: Any) -> tuple[Array, Array, Array | None]:
    """For ``softmax_cross_entropy`` with class numbers and its derivative, which share their first steps.

    The operations are those of the two functions.
    """
    are_classes = Y.ndim == 2 and len(Y) > 0 and Y_true.shape == Y.shape[:1] and Y_true.dtype.kind in "iu"
    if (loss, loss_prime) != CROSS_ENTROPY or not are_classes:
        return NotImplemented
    n, each = len(Y), np.arange(len(Y))
    D = Y - np.maximum.reduce(Y, axis=1, keepdims=True)
    picked = D[each, Y_true]
    np.exp(D, out=D)
    share = namespace.total(D, 1, True)
    error = np.add.reduce(np.log(share[:, 0]) - picked) * (1.0 / n)
    D *= 1.0 / (share * n)
    D[each, Y_true] -= 1.0 / n
    return error, D if chain is None else chain(Y, D), None
