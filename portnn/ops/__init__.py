"""The routines the array API standard has no word for, gathered for one backend in an immutable table.

``_plan.py`` works out sizes and slices, in plain Python; ``_portable.py`` holds a plain version of every routine that
runs on any namespace, and ``_convolution.py`` convolution, which is put together from them; a backend may offer a
quicker twin of the same name, signature and meaning (``backend.faster``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from portnn.ops import _convolution, _portable


class Ops(NamedTuple):
    """The routines of one backend. A layer has them as ``self.ops``."""

    patches: Callable[..., Any]
    fold: Callable[..., Any]
    images: Callable[..., Any]
    columns: Callable[..., Any]
    max_pool: Callable[..., Any]
    max_pool_backward: Callable[..., Any]
    avg_pool: Callable[..., Any]
    avg_pool_backward: Callable[..., Any]
    biased: Callable[..., Any]
    one_hot: Callable[..., Any]
    erf: Callable[..., Any]
    convolution: Callable[..., Any] = _convolution.convolution
    convolution_gradient: Callable[..., Any] = _convolution.convolution_gradient
    convolution_backward: Callable[..., Any] = _convolution.convolution_backward


def bind(backend: Any, kernels: str, dtype: str) -> Ops:
    """Returns the table for ``backend``: the portable routines, overlaid by its fast twins unless ``"portable"``.

    ``dtype`` is the network's, ``"float32"`` or ``"float64"``. A twin that serves only some dtypes is registered under
    ``"ops.name:dtype"``.
    """
    composed = Ops._field_defaults  # put together from the others
    simple = Ops(**{name: _choose(backend, kernels, dtype, name) for name in Ops._fields if name not in composed})
    return simple._replace(**{name: _choose(backend, kernels, dtype, name, simple) for name in composed})


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


def _choose(backend: Any, kernels: str, dtype: str, name: str, ops: Ops | None = None) -> Callable[..., Any]:
    """A twin, or the portable routine; ``ops`` are those that a composed one is put together from."""
    if ops is None:
        portable = partial(getattr(_portable, name), xp=backend.xp)
    else:
        portable = partial(getattr(_convolution, name), xp=backend.xp, ops=ops)
    if kernels == "portable":
        return portable
    faster = backend.faster
    twin = faster.get(f"ops.{name}:{dtype}") or faster.get(f"ops.{name}")
    if twin is None or ops is None:
        return twin or portable
    return partial(twin, plain=portable)  # for what it leaves alone
