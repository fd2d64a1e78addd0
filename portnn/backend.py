"""What an array library must provide to run a network, and the functions that find a backend by name.

A *backend* is one array library on one device. ``get_backend("cpu")`` is NumPy, ``get_backend("gpu")`` is CuPy;
``get_backend(namespace, device=...)`` makes one of any other array API namespace whose arrays can be written to.
The layers never ask which one they run on: they call ``backend.xp`` and nothing else.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache, partial, update_wrapper
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from portnn import names, random
from portnn._typing import Array

# The backends that come with portnn. The entry points in pyproject.toml say the same (a test compares them); this
# table also serves a checkout that was never installed (PYTHONPATH=.:backends).
BUILT_IN = {"cpu": "portnn_numpy", "gpu": "portnn_cupy"}
ENTRY_POINTS = "portnn.backends"

# What can be missing, in the order in which it is looked for.
STEPS = ("package", "import", "device count", "smoke test")

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


class Availability(NamedTuple):
    """Whether a backend works here; if it does not, the step that failed, why, and the command that fixes it."""

    name: str
    failed_step: str | None = None
    reason: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return self.failed_step is None

    def __str__(self) -> str:
        if self.ok:
            return f"backend {self.name!r} works"
        return (
            f"backend {self.name!r} is not available: step {STEPS.index(self.failed_step or '') + 1} of {len(STEPS)} "
            f"({self.failed_step}) failed: {self.reason}\nTo fix it: {self.remedy}"
        )


class BackendUnavailableError(RuntimeError):
    """A known backend cannot run on this machine; ``.availability`` holds the failed step, the reason, the remedy."""

    def __init__(self, availability: Availability):
        super().__init__(str(availability))
        self.availability = availability


class Backend:
    """One array API namespace on one device: the interface, with a plain version of each member.

    ``xp`` is the namespace, ``device`` the device, ``name`` what error messages call it.
    """

    name: str
    xp: Any
    device: Any

    def __init__(self, xp: Any, device: Any = None, name: str | None = None):
        self.xp = xp
        try:
            probe = xp.zeros(1) if device is None else xp.zeros(1, device=device)
        except Exception as error:  # each library raises its own error for a missing device
            raise ValueError(f"{xp.__name__} has no device {device!r}: {type(error).__name__}: {error}") from error
        try:
            probe[...] = 1.0
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"arrays of {xp.__name__} cannot be written to ({error}); a backend needs a namespace with mutable "
                "arrays, such as numpy, cupy, torch or array_api_strict"
            ) from error
        self.device = getattr(probe, "device", device)
        self.name = name or f"{xp.__name__.removeprefix('array_api_compat.')} on {self.device}"

    # -- arrays ------------------------------------------------------------------------------------------------

    def asarray(self, host: Any, dtype: str | None = None, *, copy: bool = False) -> Array:
        """Copies host data (NumPy arrays, lists, numbers) to the device, cast to ``dtype`` (a name) if one is given."""
        # Always a fresh C-ordered copy: some libraries would share the caller's memory, or refuse read-only arrays.
        array = np.array(host, dtype=dtype, order="C")
        return self.xp.asarray(array.astype(array.dtype.newbyteorder("="), copy=False), device=self.device)

    def upload(self, host: Sequence[np.ndarray | None]) -> Callable[[], list[Array | None]]:
        """Begins to copy host arrays to the device; the function that it returns gives them, for work to come.

        Where the device has a stream for copies, work given to it before that call does not wait for them. No more than
        two uploads may be under way: a third begins when the arrays of the first have been used. The caller may write
        into the host arrays again at once, but on the host's own backend, where nothing is copied.
        """
        arrays = [None if array is None else self.asarray(array) for array in host]
        return lambda: arrays

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copies an array of this backend to the host."""
        from array_api_compat import to_device

        x = x.detach() if hasattr(x, "detach") else x  # PyTorch: without the recorded autograd graph
        refusals = []
        for place in ("cpu", *self.xp.__array_namespace_info__().devices()):
            try:
                return np.asarray(to_device(x, place)).copy()  # some libraries share memory
            except (TypeError, ValueError, RuntimeError) as error:  # this place is not the host: try the next
                refusals.append(f"{place}: {error}")
        reasons = "; ".join(dict.fromkeys(refusals))
        raise RuntimeError(f"an array of backend {self.name!r} could not be copied to the host: {reasons}")

    def owns(self, x: Any) -> bool:
        """Whether ``x`` is an array of this library on this device."""
        if self.xp is np:
            return isinstance(x, (np.ndarray, np.generic))
        return is_array(x) and namespace(x) is self.xp and device_of(x) == self.device

    # -- running -----------------------------------------------------------------------------------------------

    def scope(self) -> AbstractContextManager[Any]:
        """A context entered once per public call: makes this backend's device and stream the current ones.

        Within it NumPy, and libraries built on it, report no overflow and no underflow, whatever ``numpy.seterr``
        says: portnn checks the results itself, and its errors say where they are not finite.
        """
        return np.errstate(all="ignore")

    def synchronize(self) -> None:
        """Waits until the device has finished all work that was given to it."""

    def compile(self, step: Callable[[], list[Array]], state: Any) -> Callable[[], None]:
        """Turns a functional ``step`` (it returns the new leaves of ``state``) into a call that also commits them.

        Here the commit rebinds each leaf, which copies nothing. A backend that captures the step into a graph calls
        ``state.use_device_counters()`` first and copies each new leaf into a fixed buffer instead.
        """

        def run() -> None:
            state.commit(step())

        return run

    def forget(self, network: Any) -> None:
        """A network has left for another backend: what is kept for its next fit here is given up."""

    def implementation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the fast version of one of portnn's own functions, or the function itself.

        The result is called with positional arguments only. ``function`` may be a ``functools.partial`` of one, such as
        a routine of ``portnn.ops`` with its namespace. This plain backend has no fast versions; one that has some calls
        ``fast_version``.
        """
        return function

    def random_bits(self, key: tuple[int, int], step: int, n: int) -> Array:
        """Returns ``n`` random 32-bit words as int64 in [0, 2**32), the same on every backend.

        They are drawn by NumPy's Philox on the host and then copied to the device.
        """
        return self.asarray(random.bits(key, step, n))

    def describe(self) -> dict[str, str]:
        """Returns what ``python -m portnn info`` prints about this backend."""
        return {
            "library": f"{self.xp.__name__} {getattr(self.xp, '__version__', '')}".strip(),
            "device": str(self.device),
        }

    def numerics(self) -> dict[str, str]:
        """Returns what the last digits of results depend on here, such as versions, kernels and threads."""
        return Backend.describe(self)

    # -- backends of the same library and device are equal ------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self.xp, str(self.device)) == (other.xp, str(other.device))

    def __hash__(self) -> int:
        return hash((self.xp.__name__, str(self.device)))

    def __repr__(self) -> str:
        return f"<portnn backend {self.name!r}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backend":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unpickled, (self.xp.__name__, self.device))


# -- what a backend tells the user while a call waits for it ----------------------------------------------------------

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("_listener", default=None)


@contextmanager
def heard_by(listener: Callable[[str], None] | None) -> Iterator[None]:
    """A context in which ``tell`` calls ``listener``, unless it is None."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(text: str) -> None:
    """Says in one line what a call is waiting for, such as a compiler, if anybody listens."""
    if (listener := _listener.get()) is not None:
        listener(text)


# -- finding one -----------------------------------------------------------------------------------------------------

_made: dict[str, Backend] = {}
_missing: dict[str, Availability] = {}


def get_backend(name: Any = "cpu", *, device: Any = None) -> Backend:
    """Returns the backend of that name, or one for an array API namespace.

    ``name`` is ``"cpu"``, ``"gpu"``, a name that another package added to the entry-point group ``portnn.backends``, an
    array API namespace (a module), or a Backend (returned as it is). ``device`` may be given with a namespace only.

    Raises ValueError for an unknown name (it lists the known ones), BackendUnavailableError (a RuntimeError) for a
    known one that does not work here, TypeError for anything else or a namespace whose arrays cannot be written to.

    >>> get_backend("cpu").name
    'cpu'
    """
    if isinstance(name, Backend):
        return name
    if not isinstance(name, str):
        return _from_namespace(name, device)
    if device is not None:
        raise TypeError(
            f"device={device!r} goes with an array API namespace; backend {name!r} chooses its own: call "
            f"get_backend({name!r}), or get_backend(namespace, device={device!r})"
        )
    if name not in _made:
        status = availability(name)
        if not status.ok:
            raise BackendUnavailableError(status)
        _made[name] = _module(name).create()
    return _made[name]


def availability(name: str) -> Availability:
    """Returns whether the backend of that name works here, and if not, why; probed once, then cached."""
    if name in _made:
        return Availability(name)
    if name not in _missing:
        try:
            module = _module(name)
        except ImportError as error:
            remedy = "python -m pip install -e . at the top of a checkout, or set PYTHONPATH=.:backends there"
            _missing[name] = Availability(name, "package", f"{type(error).__name__}: {error}", remedy)
        else:
            _missing[name] = module.probe()
    return _missing[name]


def available_backends() -> list[str]:
    """Returns the names of the backends that work on this machine, ``"cpu"`` first.

    >>> "cpu" in available_backends()
    True
    """
    return [name for name in known_backends() if availability(name).ok]


def known_backends() -> dict[str, str]:
    """Returns every known name with the module that provides it: portnn's first, then those of other packages."""
    from importlib.metadata import entry_points  # here: it is slow to import, and most programs do not need it

    added = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return BUILT_IN | {name: module for name, module in sorted(added.items()) if name not in BUILT_IN}


def owner_of(x: Array) -> Backend | None:
    """Returns the backend in use that ``x`` belongs to, or None."""
    return next((backend for backend in backends_in_use() if backend.owns(x)), None)


def backends_in_use() -> list[Backend]:
    """Returns the backends with names that this process has asked for so far."""
    return list(_made.values())


def _module(name: str) -> Any:
    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name])
    known = known_backends()
    if name not in known:
        raise ValueError(
            names.unknown(
                "backend",
                name,
                known,
                "Another array library goes in as its array API namespace: get_backend(namespace, device=...)",
                quoted=True,
            )
        )
    return importlib.import_module(known[name])


def _from_namespace(xp: Any, device: Any) -> Backend:
    if not (hasattr(xp, "asarray") and hasattr(xp, "__name__")):
        raise TypeError(
            f"get_backend takes a name such as 'cpu' or 'gpu', a Backend, or an array API namespace; got {xp!r} "
            f"({type(xp).__name__}). For the backend of an array call backend_of(array)"
        )
    return Backend(xp if xp is np else namespace(xp.asarray(0.0)), device)


def _unpickled(xp_name: str, device: Any) -> Backend:
    return Backend(importlib.import_module(xp_name), device)


# -- fast versions ---------------------------------------------------------------------------------------------------


def fast_version(function: Callable[..., Any], packages: Sequence[str]) -> Callable[..., Any]:
    """Returns the version of one of portnn's own functions in ``packages``, the fastest first, or the function itself.

    A package mirrors the library: ``portnn.losses.mse`` is looked up in its module ``losses`` under the name ``mse``,
    the method ``portnn.optimizers.SGD.update`` as ``SGD.update`` in ``optimizers``, and functions of a subpackage,
    ``portnn.ops`` or ``portnn.training``, in one module of the subpackage's name. Signature and meaning are those of
    the library's function. A version returns ``NotImplemented`` for a case that it leaves to the next package, or after
    the last one to ``function``.
    """
    own = function.func if isinstance(function, partial) else function
    versions = []
    for package in packages:
        if (version := _namesake(own, package)) is not None:
            versions.append(version)
            if not _leaves_cases(version):
                break
    else:
        versions.append(function)
    return versions[0] if len(versions) == 1 else _in_turn(versions, own)


def _namesake(function: Any, package: str) -> Callable[..., Any] | None:
    """The function of the same name in the package's module of the same name."""
    module = f"{package}.{function.__module__.split('.')[1]}"
    found: Any = importlib.import_module(module) if _is_module(module) else None
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # the package that should contain it is missing
        if error.name is None or not name.startswith(error.name):
            raise
        return False


def _leaves_cases(version: Any) -> bool:
    """Whether it mentions ``NotImplemented`` anywhere: if not, its return value need not be checked."""
    code = getattr(version, "__code__", None)  # the array library's own functions have none
    return code is not None and "NotImplemented" in code.co_names


def _in_turn(versions: Sequence[Callable[..., Any]], own: Callable[..., Any]) -> Callable[..., Any]:
    """One callable that tries each version until one does not return ``NotImplemented``.

    It is written out for two to five parameters, which covers the routines called in each step: packing and unpacking
    arguments costs time in every call.
    """
    if len(versions) > 3:
        versions = [*versions[:2], _in_turn(versions[2:], own)]
    first, second, last = versions if len(versions) == 3 else (*versions, versions[-1])

    def two(a: Any, b: Any) -> Any:
        answer = first(a, b)
        if answer is NotImplemented:
            answer = second(a, b)
        return last(a, b) if answer is NotImplemented else answer

    def three(a: Any, b: Any, c: Any) -> Any:
        answer = first(a, b, c)
        if answer is NotImplemented:
            answer = second(a, b, c)
        return last(a, b, c) if answer is NotImplemented else answer

    def four(a: Any, b: Any, c: Any, d: Any) -> Any:
        answer = first(a, b, c, d)
        if answer is NotImplemented:
            answer = second(a, b, c, d)
        return last(a, b, c, d) if answer is NotImplemented else answer

    def five(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        answer = first(a, b, c, d, e)
        if answer is NotImplemented:
            answer = second(a, b, c, d, e)
        return last(a, b, c, d, e) if answer is NotImplemented else answer

    def others(*arguments: Any) -> Any:
        answer = first(*arguments)
        if answer is NotImplemented:
            answer = second(*arguments)
        return last(*arguments) if answer is NotImplemented else answer

    written_out: dict[int, Any] = {2: two, 3: three, 4: four, 5: five}
    call = written_out.get(first.__code__.co_argcount, others)
    if call is not others:
        call.__defaults__ = first.__defaults__
    return update_wrapper(call, own)


# -- telling arrays apart --------------------------------------------------------------------------------------------

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


def device_dtype(backend: Backend, dtype: str) -> Any:
    """Returns the dtype of that name as the backend's arrays report it: comparing it with ``x.dtype`` is cheap."""
    return backend.xp.empty(0, dtype=getattr(backend.xp, dtype)).dtype


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
