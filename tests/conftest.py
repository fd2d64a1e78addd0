"""Shared fixtures: the array libraries, and one that turns implicit reads of device arrays into errors."""

import gc
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

import software_gpu
from array_libraries import DEVICE, LIBRARIES, ON_A_GPU, Library
from portnn.backend import availability
from software_gpu import control

if software_gpu.is_wanted():  # before anything imports CuPy
    software_gpu.install()

# pytest imports every file to look for doctests, and this one needs PyTorch
collect_ignore = [] if find_spec("torch") else ["support/pytorch_twin.py"]
collect_ignore += ["support/software_gpu/__main__.py", "support/software_gpu/site"]
if find_spec("array_api_strict") is None:  # a machine with a GPU, and of the extra "test" no more than pytest
    needs_it = re.compile(r"^(?:import|from) (?:array_api_strict|article_layers)\b", re.MULTILINE)
    collect_ignore += [str(path) for path in Path(__file__).parent.rglob("*.py") if needs_it.search(path.read_text())]
HOST_READS = ("__bool__", "__int__", "__float__", "__index__", "__iter__", "__complex__")


@pytest.fixture
def no_hidden_reads(monkeypatch):
    """Makes reading a value of a device array an error where it would wait for a GPU unseen."""
    # Not at the top: on a machine with a GPU and nothing but CuPy the GPU tests run without it.
    array = type(pytest.importorskip("array_api_strict").asarray(0.0))
    for name in HOST_READS:
        original = getattr(array, name, None)

        def guarded(self, *args, _name=name, _original=original):
            if self.device == DEVICE:
                raise AssertionError(f"{_name} on a device array: a hidden synchronization")
            return _original(self, *args)

        monkeypatch.setattr(array, name, guarded, raising=False)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * (name in ON_A_GPU)) for name in LIBRARIES])
def library(request):
    if request.param.startswith("array-api-strict"):
        request.getfixturevalue("no_hidden_reads")
    return Library(request.param, LIBRARIES[request.param](), read_only="read-only" in request.param)


def pytest_configure():
    gc.disable()  # until all tests are collected
    # A background job of a shell ignores Ctrl-C; tests that send it would wait forever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    gc.enable()
    gc.collect()
    gc.freeze()  # or each collection would traverse twelve thousand tests and their arguments


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not availability("gpu").ok:
        pytest.skip(str(availability("gpu")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What a test did wrong on the GPU in software fails it, though nothing it called may have said so."""
    on_it = software_gpu.is_wanted() and item.get_closest_marker("gpu") is not None
    if on_it:
        control.faults()  # an earlier test's, which has failed by itself
    result = yield
    if on_it:
        assert control.faults() == []
    return result
