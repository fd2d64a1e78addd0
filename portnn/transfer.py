"""The doors between host and device: the only functions that move an array from one library to another."""

from typing import Any

import numpy as np

from portnn.backend import BUILT_IN, Array, Backend, device_of, get_backend, in_order, is_array, namespace, owner_of


def backend_of(x: Array) -> Backend:
    """Returns the backend an array belongs to: ``"cpu"`` for NumPy, ``"gpu"`` for CuPy, a generic one for others.

    Raises TypeError if ``x`` is not an array (a list belongs to no device).

    >>> import numpy as np
    >>> backend_of(np.zeros(3)).name
    'cpu'
    """
    if isinstance(x, (np.ndarray, np.generic)):
        return get_backend("cpu")
    if not is_array(x):
        raise TypeError(
            f"backend_of takes an array, got {type(x).__name__}; to make one call to_device({x!r:.40}, 'cpu')"
        )
    if type(x).__module__.partition(".")[0] == "cupy":
        return get_backend("gpu")
    return owner_of(x) or get_backend(namespace(x), device=device_of(x))


def to_device(x: Any, backend: Any) -> Array:
    """Returns ``x`` on a backend: unchanged if it is there already, else a copy.

    ``x``: a NumPy array, a list, or an array of any backend; shape and dtype are kept. ``backend``: what
    ``get_backend`` takes, ``"cpu"`` or ``"gpu"`` mostly.

    >>> to_device([1.0, 2.0], "cpu")
    array([1., 2.])
    """
    target = get_backend(backend)
    if target.owns(x):
        return x
    return target.asarray(to_numpy(x))


def to_numpy(x: Any) -> np.ndarray:
    """Returns ``x`` as a NumPy array: NumPy arrays unchanged, lists converted, arrays of other backends copied.

    >>> to_numpy([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(x, np.ndarray):
        return x
    if is_array(x):
        return backend_of(x).to_numpy(x)
    return host_array(x, "the data")


def host_array(x: Any, what: str) -> np.ndarray:
    """Makes a NumPy array of real numbers of lists or other host data; ``what`` names it in errors."""
    first = _innermost(x)
    if is_foreign(first):
        raise TypeError(
            f"{what} holds arrays of backend {backend_of(first).name!r}: give one array instead of nested lists, or "
            "bring each to the host with portnn.to_numpy(array)"
        )
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array: fill the gaps first, with x.filled(value)")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be made an array: {error}. All samples must have one shape") from error
    if array.dtype.kind not in "buif":
        example = repr(array.reshape(-1)[:1].tolist())
        raise TypeError(f"{what} must be real numbers, got dtype {array.dtype}, such as {example:.40}")
    return array


def bring(x: Any, backend: Backend, dtype: str | None, what: str, *, copy: bool = False) -> Array:
    """Returns host data or an array of ``backend`` as an array of it; ``what`` names it in errors.

    Floating data is cast to ``dtype`` (a name); integers and booleans keep theirs, unless ``copy`` asks for an array
    that nobody else holds, cast whatever it was and in C order. An array of another library is a TypeError: nothing
    moves in silence.
    """
    xp = backend.xp
    if isinstance(x, (list, tuple)) and x and is_foreign(x[0]):
        x = _stacked(x, backend, what)
    if not backend.owns(x):
        if is_foreign(x):
            raise _elsewhere(x, backend, what)
        x = host_array(x, what)
        return backend.asarray(x, dtype if copy or x.dtype.kind == "f" else None, copy=copy)
    if not is_foreign(x):
        x = host_array(x, what)
    elif not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        raise TypeError(f"{what} must be real numbers, got dtype {x.dtype}")
    elif hasattr(x, "detach"):  # PyTorch would record all that is calculated with it
        x = x.detach()
    target = getattr(xp, dtype) if dtype and (copy or xp.isdtype(x.dtype, "real floating")) else x.dtype
    x = xp.astype(x, target, copy=copy)
    return in_order(x) if copy else x


def is_foreign(x: Any) -> bool:
    """Whether ``x`` is an array of a library other than NumPy."""
    return is_array(x) and not isinstance(x, (np.ndarray, np.generic))


def _stacked(samples: Any, backend: Backend, what: str) -> Array:
    """A list of samples that lie on the backend, as one array."""
    for sample in samples:
        if not backend.owns(sample):
            raise _elsewhere(sample, backend, what)
    try:
        return backend.xp.stack(list(samples))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be made one array: {error}. All samples must have one shape") from error


def _elsewhere(x: Any, backend: Backend, what: str) -> TypeError:
    """The error for data that is not where it is needed."""
    place = f"backend {backend_of(x).name!r}" if is_array(x) else "the host"
    target = repr(backend.name) if backend.name in BUILT_IN else "net.backend"
    return TypeError(
        f"{what} lies on {place}, but {backend.name!r} is asked for: move it with "
        f"portnn.to_device(array, {target}), or to the host with portnn.to_numpy(array)"
    )


def _innermost(x: Any) -> Any:
    while isinstance(x, (list, tuple)) and x:
        x = x[0]
    return x
