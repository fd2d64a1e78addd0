"""NumPy as a backend: its own functions, a faster ``matmul``, reuse of freed memory, and the fast versions."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from portnn.backend import Backend, fast_version, thin_namespace
from portnn_numpy import blas, compiled, memory, namespace


class NumpyBackend(Backend):
    """NumPy on the CPU; with ``compile=False`` without the loops that Numba compiles.

    Loops that cannot be compiled are not used, with a warning. None is like True, but without a warning where Numba is
    not installed.
    """

    def __init__(self, *, compile: bool | None = None) -> None:
        self.name = "cpu"
        self.xp = thin_namespace(np, matmul=namespace.matmul, reshape=namespace.reshape, sum=namespace.sum)
        self.device = "cpu"
        self.compiles = compile

    def implementation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return fast_version(function, self._packages)

    @cached_property
    def _packages(self) -> tuple[str, ...]:
        """The packages with fast versions; found at first use, since importing Numba is slow."""
        numpys = "portnn_numpy"
        if self.compiles is False or not compiled.is_usable(asked=self.compiles is True):
            return (numpys,)
        return f"{numpys}.compiled", numpys

    def asarray(self, host: Any, dtype: str | None = None, *, copy: bool = False) -> np.ndarray:
        array = np.asarray(host, dtype=dtype)
        return memory.aligned(array) if copy else array

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        return isinstance(x, (np.ndarray, np.generic))

    def compile(self, step: Callable[[], list[Any]], state: Any) -> Callable[[], None]:
        memory.keep_freed()
        return super().compile(step, state)

    def describe(self) -> dict[str, str]:
        about = {"library": f"NumPy {np.__version__}", "device": "cpu"}
        if (active := blas.core()) is not None:
            about["OpenBLAS"] = f"{active} kernels, {blas.threads()} threads"
            if better := blas.better_core(active, blas.processor_flags()):
                about["OpenBLAS"] += f"; this processor has AVX-512, with which those for {better} are faster"
                about["to tune it"] = f"set OPENBLAS_CORETYPE={better} in the environment before Python starts"
        about["compiled loops"] = compiled.describe()
        about["freed memory"] = memory.describe()
        return about

    def numerics(self) -> dict[str, str]:
        return {
            "BLAS": f"{blas.core() or 'unknown'} kernels, {blas.threads() or 'unknown'} threads",
            "Numba": compiled.version() if compiled.__name__ in self._packages else "not used",
            "processor": blas.processor(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        from portnn.backend import get_backend

        return (get_backend, ("cpu",))
