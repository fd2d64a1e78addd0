"""How the time and memory of a train step grow with batch size, width and depth, compared with the work.

    python benchmarks/scaling.py [--rounds 5]

Networks of fully connected layers with relu, softmax cross-entropy, Adam. Work is counted in multiply-adds of the
products (three per layer: forward and two backward; two for the first) plus the numbers that the optimizer moves. Each
configuration runs in its own process. The figures are medians of the rounds, and peak memory beyond that of an idle
network.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "backends")]

SERIES = {
    "batch size": [(batch, 256, 2) for batch in (32, 64, 128, 256, 512, 1024)],
    "width": [(128, width, 2) for width in (64, 128, 256, 512, 1024)],
    "depth": [(128, 256, depth) for depth in (1, 2, 4, 8, 16)],
}
STEPS = 20


def measure(batch: int, width: int, depth: int, rounds: int) -> dict[str, float]:
    """One configuration, in this process."""
    import numpy as np

    import portnn

    sizes = [784, *[width] * depth, 10]
    layers: list[portnn.Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [portnn.FCLayer(n_in, n_out), portnn.ActivationLayer("relu")]
    net = portnn.Network(layers[:-1], seed=0)
    net.use("softmax_cross_entropy", optimizer=portnn.Adam())
    x = np.random.default_rng(0).random((STEPS * batch, 784), dtype=np.float32)
    y = np.random.default_rng(1).integers(0, 10, STEPS * batch)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        net.fit(x, y, epochs=1, batch_size=batch, verbose=0)
        times.append((time.perf_counter() - start) / STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    numbers, products = net.summary().total["parameters"], 3 * net.summary().total["multiply-adds"] - 784 * width
    return {
        "us": statistics.median(times[1:]) * 1e6,
        "MiB": (peak - idle) / 1024,
        "work": batch * products + 10 * numbers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.rounds)))
        return
    for name, configurations in SERIES.items():
        print(f"\n| {name} | us per step | over the first | work over the first | added MiB |\n|---|---|---|---|---|")
        first = None
        for one in configurations:
            command = [sys.executable, __file__, "--rounds", str(options.rounds), "--one", *map(str, one)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            first = first or found
            value = one[list(SERIES).index(name)]
            print(
                f"| {value} | {found['us']:,.0f} | {found['us'] / first['us']:.1f} "
                f"| {found['work'] / first['work']:.1f} | {found['MiB']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
