"""The border of a network: what users give is checked and converted here, once, before anything is changed."""

from math import prod
from typing import Any

import numpy as np

from portnn.backend import Array, Backend
from portnn.transfer import bring

CHUNK = 1 << 22  # elements looked at in one go: bounds the memory a check takes


def batch(x: Any, backend: Backend, dtype: str, what: str) -> Array:
    """Returns ``x`` (N, ...) on the backend: floating data in the network's dtype, integers as they are."""
    with np.errstate(over="ignore"):  # a value too large for float32 is found by check_finite, with its place
        array = bring(x, backend, dtype, what)
    if array.ndim == 0:
        raise ValueError(f"{what} must have an axis of samples, (N, ...), got the single number {x!r:.40}")
    return array


def check_lengths(x: Array, y: Array) -> None:
    """Refuses no samples at all, or another number of targets than of samples."""
    if x.shape[0] == 0:
        raise ValueError(f"x holds 0 samples (shape {tuple(x.shape)}): there is nothing to learn from")
    for name, array in (("x", x), ("y", y)):
        if prod(array.shape[1:]) == 0:
            raise ValueError(f"a sample of {name} has shape {tuple(array.shape[1:])}: there are no numbers in it")
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"x holds {x.shape[0]} samples, y {y.shape[0]} targets (shapes {tuple(x.shape)} and {tuple(y.shape)}): "
            "each sample needs its target"
        )


def check_finite(x: Array, backend: Backend, what: str) -> None:
    """Refuses NaN and infinity; looks at a chunk at a time and says where the first one stands."""
    xp = backend.xp
    if not xp.isdtype(x.dtype, "real floating"):
        return
    rows = max(1, CHUNK // max(1, prod(x.shape[1:])))
    for part in slices(x.shape[0], rows):
        chunk = x[part, ...]
        if backend.to_numpy(xp.all(xp.isfinite(chunk))):
            continue
        host = backend.to_numpy(chunk)
        place = np.argwhere(~np.isfinite(host))[0]
        value = host[tuple(place)]
        index = ", ".join(str(int(i)) for i in (place[0] + part.start, *place[1:]))
        raise ValueError(
            f"{what}[{index}] is {value} in {host.dtype}: training needs finite data. Remove or replace it "
            "(numpy.nan_to_num), scale the data, or pass check_finite=False"
        )


def slices(n: int, size: int) -> list[slice]:
    """Cuts n samples into slices of ``size``, the last one shorter; for no samples one empty slice."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def targets(y: Array, output_shape: tuple[int, ...], backend: Backend) -> Array:
    """Returns y (N, ...) in the shape of the network's output (N, *output_shape); nothing is ever broadcast.

    It is reshaped if the shapes agree but for axes of length 1, or if one of them is flat: (N, 10) for (N, 1, 10).
    """
    shape = tuple(y.shape[1:])
    if shape == output_shape:
        return y
    alike = [n for n in shape if n != 1] == [n for n in output_shape if n != 1]
    flat = min(len(shape), len(output_shape)) <= 1 and prod(shape) == prod(output_shape)
    if not (alike or flat):
        hint = ""
        if shape in ((), (1,)) and len(output_shape) >= 1:
            hint = f"; class numbers become rows with to_categorical(y, {output_shape[-1]})"
        raise ValueError(
            f"a target has shape {shape} but the network's output for a sample has shape {output_shape}: "
            f"reshape y, or change the last layer{hint}"
        )
    return backend.xp.reshape(y, (y.shape[0], *output_shape))
