"""CuPy as a backend: the standard's functions, a stream of its own, products and train steps that can be captured."""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import array_api_compat.cupy as compat
import cupy
import numpy as np

from portnn.backend import NAMESPACES, Backend, fast_version, thin_namespace
from portnn_cupy import blas, direct, philox
from portnn_cupy.driver import CUDA_ERRORS, CupyDriver, is_out_of_memory
from portnn_cupy.graph import CapturedStep
from portnn_cupy.kept import SHARE, Kept
from portnn_cupy.standard import namespace, replaced
from portnn_cupy.sums import tickets

Array = Any
UNDER_WAY = 2  # uploads at a time, at most
OUT_OF_MEMORY_ERRORS = (cupy.cuda.memory.OutOfMemoryError, *CUDA_ERRORS)


class GpuOutOfMemoryError(RuntimeError):
    """The GPU ran out of memory in a step; the network is as it was before that step."""


class CupyBackend(Backend):
    """CuPy on the CUDA device that is current when the backend is created.

    With ``capture=False`` every step runs eagerly, for comparison and for debugging.
    """

    def __init__(self, *, capture: bool = True) -> None:
        self.captures = capture
        self.name = "gpu"
        self.device = cupy.cuda.Device()
        self.stream = cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
        self.copies = cupy.cuda.Stream(non_blocking=True)  # uploads, while the other stream works
        self.lock = threading.RLock()
        self.blas = blas.shared()
        self.driver = CupyDriver(self.device, self.stream)
        self.kept = Kept()  # captured steps of the networks trained last
        # array_api_compat has CuPy's own function where it conforms to the standard, and a wrapper elsewhere.
        self.xp = thin_namespace(compat, **replaced)
        self.xp.__name__, self.xp.__version__ = "cupy", cupy.__version__
        NAMESPACES[id(compat)] = compat, namespace
        with self.scope():
            self.uploaded_last = _now(self.stream)  # after all that the device had been given at the last upload
            self.held: deque[list[Array | None]] = deque(maxlen=UNDER_WAY)  # the arrays of the last uploads
            self.blas.handle()  # it cannot be created within a capture
            tickets()  # nor can these

    # -- arrays ------------------------------------------------------------------------------------------------

    def asarray(self, host: Any, dtype: str | None = None, *, copy: bool = False) -> Array:
        with self.device:
            if isinstance(host, cupy.ndarray):
                return cupy.array(host, dtype=dtype, copy=copy or None)
            # A private copy: CuPy may share the memory it is given. CuPy copies it to the device through pinned memory
            # of its own, so that the device's stream waits for the copy, not the host.
            return cupy.array(np.array(host, dtype=dtype, order="C"))

    def upload(self, host: Sequence[np.ndarray | None]) -> Callable[[], list[Array | None]]:
        # The arrays' memory belongs to the stream of copies, which takes it again as soon as an array is freed, while
        # the device may still be at work on it. So an array is held until the second call after its own, and a copy
        # waits for all that the device had been given at the call before: with two uploads under way, one that has
        # arrived and is used, and one to come, no work on what was freed by then can come later than that.
        with self.scope():
            self.copies.wait_event(self.uploaded_last)
            with self.copies:
                arrays = [None if array is None else self.asarray(array) for array in host]
                done = _now(self.copies)
            self.uploaded_last = _now(self.stream)
            self.held.append(arrays)

        def arrived() -> list[Array | None]:
            self.stream.wait_event(done)
            return arrays

        return arrived

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(cupy.asnumpy(x))

    def owns(self, x: Any) -> bool:
        return isinstance(x, cupy.ndarray) and x.data.device_id == self.device.id

    def implementation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return fast_version(function, ("portnn_cupy",))

    @property
    def direct_up_to(self) -> float:
        """A convolution runs without patches in memory where 1 / filters + 1 / values of a patch is at least 1 / this.

        0 is for none, infinity for all; it is one number for the whole process, for measuring where patches begin to be
        the quicker way. Steps that are captured already are captured anew in the next fit.
        """
        return direct.Settings.up_to

    @direct_up_to.setter
    def direct_up_to(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not value >= 0:
            raise ValueError(f"direct_up_to must be a number, 0 or more (math.inf: always), got {value!r:.60}")
        direct.Settings.up_to = float(value)

    def random_bits(self, key: tuple[int, int], step: Any, n: int) -> Array:
        with self.device:
            return philox.random_bits(key, step, n)

    # -- running -----------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Makes this device and its stream current, in one thread at a time; may be nested.

        On the GPU, work in this scope waits for earlier work of the caller's stream and the default stream, and they
        wait for the work in this scope: arrays may cross its boundary unsynchronized, and the host never waits.
        """
        with self.lock, self.device, np.errstate(all="ignore"):
            caller = cupy.cuda.get_current_stream()
            if caller == self.stream:  # already inside
                yield
                return
            null = cupy.cuda.Stream.null
            outside = [null] if caller == null else [null, caller]
            for stream in outside:
                self.stream.wait_event(_now(stream))
            try:
                with self.stream:
                    yield
            except OUT_OF_MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                raise self._out_of_memory(error, "here: try a smaller batch_size") from error
            finally:
                done = _now(self.stream)
                for stream in outside:
                    stream.wait_event(done)

    def synchronize(self) -> None:
        self.device.synchronize()

    def compile(self, step: Callable[[], list[Array]], state: Any) -> Callable[[], None]:
        """Turns a functional step into a call that, from the third time on, launches it as one CUDA graph."""
        if not self.captures:
            return self._eagerly(super().compile(step, state))
        with self.scope():
            captured = self._captured(step, state)

        def run() -> None:
            with self.scope():
                try:
                    captured()
                except OUT_OF_MEMORY_ERRORS as error:
                    if not is_out_of_memory(error):
                        raise
                    traceback.clear_frames(error.__traceback__)  # they hold all arrays that the step had computed
                    captured.forget()
                    size = getattr(step, "size", None)
                    advice = "try a smaller batch_size" if size is None else f"try batch_size={size // 2}"
                    advice = "even one sample is too much" if size == 1 else advice
                    words = f"in a step. The network is as it was after the last whole step: {advice}"
                    raise self._out_of_memory(error, words) from error

        return run

    def _captured(self, step: Callable[[], list[Array]], state: Any) -> CapturedStep:
        """The step of an earlier fit, if it computes the same; else a new one."""
        steps = self.kept.steps(state)
        size = getattr(step, "size", 0)
        found = None if steps is None else steps.get(size)
        if found is not None and not found.eager and found.reusable:
            found.go_on_with(step, state)
        else:
            found = CapturedStep(step, state, self.driver)
        if steps is not None:
            steps.pop(size, None)  # the one used last comes last
            steps[size], state.at_end = found, partial(self.kept.rest, steps, self.device.mem_info[1] // SHARE)
        return found

    def _eagerly(self, run: Callable[[], None]) -> Callable[[], None]:
        def eager() -> None:
            with self.scope():
                run()

        return eager

    def _out_of_memory(self, error: Exception, words: str) -> GpuOutOfMemoryError:
        """The error; frees the memory that CuPy keeps for reuse first."""
        free, total = self.device.mem_info
        self.release()
        return GpuOutOfMemoryError(
            f"the GPU ran out of memory {words}. Of {total:,} bytes, {free:,} were free. ({error})"
        )

    # -- memory ------------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, int]:
        """Bytes ``used`` by arrays, ``kept`` for future arrays, ``free`` on the device, and ``total`` on the device.

        The memory of graphs is in neither of the first two.
        """
        pool = cupy.get_default_memory_pool()
        free, total = self.device.mem_info
        return {"used": pool.used_bytes(), "kept": pool.free_bytes(), "free": free, "total": total}

    def release(self) -> None:
        """Frees the device memory and the pinned host memory that are kept for future arrays, and for future fits."""
        self.kept.clear()
        self.driver.sweep()
        self.synchronize()  # the device may still be at work on the last upload
        self.held.clear()
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()

    def forget(self, network: Any) -> None:
        with self.lock:
            self.kept.forget(network)
            self.driver.sweep()

    def describe(self) -> dict[str, str]:
        runtime = cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self.device.id)
        memory = {name: f"{size / 2**30:.1f}" for name, size in self.memory().items()}
        return {
            "library": f"CuPy {cupy.__version__}",
            "device": f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}",
            "CUDA": f"driver {_version(runtime.driverGetVersion())}, runtime {_version(runtime.runtimeGetVersion())}",
            "memory": f"{memory['used']} GiB in use, {memory['free']} of {memory['total']} GiB free",
        }

    def numerics(self) -> dict[str, str]:
        return {name: value for name, value in self.describe().items() if name != "memory"}

    # -- backends of the same device are equal -----------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CupyBackend) and (self.device, self.captures) == (other.device, other.captures)

    def __hash__(self) -> int:
        return hash(("cupy", self.device.id))

    def __reduce__(self) -> tuple[Any, ...]:
        from portnn.backend import get_backend

        return (get_backend, ("gpu",))


def _now(stream: Any) -> Any:
    """An event after the last work of the stream."""
    return stream.record(cupy.cuda.Event(disable_timing=True))


def _version(number: int) -> str:
    """CUDA's 13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
