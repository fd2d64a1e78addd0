"""CuPy as a backend: its own functions, products by an own cuBLAS handle, and steps captured into graphs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import array_api_compat.cupy as standard
import cupy
import numpy as np

from portnn.backend import Backend
from portnn_cupy import philox
from portnn_cupy.blas import Blas
from portnn_cupy.graph import CapturedStep, warn_eager

# Functions of the array API standard that CuPy itself has with the standard's meaning: called without a wrapper.
PLAIN = "astype concat matrix_transpose permute_dims reshape sum max min mean maximum minimum where take exp log tanh abs sqrt"


class GpuOutOfMemoryError(RuntimeError):
    """The GPU's memory did not suffice; the network is as it was after the last whole step."""


class CupyBackend(Backend):
    """CuPy on the CUDA device that is current when the backend is made."""

    def __init__(self) -> None:
        self.name = "gpu"
        self.device = cupy.cuda.Device()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.blas: dict[int, Blas] = {}
        plain = {name: getattr(cupy, name) for name in PLAIN.split()}
        public = {name: getattr(standard, name) for name in dir(standard) if not name.startswith("_")}
        own = {"matmul": self.matmul, "__name__": "cupy", "__version__": cupy.__version__}
        info = {"__array_namespace_info__": standard.__array_namespace_info__}
        names = _standard_names()
        self.xp = SimpleNamespace(**{name: x for name, x in (public | plain).items() if name in names} | own | info)

    def matmul(self, a: Any, b: Any) -> Any:
        """The standard's ``matmul`` on the current stream."""
        stream = cupy.cuda.get_current_stream()
        if stream.ptr not in self.blas:
            self.blas[stream.ptr] = Blas(stream)
        return self.blas[stream.ptr].matmul(a, b)

    # -- arrays ------------------------------------------------------------------------------------------------

    def asarray(self, host: Any, dtype: str | None = None, *, copy: bool = False) -> Any:
        with self.device:
            if isinstance(host, cupy.ndarray):
                return cupy.array(host, dtype=dtype, copy=copy or None)
            # blocking: the caller may change its array as soon as this returns
            return cupy.asarray(np.asarray(host, dtype=dtype), blocking=True)

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(cupy.asnumpy(x))

    def owns(self, x: Any) -> bool:
        return isinstance(x, cupy.ndarray) and x.device == self.device

    def random_bits(self, key: tuple[int, int], step: Any, n: int) -> Any:
        if not isinstance(step, cupy.ndarray):
            step = self.asarray(np.asarray(step, np.int64))
        return philox.random_bits(key, step, n)

    # -- running -----------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Makes this device and its stream current; work before and after, on the caller's stream, keeps its order."""
        with self.device:
            caller = cupy.cuda.get_current_stream()
            if caller == self.stream:  # already inside
                yield
                return
            self.stream.wait_event(caller.record())
            try:
                with self.stream:
                    yield
            except cupy.cuda.memory.OutOfMemoryError as error:
                raise self._out_of_memory(error) from error
            finally:
                caller.wait_event(self.stream.record())

    def synchronize(self) -> None:
        self.stream.synchronize()

    def compile(self, step: Callable[[], list[Any]], state: Any) -> Callable[[], None]:
        if state.eager_reason:
            warn_eager(state.eager_reason)
            return super().compile(step, state)
        return CapturedStep(step, state, Driver(self.stream))

    def _out_of_memory(self, error: Exception) -> GpuOutOfMemoryError:
        cupy.get_default_memory_pool().free_all_blocks()
        free, total = self.device.mem_info
        return GpuOutOfMemoryError(
            f"{error} The GPU has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free. Try half the batch_size; the network "
            "is as it was after the last whole step"
        )

    def describe(self) -> dict[str, str]:
        properties = cupy.cuda.runtime.getDeviceProperties(self.device.id)
        free, total = self.device.mem_info
        runtime = cupy.cuda.runtime
        return {
            "library": f"CuPy {cupy.__version__}",
            "device": f"{properties['name'].decode()}, compute capability {self.device.compute_capability}",
            "CUDA": f"driver {_version(runtime.driverGetVersion())}, runtime {_version(runtime.runtimeGetVersion())}",
            "memory": f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CupyBackend) and self.device == other.device

    def __hash__(self) -> int:
        return hash(("cupy", self.device.id))

    def __reduce__(self) -> tuple[Any, ...]:
        from portnn.backend import get_backend

        return (get_backend, ("gpu",))


class Driver:
    """The few CUDA calls that a captured step makes, on one stream."""

    def __init__(self, stream: Any):
        self.stream = stream
        self.copy = cupy.copyto
        self.duplicate = cupy.copy

    def pool(self) -> AbstractContextManager[Any]:
        return PrivatePool()

    def capture(self, function: Callable[[], None]) -> Any:
        """Records what ``function`` launches, without running it."""
        self.stream.begin_capture()
        try:
            function()
        except BaseException:
            _end_broken_capture(self.stream)
            raise
        return self.stream.end_capture()


class PrivatePool:
    """While open, arrays come from a memory pool of its own; it may be opened again and again."""

    def __init__(self) -> None:
        self.pool = cupy.cuda.MemoryPool()

    def __enter__(self) -> None:
        self.allocator = cupy.cuda.using_allocator(self.pool.malloc)
        self.allocator.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.allocator.__exit__(*error)


def _end_broken_capture(stream: Any) -> None:
    """Takes the stream out of the capture; CUDA says once more that it was broken, which is known."""
    try:
        stream.end_capture()
    except Exception:  # noqa: S110
        pass


def _standard_names() -> set[str]:
    """The names that the standard defines, as array_api_compat lists them for its own tests of NumPy and CuPy."""
    import array_api_compat.numpy as numpy_standard

    return {name for name in dir(numpy_standard) if not name.startswith("_")} & set(dir(standard))


def _version(number: int) -> str:
    """CUDA's 13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
