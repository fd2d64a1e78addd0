"""The IDX file format, in which MNIST and its relatives are published.

A file is: two zero bytes; one byte for the type of the numbers; one byte for the number of dimensions; the size of each
dimension in four bytes; then the numbers, the last axis fastest. All of it is big-endian.

    00 00 08 03   00 00 ea 60   00 00 00 1c   00 00 00 1c   ...     60,000 images of 28 x 28 bytes
"""

import gzip
import os
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 64  # of a NumPy array
CHUNK = 1 << 20  # bytes read at a time
PACKED = b"\x1f\x8b"  # how every gzip file starts


class IDXError(ValueError):
    """A file is not a valid or complete IDX file; the message names the file, what it holds and what was expected."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Returns the array in an IDX file, compressed with gzip or not (its first bytes decide, not its name).

    The array has the file's shape and type, in the byte order of this machine, and is writable. Raises IDXError
    (a ValueError) if the file cannot be read, is not IDX, is damaged, or holds less or more than its header says.

    >>> from pathlib import Path
    >>> sample = Path(__file__).with_name("sample")
    >>> images = read_idx(sample / "t10k-images-idx3-ubyte.gz")
    >>> images.shape, images.dtype
    ((1000, 28, 28), dtype('uint8'))
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            packed = file.read(len(PACKED)) == PACKED
            file.seek(0)
            if not packed:
                return _parse(file, path)
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                return _parse(unpacked, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IDXError(f"{path} is damaged, it cannot be decompressed: {error}. Download the file again") from error
    except OSError as error:
        raise IDXError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, path: Path) -> np.ndarray:
    start = file.read(4)
    if not start:
        raise IDXError(f"{path} is empty, expected an IDX file. Download the file again")
    if len(start) < 4 or start[:2] != b"\0\0":
        raise IDXError(
            f"{path} is not an IDX file: it starts with {start!r}, expected two zero bytes, a type and a count"
        )
    code, dimensions = start[2], start[3]
    if code not in TYPES:
        known = ", ".join(f"0x{known:02x}" for known in TYPES)
        raise IDXError(f"{path} is not an IDX file: it has the type code 0x{code:02x}, expected one of {known}")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise IDXError(f"{path} declares {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}")

    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise IDXError(f"{path} ends within its header, after {4 + len(sizes)} of {4 + 4 * dimensions} bytes")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    if 0 in shape:
        raise IDXError(f"{path} declares the shape {shape}, expected sizes of 1 or more")

    dtype = np.dtype(TYPES[code])
    expected = prod(shape) * dtype.itemsize
    data = _read_at_most(file, expected + 1)
    if len(data) != expected:
        found = f"only {len(data):,}" if len(data) < expected else "more"
        raise IDXError(
            f"{path} declares the shape {shape}, {expected:,} bytes, but holds {found}. Download the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_at_most(file: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    """Reads to the end of the file, or until ``size`` bytes, and at most a chunk more, were read.

    ``size`` comes from the header of a file that may be damaged. Memory is only allocated for what the file really
    holds, so that a header that declares an exabyte is an error and does not end the process; and a small gzip file
    that decompresses to an exabyte is only read until it has given more than its header declares.
    """
    data = bytearray()
    while len(data) < size and (chunk := file.read(CHUNK)):
        data += chunk
    return data
