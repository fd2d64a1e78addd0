"""backend="cpu": NumPy."""

from portnn.backend import Availability, Backend


def probe() -> Availability:
    """Returns that NumPy works: it is a dependency of portnn, so it is always installed."""
    return Availability("cpu")


def create() -> Backend:
    """Returns the backend; called once, by ``portnn.get_backend("cpu")``."""
    from portnn_numpy.backend import NumpyBackend

    return NumpyBackend()
