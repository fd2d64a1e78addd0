"""The array libraries on which every contract is tested, and how to make a backend for each."""

import numpy as np
import pytest

from portnn.backend import get_backend

try:  # it may be missing where the GPU tests run
    import array_api_strict
except ImportError:
    array_api_strict = None
DEVICE = None if array_api_strict is None else array_api_strict.Device("device1")


def strict_backend():
    """array-api-strict's second device: nothing but the standard, and no mixing with host arrays."""
    return get_backend(pytest.importorskip("array_api_strict"), device=DEVICE)


def pytorch_backend():
    """PyTorch tensors on the CPU, through array-api-compat."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return get_backend(torch)


# The name of each library in the tests, and a function that makes its backend.
LIBRARIES = {
    "numpy": lambda: get_backend("cpu"),
    "numpy, read-only": lambda: get_backend("cpu"),
    "array-api-strict, device1": strict_backend,
    "pytorch": pytorch_backend,
    "cupy": lambda: get_backend("gpu"),
}
ON_A_GPU = {"cupy"}


class Library:
    """An array library under test; ``array`` converts from NumPy, ``numpy`` back."""

    def __init__(self, name, backend, read_only=False):
        self.name, self.backend, self.read_only = name, backend, read_only

    def array(self, host):
        x = self.backend.asarray(np.array(host))
        if self.read_only:
            x.flags.writeable = False
        return x

    def numpy(self, x):
        return self.backend.to_numpy(x)
