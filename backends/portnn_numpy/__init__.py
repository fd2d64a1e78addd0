"""backend="cpu": NumPy."""

from portnn.backend import Availability, Backend


def probe() -> Availability:
    """NumPy is a dependency of portnn: it is always there."""
    return Availability("cpu")


def create() -> Backend:
    """Returns the backend; called once, by ``portnn.get_backend("cpu")``."""
    from portnn_numpy.backend import NumpyBackend

    return NumpyBackend()
