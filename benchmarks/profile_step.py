"""Where the time of a train step goes, and a lower bound on it.

    python benchmarks/profile_step.py [a a128 b c128 c32 d] [--rounds 7] [--plain]

For each workload of ``compare.py``: the operations of its matrix products divided by the rate at which this machine
multiplies large matrices; the bytes that it must move divided by the rate of a copy; then the median times of each
layer, the optimizer and the rest. The forward pass of a fused layer and activation has one row, the layer's; their
backward passes have one each. ``--plain`` does not use Numba's loops.
"""

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

import workloads  # noqa: E402

import portnn  # noqa: E402
from portnn.layers import sequential  # noqa: E402
from portnn.training.fusion import Fused  # noqa: E402
from portnn.training.step import TrainStep  # noqa: E402
from portnn_numpy.backend import NumpyBackend  # noqa: E402


def median_seconds(call: Any, rounds: int) -> float:
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def product_rate(rounds: int) -> float:
    """Operations per second of a product of 1024 x 1024 matrices, float32."""
    a = np.ones((1024, 1024), np.float32)
    return float(2 * 1024**3 / median_seconds(lambda: a @ a, rounds))


def copy_rate(rounds: int, mebibytes: int) -> float:
    """Bytes per second, read and written, of a copy into memory that has been used before."""
    a = np.ones(mebibytes << 18, np.float32)
    b = np.ones_like(a)
    return float(2 * a.nbytes / median_seconds(lambda: np.copyto(b, a), rounds))


def operations(net: Any, samples: int, shape: tuple[int, ...]) -> int:
    """The operations of a step's products: forward, dE/dW, and dE/dX of all layers but the lowest that learns."""
    lowest = sequential.lowest_that_learns(net.layers)
    total = 0
    for i, (layer, before) in enumerate(zip(net.layers, sequential.shapes(net.layers, shape), strict=False)):
        total += layer.multiply_adds(before) * (2 if i == lowest else 3)
    return 2 * samples * total


def least_bytes(net: Any, samples: int, shape: tuple[int, ...]) -> int:
    """Bytes moved if every array is written once and read once: the layers' outputs and errors, weights, gradients and
    slots, of which the weights are read twice."""
    between = sum(prod(s) for s in sequential.shapes(net.layers, shape)[1:] if s)
    weights = sum(prod(w.shape) for w in net.parameters.values())
    slots = sum(prod(a.shape) for home in net.slots.values() for a in home.values())
    return 4 * (4 * samples * between + 5 * weights + 2 * slots)


class Clock:
    """Adds up the seconds spent in calls, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return call


def look(name: str, rounds: int, plain: bool, rates: tuple[float, float]) -> str:
    workload = workloads.WORKLOADS[name]
    x, y = workloads.data(workload, None)
    if workload.loss == "mse":
        y = portnn.to_categorical(y, 10).astype(np.float32)
    net = workloads.build(workload, backend=NumpyBackend(compile=not plain))
    steps = -(-len(x) // workload.batch)

    def epoch() -> None:
        net.fit(x, y, epochs=1, batch_size=workload.batch, shuffle=workload.shuffle, verbose=0)

    whole = median_seconds(epoch, rounds) / steps * 1e6
    work, moved = operations(net, workload.batch, workload.shape), least_bytes(net, workload.batch, workload.shape)
    clock, descend = Clock(), TrainStep._descend
    for i, layer in enumerate(net.layers):
        for way in ("forward", "backward"):
            setattr(layer, way, clock.timed(f"{i} {type(layer).__name__} {way}", getattr(layer, way)))
    found: dict[str, list[float]] = defaultdict(list)
    compute = Fused.compute

    def timed_compute(fused: Fused, X: Any, is_training: bool) -> Any:
        name = f"{fused.path} {type(fused.layer).__name__} forward, fused"
        return clock.timed(name, compute)(fused, X, is_training)

    TrainStep._descend = clock.timed("optimizer", descend)  # type: ignore[method-assign]
    Fused.compute = timed_compute  # type: ignore[assignment, method-assign]
    try:
        for _ in range(rounds):
            clock.seconds.clear()
            start = time.perf_counter()
            epoch()
            clock.seconds["everything else"] = time.perf_counter() - start - sum(clock.seconds.values())
            for part, seconds in clock.seconds.items():
                found[part].append(seconds / steps * 1e6)
    finally:
        TrainStep._descend = descend  # type: ignore[method-assign]
        Fused.compute = compute  # type: ignore[method-assign]
    lines = [
        f"### {workload.title}",
        "",
        f"A step takes {whole:,.0f} us. Lower bounds: {work / 1e6:,.1f} million operations of products, "
        f"{work / rates[0] * 1e6:,.0f} us; {moved / 1e6:,.1f} MB moved, {moved / rates[1] * 1e6:,.0f} us.",
        "",
        "| part | us | share |",
        "|---|---|---|",
    ]
    for part, values in found.items():
        us = statistics.median(values)
        if us > 0.005 * whole:
            lines.append(f"| {part} | {us:,.0f} | {us / whole:.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", default=["a", "b", "c128", "c32", "d"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.work) - {*workloads.WORKLOADS}:
        parser.error(f"unknown work: {', '.join(sorted(unknown))}")
    for key, value in portnn.get_backend("cpu").describe().items():
        print(f"{key}: {value}")
    print("OPENBLAS_CORETYPE:", os.environ.get("OPENBLAS_CORETYPE", "default"))
    rates = product_rate(options.rounds), copy_rate(options.rounds, 64)
    print(f"products {rates[0] / 1e9:.0f} GFLOP/s; copies {rates[1] / 1e9:.1f} GB/s")
    for name in options.work:
        print("\n" + look(name, options.rounds, options.plain, rates), flush=True)


if __name__ == "__main__":
    main()
