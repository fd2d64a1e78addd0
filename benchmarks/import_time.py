"""How much longer ``import portnn`` takes than ``import numpy``, and the size of a wheel.

    python benchmarks/import_time.py [--rounds 15] [WHEEL]

Medians of whole processes that take turns; a first round, not counted, caches the byte code. Build the wheel with
``python -m build --wheel``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATEMENTS = {"nothing": "pass", "numpy": "import numpy", "portnn": "import portnn"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for k in range(options.rounds + 1):
        for name, statement in STATEMENTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], env=environment, check=True)
            if k:
                times[name].append((time.perf_counter() - start) * 1e3)
    above = statistics.median(a - b for a, b in zip(times["portnn"], times["numpy"], strict=True))
    medians = ", ".join(f"{name} {statistics.median(values):.0f} ms" for name, values in times.items())
    print(f"{medians}; import portnn: {above:.0f} ms over NumPy")
    if options.wheel:
        print(f"{options.wheel.name}: {options.wheel.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
