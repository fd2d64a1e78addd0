"""The GPU that the tests run on: a real one, or one in software."""

import pytest

import portnn
from portnn.backend import availability


@pytest.fixture
def backend():
    status = availability("gpu")
    if not status.ok:
        pytest.skip(str(status))
    found = portnn.get_backend("gpu")
    yield found
    found.direct_up_to = 32  # its default


@pytest.fixture
def cupy(backend):
    return pytest.importorskip("cupy")


@pytest.fixture
def launches(backend, monkeypatch):
    """The graphs that the backend launches, in order."""
    graphs, launch = [], backend.driver.launch
    monkeypatch.setattr(backend.driver, "launch", lambda graph: (launch(graph), graphs.append(graph))[0])
    return graphs


@pytest.fixture
def kernel(backend, cupy):
    """Compiles a kernel and returns a function that runs it: ``kernel(source)(blocks, threads, *arguments)``."""

    def made(source, **options):
        function = cupy.RawKernel(f'extern "C" __global__ {source}', source.partition("(")[0].split()[-1])
        return lambda blocks, threads, *arguments: function((blocks,), (threads,), arguments, **options)

    return made


@pytest.fixture
def kernels(backend, monkeypatch):
    """The names of our kernels that are launched, or captured, in order."""
    from portnn_cupy import launch

    seen = []
    for finder in ("_kernel", "_together"):
        found = getattr(launch, finder)
        monkeypatch.setattr(launch, finder, lambda name, real, f=found: (seen.append(name), f(name, real))[1])
    return seen
