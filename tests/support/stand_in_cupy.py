"""A stand-in for CuPy and cuBLAS, based on NumPy, to test without a GPU what portnn_cupy does with them.

Arrays are in host memory. A captured graph is a tape: each call that would launch a kernel is recorded with its
arguments and its output array, and a launch repeats the calls into the same arrays, as CUDA does. What CuPy refuses
during a capture is refused here too. Streams and events only write a log. ``install`` replaces the real modules.
"""

import ctypes
import sys
from contextlib import contextmanager
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import array_api_compat
import numpy as np

import host_kernels
import portnn_cupy

RELOADED = (
    "blas",
    "standard",
    "launch",
    "sums",
    "copies",
    "philox",
    "ops",
    "activations",
    "losses",
    "optimizers",
    "training",
    "driver",
    "kept",
    "backend",
)  # the modules of portnn_cupy that import CuPy; none imports a later one


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class CUDADriverError(RuntimeError):
    def __init__(self, status):
        super().__init__(f"CUDA_ERROR {status}")
        self.status = status


class OutOfMemoryError(MemoryError):
    pass


# -- arrays that can be recorded ---------------------------------------------------------------------------------------


class Tape:
    """The calls of a capture. ``current`` is the tape of the capture in progress."""

    current = None

    def __init__(self):
        self.calls = []
        self.kept = []  # memory must outlive the capture; with CuPy, the graph's own pool ensures that

    def replay(self):
        for function, args, kwargs, output in self.calls:
            result = function(*args, **kwargs)
            if output is not None:
                output[...] = result


def refuse_in_capture(what, error=RuntimeError):
    if Tape.current is not None:
        raise error(f"{what} during stream capture")


def plain(x):
    if isinstance(x, DeviceArray):
        return x.view(np.ndarray)
    return type(x)(map(plain, x)) if isinstance(x, (tuple, list)) else x


def run(function, *args, **kwargs):
    """Calls a NumPy function, records it if a capture is in progress, and returns device arrays."""
    args, kwargs = plain(args), {name: plain(value) for name, value in kwargs.items()}
    with np.errstate(
        all="ignore" if Tape.current else None
    ):  # during a capture, the kernels' results are not there yet
        result = function(*args, **kwargs)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    flat = [a for x in (*args, *kwargs.values()) for a in (x if isinstance(x, (tuple, list)) else (x,))]
    view = any(isinstance(a, np.ndarray) and np.may_share_memory(a, result) for a in flat)
    if Tape.current is not None and not view:
        Tape.current.calls.append((function, args, kwargs, result))
    array = result.view(DeviceArray)
    if Tape.current is not None:
        Tape.current.kept.append(array)
    return array


def launch(function, *args):
    """A call that writes into existing arrays: during a capture it is recorded, not executed."""
    if Tape.current is None:
        function(*plain(args))
    else:
        Tape.current.calls.append((function, plain(args), {}, None))


class DeviceArray(np.ndarray):
    device_id = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        result = run(getattr(ufunc, method), *inputs, **kwargs)
        if out:
            launch(np.copyto, out[0], result)
            return out[0]
        return result

    def __array_function__(self, function, types, args, kwargs):
        return run(function, *args, **kwargs)

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, np.ndarray) for k in keys):
            return run(lambda a, *k: a[k], self, *keys)
        return super().__getitem__((*keys, ...) if not any(k is ... for k in keys) else keys)

    def __setitem__(self, key, value):
        np.ndarray.__setitem__(plain(self), plain(key), plain(value))
        if Tape.current is not None:
            Tape.current.calls.append((np.ndarray.__setitem__, (plain(self), plain(key), plain(value)), {}, None))

    def __float__(self):
        refuse_in_capture("D2H transfers are disallowed")
        return float(plain(self))

    def __bool__(self):
        refuse_in_capture("D2H transfers are disallowed")
        return bool(plain(self))

    def get(self):
        refuse_in_capture("D2H transfers are disallowed")
        return np.array(plain(self))

    @property
    def base(self):  # the array of which this is a view, as in CuPy; the underlying NumPy array does not count
        base = super().base
        return base if isinstance(base, DeviceArray) else None

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data, device_id=self.device_id)

    def copy(self, order="C"):
        return run(np.copy, self)

    def astype(self, dtype, copy=True):
        return run(np.ndarray.astype, self, dtype) if copy or np.dtype(dtype) != self.dtype else self

    def reshape(self, *shape):
        return run(np.reshape, self, shape[0] if len(shape) == 1 else shape)

    def fill(self, value):
        self[...] = value


# -- the modules -------------------------------------------------------------------------------------------------------


class StandIn:
    """Makes the modules. ``log`` records what streams did, in order; ``devices`` is the device count, or an error."""

    def __init__(self, devices=1, version="14.2.0", driver=13000, library=None):
        self.log = []
        self.cublas = FakeCublas(self)
        self.library = library or self.cublas
        self.free = 1 << 40  # bytes
        self.devices, self.driver_version = devices, driver
        self.default_pool, self.pinned_pool = MemoryPool(), MemoryPool()
        self.allocators, self.streams = [], []  # those in use, the innermost last
        self.cupy = ModuleType("cupy")
        self.cupy.__dict__.update(self.functions(), __version__=version, cuda=self.cuda())
        self.compat = ModuleType("array_api_compat.cupy")
        self.compat.__dict__.update(compat())

    def functions(self):
        def array(x, dtype=None, copy=True):
            if isinstance(x, DeviceArray):
                return x.astype(dtype or x.dtype, copy=bool(copy))
            if np.ndim(x):
                refuse_in_capture("H2D transfers are disallowed")
            return run(np.array, x, dtype=dtype)

        def matmul(a, b):
            refuse_in_capture("calling cuBLAS API is currently unsupported", NotImplementedError)
            self.log.append("CuPy's own product")
            return run(np.matmul, a, b)

        names = [
            "arange",
            "ascontiguousarray",
            "maximum",
            "minimum",
            "sign",
            "where",
            "expand_dims",
            "repeat",
            "broadcast_to",
        ]
        made = {name: through(getattr(np, name)) for name in names}
        own = {
            "ndarray": DeviceArray,
            "array": array,
            "empty": lambda shape, dtype: kept(np.empty(shape, dtype)),
            "zeros": lambda shape, dtype: kept(np.zeros(shape, dtype)),
            "asnumpy": lambda x: x.get() if isinstance(x, DeviceArray) else np.asarray(x),
            "copyto": lambda target, source: launch(np.copyto, target, source),
            "matmul": matmul,
            "RawModule": RawModule,
            "get_default_memory_pool": lambda: self.default_pool,
            "get_default_pinned_memory_pool": lambda: self.pinned_pool,
        }
        return made | own

    def cuda(self):
        stand_in = self

        class Memory:
            def __init__(self, size):
                if size > stand_in.free:
                    raise CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")
                self.size, self.ptr = size, 4096

        class Event:
            def __init__(self, disable_timing=False):
                assert disable_timing

        class Stream:
            null = None
            stack = stand_in.streams

            def __init__(self, non_blocking=False, ptr=None):
                self.ptr, self.non_blocking = ptr if ptr is not None else 1000 + id(self) % 1000, non_blocking

            def __eq__(self, other):
                return self.ptr == other.ptr

            __hash__ = None

            def __enter__(self):
                self.stack.append(self)

            def __exit__(self, *error):
                self.stack.pop()

            def record(self, event):
                event.stream = self.ptr
                return event

            def wait_event(self, event):
                stand_in.log.append((self.ptr, "waits for", event.stream))

            def begin_capture(self):
                assert self.non_blocking
                assert Tape.current is None
                Tape.current = Tape()

            def end_capture(self):
                tape, Tape.current = Tape.current, None
                if stand_in.broken_capture:
                    raise RuntimeError("cudaErrorStreamCaptureInvalidated")
                return Graph(tape)

        class Graph:
            def __init__(self, tape):
                self.tape = tape

            def launch(self, stream):
                assert Tape.current is None
                stand_in.log.append("launch")
                self.tape.replay()

        class Device:
            id = 0
            mem_info = 123_456, 1_000_000

            def __eq__(self, other):
                return self.id == other.id

            __hash__ = None

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def synchronize(self):
                stand_in.log.append("synchronize")

        @contextmanager
        def using_allocator(allocator):
            stand_in.allocators.append(allocator)
            try:
                yield
            finally:
                stand_in.allocators.pop()

        def count():
            if isinstance(self.devices, Exception):
                raise self.devices
            return self.devices

        Stream.null = Stream(ptr=0)
        Stream.stack.append(Stream.null)
        self.broken_capture = False
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            is_hip=False,
            getDeviceCount=count,
            driverGetVersion=lambda: self.driver_version,
            runtimeGetVersion=lambda: 12090,
            getDeviceProperties=lambda number: {"name": b"Stand-in", "major": 9, "minor": 0},
        )
        return SimpleNamespace(
            runtime=runtime,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            Device=Device,
            Event=Event,
            Memory=Memory,
            MemoryPointer=lambda memory, offset: memory,
            MemoryPool=MemoryPool,
            Stream=Stream,
            get_current_stream=lambda: Stream.stack[-1],
            get_device_id=lambda: 0,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            using_allocator=using_allocator,
        )


class MemoryPool:
    def __init__(self, allocator=None):
        self.allocator, self.held, self.freed = allocator, 0, 0

    def malloc(self, size):
        return self.allocator(size)

    def free_all_blocks(self):
        self.freed += 1

    def total_bytes(self):
        return self.held

    used_bytes = total_bytes

    def set_limit(self, size):
        assert size == 0

    def free_bytes(self):
        return 0


def kept(array):
    array = array.view(DeviceArray)
    if Tape.current is not None:
        Tape.current.kept.append(array)
    return array


class RawModule:
    """Kernels compiled for the host; during a capture a launch is recorded, not executed."""

    def __init__(self, code, options=()):
        self.module = host_kernels.Module(code)

    def get_function(self, name):
        kernel = self.module.get_function(name)

        def launch_kernel(grid, block, arguments):
            assert grid[0] >= 1
            assert block[0] <= 1024
            kernel.check(arguments)
            launch(lambda *passed: kernel(grid, block, passed), *arguments)

        return launch_kernel


def compat():
    """The functions of the standard, each wrapped in ``run``."""
    names = {name: value for name in dir(np) if not name.startswith("_") and (value := getattr(np, name)) is not None}
    functions = {
        name: through(value)
        for name, value in names.items()
        if callable(value) and not isinstance(value, type) and name not in ("isdtype", "result_type", "can_cast")
    }
    missing = {"vecdot": None, "unstack": None}  # array_api_compat provides them for CuPy
    return missing | names | {"newaxis": None, "__array_namespace_info__": np.__array_namespace_info__} | functions


def through(function):
    """A NumPy function wrapped in ``run``; like CuPy's functions, it accepts a device and ignores it."""

    def called(*args, device=None, **kwargs):
        return run(function, *args, **kwargs)

    return called


# -- cuBLAS ------------------------------------------------------------------------------------------------------------

_p, _i = ctypes.c_void_p, ctypes.c_int
_GEMM = ctypes.CFUNCTYPE(_i, _p, _i, _i, _i, _i, _i, _p, _p, _i, _p, _i, _p, _p, _i)


class FakeCublas:
    """Column-major products on host memory, called through ctypes like the real library."""

    def __init__(self, stand_in):
        self.calls, self.status, self.created = [], 0, 0
        plain_call = {
            "cublasCreate_v2": (self.create, _p),
            "cublasDestroy_v2": (self.note("destroy"), _p),
            "cublasSetStream_v2": (self.note("stream"), _p, _p),
            "cublasSetWorkspace_v2": (self.note("workspace"), _p, _p, ctypes.c_size_t),
            "cublasSetMathMode": (self.note("math mode"), _p, _i),
        }
        for name, (function, *types) in plain_call.items():
            setattr(self, name, ctypes.CFUNCTYPE(_i, *types)(function))
        self.cublasSgemm_v2 = _GEMM(self.gemm(ctypes.c_float))
        self.cublasDgemm_v2 = _GEMM(self.gemm(ctypes.c_double))

    def create(self, place):
        self.created += 1
        ctypes.cast(place, ctypes.POINTER(_p))[0] = _p(7000 + self.created)
        self.calls.append(("create", 7000 + self.created))
        return self.status

    def note(self, what):
        def function(*arguments):
            self.calls.append((what, *arguments))
            return self.status

        return function

    def gemm(self, number):
        def function(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            self.calls.append(("gemm", ta, tb, m, n, k, lda, ldb, ldc))
            assert lda >= (k if ta else m)
            assert ldb >= (n if tb else k)
            assert ldc >= m
            one, zero = (ctypes.cast(at, ctypes.POINTER(number))[0] for at in (alpha, beta))

            def product():
                left = columns(number, a, *((k, m) if ta else (m, k)), lda)
                right = columns(number, b, *((n, k) if tb else (k, n)), ldb)
                out = columns(number, c, m, n, ldc)
                out[...] = one * ((left.T if ta else left) @ (right.T if tb else right)) + (zero * out if zero else 0)

            if self.status == 0:
                launch(product)
            return self.status

        return function


def columns(number, address, rows, count, step):
    """The column-major matrix at an address, with leading dimension ``step``."""
    flat = np.ctypeslib.as_array((number * (step * (count - 1) + rows)).from_address(address))
    return np.lib.stride_tricks.as_strided(flat, (rows, count), (flat.itemsize, step * flat.itemsize))


# -- replacing the real modules ----------------------------------------------------------------------------------------


@cache
def code(name):
    """A module's code, compiled only once for all tests."""
    path = Path(portnn_cupy.__path__[0]) / f"{name}.py"
    return path, compile(path.read_text(), str(path), "exec")


def loaded_anew(name):
    path, compiled = code(name)
    module = module_from_spec(spec_from_file_location(f"portnn_cupy.{name}", path))
    sys.modules[module.__name__] = module
    setattr(portnn_cupy, name, module)
    exec(compiled, module.__dict__)
    return module


def install(monkeypatch, **options):
    """Replaces CuPy with a stand-in, and reloads the modules of portnn_cupy with it."""
    stand_in = StandIn(**options)
    monkeypatch.setitem(sys.modules, "cupy", stand_in.cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", stand_in.compat)
    monkeypatch.setattr(array_api_compat, "cupy", stand_in.compat, raising=False)
    monkeypatch.setattr(Tape, "current", None)
    for name in RELOADED:  # monkeypatch restores the originals after the test
        monkeypatch.setitem(sys.modules, f"portnn_cupy.{name}", None)
        monkeypatch.setattr(portnn_cupy, name, None, raising=False)
        del sys.modules[f"portnn_cupy.{name}"]
    for name in RELOADED:
        module = loaded_anew(name)
        if name == "blas":
            module.load_library = lambda: stand_in.library
        setattr(stand_in, name, module)
    return stand_in
