"""Transfers between host and device: the only functions that bring an array from one library to another.

An array that lies on the device already is taken over without a copy, by DLPack (https://dmlc.github.io/dlpack): two
arrays of two libraries then are one memory.
"""

from typing import Any

import numpy as np

from portnn._typing import Array
from portnn.backend import (
    BUILT_IN,
    Backend,
    backends_in_use,
    device_of,
    get_backend,
    in_order,
    is_array,
    namespace,
    owner_of,
)

MOST_AXES = 64  # of a NumPy array
HOST = 1  # DLPack's number for the host's memory
PINNED = (3, 11)  # of CUDA and ROCm: memory of the host that a GPU can read, as of tensors with pin_memory()
HAVE_NO_DLPACK = (BufferError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError)


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


def home_of(x: Array) -> Backend:
    """The backend of an array; ``"cpu"`` for one of a library that cannot run a network, such as JAX."""
    try:
        return backend_of(x)
    except TypeError:
        if shared(x, get_backend("cpu")) is None:
            raise
        return get_backend("cpu")


def to_device(x: Any, backend: Any) -> Array:
    """Returns ``x`` as an array of a backend: unchanged if it is one already, and else a copy only where it must be.

    ``x`` is a NumPy array, a list, or an array of any library that has DLPack (an object with ``__dlpack__``); shape
    and dtype are kept. An array that lies on the backend's device already, such as a PyTorch or JAX array on the CPU
    for ``"cpu"``, is not copied: the result is the same memory, read-only if ``x`` is (a read-only NumPy array, which
    other libraries would write to, is copied). ``backend`` is anything that ``get_backend`` takes, such as ``"cpu"``
    or ``"gpu"``. Raises TypeError for data that is not real numbers and for a dtype that the backend does not have
    (bfloat16), ValueError for nested lists of unequal lengths, and what ``get_backend`` raises.

    >>> to_device([1.0, 2.0], "cpu")
    array([1., 2.])
    """
    target = get_backend(backend)
    if target.owns(x):
        return x
    found = shared(x, target)
    return target.asarray(to_numpy(x)) if found is None else found


def to_numpy(x: Any) -> np.ndarray:
    """Returns ``x`` as a NumPy array: NumPy arrays unchanged, lists converted, arrays of other devices copied.

    An array of another library in the host's memory is not copied: the result is the same memory, by DLPack, and
    read-only if that library's arrays are, as JAX's. Raises TypeError for data that is not real numbers and for
    a dtype that NumPy does not have (bfloat16), ValueError for nested lists of unequal lengths.

    >>> to_numpy([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(x, np.ndarray):
        return x
    found: np.ndarray | None = shared(x, get_backend("cpu"))  # type: ignore[assignment]
    if found is None:
        found = _fetched(x)
    return host_array(x, "the data") if found is None else found


def shared(x: Any, backend: Backend) -> Array | None:
    """``x``, of another library, as an array of ``backend`` over the same memory, by DLPack.

    None if it is no array with DLPack, lies on another device, or is one that ``backend`` cannot share: a dtype that it
    does not have, or memory that must not be written to, as NumPy's read-only arrays, in a library that writes.
    """
    if not _has_dlpack(x) or (place := _place(x)) is None or place != _place(backend.asarray([0.0])):
        return None
    try:
        # PyTorch: without the recorded autograd graph, which DLPack cannot hand on
        given = x.detach() if hasattr(x, "detach") else x
        if place[0] == HOST and not isinstance(x, np.ndarray):
            given = np.from_dlpack(given)  # which tells the strides, and whether it may be written to
        if backend.owns(given):
            return given
        if isinstance(given, np.ndarray) and (not given.flags.writeable or min(given.strides, default=0) < 0):
            return None  # PyTorch would write to it, and aborts the process at negative strides
        found = backend.xp.from_dlpack(given)
    except HAVE_NO_DLPACK:
        return None
    return found if backend.owns(found) else None


def _has_dlpack(x: Any) -> bool:
    return hasattr(type(x), "__dlpack__") and hasattr(type(x), "__dlpack_device__")


def _place(x: Any) -> tuple[int, int] | None:
    """Where an array lies, as DLPack's kind and number of a device; None where its library does not say."""
    if (found := _device(x)) is None:
        return None
    kind, number = found
    # A library may imitate other devices in the host's memory, as array-api-strict does: not for us to look behind.
    if kind == HOST and "cpu" not in str(getattr(x, "device", "cpu")).lower():
        return None
    return (HOST, 0) if kind in (HOST, *PINNED) else (kind, number)  # JAX numbers devices that share the host's memory


def _device(x: Any) -> tuple[int, int] | None:
    """DLPack's kind and number of an array's device, as its library says it; None where it does not."""
    try:
        kind, number = x.__dlpack_device__()
    except HAVE_NO_DLPACK:
        return None
    return int(kind), int(number)


def _fetched(x: Any) -> np.ndarray | None:
    """A copy on the host of an array that is elsewhere; None for what is no array."""
    if not is_foreign(x):
        return None
    if _is_unknown_to_numpy(x):
        raise _no_such_dtype("the array", x)
    try:
        backend = backend_of(x)
    except (TypeError, ValueError):  # a library that cannot run a network, or an array on several devices
        backend = None
    if backend is not None:
        return backend.to_numpy(x)
    try:
        return np.from_dlpack(x, device="cpu")
    except HAVE_NO_DLPACK as error:
        for backend in backends_in_use():  # a library whose DLPack is older cannot copy to the host itself
            if (found := shared(x, backend)) is not None:
                return backend.to_numpy(found)
        if (array := _as_numpy_has_it(x)) is not None:
            return array
        raise TypeError(
            f"an array of {_library(x)} could not be copied to the host by DLPack: {_reason(x, error)}"
        ) from error


def _as_numpy_has_it(x: Any) -> np.ndarray | None:
    """An array on several devices, gathered by its library; None for one that cannot be gathered."""
    try:
        return np.array(x) if hasattr(type(x), "__array__") else None
    except HAVE_NO_DLPACK:
        return None


def _reason(x: Any, error: Exception | None) -> str:
    """Why an array cannot be had: what its library says itself, without arguments that it may not know."""
    try:
        x.__dlpack__()
    except HAVE_NO_DLPACK as own:
        error = own
    return (str(error) or type(error).__name__).partition("\n")[0][:200]


def _is_unknown_to_numpy(x: Any) -> bool:
    """Whether its numbers are of a kind that NumPy, and portnn, do not have, such as bfloat16 and float8."""
    name = str(getattr(x, "dtype", "")).rpartition(".")[2]
    return name.startswith(("bfloat", "float8", "float4"))


def _no_such_dtype(what: str, x: Any) -> TypeError:
    cast = "x.float()" if hasattr(x, "float") else "x.astype('float32')"
    return TypeError(f"{what} has dtype {x.dtype}, which NumPy and portnn do not have: cast it first, {cast}")


def host_array(x: Any, what: str) -> np.ndarray:
    """Converts lists and other host data to a NumPy array of real numbers; ``what`` names it in errors."""
    first = _innermost(x)
    if is_foreign(first):
        raise TypeError(
            f"{what} holds arrays of {_where(first)}: give one array instead of nested lists, or "
            "bring each to the host with portnn.to_numpy(array)"
        )
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array: fill the gaps first, with x.filled(value)")
    if _is_unknown_to_numpy(x):  # a dtype that another package adds, such as ml_dtypes
        raise _no_such_dtype(what, x)
    if hasattr(type(x), "__dlpack__") and not hasattr(type(x), "__array__"):
        raise TypeError(
            f"{what} has __dlpack__ but no __dlpack_device__, so it does not say on which device it is: DLPack needs "
            "both"
        )
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(_uneven(x, what, error)) from error
    if array.dtype.kind not in "buif":
        raise TypeError(f"{what} must be real numbers, {_no_numbers(x, array, what)}")
    return array


def bring(x: Any, backend: Backend, dtype: str | None, what: str, *, copy: bool = False) -> Array:
    """Returns host data, or an array of ``backend``, as an array of ``backend``; ``what`` names it in errors.

    Floating data is cast to ``dtype`` (a name); integers and booleans keep theirs. With ``copy`` the result is a fresh
    C-ordered copy, cast whatever its dtype was. An array of another library is taken, by DLPack, if it lies on the
    device of ``backend``; elsewhere it is a TypeError: no transfer is implicit.
    """
    xp = backend.xp
    if isinstance(x, (list, tuple)) and x and is_foreign(x[0]):
        x = _stacked(x, backend, what)
    if not backend.owns(x) and (found := _here(x, backend)) is not None:
        x = found
    if not backend.owns(x):
        if is_foreign(x):
            raise elsewhere(x, backend, what)
        x = host_array(x, what)
        return backend.asarray(x, dtype if copy or x.dtype.kind == "f" else None, copy=copy)
    if not is_foreign(x):
        x = host_array(x, what)
    elif not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        raise TypeError(f"{what} must be real numbers, got dtype {x.dtype}")
    elif hasattr(x, "detach"):  # PyTorch would record every operation on it
        x = x.detach()
    if copy and isinstance(x, np.ndarray):
        return backend.asarray(x, dtype, copy=True)
    target = getattr(xp, dtype) if dtype and (copy or xp.isdtype(x.dtype, "real floating")) else x.dtype
    x = xp.astype(x, target, copy=copy)
    return in_order(x) if copy else x


def is_foreign(x: Any) -> bool:
    """Whether ``x`` is an array of a library other than NumPy, or an object that has DLPack and nothing else of one.

    What NumPy takes from the host's memory in its own way, such as a column of a table, is host data.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        return False
    return is_array(x) or (_has_dlpack(x) and not (hasattr(type(x), "__array__") and (_place(x) or (0,))[0] == HOST))


def _here(x: Any, backend: Backend) -> Array | None:
    """An array of a library other than NumPy, whose arrays are host data, if it lies on the backend's device."""
    return None if isinstance(x, (np.ndarray, np.generic)) else shared(x, backend)


def _stacked(samples: Any, backend: Backend, what: str) -> Array:
    """A list of samples that are arrays on the backend's device, as one array."""
    found = [sample if backend.owns(sample) else _here(sample, backend) for sample in samples]
    for i, (sample, array) in enumerate(zip(samples, found, strict=True)):
        if array is None and not is_array(sample) and not is_foreign(sample):
            raise TypeError(
                f"{what}[0] is an array of {_library(samples[0])}, but {what}[{i}] a {type(sample).__name__}: samples "
                "of a list are arrays of one library, or all on the host"
            )
        if array is None:
            raise elsewhere(sample, backend, what)
    try:
        return backend.xp.stack(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be made one array: {error}. All samples must have one shape") from error


def elsewhere(x: Any, backend: Backend, what: str) -> TypeError:
    """The error for data on the wrong device, or of a dtype that cannot be shared on the right one."""
    if _is_unknown_to_numpy(x):
        return _no_such_dtype(what, x)
    if _has_dlpack(x) and _place(x) == _place(backend.asarray([0.0])) is not None:
        return TypeError(
            f"{what} is an array of {_library(x)} that it does not share by DLPack, perhaps since it is no dense one: "
            "make a plain array of it, such as x.to_dense()"
        )
    if is_array(x) and _device(x) is None and "cpu" in str(getattr(x, "device", None) or "cpu").lower():
        return TypeError(
            f"{what} is an array of {_library(x)} without memory that can be shared, {_reason(x, None)}. If jax.jit, "
            "jax.grad or torch.func made it, call portnn outside of the function that they were given"
        )
    place = _where(x) if is_array(x) or is_foreign(x) else "the host"
    target = repr(backend.name) if backend.name in BUILT_IN else "net.backend"
    return TypeError(
        f"{what} is on {place}, but must be on backend {backend.name!r}: move it with "
        f"portnn.to_device(array, {target}), or to the host with portnn.to_numpy(array)"
    )


def _where(x: Any) -> str:
    """What error messages call the place of an array."""
    try:
        return f"backend {backend_of(x).name!r}"
    except (TypeError, ValueError):  # a library that cannot run a network, or an array on several devices
        return f"device {getattr(x, 'device', None) or _device(x) or '?'!s:.60} of {_library(x)}"


def _library(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def _innermost(x: Any) -> Any:
    for _ in range(MOST_AXES):  # a list may contain itself
        if not isinstance(x, (list, tuple)) or not x:
            break
        x = x[0]
    return x


# -- error messages for data that is not an array of numbers -----------------------------------------------------------


def _uneven(x: Any, what: str, error: Exception) -> str:
    """Says which part of nested lists has another shape than the first one."""
    place = _odd_one(x, "x" if not what.isidentifier() else what, 0)
    why = place or f"{type(error).__name__}: {error}".removeprefix("ValueError: ").rstrip(".")
    return f"{what} cannot be made an array: {why}. All samples must have one shape"


def _odd_one(x: Any, name: str, depth: int) -> str:
    if not isinstance(x, (list, tuple)) or depth >= MOST_AXES:
        return ""
    first: tuple[int, ...] | None = None
    for i, part in enumerate(x):
        try:
            shape = np.shape(part)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return _odd_one(part, f"{name}[{i}]", depth + 1)
        if first is not None and shape != first:
            return f"{name}[{i}] has shape {shape}, but {name}[0] has {first}"
        first = shape
    return ""


def _no_numbers(x: Any, array: np.ndarray, what: str) -> str:
    """What was given instead of numbers, and how to convert it."""
    name = what if what.isidentifier() else "array"
    floats = f"{name}.astype(float)" if hasattr(x, "astype") else f"np.array({name}, float)"
    if array.dtype.kind == "O":
        return _objects(x, array, name, floats)
    example = repr(array.reshape(-1)[:1].tolist())
    got = f"got dtype {array.dtype}" + f", such as {example:.40}" * bool(array.size)
    if array.dtype.kind in "US":
        return f"{got}: {_about_text(array.reshape(-1)[:1].tolist(), name, floats)}"
    advice = {
        "c": f"take {name}.real, or np.abs({name}), or both parts side by side",
        "M": f"count from a first date, ({name} - {name}.min()) / np.timedelta64(1, 'D')",
        "m": f"count in a unit, {name} / np.timedelta64(1, 's')",
    }.get(array.dtype.kind, "")
    if array.dtype.names:
        fields = ", ".join(array.dtype.names)
        advice = f"its fields are {fields}: np.stack([{name}[field] for field in {name}.dtype.names], -1)"
    return f"{got}: {advice}" if advice else got


def _about_text(examples: list[Any], name: str, floats: str) -> str:
    try:
        [float(text) for text in examples]
        return f"numbers written as text become numbers with {floats}"
    except (TypeError, ValueError):
        return f"words become numbers, one for each different word, with np.unique({name}, return_inverse=True)[1]"


def _objects(x: Any, array: np.ndarray, name: str, floats: str) -> str:
    """For an array of objects: names the first that is not a number, or says that all are numbers."""
    if array.ndim == 0:
        kinds = {"generator": f": make a list of it first, list({name})", "dict": f": list({name}.values())"}
        return f"in an array or a list, got {_shown(x)}{kinds.get(type(x).__name__, '')}"
    place = next((i for i, value in enumerate(array.flat) if not _is_number(value)), None)
    got = "got an array of objects (dtype object)"
    if place is None:
        example = f", such as {_shown(array.flat[0])}" if array.size else ""
        return f"{got}{_columns(x, None)}: all of them are numbers{example}: {floats}"
    index, value = [int(i) for i in np.unravel_index(place, array.shape)], array.flat[place]
    if _is_missing(value):
        advice = f"fill or drop missing values, then {floats}"
    elif isinstance(value, (str, bytes)):
        advice = _about_text([value], name if len(index) < 2 else f"{name}[:, {index[1]}]", floats)
    elif isinstance(value, (list, tuple, np.ndarray)):
        advice = f"all samples must have one shape; if they do, np.stack(list({name}))"
    else:
        advice = f"make a number of it, then {floats}"
    column = _columns(x, index[1] if len(index) > 1 else 0)
    return f"{got}{column}: {name}[{', '.join(map(str, index))}] is {_shown(value)}: {advice}"


def _columns(x: Any, column: int | None) -> str:
    """For a table such as a pandas DataFrame: the first column without numbers, or the given one, with its dtype."""
    try:
        labels, dtypes = list(x.columns), list(x.dtypes)
        if column is None:
            column = next(i for i, dtype in enumerate(dtypes) if getattr(dtype, "kind", "O") not in "buif")
        return f", made of a table whose column {labels[column]!r} has dtype {dtypes[column]}"
    except (AttributeError, TypeError, IndexError, StopIteration):
        return ""


def _is_number(value: Any) -> bool:
    from decimal import Decimal
    from numbers import Real

    return isinstance(value, (Real, Decimal, np.bool_)) and not _is_missing(value)


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT, or another library's missing value: no other value differs from itself."""
    if value is None:
        return True
    if isinstance(value, (np.ndarray, list, tuple, str, bytes)):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError, ArithmeticError):  # pandas' NA and Decimal's sNaN cannot be compared
        return type(value).__name__ in ("NAType", "Decimal")


def _shown(value: Any) -> str:
    """A value and its type, abbreviated."""
    try:
        text = f"{value!r:.40}"
    except Exception:  # an integer with more digits than Python prints, or a failing __repr__
        text = "a value"
    return f"{text} ({type(value).__name__})"
