"""Fixtures: the array libraries that every contract is tested on."""

from importlib.util import find_spec

import array_api_strict
import numpy as np
import pytest

from portnn.backend import availability, get_backend

collect_ignore = [] if find_spec("torch") else ["pytorch_twin.py"]  # doctests are looked for in every file
DEVICE = array_api_strict.Device("device1")
HOST_READS = ("__bool__", "__int__", "__float__", "__index__", "__iter__", "__complex__")


def strict_backend():
    """array-api-strict's second device: nothing but the standard, and no mixing with host arrays."""
    return get_backend(array_api_strict, device=DEVICE)


def pytorch_backend():
    """PyTorch's tensors on the CPU, through array-api-compat."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return get_backend(torch)


@pytest.fixture
def no_hidden_reads(monkeypatch):
    """Makes reading a value of a device array an error where it would wait for a GPU unseen."""
    array = type(array_api_strict.asarray(0.0))
    for name in HOST_READS:
        original = getattr(array, name, None)

        def guarded(self, *args, _name=name, _original=original):
            if self.device == DEVICE:
                raise AssertionError(f"{_name} on a device array: a hidden synchronization")
            return _original(self, *args)

        monkeypatch.setattr(array, name, guarded, raising=False)


class Library:
    """An array library under test: ``backend``, and ``array(host)``, which makes its input arrays."""

    def __init__(self, name, backend, read_only=False):
        self.name, self.backend, self.read_only = name, backend, read_only

    def array(self, host):
        x = self.backend.asarray(np.array(host))
        if self.read_only:
            x.flags.writeable = False
        return x

    def numpy(self, x):
        return self.backend.to_numpy(x)


LIBRARIES = [
    "numpy",
    "numpy, read-only",
    "array-api-strict, device1",
    "pytorch",
    pytest.param("cupy", marks=pytest.mark.gpu),
]


@pytest.fixture(params=LIBRARIES)
def library(request):
    if request.param.startswith("array-api-strict"):
        request.getfixturevalue("no_hidden_reads")
        return Library(request.param, strict_backend())
    if request.param == "pytorch":
        return Library(request.param, pytorch_backend())
    backend = get_backend("gpu" if request.param == "cupy" else "cpu")
    return Library(request.param, backend, read_only="read-only" in request.param)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not availability("gpu").ok:
        pytest.skip(str(availability("gpu")))
