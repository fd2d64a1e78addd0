"""The backends that the CuPy tests run on."""

import pytest

import portnn
import stand_in_cupy
from portnn.backend import availability


@pytest.fixture
def stand_in(monkeypatch):
    return stand_in_cupy.install(monkeypatch)


@pytest.fixture
def backend(request):
    """The real GPU for tests marked ``gpu``, the stand-in for all others."""
    if request.node.get_closest_marker("gpu") is None:
        return request.getfixturevalue("stand_in").backend.CupyBackend()
    status = availability("gpu")
    if not status.ok:
        pytest.skip(str(status))
    return portnn.get_backend("gpu")


@pytest.fixture
def cupy(backend):
    return pytest.importorskip("cupy")
