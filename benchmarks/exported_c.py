"""What the exported C file costs for one sample, against ``predict``.

    python benchmarks/exported_c.py [MLP LeNet residual 1-D wide ...] [--pairs 30] [--flags="-O3"] [--cc cc]
                                    [--threads 1] [--save FILE.md]

Each network is exported and compiled, ``cc -std=c99 FLAGS``, into a library that this process calls. ``predict`` and
the C function get the same sample and take turns; which one starts changes from pair to pair. A turn is as many calls
as take about 20 ms. The table has the medians of one call and, as ``before_after.py``, the ratio C / predict with its
95 % interval. Before, the two must agree to 1e-5 of the largest value.

Several sets of flags are tried one after the other: --flags="-O3" --flags="-O3 -march=native".
"""

import argparse
import ctypes
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "backends")]

if "--threads" in sys.argv:  # libraries read these when they are imported
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = sys.argv[sys.argv.index("--threads") + 1]

import numpy as np  # noqa: E402
from before_after import interval, processor  # noqa: E402

from portnn import (  # noqa: E402
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    MaxPoolLayer,
    Network,
    ResidualLayer,
)
from portnn.files.environment import environment  # noqa: E402

TURN = 0.02  # seconds
LIMIT = 2.0


def relu() -> ActivationLayer:
    return ActivationLayer("relu")


def mlp() -> tuple[list[Any], tuple[int, ...]]:
    """784-512-256-10."""
    return [FCLayer(784, 512), relu(), FCLayer(512, 256), relu(), FCLayer(256, 10)], (784,)


def lenet() -> tuple[list[Any], tuple[int, ...]]:
    """LeNet-5."""
    first = [ConvLayer((28, 28, 1), (5, 5), 6, padding="same"), relu(), MaxPoolLayer(2)]
    second = [ConvLayer((14, 14, 6), (5, 5), 16), relu(), MaxPoolLayer(2), FlattenLayer()]
    return [*first, *second, FCLayer(400, 120), relu(), FCLayer(120, 84), relu(), FCLayer(84, 10)], (28, 28, 1)


def residual() -> tuple[list[Any], tuple[int, ...]]:
    """A residual network, as of examples/mnist_resnet.py."""

    def conv(n: int, channels: int, filters: int, stride: int = 1) -> list[Any]:
        return [
            ConvLayer((n, n, channels), (3, 3), filters, stride=stride, padding="same", bias=False),
            BatchNormLayer(),
        ]

    def block(n: int, channels: int) -> list[Any]:
        return [ResidualLayer(*conv(n, channels, channels), relu(), *conv(n, channels, channels)), relu()]

    layers = [*conv(28, 1, 16), relu(), *block(28, 16), *conv(28, 16, 32, 2), relu(), *block(14, 32)]
    return [*layers, GlobalAvgPoolLayer(), FCLayer(32, 10)], (28, 28, 1)


def sequence() -> tuple[list[Any], tuple[int, ...]]:
    """A digit as a sequence of 28 rows with 28 channels."""
    first = [ConvLayer((28, 28), (5,), 32, padding="same"), relu(), MaxPoolLayer(2)]
    second = [ConvLayer((14, 32), (3,), 64, padding="same"), relu(), GlobalMaxPoolLayer()]
    return [*first, *second, FCLayer(64, 10)], (28, 28)


def wide() -> tuple[list[Any], tuple[int, ...]]:
    """Two convolutions of 64 channels on 32 x 32 pixels: large products, which BLAS is made for."""
    convs = [ConvLayer((32, 32, 64), (3, 3), 64, padding="same") for _ in range(2)]
    return [convs[0], relu(), convs[1]], (32, 32, 64)


NETWORKS: dict[str, Callable[[], tuple[list[Any], tuple[int, ...]]]] = {
    "MLP": mlp,
    "LeNet": lenet,
    "residual": residual,
    "1-D": sequence,
    "wide": wide,
}


def compiled(network: Network, folder: Path, cc: str, flags: list[str]) -> Any:
    """The C function of the network, of two addresses."""
    network.export(folder / "net.c")
    library = folder / "net.so"
    subprocess.run([cc, "-std=c99", *flags, "-shared", "-fPIC", "-o", library, folder / "net.c", "-lm"], check=True)
    function = ctypes.CDLL(str(library)).net_predict
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    return function


def seconds(call: Callable[[], Any], calls: int) -> float:
    """The time of one call, the mean of a turn."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def row(name: str, pairs: int, cc: str, flags: list[str]) -> str:
    layers, shape = NETWORKS[name]()
    network = Network(layers, seed=1)
    x = np.random.default_rng(1).random((1, *shape)).astype(np.float32)
    expected = network.predict(x)
    y = np.empty(expected.shape, expected.dtype)  # in C order, which predict need not return
    with tempfile.TemporaryDirectory() as folder:
        function = compiled(network, Path(folder), cc, flags)
        to, from_ = y.ctypes.data, x.ctypes.data
        calls: list[Callable[[], Any]] = [lambda: network.predict(x), lambda: function(from_, to)]
        for call in calls:
            call()
        apart = float(np.abs(y - expected).max() / np.abs(expected).max())
        if not apart <= 1e-5:
            raise SystemExit(f"{name}: C and predict differ by {apart:.1e} of the largest value")
        numbers = [max(1, ceil(TURN / seconds(call, 5))) for call in calls]
        times: list[list[float]] = [[], []]
        for k in range(pairs):
            for i in (0, 1) if k % 2 else (1, 0):
                times[i].append(seconds(calls[i], numbers[i]) * 1e6)
    mean, low, high = interval([c / ours for ours, c in zip(*times, strict=True)])
    medians = " | ".join(f"{statistics.median(values):,.1f}" for values in times)
    verdict = "" if low <= LIMIT else " SLOWER"
    title = f"{name}: {NETWORKS[name].__doc__}"
    return f"| {title} | `{shlex.join(flags)}` | {medians} | {mean:.2f} | {low:.2f} to {high:.2f}{verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--cc", default="cc", help="the C compiler")
    parser.add_argument("--flags", action="append", help='"-O3" unless given; may be given again')
    parser.add_argument("--threads", type=int, help="of NumPy and BLAS; all cores unless given (C has one)")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    version = subprocess.run([options.cc, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[
        0
    ]
    about = ", ".join(f"{name} {value}" for name, value in environment(Network([FCLayer(1, 1)])).items())
    lines = [
        f"{processor()}; Python {platform.python_version()}, {os.cpu_count()} cores; {version}; one sample, float32, "
        f"{options.pairs} pairs",
        about,
        "",
        "| network | flags | predict, us | C, us | C / predict | 95 % interval |\n|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.work:
        for flags in options.flags or ["-O3"]:
            lines.append(row(name, options.pairs, options.cc, shlex.split(flags)))
            print(lines[-1], flush=True)
    if options.save:
        options.save.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
