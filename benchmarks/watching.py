"""What it costs to watch a training: an epoch with bar, logs and callbacks against one without.

    python benchmarks/watching.py [c128 ...] [--pairs 30] [--save FILE.md]

Two networks with the same weights train on the same batches, in one process, and take turns; which one starts changes
from pair to pair. One prints nothing; the other has the bar, a line per epoch, both logs, early stopping, a plateau, a
time limit and a callback of a user's after each step. The table has the medians and, as ``before_after.py``, the ratio
with its 95 % interval; their weights must be the same, bit for bit.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

import frameworks  # noqa: E402
import workloads  # noqa: E402
from before_after import LIMIT, interval, processor  # noqa: E402

from portnn import Callback, CSVLogger, EarlyStopping, JSONLogger, Network, ReduceLROnPlateau, TimeLimit  # noqa: E402
from portnn.files.environment import environment  # noqa: E402

STEPS = 100  # of an epoch


class Looks(Callback):
    """A user's: it looks at each step and each epoch."""

    def on_step_end(self, network: Network, step: int) -> None:
        self.step = step

    def on_epoch_end(self, network: Network, epoch: int, logs: dict[str, float]) -> None:
        self.logs = logs


def watchers(folder: Path) -> list[Callback]:
    return [
        Looks(),
        CSVLogger(folder / "log.csv"),
        JSONLogger(folder / "log.jsonl"),
        EarlyStopping("error", patience=1000, restore_best=False),
        ReduceLROnPlateau("error", patience=1000),
        TimeLimit(1e6),
    ]


def environment_of(work: workloads.Workload) -> str:
    """Versions, numbers of threads, BLAS kernels."""
    return ", ".join(f"{name} {value}" for name, value in environment(workloads.build(work)).items())


def row(name: str, pairs: int, folder: Path) -> str:
    work = workloads.WORKLOADS[name]
    samples, labels = workloads.data(work, None)
    take = np.arange(STEPS * work.batch) % len(samples)
    ours = [frameworks.find("portnn")(work, samples[take], labels[take]) for _ in (0, 1)]
    plain, watched = (each.net for each in ours)
    x, y = ours[0].x, ours[0].y
    callbacks = watchers(folder)
    logs: list[dict[str, Any]] = [{"verbose": 0}, {"verbose": 2, "callbacks": callbacks}]
    times: list[list[float]] = [[], []]
    for k in range(pairs + 1):
        for i in (0, 1) if k % 2 else (1, 0):
            with open(os.devnull, "w") as nowhere:  # noqa: SIM117
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    start = time.perf_counter()
                    (plain, watched)[i].fit(x, y, epochs=1, batch_size=work.batch, shuffle=work.shuffle, **logs[i])
                    if k:  # the first round compiles and fills caches, so it is not counted
                        times[i].append((time.perf_counter() - start) / STEPS * 1e6)
    if not all(np.array_equal(array, watched.parameters[path]) for path, array in plain.parameters.items()):
        raise SystemExit(f"{name}: the weights differ")
    mean, low, high = interval([after / before for before, after in zip(*times, strict=True)])
    medians = " | ".join(f"{statistics.median(values):,.1f}" for values in times)
    return f"| {name} | {medians} | {mean:.3f} | {low:.3f} to {high:.3f}{'' if low <= LIMIT else ' SLOWER'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", default=["c128"])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    lines = [
        f"{processor()}; Python {platform.python_version()}, {os.cpu_count()} cores; {options.pairs} pairs; epochs of "
        f"{STEPS} steps, the same bits of the weights",
        environment_of(workloads.WORKLOADS["c128"]),
        "",
        "| workload | plain, us/step | watched, us/step | watched / plain | 95 % interval |\n|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.work:
            lines.append(row(name, options.pairs, Path(folder)))
            print(lines[-1], flush=True)
    if options.save:
        options.save.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
