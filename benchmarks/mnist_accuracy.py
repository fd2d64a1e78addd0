"""The accuracy of the two convolutional examples on all of MNIST, for several seeds.

    python benchmarks/mnist_accuracy.py FOLDER [--seeds 5] [--backend cpu]

FOLDER holds the four MNIST files. Each example runs as a user would run it, on all 60,000 training digits: 3 epochs of
Adam with a one-cycle learning rate, batch 128. Prints the accuracy on the 10,000 test digits for each seed, and the
median.
"""

import argparse
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import portnn

EXAMPLES = Path(__file__).parents[1] / "examples"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--examples", nargs="+", default=["mnist_lenet", "mnist_resnet"])
    options = parser.parse_args()
    print(f"portnn {portnn.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {options.backend}")
    for name in options.examples:
        shares = []
        for seed in range(options.seeds):
            command = [sys.executable, EXAMPLES / f"{name}.py", "--seed", str(seed), "--backend", options.backend]
            if name == "mnist_lenet":
                command += ["--validation-split", "0"]
            start = time.perf_counter()
            done = subprocess.run([*command, "--folder", options.folder], capture_output=True, text=True, check=True)
            share = float(re.search(r"test accuracy: ([\d.]+)% of 10000 digits", done.stdout).group(1))
            shares.append(share)
            seconds = time.perf_counter() - start
            print(f"{name}, seed {seed}: {share:.2f} % of the test digits, {seconds:.0f} s in all", flush=True)
        print(f"{name}: median {statistics.median(shares):.2f} %")


if __name__ == "__main__":
    main()
