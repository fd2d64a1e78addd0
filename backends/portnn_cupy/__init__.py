"""backend="gpu": CuPy on a CUDA GPU. Importing this package does not import CuPy."""

from portnn.backend import Availability, Backend
from portnn_cupy.availability import probe as _probe


def probe() -> Availability:
    """Returns whether CuPy and a GPU work here, and if not, which of the four steps failed."""
    return _probe()


def create() -> Backend:
    """Returns the backend; called once, by ``portnn.get_backend("gpu")``, after ``probe`` has found it working."""
    from portnn_cupy.backend import CupyBackend

    return CupyBackend()
