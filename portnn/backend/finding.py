"""Backends by name, and why one is missing."""

import importlib
from typing import Any, NamedTuple

import numpy as np

from portnn import names
from portnn._typing import Array
from portnn.backend.arrays import namespace
from portnn.backend.contract import Backend

# The backends that come with portnn. The entry points in pyproject.toml say the same (a test compares them); this
# table also serves a checkout that was never installed (PYTHONPATH=.:backends).
BUILT_IN = {"cpu": "portnn_numpy", "gpu": "portnn_cupy"}
ENTRY_POINTS = "portnn.backends"

# What can be missing, in the order in which it is looked for.
STEPS = ("package", "import", "device count", "smoke test")


class Availability(NamedTuple):
    """Whether a backend works here; if it does not, the step that failed, why, and the command that fixes it."""

    name: str
    failed_step: str | None = None
    reason: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return self.failed_step is None

    def __str__(self) -> str:
        if self.ok:
            return f"backend {self.name!r} works"
        return (
            f"backend {self.name!r} is not available: step {STEPS.index(self.failed_step or '') + 1} of {len(STEPS)} "
            f"({self.failed_step}) failed: {self.reason}\nTo fix it: {self.remedy}"
        )


class BackendUnavailableError(RuntimeError):
    """A known backend cannot run on this machine; ``.availability`` holds the failed step, the reason, the remedy."""

    def __init__(self, availability: Availability):
        super().__init__(str(availability))
        self.availability = availability


_made: dict[str, Backend] = {}
_missing: dict[str, Availability] = {}


def get_backend(name: Any = "cpu", *, device: Any = None) -> Backend:
    """Returns the backend of that name, or one for an array API namespace.

    ``name`` is ``"cpu"``, ``"gpu"``, a name that another package added to the entry-point group ``portnn.backends``, an
    array API namespace (a module), or a Backend (returned as it is). ``device`` may be given with a namespace only.

    Raises ValueError for an unknown name (it lists the known ones), BackendUnavailableError (a RuntimeError) for a
    known one that does not work here, TypeError for anything else or a namespace whose arrays cannot be written to.

    >>> get_backend("cpu").name
    'cpu'
    """
    if isinstance(name, Backend):
        return name
    if not isinstance(name, str):
        return _from_namespace(name, device)
    if device is not None:
        raise TypeError(
            f"device={device!r} goes with an array API namespace; backend {name!r} chooses its own: call "
            f"get_backend({name!r}), or get_backend(namespace, device={device!r})"
        )
    if name not in _made:
        status = availability(name)
        if not status.ok:
            raise BackendUnavailableError(status)
        _made[name] = _module(name).create()
    return _made[name]


def availability(name: str) -> Availability:
    """Returns whether the backend of that name works here, and if not, why; probed once, then cached."""
    if name in _made:
        return Availability(name)
    if name not in _missing:
        try:
            module = _module(name)
        except ImportError as error:
            remedy = "python -m pip install -e . at the top of a checkout, or set PYTHONPATH=.:backends there"
            _missing[name] = Availability(name, "package", f"{type(error).__name__}: {error}", remedy)
        else:
            _missing[name] = module.probe()
    return _missing[name]


def available_backends() -> list[str]:
    """Returns the names of the backends that work on this machine, ``"cpu"`` first.

    >>> "cpu" in available_backends()
    True
    """
    return [name for name in known_backends() if availability(name).ok]


def known_backends() -> dict[str, str]:
    """Returns every known name with the module that provides it: portnn's first, then those of other packages."""
    from importlib.metadata import entry_points  # here: it is slow to import, and most programs do not need it

    added = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return BUILT_IN | {name: module for name, module in sorted(added.items()) if name not in BUILT_IN}


def owner_of(x: Array) -> Backend | None:
    """Returns the backend in use that ``x`` belongs to, or None."""
    return next((backend for backend in backends_in_use() if backend.owns(x)), None)


def backends_in_use() -> list[Backend]:
    """Returns the backends with names that this process has asked for so far."""
    return list(_made.values())


def _module(name: str) -> Any:
    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name])
    known = known_backends()
    if name not in known:
        raise ValueError(
            names.unknown(
                "backend",
                name,
                known,
                "Another array library goes in as its array API namespace: get_backend(namespace, device=...)",
                quoted=True,
            )
        )
    return importlib.import_module(known[name])


def _from_namespace(xp: Any, device: Any) -> Backend:
    if not (hasattr(xp, "asarray") and hasattr(xp, "__name__")):
        raise TypeError(
            f"get_backend takes a name such as 'cpu' or 'gpu', a Backend, or an array API namespace; got {xp!r} "
            f"({type(xp).__name__}). For the backend of an array call backend_of(array)"
        )
    return Backend(xp if xp is np else namespace(xp.asarray(0.0)), device)
