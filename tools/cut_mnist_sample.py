"""Cuts the sample that comes with portnn from the four MNIST files.

    PYTHONPATH=.:backends python tools/cut_mnist_sample.py FOLDER [TARGET]

FOLDER holds the four original files, compressed or not. The sample is the first 5,000 training and the first 1,000 test
digits in their original order, byte for byte; only the counts in the headers differ. The compressed files contain no
name and no time, so that the same version of zlib writes the same bytes again.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

from portnn.datasets.idx import read_idx
from portnn.datasets.mnist import SAMPLE, find_files
from portnn.datasets.sources import TEST, TRAIN

COUNTS = dict.fromkeys(TRAIN, 5_000) | dict.fromkeys(TEST, 1_000)

# SHA-256 of the original files, uncompressed: the sample is cut from no other files.
ORIGINALS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 0x08, array.ndim]) + sizes + array.tobytes()


def cut(source: Path, target: Path) -> None:
    """Writes the sample's four files into the folder ``target``; prints their sizes and (uncompressed) SHA-256."""
    target.mkdir(parents=True, exist_ok=True)
    for (name, count), path in zip(COUNTS.items(), find_files(source), strict=True):
        whole = read_idx(path)
        if hashlib.sha256(idx_bytes(whole)).hexdigest() != ORIGINALS[name]:
            raise SystemExit(f"{path} is not the original file of MNIST: its SHA-256 differs")
        head = idx_bytes(whole[:count])
        with (
            open(target / f"{name}.gz", "wb") as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed,
        ):
            packed.write(head)
        size = (target / f"{name}.gz").stat().st_size
        print(f"{hashlib.sha256(head).hexdigest()}  {name}  {count:,} items, {size:,} bytes compressed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=SAMPLE)
    options = parser.parse_args()
    cut(options.folder, options.target)
