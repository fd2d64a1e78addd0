"""Seconds that the first fit of LeNet-5 takes: with loops to compile, and with those that an earlier process kept.

    python benchmarks/first_fit.py [--rounds 3]

Each fit has a process of its own, takes two steps of 128 samples, and imports Numba within it, as a user's first fit
does. A round begins with an empty folder of compiled loops (NUMBA_CACHE_DIR).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]


def seconds() -> float:
    """Of the first fit of this process."""
    import workloads

    workload = workloads.WORKLOADS["c128"]
    x, y = workloads.data(workload, None)
    net = workloads.build(workload)
    start = time.perf_counter()
    net.fit(x[:256], y[:256], epochs=1, batch_size=workload.batch, verbose=0)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(seconds())
        return
    found: dict[str, list[float]] = {"empty": [], "full": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for state in found:
                command, environment = [sys.executable, __file__, "--one"], os.environ | {"NUMBA_CACHE_DIR": folder}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found[state].append(float(done.stdout))
    for state, times in found.items():
        print(f"{state} folder: {statistics.median(times):.2f} s ({', '.join(f'{t:.2f}' for t in times)})")


if __name__ == "__main__":
    main()
