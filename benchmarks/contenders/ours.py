"""portnn itself."""

import os
from typing import Any

import numpy as np
import workloads

import portnn


class Ours:
    """``fit`` as a user calls it: one epoch a round, with all its checks."""

    kernels = "auto"

    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        self.workload = workload
        self.net = workloads.build(workload, kernels=self.kernels)
        classes = workload.loss != "mse"
        self.x, self.y = x, y if classes else portnn.to_categorical(y, 10).astype(np.float32)

    def round(self, epoch: int) -> float:
        w = self.workload
        history = self.net.fit(self.x, self.y, epochs=1, batch_size=w.batch, shuffle=w.shuffle, verbose=0)
        return history["error"][0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.net.predict(x)

    def about(self) -> str:
        threads = os.environ.get("OPENBLAS_NUM_THREADS", "default")
        core = os.environ.get("OPENBLAS_CORETYPE", "default")
        return f"portnn {portnn.__version__}, NumPy {np.__version__}, OPENBLAS_NUM_THREADS {threads}, CORETYPE {core}"


class Portable(Ours):
    """Without the fast twins."""

    kernels = "portable"
