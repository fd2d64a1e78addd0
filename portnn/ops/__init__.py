"""The routines the array API standard has no word for, gathered for one backend in an immutable table.

``_plan.py`` works out sizes and slices, in plain Python; ``_portable.py`` holds a plain version of every routine that
runs on any namespace, and ``_convolution.py`` convolution, which is put together from them; a backend may offer a
quicker twin of the same name, signature and meaning (``backend.faster``).
"""

from collections.abc import Callable
from functools import cache, partial
from inspect import signature
from types import FunctionType, SimpleNamespace
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
    total: Callable[..., Any]
    affine: Callable[..., Any]
    rows: Callable[..., Any]
    column_sums: Callable[..., Any]
    normalize: Callable[..., Any]
    normalize_backward: Callable[..., Any]
    one_hot: Callable[..., Any]
    erf: Callable[..., Any]
    # put together from others
    convolution: Callable[..., Any]
    convolution_gradient: Callable[..., Any]
    convolution_backward: Callable[..., Any]
    dropout: Callable[..., Any]


def bind(backend: Any, kernels: str, dtype: str) -> Ops:
    """Returns the table for ``backend``: the portable routines, overlaid by its fast twins unless ``"portable"``.

    ``dtype`` is the network's, ``"float32"`` or ``"float64"``. A twin that serves only some dtypes is registered under
    ``"ops.name:dtype"``. A twin that has a parameter ``plain`` is given the portable routine, for what it leaves alone;
    one that has ``xp``, the namespace.
    """
    table = SimpleNamespace(random_bits=backend.random_bits)
    for name in Ops._fields:  # those that are put together come after those that they are made of
        plain = getattr(_convolution, name, None) or getattr(_portable, name)
        plain = _with(plain, xp=backend.xp, ops=table)
        if kernels != "portable" and (
            quicker := backend.faster.get(f"ops.{name}:{dtype}") or backend.faster.get(f"ops.{name}")
        ):
            plain = _with(quicker, xp=backend.xp, plain=plain)
        setattr(table, name, plain)
    return Ops(*(getattr(table, name) for name in Ops._fields))


def twin(backend: Any, kernels: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the backend's quicker twin of one of portnn's own functions, or ``function`` itself.

    Twins are found by module and name: ``"losses.mse"``, ``"optimizers.SGD.update"`` (which takes the optimizer first).
    """
    if kernels == "portable" or not is_ours(function):
        return function
    name = f"{function.__module__.removeprefix('portnn.')}.{getattr(function, '__qualname__', '')}"
    quicker = backend.faster.get(name)
    if isinstance(function, FunctionType):  # without what serves those who call it alone: see ``backend.quiet``
        function = getattr(function, "__wrapped__", function)
    return function if quicker is None else _with(quicker, plain=function)


def is_ours(thing: Any) -> bool:
    """Whether a function or a class is portnn's own: a user's is checked where ours is trusted."""
    return (getattr(thing, "__module__", None) or "").startswith("portnn.")


def _with(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    """The function with those of the arguments that it has parameters for."""
    wanted = {name: value for name, value in given.items() if name in _parameters(function)}
    return partial(function, **wanted) if wanted else function


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(signature(function).parameters)
    except ValueError:  # some of NumPy's own have none to be seen
        return frozenset()
