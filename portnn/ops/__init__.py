"""The routines the array API standard has no word for, gathered for one backend in an immutable table.

``_plan.py`` works out sizes and slices, in plain Python; ``_portable.py`` holds a plain version of every routine that
runs on any namespace; a backend may offer a quicker twin of the same name, signature and meaning (``backend.faster``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from portnn.ops import _portable


class Ops(NamedTuple):
    """The routines of one backend, in the order of ``_portable.py``. A layer has them as ``self.ops``."""

    patches: Callable[..., Any]
    fold: Callable[..., Any]
    images: Callable[..., Any]
    columns: Callable[..., Any]
    max_pool: Callable[..., Any]
    max_pool_backward: Callable[..., Any]
    avg_pool: Callable[..., Any]
    avg_pool_backward: Callable[..., Any]
    one_hot: Callable[..., Any]
    erf: Callable[..., Any]


def bind(backend: Any, kernels: str, dtype: str) -> Ops:
    """Returns the table for ``backend``: the portable routines, overlaid by its fast twins unless ``"portable"``.

    ``dtype`` is the network's, ``"float32"`` or ``"float64"``. A twin that serves only some dtypes is registered under
    ``"ops.name:dtype"``.
    """
    return Ops(*(_choose(backend, kernels, dtype, name) for name in Ops._fields))


def twin(backend: Any, kernels: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the backend's quicker twin of one of portnn's own functions, or ``function`` itself.

    Twins are found by module and name: ``"losses.mse"``, ``"optimizers.SGD.update"`` (which takes the optimizer first).
    """
    if kernels == "portable" or not is_ours(function):
        return function
    name = f"{function.__module__.removeprefix('portnn.')}.{getattr(function, '__qualname__', '')}"
    return backend.faster.get(name, function)


def is_ours(thing: Any) -> bool:
    """Whether a function or a class is portnn's own: a user's is checked where ours is trusted."""
    return (getattr(thing, "__module__", None) or "").startswith("portnn.")


def _choose(backend: Any, kernels: str, dtype: str, name: str) -> Callable[..., Any]:
    portable = partial(getattr(_portable, name), xp=backend.xp)
    if kernels == "portable":
        return portable
    faster = backend.faster
    return faster.get(f"ops.{name}:{dtype}") or faster.get(f"ops.{name}") or portable
