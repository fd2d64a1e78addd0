"""Arrays of any library: their namespace and device, and what a backend's own namespace offers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from portnn._typing import Array

# The functions and constants of the array API standard (2024.12).
STANDARD = """
    e inf nan newaxis pi
    asarray arange empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril triu zeros
    zeros_like astype can_cast finfo iinfo isdtype result_type
    bool complex64 complex128 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64
    abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or
    bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater
    greater_equal hypot imag isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logical_and logical_not
    logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow real reciprocal remainder
    round sign signbit sin sinh sqrt square subtract tan tanh trunc
    matmul matrix_transpose tensordot vecdot
    broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile
    unstack
    argmax argmin count_nonzero nonzero searchsorted where take take_along_axis
    unique_all unique_counts unique_inverse unique_values argsort sort
    cumulative_prod cumulative_sum max mean min prod std sum var all any diff
    linalg fft __array_namespace_info__
"""

OVERRIDES = ("__array_ufunc__", "__array_function__")
# A library's namespace and the one that a backend has in its place, by the id of the first, which may be unhashable.
NAMESPACES: dict[int, tuple[Any, Any]] = {}
_NUMPY_KINDS = (np.ndarray, np.generic, int, float, list, tuple)  # decided without importing array_api_compat


def namespace(x: Any) -> Any:
    """Returns the namespace of ``x``: NumPy for its arrays and plain numbers, else array_api_compat's; or TypeError.

    A backend may have another in its place (``NAMESPACES``), as the GPU's has functions that can be captured.
    """
    if type(x) is np.ndarray or (isinstance(x, (np.ndarray, np.generic, float)) and not isinstance(x, np.matrix)):
        return np
    if isinstance(x, int) and x.bit_length() < 1024:  # fits a float
        return np
    if not isinstance(x, (int, list, tuple, np.matrix)):  # not a matrix: its * is not elementwise
        from array_api_compat import array_namespace

        try:
            found = array_namespace(x)
            return NAMESPACES.get(id(found), (found, found))[1]
        except TypeError:
            pass
    kind = "a whole number too large for a float" if isinstance(x, int) else f"{type(x).__module__}.{type(x).__name__}"
    raise TypeError(f"an array is needed, got {kind.removeprefix('builtins.')}: make one first, such as np.asarray(x)")


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that users also call directly: there, underflow is not an error.

    ``exp(-1000)`` is meant to be 0. A network calls the undecorated function (``__wrapped__``), within ``scope``.
    """
    return np.errstate(under="ignore")(function)


def thin_namespace(library: Any, **replaced: Callable[..., Any]) -> SimpleNamespace:
    """Returns the standard's functions that ``library`` has, and no more; a backend may replace some by faster ones."""
    if unknown := sorted(set(replaced).difference(STANDARD.split())):
        raise TypeError(
            f"thin_namespace got replacements for {', '.join(unknown)}, which the array API standard does not have: a "
            "backend replaces functions of the standard and adds none"
        )
    found = {name: getattr(library, name) for name in STANDARD.split() if hasattr(library, name)}
    about = {"__name__": library.__name__, "__version__": getattr(library, "__version__", "")}
    return SimpleNamespace(**found | about | replaced)


_JOINED, _TURNED = "xp.concat", "xp.permute_dims, or xp.matrix_transpose for the last two axes"
_INSTEAD = {
    "absolute": "xp.abs",
    "amax": "xp.max",
    "amin": "xp.min",
    "arccos": "xp.acos",
    "arccosh": "xp.acosh",
    "arcsin": "xp.asin",
    "arcsinh": "xp.asinh",
    "arctan": "xp.atan",
    "arctan2": "xp.atan2",
    "arctanh": "xp.atanh",
    "array": "xp.asarray",
    "concatenate": _JOINED,
    "cumprod": "xp.cumulative_prod",
    "cumsum": "xp.cumulative_sum",
    "dot": "xp.matmul",
    "einsum": "xp.matmul, xp.tensordot, or xp.sum of a product with new axes, x[:, None]",
    "hstack": _JOINED,
    "outer": "a product with a new axis, x[:, None] * y",
    "pad": "xp.concat with xp.zeros_like of a part",
    "power": "xp.pow",
    "swapaxes": _TURNED,
    "transpose": _TURNED,
    "vstack": _JOINED,
}


def tell_missing(error: AttributeError, xp: Any) -> None:
    """Where a function was asked for that the namespace ``xp`` lacks, makes the error say so, and what to write."""
    if error.obj is xp and error.name is not None and error.name not in STANDARD.split():
        instead = f": write {_INSTEAD[error.name]}" if error.name in _INSTEAD else ""
        error.args = (
            f"xp has no {error.name}, only the functions of the array API standard, which all backends share{instead}",
        )


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of some array library."""
    if isinstance(x, _NUMPY_KINDS):
        return isinstance(x, (np.ndarray, np.generic))
    from array_api_compat import is_array_api_obj

    return bool(is_array_api_obj(x))


def in_order(x: Array) -> Array:
    """Returns ``x`` C-contiguous and aligned: itself if it is so already, else a copy of the same values.

    Sums and products add their terms in memory order, so the last digits of a result depend on it. All arrays that come
    from outside go through this function, so that a network's results depend on their values alone. A subclass of
    ``numpy.ndarray``, such as a memory map, would take other paths than a plain array, so it becomes one.
    """
    if type(x) is np.ndarray:
        return x if x.flags.c_contiguous and x.flags.aligned else np.array(x, order="C")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("a masked array is needed without its mask: write x.filled(value), or leave samples out")
    if isinstance(x, np.generic):  # an operation on a 0-d array makes a scalar
        return np.asarray(x)
    if isinstance(x, np.ndarray) and not _is_a_library(type(x)):
        return in_order(np.asarray(x))
    flags = getattr(x, "flags", None)
    if flags is not None and flags.c_contiguous and getattr(flags, "aligned", True):
        return x
    if isinstance(x, np.ndarray) and not x.flags.aligned:
        return np.array(x, order="C")
    if not hasattr(x, "shape"):
        return x
    xp = namespace(x)
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)  # views of what is contiguous, else one copy


def _is_a_library(kind: type) -> bool:
    """Whether a subclass of ``numpy.ndarray`` has functions of its own, such as the arrays of a user's backend."""
    return any(getattr(kind, name) is not getattr(np.ndarray, name) for name in OVERRIDES)


def device_of(x: Array) -> Any:
    """Returns the device of an array, as its own library names it."""
    from array_api_compat import device

    return device(x)
