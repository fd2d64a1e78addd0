"""The rows of a batch, copied and cast by all threads."""

from numba import prange

from portnn_numpy.compiled.jit import Array, loop

LEAST = 1 << 18  # elements: NumPy gathers fewer as fast
DTYPES = "Bfd"  # of samples: bytes, float32, float64


@loop()
def rows(batch: Array, data: Array, which: Array) -> bool:
    """batch[i] = data[which[i]], cast; False where there is no such row: NumPy then says so, or counts from the end."""
    n, wrong = data.shape[0], 0
    for i in prange(which.shape[0]):
        at = which[i]
        if 0 <= at < n:
            row, into = data[at], batch[i]
            for j in range(row.shape[0]):
                into[j] = row[j]
        else:
            wrong += 1
    return wrong == 0
