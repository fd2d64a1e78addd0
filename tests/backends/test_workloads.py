"""The benchmark workloads: each has the same loss curve with the fast routines as with the portable ones."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import portnn

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import workloads

# (batch, samples, epochs): small enough for a test, with batches large enough for the compiled loops
SIZES = {
    "a": (1, 60, 2),
    "a128": (128, 640, 4),
    "b": (128, 384, 2),
    "c128": (128, 256, 2),
    "c32": (32, 96, 2),
    "d": (16, 48, 2),
}


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_the_loss_curve_is_that_of_the_portable_path(name):
    batch, samples, epochs = SIZES[name]
    workload = replace(workloads.WORKLOADS[name], samples=samples)
    x, y = workloads.data(workload, None)
    if workload.loss == "mse":
        y = portnn.to_categorical(y, 10).astype(np.float32)
    curves, digits = [], []
    for kernels in ("auto", "portable"):
        net = workloads.build(workload, kernels=kernels)
        history = net.fit(x, y, epochs=epochs, batch_size=batch, shuffle=workload.shuffle, verbose=0)
        curves.append(history["error"])
        digits.append(net.predict(x[:200]).argmax(axis=1))
    assert curves[0] == pytest.approx(curves[1], rel=2e-4)
    assert curves[1][-1] < curves[1][0]  # the loss decreases
    assert (digits[0] == digits[1]).mean() > 0.98
