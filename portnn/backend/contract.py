"""The contract: what an array library must provide to run a network, with a plain version of each member."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from portnn import random
from portnn._typing import Array
from portnn.backend.arrays import device_of, is_array, namespace


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


def _unpickled(xp_name: str, device: Any) -> Backend:
    return Backend(importlib.import_module(xp_name), device)


def device_dtype(backend: Backend, dtype: str) -> Any:
    """Returns the dtype of that name as the backend's arrays report it: comparing it with ``x.dtype`` is cheap."""
    return backend.xp.empty(0, dtype=getattr(backend.xp, dtype)).dtype


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
