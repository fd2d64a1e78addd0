"""The rows of a batch, the counters of a step, and what joins the loss or an activation to sums: one launch each."""

from math import prod
from typing import Any

import cupy
import numpy as np

from portnn_cupy import direct
from portnn_cupy.in_place import ending_of
from portnn_cupy.kernels import DATA
from portnn_cupy.launch import NULL, REALS, in_order, launch
from portnn_cupy.ops import KINDS
from portnn_cupy.shapes import are_alike, are_apart, are_labels, rows_and_columns, window_of
from portnn_cupy.sums import ONE_STRIP, launch_rows

Array = Any


def update_counters(
    step: Array, position: Array, total: Array, finite: Array, error: Array, size: int
) -> tuple[Array, ...]:
    old = step, position, total, finite
    kinds = [getattr(a, "dtype", None) for a in old]
    if kinds != [np.int64, np.int64, np.float64, np.int64] or error.dtype.name not in REALS:
        return NotImplemented
    ending = ending_of(old)
    new = [cupy.empty((), a.dtype) for a in old] if ending is None else list(old)
    counters = *old, error, *new, np.int64(size)
    if ending is None:
        _count(counters)
    else:
        ending.counters, ending.count = counters, _count
    return tuple(new)


def _count(counters: tuple[Any, ...]) -> bool:
    launch("update_counters", counters[4].dtype, 1, *counters)
    return True


CASTS = {("uint8", "real"): 0, ("real", "real"): 1, ("uint8", "int64"): 2, ("int64", "int64"): 3}
BATCH = np.dtype(
    [("size", np.int64, DATA), ("cast", np.int64, DATA), ("from", np.uint64, DATA), ("to", np.uint64, DATA)]
)


def addresses_of(arrays: list[Array], dtypes: list[Any], real: Any) -> Any:
    if _casts(list(zip(arrays, dtypes, strict=True)), real) is None:
        return None
    return cupy.array(np.array([array.data.ptr for array in arrays], np.int64))


def _casts(data: list[tuple[Array, Any]], real: Any) -> list[int] | None:
    """How each array is cast; None if the kernel does not know one."""
    kinds = [["real" if d == real else np.dtype(d).name for d in (array.dtype, dtype)] for array, dtype in data]
    casts = [CASTS.get((kept, wanted), -1) for kept, wanted in kinds]
    known = min(casts) >= 0 and len(data) <= DATA and real.name in REALS
    return casts if known and all(array.flags.c_contiguous for array, _ in data) else None


def gathered(
    data: list[tuple[Array, Any]],
    order: Array | None,
    position: Array,
    offsets: Array,
    batch_size: int,
    table: Array,
    addresses: Any = None,
) -> tuple[list[Array], Array]:
    real, rows = table.dtype, offsets.shape[0]
    casts = _casts(data, real)
    if casts is None or position.dtype != np.int64 or not table.flags.c_contiguous:
        return NotImplemented
    found = [cupy.empty((rows, *array.shape[1:]), dtype) for array, dtype in data]
    row, all_of_them = cupy.empty((1, table.shape[1]), real), np.zeros((), BATCH)
    for name, values in (
        ("size", [prod(array.shape[1:]) for array, _ in data]),
        ("cast", casts),
        ("from", [array.data.ptr for array, _ in data]),
        ("to", [array.data.ptr for array in found]),
    ):
        all_of_them[name][: len(data)] = values
    sizes = np.int64(batch_size), np.int64(rows)
    largest = max(table.shape[1], *(array.size for array in found))
    where = NULL if addresses is None else addresses, NULL if order is None else order, position
    launch("gather", real, largest, all_of_them, *where, *sizes, table, row, np.int64(table.shape[1]), rows=len(data))
    return found, row


# -- a convolution with what follows it -------------------------------------------------------------------------------


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
    kind, X = KINDS[None if activation is None else activation.__name__], in_order(X)
    if direct.suits(X, weights, plan, groups):
        if pooling is None or not direct.pools(pooling[1], weights.shape[-1] // groups):
            Y, _ = direct.convolved(X, weights, bias, kind, plan, groups)
            return Y, None if pooling is None else _pool(Y, pooling, routines), direct.Seen(X, groups)
        Y, P = direct.convolved(X, weights, bias, kind, plan, groups, pooling, training)
        return Y if training else None, P, direct.Seen(X, groups)
    if pooling is None or X.size == 0 or not are_apart(pooling[1]):
        return NotImplemented
    product, seen = routines.convolution(X, weights, plan, groups)
    return *_biased_pooled(in_order(product), in_order(bias), kind, *pooling), seen


def _pool(Y: Array, pooling: tuple[str, Any], routines: Any) -> Array:
    name, windows = pooling
    return (routines.max_pool if name == "MaxPoolLayer" else routines.avg_pool)(Y, windows)


def _biased_pooled(Y: Array, bias: Array, kind: int, name: str, windows: Any) -> tuple[Array, Array]:
    n, filters = Y.shape[0], Y.shape[-1]
    P = cupy.empty((n, *windows.output, filters), Y.dtype)
    size = n * filters * prod(-(-m // k) for m, k in zip(windows.image, windows.kernel, strict=True))
    kinds = np.int32(kind), np.int32(direct.POOLING[name])
    launch("biased_pooled", Y.dtype, size, Y, bias, P, *kinds, np.int64(n), *window_of(windows, filters))
    return Y, P


def differentiated(
    errors: Any,
    seen: Any,
    Y: Array,
    P: Array | None,
    output_error: Array,
    chain: Any,
    pooling: Any,
    plan: Any,
    shape: Any,
    need_error: bool,
    routines: Any,
) -> tuple[Array | None, Array, Array]:
    if not isinstance(seen, direct.Seen) or not direct.joins(shape, seen.groups):
        return NotImplemented
    name, windows = pooling or (None, None)
    window = NO_WINDOW if name is None else window_of(windows, shape[-1])
    kinds = CHAINS[chain.__name__], 0 if name is None else direct.POOLING[name]
    given = Y, NULL if P is None else P, output_error, kinds, window, plan, shape, need_error
    D, dW, dB = direct.gradients(seen, *given)
    return None if D is NULL else D, dW, dB


# -- sums in the pass of what comes before them ------------------------------------------------------------------------

CHAINS = {"relu_chain": 1, "tanh_chain": 2, "sigmoid_chain": 3}
MOST_CLASSES = 64
NO_WINDOW = tuple(map(np.int64, (1,) * 13))


def chained(Y: Array, output_error: Array, chain: Any) -> tuple[Array, Array | None]:
    if Y.size == 0:
        return NotImplemented
    Y, d = in_order(Y), in_order(output_error)
    no_window = *NO_WINDOW[:2], np.int64(Y.shape[-1]), *NO_WINDOW[3:]
    return _chained(Y, NULL, d, chain, 0, no_window)


def chained_image(Y: Array, output_error: Array, chain: Any) -> tuple[Array, Array | None]:
    return NotImplemented if Y.size == 0 else chained(Y, output_error, chain)


def pooled(
    Y: Array, P: Array, output_error: Array, chain: Any, kind: str, plan: Any, routines: Any
) -> tuple[Array, Array | None]:
    if Y.size == 0:
        return NotImplemented
    Y, P, d = in_order(Y), in_order(P), in_order(output_error)
    return _chained(Y, P, d, chain, direct.POOLING[kind], window_of(plan, Y.shape[-1]))


def _chained(Y: Array, P: Any, d: Array, chain: Any, pooling: int, window: tuple[Any, ...]) -> tuple[Array, Array]:
    (R, C), dx, sums = rows_and_columns(Y), cupy.empty(Y.shape, Y.dtype), cupy.empty(Y.shape[-1], Y.dtype)
    kinds = np.int32(CHAINS[chain.__name__]), np.int32(pooling)
    launch_rows("sum_chained", Y.dtype, R, C, Y, P, d, dx, sums, *kinds, *window, np.int64(R))
    return dx, sums


def whole(Y_true: Array, Y: Array, loss: Any, loss_prime: Any, chain: Any) -> tuple[Array, Array, Array | None]:
    name, (R, C) = getattr(loss, "__name__", ""), rows_and_columns(Y)
    pair = getattr(loss_prime, "__name__", "") == f"{name}_prime"
    ours = pair and loss.__module__ == loss_prime.__module__ == "portnn.losses" and Y.size > 0
    squares = name == "mse" and C <= ONE_STRIP and are_alike(Y_true, Y)
    classes = name == "softmax_cross_entropy" and C <= MOST_CLASSES and chain is None and are_labels(Y_true, Y)
    if not ours or not (squares or classes):
        return NotImplemented
    Y, real = in_order(Y), Y.dtype.type
    error, dx, sums = cupy.empty((), Y.dtype), cupy.empty(Y.shape, Y.dtype), cupy.empty(C, Y.dtype)
    sizes = np.int64(R), np.int64(C)
    if squares:
        kind = np.int32(0 if chain is None else CHAINS[chain.__name__])
        given: tuple[Any, ...] = in_order(Y_true), Y, error, dx, sums, kind, real(Y.size)
        launch_rows("squares_whole", Y.dtype, R, C, *given, *sizes, lanes=ONE_STRIP)
    else:
        labels = in_order(Y_true.astype(np.int64, copy=False))
        given = labels, Y, error, dx, sums, real(1.0 / Y.shape[0])
        launch_rows("classes_whole", Y.dtype, R, C, *given, *sizes, lanes=ONE_STRIP)
    return error, dx, sums
