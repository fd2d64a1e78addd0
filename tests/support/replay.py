"""A stand-in for a GPU: a NumPy backend that records one train step and replays it into the same memory.

A CUDA graph only reads and writes the addresses that it was captured with, and a replay runs no Python code. This
backend behaves the same way: ``compile`` runs two steps eagerly, traces the third through an ndarray subclass, and from
then on repeats the recorded calls. What CUDA would refuse or get wrong in a capture fails here too: reading a value on
the host, an upload, a product outside ``xp.matmul``, a constant baked into the graph, a weight bound to a new array
instead of being copied into its buffer.
"""

from types import SimpleNamespace

import numpy as np

from portnn import random
from portnn.backend import Backend

WARM_UPS = 2
PRODUCTS = (np.dot, np.vdot, np.inner, np.outer, np.tensordot, np.einsum, np.vecdot, np.matmul, np.linalg.matmul)
CONSTANTS = ("float32", "float64", "int64", "int32", "uint8", "bool", "pi", "e", "inf", "nan", "newaxis")


class CaptureError(RuntimeError):
    """The step did something that a captured graph cannot repeat."""


class Tape:
    """The calls of one traced step: (function, arguments, keyword arguments, the array for its result)."""

    current = None

    def __init__(self):
        self.calls = []

    def __enter__(self):
        Tape.current = self
        return self

    def __exit__(self, *error):
        Tape.current = None

    def replay(self):
        for function, args, kwargs, output in self.calls:
            result = function(*args, **kwargs)
            if output is not None:
                np.copyto(output, result)


def plain(value):
    """Strips the subclass, also in lists and tuples, so that NumPy does not call back into it."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


def run(function, args, kwargs):
    """Calls a NumPy function on plain arrays, records it while a tape is running, and returns device arrays."""
    args = tuple(map(plain, args))
    kwargs = {name: plain(value) for name, value in kwargs.items()}
    result = function(*args, **kwargs)
    if isinstance(result, (tuple, list)):
        raise CaptureError(f"{function.__name__} returns several arrays: the recorder knows none such in a train step")
    writes_into = kwargs.get("out")
    if writes_into is not None:
        note(function, args, kwargs, None)
        return device(writes_into[0] if isinstance(writes_into, tuple) else writes_into)
    result = np.asarray(result)
    sources = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    if not any(
        np.may_share_memory(result, a) for a in sources
    ):  # a view need not be repeated: it refers to the same memory
        note(function, args, kwargs, result)
    return device(result)


def note(function, args, kwargs, output):
    if Tape.current is not None:
        Tape.current.calls.append((function, args, kwargs, output))


def device(array):
    return array.view(DeviceArray)


def host_read(name):
    def method(self, *args, **kwargs):
        raise CaptureError(f"{name} reads a value on the host: a captured step cannot")

    return method


def no_method(name):
    def method(self, *args, **kwargs):
        raise CaptureError(f"array.{name}() is no part of the array API standard: call xp.{name}(array)")

    return method


class DeviceArray(np.ndarray):
    """An array in the memory of the emulated device."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if ufunc in PRODUCTS:
            raise CaptureError(f"{ufunc.__name__} outside xp.matmul: CuPy's own product cannot be captured")
        return run(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if function in PRODUCTS:
            raise CaptureError(f"{function.__name__} outside xp.matmul: CuPy's own product cannot be captured")
        return run(function, args, kwargs)

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, np.ndarray) for k in key):
            return run(lambda a, *k: a[k], (self, *key), {})
        if not any(k is Ellipsis for k in key):
            key = (*key, Ellipsis)  # gives a 0-d view, where NumPy would read a scalar
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        target, value = plain(self), plain(value)
        key = plain(key)
        np.ndarray.__setitem__(target, key, value)
        note(np.ndarray.__setitem__, (target, key, value), {}, None)


for _name in (
    "__float__",
    "__int__",
    "__bool__",
    "__index__",
    "__iter__",
    "__complex__",
    "__contains__",
    "item",
    "tolist",
):
    setattr(DeviceArray, _name, host_read(_name))
for _name in [
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "astype",
    "clip",
    "copy",
    "cumsum",
    "dot",
    "fill",
    "flatten",
    "max",
    "mean",
    "min",
    "nonzero",
    "prod",
    "put",
    "ravel",
    "repeat",
    "reshape",
    "round",
    "sort",
    "squeeze",
    "std",
    "sum",
    "swapaxes",
    "take",
    "transpose",
    "var",
]:
    setattr(DeviceArray, _name, no_method(_name))


def recorded_namespace():
    """NumPy's functions, each wrapped by the recorder."""

    def wrap(function):
        return lambda *args, **kwargs: run(function, args, kwargs)

    def asarray(x, **kwargs):
        if Tape.current is not None and not isinstance(x, DeviceArray):
            raise CaptureError("asarray of host data within a step: upload it before")
        return run(lambda a, **k: np.array(a, **k), (x,), kwargs)

    names = [name for name in dir(np) if callable(getattr(np, name)) and not name.startswith("_")]
    functions = {name: wrap(getattr(np, name)) for name in names if not isinstance(getattr(np, name), type)}
    constants = {name: getattr(np, name) for name in CONSTANTS}
    own = {"asarray": asarray, "isdtype": np.isdtype, "__name__": "replay", "__version__": "0"}
    return SimpleNamespace(**functions | constants | own)


class ReplayBackend(Backend):
    """``capture=False`` runs every step eagerly with the same functions; replays must give equal results."""

    def __init__(self, capture=True):
        self.name, self.device, self.xp, self.capture = "replay", "cpu", recorded_namespace(), capture

    def asarray(self, host, dtype=None, *, copy=False):
        if Tape.current is not None:
            raise CaptureError("an upload within a step")
        return device(np.array(host, dtype=dtype))

    def to_numpy(self, x):
        if Tape.current is not None:
            raise CaptureError("a download within a step")
        return np.array(plain(x))

    def owns(self, x):
        return isinstance(x, DeviceArray)

    def random_bits(self, key, step, n):
        """Like a kernel, it reads the step number when it runs."""
        return run(lambda number: random.bits(key, int(number), n), (step,), {})

    def __eq__(self, other):
        return self is other

    __hash__ = None

    def compile(self, step, state):
        if not self.capture:
            return super().compile(step, state)
        state.use_device_counters()
        return ReplayedStep(step, state)


class ReplayedStep:
    """Runs two steps eagerly, traces the third and replays all others; every leaf stays in its fixed buffer."""

    def __init__(self, step, state):
        self.step, self.state, self.calls, self.tape = step, state, 0, Tape()
        self.places = [*state.places, *state.inputs]
        self.buffers = [home[key] for home, key in self.places]

    def __call__(self):
        for (home, key), buffer in zip(self.places, self.buffers, strict=True):
            if home[key] is not buffer:  # set from outside, between steps
                np.copyto(plain(buffer), plain(home[key]))
                home[key] = buffer
        self.calls += 1
        if self.calls <= WARM_UPS:
            leaves = self.step()
            self.check_places()
            # buffers also holds the inputs, which no step returns
            for buffer, leaf in zip(self.buffers, list(map(np.array, map(plain, leaves))), strict=False):
                np.copyto(plain(buffer), leaf)
            return
        if not self.tape.calls:
            with self.tape:
                leaves = self.step()
                self.check_places()
                for buffer, leaf in zip(self.buffers, leaves, strict=False):
                    if leaf is not buffer:
                        note(np.copyto, (plain(buffer), plain(leaf)), {}, None)
        self.tape.replay()

    def check_places(self):
        for (home, key), buffer in zip(self.places, self.buffers, strict=True):
            if home[key] is not buffer:
                raise CaptureError(f"{key} was bound to a new array within the step: a replay would never see it again")
