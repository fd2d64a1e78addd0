"""Convolutions on a GPU with patches in memory and without: from which size of filters on which way is quicker.

    python benchmarks/direct_convolutions.py [--batch 128] [--image 28] [--kernel 3 5] [--rounds 20] [--dtype float32]

For each number of channels and filters a layer with relu and max pooling is run by itself: Y, pooled; dE/dW and dE/dB;
and dE/dX. Each is captured into a graph, once for each way, and the graphs take turns. The table has the median times
and their ratio. "by the formula" is what ``backend.direct_up_to`` must be at least for the way without patches to be
taken: its default of 32 is right if the ratio crosses 1 there.
"""

import argparse
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "backends")]

import portnn  # noqa: E402
from portnn import activations, ops  # noqa: E402
from portnn.ops.windows import window_plan  # noqa: E402
from portnn.training import fusion  # noqa: E402

CHANNELS = FILTERS = (1, 4, 16, 32, 64, 128, 256)
LAUNCHES = 20  # of a graph, between two looks at the clock
WAYS = {"patches": 0.0, "direct": math.inf}


def passes(backend: Any, channels: int, filters: int, options: argparse.Namespace, kernel: int) -> dict[str, Any]:
    """The three passes of a layer, by name, as functions without arguments."""
    rng, bound = np.random.default_rng(0), partial(ops.implementation, backend, "auto")
    plan = window_plan((options.image,) * 2, (kernel,) * 2, padding="same")
    pooling = "MaxPoolLayer", window_plan(plan.output, (2, 2), 2)
    shapes = (options.batch, *plan.image, channels), (kernel, kernel, channels, filters), (filters,)
    X, W, B = (backend.asarray(rng.standard_normal(shape).astype(options.dtype)) for shape in shapes)
    routines, chain = ops.bind(backend, "auto"), bound(activations.relu_chain)
    forward = partial(bound(fusion.convolved), X, W, B, activations.relu, plan, 1, pooling, True, routines)
    Y, P, seen = forward()
    d = backend.asarray(rng.standard_normal(P.shape).astype(options.dtype))
    errors = partial(bound(fusion.pooled), Y, P, d, chain, *pooling, routines)
    behind = errors, seen, Y, P, d, chain, pooling, plan, W.shape, True, routines
    D, _, _ = bound(fusion.differentiated)(*behind)
    return {
        "Y": forward,
        "dE/dW": partial(bound(fusion.differentiated), *behind),
        "dE/dX": partial(routines.convolution_backward, W, D, plan, 1),
    }


def captured(backend: Any, run: Any) -> tuple[Any, ...]:
    """A graph of one pass, and what must live as long as the graph: its memory, and the arrays that it reads."""
    memory = backend.driver.new_memory(backend)
    with backend.driver.using(memory):
        run()  # compiles the kernels
        return backend.driver.capture(run), memory, run


def seconds(backend: Any, graph: Any) -> float:
    backend.synchronize()
    start = time.perf_counter()
    for _ in range(LAUNCHES):
        backend.driver.launch(graph)
    backend.synchronize()
    return (time.perf_counter() - start) / LAUNCHES


def compared(backend: Any, channels: int, filters: int, options: argparse.Namespace, kernel: int) -> list[str]:
    """The rows of the table for a layer."""
    graphs: dict[str, dict[str, Any]] = {}
    with backend.scope():
        for way, up_to in WAYS.items():
            backend.direct_up_to = up_to
            for name, run in passes(backend, channels, filters, options, kernel).items():
                graphs.setdefault(name, {})[way] = captured(backend, run)
        times: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in graphs}
        for _ in range(options.rounds):
            for name, ways in graphs.items():
                for way, (graph, *_) in ways.items():
                    times[name][way].append(seconds(backend, graph))
    rows = []
    for name, ways in times.items():
        patches, direct = (statistics.median(ways[way]) for way in WAYS)
        columns, terms = (channels, filters) if name == "dE/dX" else (filters, channels)
        by_formula = 1 / (1 / columns + 1 / (terms * kernel**2))
        sizes = f"| {kernel} x {kernel} | {channels} | {filters} | {name} | {by_formula:.1f} "
        rows.append(f"{sizes}| {1e6 * patches:.1f} | {1e6 * direct:.1f} | {direct / patches:.2f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--image", type=int, default=28)
    parser.add_argument("--kernel", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    parser.add_argument("--filters", type=int, nargs="+", default=FILTERS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    options = parser.parse_args()
    backend: Any = portnn.get_backend("gpu")
    before = backend.direct_up_to
    print(", ".join(f"{name} {value}" for name, value in backend.describe().items()))
    print("| kernel | channels | filters | pass | by the formula | patches, us | without, us | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for kernel in options.kernel:
        for channels in options.channels:
            for filters in options.filters:
                print("\n".join(compared(backend, channels, filters, options, kernel)), flush=True)
    backend.direct_up_to = before


if __name__ == "__main__":
    main()
