"""What an array library must provide to run a network, and the functions that find a backend by name.

A *backend* is one array library on one device. ``get_backend("cpu")`` is NumPy, ``get_backend("gpu")`` is CuPy;
``get_backend(namespace, device=...)`` makes one of any other array API namespace whose arrays can be written to.
The layers never ask which one they run on: they call ``backend.xp`` and nothing else.

This is all that the author of a backend imports from portnn: the contract, how a backend is found, how fast versions of
portnn's functions are found, and what tells arrays apart.
"""

from portnn.backend.arrays import (
    NAMESPACES,
    STANDARD,
    device_of,
    in_order,
    is_array,
    namespace,
    quiet,
    tell_missing,
    thin_namespace,
)
from portnn.backend.contract import Backend, device_dtype, heard_by, tell
from portnn.backend.finding import (
    BUILT_IN,
    ENTRY_POINTS,
    STEPS,
    Availability,
    BackendUnavailableError,
    availability,
    available_backends,
    backends_in_use,
    get_backend,
    known_backends,
    owner_of,
)
from portnn.backend.versions import fast_version

__all__ = [
    "BUILT_IN",
    "ENTRY_POINTS",
    "NAMESPACES",
    "STANDARD",
    "STEPS",
    "Availability",
    "Backend",
    "BackendUnavailableError",
    "availability",
    "available_backends",
    "backends_in_use",
    "device_dtype",
    "device_of",
    "fast_version",
    "get_backend",
    "heard_by",
    "in_order",
    "is_array",
    "known_backends",
    "namespace",
    "owner_of",
    "quiet",
    "tell",
    "tell_missing",
    "thin_namespace",
]
