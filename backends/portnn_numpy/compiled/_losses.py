"""Losses, each with its derivative, in one pass: for few class numbers, and for large outputs in float32.

The second kind works on numbers side by side, of which the processor takes several at once; so exp and log are written
out here.
"""

from math import prod
from typing import Any

import numpy as np
from numba import prange

from portnn_numpy.compiled._activations import C3, C4, C5, C6, C7, HALF, INV_LN2, LN2_HIGH, LN2_LOW, ONE, TWO, F
from portnn_numpy.compiled.jit import SHARED, Array, empty_like, jit, loop, memory_order, ran, writable
from portnn_numpy.layout import channels_first, channels_last

LEAST = 1 << 8  # elements: with fewer, a call of ``classes`` costs more than it saves
LARGE = SHARED  # elements from which on the other loops are used
SQUARES, LOGITS = 1, 2  # mean squared error, binary cross-entropy
LANES, BLOCK = 64, 1 << 12  # elements: taken side by side; of one iteration of ``alone``
MOST_CLASSES = 1 << 10  # of ``softmax``, which holds 3 * LANES numbers for each
FEWEST = 16  # samples, of which the innermost loops are
ZERO, LOWEST = F(0), F(-87)  # exp(-87) is about the smallest number that is not denormal
NO_NUMBERS, NO_LABELS = np.empty(0, np.float32), np.empty(0, np.int64)
LOG_TERMS = tuple(F(1 / n) for n in range(3, 16, 2))


@jit
def classes(y: Array, labels: Array, d: Array, sums: Array, error: Array) -> bool:
    """d = (softmax(y) - one_hot(labels)) / N for logits y (N, K), its sums, and the mean of the losses.

    Returns False, with nothing computed, where a label is none of the K classes. Sums are added in float64.
    """
    n, k = y.shape
    real, share, total = y.dtype.type, y.dtype.type(1.0 / n), 0.0
    for i in range(n):
        if not 0 <= labels[i] < k:
            return False
    for i in range(n):
        row, own = y[i], d[i]
        largest = row[0]
        for j in range(k):
            largest = row[j] if row[j] > largest or row[j] != row[j] else largest  # NaN stays
        rest = real(0)
        for j in range(k):
            own[j] = np.exp(row[j] - largest)
            rest += own[j]
        total += np.log(rest) - (row[labels[i]] - largest)
        factor = real(1) / (rest * real(n))
        for j in range(k):
            own[j] = own[j] * factor - (share if j == labels[i] else real(0))
            sums[j] += own[j]
    error[0] = total / n
    return True


@jit
def _exp(x: Any) -> Any:
    """exp x for x <= 0, in float32, as in ``_tanh``; 0 where it is less than exp(-87)."""
    z = LOWEST if x < LOWEST else x
    k = np.floor(z * INV_LN2 + HALF)
    r = (z - k * LN2_HIGH) - k * LN2_LOW
    p = r * (ONE + r * (HALF + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))))
    power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return x if x != x else ZERO if x < LOWEST else power * p + power


@jit
def _log1p(x: Any) -> Any:
    """log(1 + x) = 2 artanh s for 0 <= x <= 1 in float32, with s = x / (2 + x) <= 1/3."""
    a, b, c, d, e, f, g = LOG_TERMS
    s = x / (TWO + x)
    q = s * s
    return TWO * s * (ONE + q * (a + q * (b + q * (c + q * (d + q * (e + q * (f + q * g)))))))


@loop(contract=False)
def alone(y: Array, target: Array, d: Array, sums: Array, kind: int) -> None:
    """Losses of single elements: the ``sums`` of each BLOCK of them, and d, unless it is empty."""
    share, double = F(1.0 / y.shape[0]), F(2.0 / y.shape[0])
    for block in prange(sums.shape[0]):
        lanes, slope = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        last = min((block + 1) * BLOCK, y.shape[0])
        for first in range(block * BLOCK, last, LANES):
            n = min(LANES, last - first)
            seen, wanted = y[first : first + n], target[first : first + n]
            into = d[first : first + n] if d.shape[0] else slope[:n]
            if kind == SQUARES:
                for j in range(n):
                    v = seen[j] - wanted[j]
                    lanes[j] += v * v
                    into[j] = v * double
            else:
                for j in range(n):
                    v, t = seen[j], wanted[j]
                    size = abs(v)
                    e = _exp(-size)
                    away = ONE - t if v >= ZERO else t
                    lanes[j] += (ZERO if away == ZERO else away * size) + _log1p(e)
                    into[j] = ((ONE if v >= ZERO else e) / (ONE + e) - t) * share
        total = 0.0
        for j in range(LANES):
            total += lanes[j]
        sums[block] = total


@loop(contract=False)
def softmax(
    y: Array, target: Array, labels: Array, d: Array, sums: Array,
    sizes: Any, steps: Any, wanted: Any, share: Any,
) -> bool:  # fmt: skip
    """Cross-entropy of softmax for flat arrays of (P, N, K), K logits for each of N samples at P places.

    ``steps`` are the strides of y and of d, which may be empty, ``wanted`` those of ``target``, or of ``labels`` (P, N)
    if that is empty. ``share`` is what a sample counts. ``sums`` has one for up to LANES samples at a place. Returns
    False where a label is none of the K classes.
    """
    places, samples, classes = sizes
    across, wrong = (samples + LANES - 1) // LANES, 0
    for unit in prange(places * across):
        start, bad = unit % across * LANES, 0
        n, first = min(LANES, samples - start), unit // across * steps[0] + start * steps[1]
        room, lines = np.zeros((3, classes, LANES), np.float32), np.zeros((3, LANES), np.float32)
        z, e, goal = room[0], room[1], room[2]
        largest, log_rest, ratio = lines[0], lines[1], lines[2]
        totals = np.zeros((3, LANES), np.float64)
        rest, goals, lost = totals[0], totals[1], totals[2]
        own = unit // across * wanted[0] + start * wanted[1]
        for j in range(n):
            if target.shape[0]:
                for c in range(classes):
                    goal[c, j] = target[own + j * wanted[1] + c * wanted[2]]
            elif 0 <= labels[own + j * wanted[1]] < classes:
                goal[labels[own + j * wanted[1]], j] = ONE
            else:
                bad += 1
        if steps[1] == 1:
            for c in range(classes):
                z[c, :n] = y[first + c * steps[2] : first + c * steps[2] + n]
        else:
            for j in range(n):
                for c in range(classes):
                    z[c, j] = y[first + j * steps[1] + c * steps[2]]
        largest[:] = z[0]
        for c in range(1, classes):
            for j in range(LANES):
                largest[j] = z[c, j] if z[c, j] > largest[j] or z[c, j] != z[c, j] else largest[j]  # NaN stays
        for c in range(classes):
            row, exps, goal_row = z[c], e[c], goal[c]
            for j in range(LANES):
                row[j] -= largest[j]
                exps[j] = _exp(row[j])
                rest[j] += exps[j]
                goals[j] += goal_row[j]
        for j in range(n):
            log_rest[j] = np.log(rest[j])
            ratio[j] = goals[j] / rest[j]
        for c in range(classes):
            row, exps, goal_row = z[c], e[c], goal[c]
            for j in range(LANES):
                lost[j] += ZERO if goal_row[j] == ZERO else goal_row[j] * (log_rest[j] - row[j])
                exps[j] = (exps[j] * ratio[j] - goal_row[j]) * share
        if d.shape[0] and steps[1] == 1:
            for c in range(classes):
                d[first + c * steps[2] : first + c * steps[2] + n] = e[c, :n]
        elif d.shape[0]:
            for j in range(n):
                for c in range(classes):
                    d[first + j * steps[1] + c * steps[2]] = e[c, j]
        total = 0.0
        for j in range(n):
            total += lost[j]
        sums[unit] = total
        wrong += bad
    return wrong == 0


# -- arrays as the loops take them -------------------------------------------------------------------------------------


def computed(name: str, y_true: Array, y_pred: Array, derivative: bool = True) -> tuple[Array, Array] | None:
    """The loss of that name and its derivative, of large outputs; None where there is no loop for them."""
    if y_pred.size < LARGE or y_pred.dtype != np.float32 or not y_pred.dtype.isnative:
        return None
    if name == "softmax_cross_entropy":
        return _of_classes(y_true, y_pred, derivative)
    kind = {"mse": SQUARES, "binary_cross_entropy": LOGITS}.get(name)
    order = memory_order(y_pred)
    if kind is None or y_true.shape != y_pred.shape or not y_pred.transpose(order).flags.c_contiguous:
        return None
    y, t = (writable(a.transpose(order)).reshape(-1) for a in (y_pred, y_true.astype(np.float32, copy=False)))
    d, numbers = empty_like(y_pred) if derivative else (NO_NUMBERS, NO_NUMBERS)
    sums = np.empty(-(-y.size // BLOCK))
    return (np.float32(sums.sum() / y.size), d) if ran(alone, y, t, numbers, sums, kind) else None


def _of_classes(y_true: Array, y: Array, derivative: bool) -> tuple[Array, Array] | None:
    n, *image, classes = y.shape if y.ndim > 1 else (0, 0)
    places, are_labels = prod(image), y_true.dtype == np.int64 and y_true.shape == y.shape[:-1]
    if n < FEWEST or not 1 < classes <= MOST_CLASSES or not (are_labels or y_true.shape == y.shape):
        return None
    numbers, steps = _laid_out(y, places)
    target, labels, wanted = NO_NUMBERS, NO_LABELS, (1, places, 0)
    if are_labels:
        labels = writable(y_true).reshape(-1)
    else:
        target, wanted = _laid_out(y_true.astype(np.float32, copy=False), places)
    d, sums = np.empty(y.size if derivative else 0, np.float32), np.empty(places * -(-n // LANES))
    layout = (places, n, classes), steps, wanted, np.float32(1 / n)
    if not ran(softmax, numbers, target, labels, d, sums, *layout):
        return None
    if derivative:
        d = d.reshape(y.shape) if steps[2] == 1 else channels_last(d.reshape(classes, *image, n))
    return np.float32(sums.sum() / n), d


def _laid_out(a: Array, places: int) -> tuple[Array, tuple[int, int, int]]:
    """The numbers of an array (N, ..., K), and their strides in (places, N, K): in C order, or channel by channel."""
    n, classes = len(a), a.shape[-1]
    if channels_first(a).flags.c_contiguous:
        return writable(channels_first(a)).reshape(-1), (n, 1, places * n)
    return writable(a).reshape(-1), (classes, places * classes, 1)
