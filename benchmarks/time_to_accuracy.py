"""Seconds of training to an accuracy of 98 % (an MLP) and 99 % (LeNet-5 with relu and max pooling) on MNIST.

    python benchmarks/time_to_accuracy.py FOLDER [--backend gpu] [--seeds 3] [--peers]

FOLDER holds the four MNIST files. Adam with a one-cycle learning rate over 6 epochs, batch 128; the accuracy on the
10,000 test digits is computed after each epoch and not timed. With ``--peers`` PyTorch trains the same networks in
turn, from the same initial weights, on the same batches in the same order, with the same learning rates. Before it is
timed, each framework trains on a few batches with weights that are thrown away, so that compilation is not counted.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

import workloads  # noqa: E402

import portnn  # noqa: E402

EPOCHS, BATCH = 6, 128
LENET = [
    ("conv", (28, 28, 1), 5, 6, "same"),
    ("relu",),
    ("maxpool",),
    ("conv", (14, 14, 6), 5, 16, "valid"),
    ("relu",),
    ("maxpool",),
    ("flatten",),
    *workloads.mlp(400, 120, 84, 10, activation="relu")[:-1],
]
RACES = {
    "MLP 784-512-256-10 to 98 %": (workloads.MLP, (784,), 3e-3, 0.98),
    "LeNet-5 to 99 %": (LENET, (28, 28, 1), 5e-3, 0.99),
}


def race(framework: Any, test: tuple[np.ndarray, np.ndarray], goal: float) -> tuple[float | None, float]:
    """Seconds until the goal (None if it was not reached), and the best accuracy."""
    seconds, best = 0.0, 0.0
    x_test, y_test = test
    for epoch in range(EPOCHS):
        start = time.perf_counter()
        framework.round(epoch)
        seconds += time.perf_counter() - start
        share = float((framework.predict(x_test).argmax(axis=1) == y_test).mean())
        best = max(best, share)
        if share >= goal:
            return seconds, best
    return None, best


def with_schedule(framework: Any, schedule: Any) -> Any:
    """The framework, with an optimizer that follows the schedule."""
    if hasattr(framework, "net"):
        net = framework.net
        net.use(net.loss, net.loss_prime, optimizer=portnn.Adam(schedule))
        return framework
    k = 0
    step = framework.optimizer.step

    def scheduled() -> None:
        nonlocal k
        for group in framework.optimizer.param_groups:
            group["lr"] = schedule(k)
        k += 1
        step()

    framework.optimizer.step = scheduled
    return framework


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    from frameworks import find

    names = ["portnn", "torch", "torch channels-last"] if options.peers else ["portnn"]
    (x, y), (x_test, y_test) = portnn.load_mnist(folder=options.folder)
    for title, (parts, shape, peak, goal) in RACES.items():
        found: dict[str, list[float]] = {name: [] for name in names}
        for seed in range(options.seeds):
            for name in names:
                workload = workloads.Workload(
                    title, parts, shape, workloads.CROSS, ("adam", 1e-3), BATCH, 0, shuffle=True, seed=seed,
                    backend=options.backend,
                )  # fmt: skip
                prepared = [a.reshape(-1, *shape).astype(np.float32) / 255 for a in (x, x_test)]
                few = 5 * BATCH + len(x) % BATCH  # a smaller last batch too
                find(name)(workload, prepared[0][:few], y[:few].astype(np.int64)).round(0)
                framework = find(name)(workload, prepared[0], y.astype(np.int64))
                print(framework.about() if seed == 0 else "", end="\n" if seed == 0 else "")
                schedule = portnn.OneCycle(peak, EPOCHS * -(-len(x) // BATCH))
                seconds, best = race(with_schedule(framework, schedule), (prepared[1], y_test), goal)
                print(f"{title}, {name}, seed {seed}: {seconds and round(seconds, 1)} s, best {best:.2%}", flush=True)
                found[name].append(seconds if seconds is not None else float("inf"))
        for name in names:
            print(f"{title}, {name}: median {statistics.median(found[name]):.1f} s")


if __name__ == "__main__":
    main()
