"""Compares this checkout with another one, usually of the previous commit: is anything slower?

    git worktree add ../before HEAD~1
    python benchmarks/before_after.py ../before [a a128 b c128 c32 d predict] [--pairs 30] [--framework portnn]
                                      [--save FILE.md]

Each runs in its own process. They take turns, and which one starts changes from pair to pair; while one works, the
other is stopped. The table has the medians of both, and the ratio after / before: its geometric mean over the pairs and
the 95 % interval (Student's t of the logarithms). "No slower" means that the interval is not entirely above 1.03.
"""

import argparse
import math
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

from compare import HERE, Worker

PREDICT = {1: 3000, 128: 200, 10_000: 3}  # samples: calls per round, which begins with cold caches
LIMIT = 1.03
# Student's t, two-sided 95 %, by degrees of freedom; a value in between uses the next smaller entry.
STUDENT = {4: 2.776, 9: 2.262, 14: 2.145, 19: 2.093, 24: 2.064, 29: 2.045, 39: 2.023, 59: 2.001}


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, n = statistics.fmean(logs), len(logs)
    t = next((t for degrees, t in sorted(STUDENT.items(), reverse=True) if degrees <= n - 1), 12.7)
    half = t * statistics.stdev(logs) / math.sqrt(n)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def row(title: str, pairs: int, ask: Callable[[Worker, int], float], workers: list[Worker]) -> str:
    times: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for k in range(pairs + 1):
        for worker in workers if k % 2 else workers[::-1]:
            seconds = ask(worker, k)
            if k:  # the first round compiles and fills caches, so it is not counted
                times[worker.name].append(seconds * 1e6)
    before, after = times["before"], times["after"]
    mean, low, high = interval([b / a for a, b in zip(before, after, strict=True)])
    verdict = "" if low <= LIMIT else " SLOWER"
    medians = f"{statistics.median(before):,.1f} | {statistics.median(after):,.1f}"
    return f"| {title} | {medians} | {mean:.3f} | {low:.3f} to {high:.3f}{verdict} |"


def start(other: Path, framework: str, workload: str) -> list[Worker]:
    workers = []
    for name, folder in (("before", other / "benchmarks"), ("after", HERE)):
        worker = Worker(framework, workload, "", "cpu", {}, folder)
        if worker.missing:
            raise SystemExit(f"{name}: {worker.missing}")
        worker.name = name
        workers.append(worker)
    return workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("work", nargs="*", default=["a", "a128", "b", "c128", "c32", "d", "predict"])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--framework", default="portnn", help="or 'portnn, NumPy alone'")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    lines = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    say(f"{processor()}; Python {platform.python_version()}, {os.cpu_count()} cores; {options.pairs} pairs")
    for i, name in enumerate(options.work):
        workers = start(options.other.resolve(), options.framework, "b" if name == "predict" else name)
        if i == 0:
            say(workers[1].about)
            say("\n| workload | before, us | after, us | after / before | 95 % interval |\n|---|---|---|---|---|")
        if name == "predict":
            for n, calls in PREDICT.items():
                ask = lambda worker, k, n=n, calls=calls: worker.ask(predict=n, calls=calls)["seconds"] / calls  # noqa: E731
                say(row(f"predict, {n:,}", options.pairs, ask, workers))
        else:
            say(row(name, options.pairs, _round, workers))
        for worker in workers:
            worker.close()
    if options.save:
        options.save.write_text("\n".join(lines) + "\n")


def _round(worker: Worker, k: int) -> float:
    answer = worker.ask(round=k)
    return float(answer["seconds"] / answer["steps"])


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wide = (
        "AVX-512" if "avx512f" in about.get("flags", "") else "AVX2" if "avx2" in about.get("flags", "") else "no AVX2"
    )
    return f"{about.get('model name', platform.processor())} (family {about.get('cpu family')}, {wide})"


if __name__ == "__main__":
    main()
