"""Cross-entropy of softmax, its derivative, and the sums of the derivative's columns, in one pass over the rows."""

import numpy as np

from portnn_numpy.compiled.jit import Array, jit

LEAST = 1 << 8  # elements: with fewer, a call costs more than it saves


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
