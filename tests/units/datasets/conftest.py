"""Fixtures for the tests of data sets: IDX files made from arrays."""

import gzip

import numpy as np
import pytest


@pytest.fixture
def idx_bytes():
    """A function that returns the contents of an IDX file for an array."""

    def make(array, code=0x08):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()

    return make


@pytest.fixture
def small():
    """A random data set of 12 training and 5 test images in the form that load_mnist returns."""
    rng = np.random.default_rng(0)

    def half(count):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        return images, rng.integers(0, 10, count, dtype=np.uint8)

    return half(12), half(5)


@pytest.fixture
def small_files(small, idx_bytes):
    """The contents of the small data set's four compressed files, by name."""
    (x_train, y_train), (x_test, y_test) = small
    return {
        "train-images-idx3-ubyte.gz": gzip.compress(idx_bytes(x_train)),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx_bytes(y_train)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx_bytes(x_test)),
        "t10k-labels-idx1-ubyte.gz": gzip.compress(idx_bytes(y_test)),
    }
