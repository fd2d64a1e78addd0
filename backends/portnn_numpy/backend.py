"""NumPy as a backend: its own functions, a faster ``matmul``, reuse of freed memory, and the fast versions."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from portnn.backend import Backend, fast_version, thin_namespace
from portnn_numpy import blas, compiled, memory, namespace

LARGE = 1 << 20  # multiplications of a product that may be divided: ``compiled._products.LEAST_WORK``


class NumpyBackend(Backend):
    """NumPy on the CPU; with ``compile=False`` without the loops that Numba compiles.

    Loops that cannot be compiled are not used, with a warning. None is like True, but without a warning where Numba is
    not installed.
    """

    def __init__(self, *, compile: bool | None = None) -> None:
        self.name = "cpu"
        if compile is False:
            matmul, reshape = namespace.matmul, cast(Any, namespace.reshape)
        else:
            matmul, reshape = self._matmul, self._reshape
        self.xp = thin_namespace(np, matmul=matmul, reshape=reshape, sum=namespace.sum)
        self.device = "cpu"
        self.compiles = compile

    def _matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``numpy.matmul``, with large products of two matrices divided among the threads of the compiled loops."""
        if a.ndim == 2 and b.ndim == 2:
            large = a.size * b.shape[1] >= LARGE and self._loops is not None
            found = self._loops.product(a, b) if large else None
            return np.dot(a, b) if found is None else found
        return np.matmul(a, b)

    def _reshape(self, x: np.ndarray, /, shape: Any, *, copy: bool | None = None) -> np.ndarray:
        """``numpy.reshape``; large images are turned by the threads of the compiled loops."""
        large = x.size >= namespace.LEAST and self._loops is not None
        return namespace.reshape(x, shape, copy=copy, turned=self._loops.turned if large else None)

    def scope(self) -> AbstractContextManager[Any]:
        """As that of every backend; with compiled loops, their threads are ready in it, and BLAS has one thread."""
        plain = super().scope()
        return plain if self._loops is None else self._loops.scope(plain)

    @cached_property
    def _loops(self) -> Any:
        """What this class itself calls of the compiled loops; None where they are not used."""
        if compiled.__name__ not in self._packages:
            return None
        from portnn_numpy.compiled import _products, jit, pool

        return SimpleNamespace(product=_products.product, turned=jit.turned, scope=pool.Scope)

    def implementation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return fast_version(function, self._packages)

    @cached_property
    def _packages(self) -> tuple[str, ...]:
        """The packages with fast versions; found at first use, since importing Numba is slow."""
        usable = self.compiles is not False and compiled.is_usable(asked=self.compiles is True)
        return f"portnn_numpy.{'compiled' if usable else 'uncompiled'}", "portnn_numpy"

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
        if self.compiles is not False and compiled.trouble() is None:
            about["threads of compiled loops"] = compiled.threads()
        about["freed memory"] = memory.describe()
        return about

    def numerics(self) -> dict[str, str]:
        loops = compiled.__name__ in self._packages
        threads = "one thread" if loops and blas.can_be_told() else f"{blas.threads() or 'unknown'} threads"
        return {
            "BLAS": f"{blas.core() or 'unknown'} kernels, {threads}",  # how many threads our loops use changes no bit
            "Numba": compiled.version() if loops else "not used",
            "processor": blas.processor(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        from portnn.backend import get_backend

        return (get_backend, ("cpu",))
