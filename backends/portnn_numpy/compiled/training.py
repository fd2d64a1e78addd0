"""What ``portnn.training`` joins, each in one pass by a compiled loop.

These are a convolution with bias and activation; in the backward pass the chain rule of that activation, with the
derivative of a pooling layer and the sums that are dE/dB; a loss with its derivative; the rows of a batch with their
cast; and gradient descent on a fully connected layer for one sample.

Images are stored as (C, H, W, N). For another order, or small arrays, the plain functions do it in several passes.
"""

from typing import Any

import numpy as np

from portnn_numpy import training as plain
from portnn_numpy.compiled import _batches, _descent, _losses
from portnn_numpy.compiled import _pooling as loops
from portnn_numpy.compiled._activations import RELU, TANH
from portnn_numpy.compiled._convolution import convolved as convolution
from portnn_numpy.compiled.jit import LEAST, Array, ran, writable
from portnn_numpy.layout import channels_first, channels_last

OURS = {"portnn.losses", "portnn_numpy.losses"}  # the library's own functions, and the fast versions of them
CHAINS = {"relu_chain": RELU, "tanh_chain": TANH}


def convolved(
    X: Array,
    weights: Array,
    bias: Array,
    activation: Any,
    plan: Any,
    groups: int,
    pooling: Any,
    training: bool,
    routines: Any,
) -> tuple[Array | None, Array | None, Any]:
    name = None if activation is None else activation.__name__
    found = convolution(X, weights, plan, groups, bias, name) if bias.dtype == weights.dtype else None
    if found is None:
        return NotImplemented
    Y, seen = found
    if pooling is None:
        return Y, None, seen
    kind, windows = pooling
    return Y, (routines.max_pool if kind == "MaxPoolLayer" else routines.avg_pool)(Y, windows), seen


def chained_image(Y: Array, output_error: Array, chain: Any) -> tuple[Array, Array | None]:
    if not _suits(Y, output_error, chain) or Y.shape != output_error.shape:
        return NotImplemented
    y, d = (_lines(a).reshape(Y.shape[-1], -1) for a in (Y, output_error))
    out, sums = np.empty_like(y), np.zeros((y.shape[0], loops.FEW), y.dtype)
    if not ran(loops.chain, y, d, out, sums, CHAINS[chain.__name__]):
        return NotImplemented
    return _images(out, Y), sums.sum(axis=1)


def pooled(
    Y: Array, P: Array, output_error: Array, chain: Any, kind: str, plan: Any, routines: Any
) -> tuple[Array, Array | None]:
    """For windows that do not overlap."""
    tiles = not plan.is_padded and plan.stride == plan.kernel
    if not tiles or not _suits(Y, output_error, chain) or Y.shape[0] < loops.LEAST_BATCH:
        return NotImplemented
    for what, a, image in (("Y", Y, plan.image), ("dE/dP", output_error, plan.output), ("P", P, plan.output)):
        loops.check_fit(what, a, Y, image)
    y, d, p = (_lines(a) for a in (Y, output_error, P))
    whole = all(m * k == size for m, k, size in zip(plan.output, plan.kernel, plan.image, strict=True))
    out, sums = (np.empty_like if whole else np.zeros_like)(y), np.zeros((y.shape[0], y.shape[-1]), y.dtype)
    given = y.reshape(-1), loops.lines(d), out.reshape(-1), sums, *loops.windows(y, plan)
    if kind == "MaxPoolLayer":
        done = ran(loops.largest_chain, *given, loops.lines(p), CHAINS[chain.__name__])  # or there is NaN
    else:
        done = ran(loops.mean_chain, *given, loops.shares(plan, y.dtype), CHAINS[chain.__name__])
    return (_images(out, Y), sums.sum(axis=1)) if done else NotImplemented


def _suits(Y: Array, output_error: Array, chain: Any) -> bool:
    """Whether these are large images stored channel by channel."""
    turned = channels_first(Y)
    return (
        Y.ndim > 2
        and Y.size >= LEAST
        and Y.dtype == output_error.dtype
        and Y.dtype.char in "fd"
        and turned.flags.c_contiguous
        and chain.__name__ in CHAINS
    )


def _lines(a: Array) -> Array:
    return writable(channels_first(a))


def _images(lines: Array, like: Array) -> Array:
    return channels_last(lines.reshape(like.shape[-1], *like.shape[1:-1], like.shape[0]))


def whole(Y_true: Array, Y: Array, loss: Any, loss_prime: Any, chain: Any) -> tuple[Array, Array, Array | None]:
    """For large outputs, and for ``softmax_cross_entropy`` with class numbers and no activation before it."""
    if Y.size < _losses.LEAST:
        return NotImplemented
    name = getattr(loss, "__name__", "")
    if getattr(loss_prime, "__name__", "") != f"{name}_prime" or not {loss.__module__, loss_prime.__module__} <= OURS:
        return NotImplemented
    classes = name == "softmax_cross_entropy" and chain is None
    if classes and Y.ndim == 2 and Y_true.shape == Y.shape[:1] and Y_true.dtype == np.int64 and Y.dtype.char in "fd":
        D, sums, error = np.empty(Y.shape, Y.dtype), np.zeros(Y.shape[1], np.float64), np.empty(1, Y.dtype)
        done = ran(_losses.classes, writable(Y), writable(Y_true), D, sums, error)
        return (error[0], D, sums.astype(Y.dtype)) if done else NotImplemented
    found = _losses.computed(name, Y_true, Y)
    if found is None:
        return NotImplemented
    error, D = found
    return error, D if chain is None else chain(Y, D), None


def taken(data: Array, which: Array, dtype: Any) -> Array:
    rows, row = which.size, data.size // max(1, len(data))
    if rows * row < _batches.LEAST or type(data) is not np.ndarray or not data.flags.carray:
        return NotImplemented
    if data.dtype.char not in _batches.DTYPES or np.dtype(dtype).char not in "fd" or which.dtype != np.int64:
        return NotImplemented
    batch = np.empty((rows, *data.shape[1:]), dtype)
    lines = batch.reshape(rows, row), data.reshape(-1, row)
    return batch if ran(_batches.rows, *lines, writable(which)) else NotImplemented


_compiled: set[Any] = set()  # dtypes for which the loop below has been compiled


def descended(
    X: Array,
    Y: Array | None,
    output_error: Array,
    chain: Any,
    weights: Array,
    bias: Array,
    rate: float,
    need_input_error: bool,
) -> tuple[Array | None, Array, Array, Array, Array]:
    """With the bits of NumPy's version. X and Y are those of the forward pass: they fit the layer.

    A small layer is worth a call of the loop, but not its compilation. NumPy's version is called from here: to return
    ``NotImplemented`` instead would put a wrapper around every call (see ``fast_version``).
    """
    dtype, row = weights.dtype, bias.shape
    kind = 0 if chain is None else CHAINS.get(chain.__name__)
    fits = kind is not None and output_error.dtype is dtype and output_error.shape == row
    if fits and (dtype in _compiled or (weights.size >= LEAST and dtype.char in "fd")):
        D, B = np.empty(row, dtype), np.empty(row, dtype)
        dW, W = np.empty(weights.shape, dtype), np.empty(weights.shape, dtype)
        seen = writable(X), output_error if chain is None else Y, output_error
        if ran(_descent.descend, weights, bias, *seen, D, dW, W, B, dtype.type(rate), kind):
            _compiled.add(dtype)
            return np.dot(D, weights.T) if need_input_error else None, dW, D, W, B
    return plain.descended(X, Y, output_error, chain, weights, bias, rate, need_input_error)
