"""How a train step gains from threads: measured with 1 and 2, and computed for more.

    python benchmarks/threads.py [a b c128 c32 d] [--rounds 9] [--save FILE.md]

Each number of threads (NUMBA_NUM_THREADS) has its own process; they take turns, and while one works the others are
stopped. A further process with one thread measures which part of its step runs in loops that are divided among threads.
Amdahl's law computes the rest of the table from these two: with n threads a step takes the undivided part, and the
divided one over n. That leaves out what n cores share, memory and caches, and that some loops have fewer than n parts.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

from before_after import processor  # noqa: E402
from compare import Worker  # noqa: E402

MEASURED, COMPUTED = (1, 2), (1, 2, 4, 8)


@dataclass
class Shares:
    """Microseconds of a step on one thread, and of those the part that is divided among threads."""

    step: float
    divided: float

    def on(self, threads: int) -> float:
        """Amdahl's law."""
        return self.step - self.divided + self.divided / threads


def shares(name: str, rounds: int) -> Shares:
    """Measured in this process, which must have been started with NUMBA_NUM_THREADS=1."""
    import workloads

    import portnn
    from portnn_numpy.compiled.jit import Loop

    workload = workloads.WORKLOADS[name]
    x, y = workloads.data(workload, None)
    if workload.loss == "mse":
        y = portnn.to_categorical(y, 10).astype("float32")
    net, steps = workloads.build(workload), -(-len(x) // workload.batch)
    call, spent = Loop.__call__, 0.0

    def timed(loop: Loop, *arguments: Any) -> Any:
        nonlocal spent
        start = time.perf_counter()
        answer = call(loop, *arguments)
        if arguments[0].size >= loop.least:
            spent += time.perf_counter() - start
        return answer

    Loop.__call__ = timed  # type: ignore[method-assign]
    found = []
    for _ in range(rounds + 1):
        spent, start = 0.0, time.perf_counter()
        net.fit(x, y, epochs=1, batch_size=workload.batch, shuffle=workload.shuffle, verbose=0)
        found.append(((time.perf_counter() - start) / steps * 1e6, spent / steps * 1e6))
    step, divided = (statistics.median(values) for values in zip(*found[1:], strict=True))
    return Shares(step, divided)


def measured(name: str, rounds: int) -> dict[int, float]:
    """Median microseconds of a step by number of threads."""
    workers = {n: Worker("portnn", name, "", "cpu", {"NUMBA_NUM_THREADS": str(n)}, HERE) for n in MEASURED}
    times: dict[int, list[float]] = {n: [] for n in MEASURED}
    for k in range(rounds + 1):
        for n in MEASURED if k % 2 else MEASURED[::-1]:
            answer = workers[n].ask(round=k)
            if k:
                times[n].append(answer["seconds"] / answer["steps"] * 1e6)
    for worker in workers.values():
        worker.close()
    return {n: statistics.median(values) for n, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", default=["b", "c128", "c32", "d"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--shares", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shares:
        found = shares(options.shares, options.rounds)
        print(found.step, found.divided)
        return
    import subprocess

    import portnn

    about = portnn.get_backend("cpu").describe()
    lines = [
        f"{processor()}; Python {platform.python_version()}, {os.cpu_count()} cores; "
        f"{about['library']}; {about.get('OpenBLAS', 'no OpenBLAS')}; {about['compiled loops']}",
        "",
        "| workload | divided | 1 thread, us | " + " | ".join(f"{n} threads, computed" for n in COMPUTED[1:]) + " | "
        "2 threads, measured, us | gain |",
        "|---" * (len(COMPUTED) + 4) + "|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.work:
        command = [sys.executable, __file__, "--shares", name, "--rounds", str(options.rounds)]
        alone = os.environ | {"NUMBA_NUM_THREADS": "1"}
        output = subprocess.run(command, env=alone, capture_output=True, text=True, check=True).stdout
        part, times = Shares(*map(float, output.split())), measured(name, options.rounds)
        gains = " | ".join(f"{part.step / part.on(n):.2f}" for n in COMPUTED[1:])
        lines.append(
            f"| {name} | {part.divided / part.step:.0%} | {times[1]:,.0f} | {gains} | {times[2]:,.0f} "
            f"| {times[1] / times[2]:.2f} |"
        )
        print(lines[-1], flush=True)
    if options.save:
        options.save.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
