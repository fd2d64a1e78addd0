"""What a captured step needs from CuPy: memory pools, capture, launch, copies."""

import contextlib
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import cupy

from portnn_cupy.copies import copy_all

Array = Any
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY, which CuPy does not export


# Besides CuPy's own error: of the runtime for allocations, of the driver where a module is loaded or a kernel launched.
CUDA_ERRORS = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device has no memory left."""
    if isinstance(error, CUDA_ERRORS):
        return bool(error.status == OUT_OF_MEMORY)
    return isinstance(error, cupy.cuda.memory.OutOfMemoryError)


class CupyDriver:
    """Works on one stream of one device, which must be the current ones."""

    def __init__(self, device: Any, stream: Any):
        self.device, self.stream = device, stream
        self.capturing = self.sweeping = False
        self.retired: list[Any] = []  # pools whose graph is gone, but which still have arrays

    def new_memory(self, owner: object) -> Any:
        """A pool for ``owner`` alone: no other code ever writes to the intermediate results of its graph."""
        self.sweep()
        memory = cupy.cuda.MemoryPool(self._allocate)
        with self.device:
            memory.set_limit(size=0)  # at CUPY_GPU_MEMORY_LIMIT it would free blocks that a graph writes to
        weakref.finalize(owner, self._retire, memory).atexit = False
        return memory

    def using(self, memory: Any) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = cupy.cuda.using_allocator(memory.malloc)
        return context

    def release(self, memory: Any) -> None:
        memory.free_all_blocks()

    def capture(self, work: Callable[[], None]) -> Any:
        self.capturing = True  # first: garbage collection, which frees graphs, may run at any time
        try:
            self.stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(Exception):  # a broken capture ends with an error, but does end
                    self.stream.end_capture()
                raise
            return self.stream.end_capture()
        finally:
            self.capturing = False

    def launch(self, graph: Any) -> None:
        graph.launch(self.stream)

    def copy(self, pairs: list[tuple[Array, Array]]) -> None:
        copy_all(pairs)

    # -- memory ----------------------------------------------------------------------------------------------------

    def _allocate(self, size: int) -> Any:
        """Memory for a pool; where the device has none left, what CuPy keeps for reuse is freed first."""
        try:
            return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)
        except CUDA_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            if self.capturing:  # the pool would free unused blocks, which the graph writes to
                raise RuntimeError(f"the graph needs {size:,} bytes more than the GPU has left") from error
        self.sweep()
        cupy.get_default_memory_pool().free_all_blocks()
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(size), 0)

    def _retire(self, memory: Any) -> None:
        """Empties a pool before it is dropped: its free blocks would never be freed otherwise."""
        self.retired.append(memory)
        self.sweep()

    def sweep(self) -> None:
        """Frees the memory of graphs that are gone."""
        if self.capturing or self.sweeping:
            return  # later: it needs calls that wait for the device, and garbage collection may run at any time
        self.sweeping = True
        try:
            retired, self.retired = self.retired, []
            with self.device:
                for memory in retired:
                    memory.free_all_blocks()
            self.retired += [memory for memory in retired if memory.total_bytes()]
        finally:
            self.sweeping = False
