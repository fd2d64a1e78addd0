"""portnn itself."""

import os
from typing import Any

import numpy as np
import workloads

import portnn
from portnn_numpy import compiled
from portnn_numpy.backend import NumpyBackend


class Ours:
    """``fit`` as a user calls it: one epoch per round, with all its checks. With a GPU, the data is there."""

    kernels, compile, capture = "auto", True, True

    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        self.workload = workload
        self.backend = self._backend()
        self.net = workloads.build(workload, kernels=self.kernels, backend=self.backend)
        y = y if workload.loss != "mse" else portnn.to_categorical(y, 10).astype(np.float32)
        self.x, self.y = (portnn.to_device(a, self.backend) for a in (x, y))

    def _backend(self) -> Any:
        if self.workload.backend == "cpu":
            return NumpyBackend(compile=self.compile)
        backend = portnn.get_backend("gpu")
        return backend if self.capture else type(backend)(capture=False)

    def round(self, epoch: int) -> float:
        w = self.workload
        history = self.net.fit(self.x, self.y, epochs=1, batch_size=w.batch, shuffle=w.shuffle, verbose=0)
        return history["error"][0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.net.predict(x)

    def about(self) -> str:
        if self.workload.backend == "gpu":
            return f"portnn {portnn.__version__}, {', '.join(self.backend.describe().values())}"
        threads = os.environ.get("OPENBLAS_NUM_THREADS", "default")
        core = os.environ.get("OPENBLAS_CORETYPE", "default")
        loops = compiled.describe() if self.compile and self.kernels == "auto" else "no Numba"
        return (
            f"portnn {portnn.__version__}, NumPy {np.__version__}, {loops}, OPENBLAS_NUM_THREADS {threads}, "
            f"CORETYPE {core}"
        )


class Plain(Ours):
    """With NumPy alone, as without the extra ``fast``."""

    compile = False


class Portable(Ours):
    """Without the fast versions."""

    kernels = "portable"


class Eager(Ours):
    """On the GPU: without the fused functions, and eager instead of one graph."""

    kernels, capture = "portable", False
