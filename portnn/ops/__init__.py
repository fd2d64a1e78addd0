"""The routines the array API standard has no word for, gathered for one backend in an immutable table.

``windows.py`` works out sizes and slices, in plain Python; ``portable.py`` holds a plain version of every routine, for
any namespace, and ``convolution.py`` and ``composed.py`` hold those that are put together from others. A backend may
have a fast version of each, of the same name, signature and meaning, in its own module ``ops``.
"""

from collections.abc import Callable
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

from portnn.ops import composed, convolution, portable


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
    rows: Callable[..., Any]
    one_hot: Callable[..., Any]
    erf: Callable[..., Any]
    # put together from others
    convolution: Callable[..., Any]
    convolution_gradient: Callable[..., Any]
    convolution_backward: Callable[..., Any]
    affine: Callable[..., Any]
    column_sums: Callable[..., Any]
    normalize: Callable[..., Any]
    normalize_backward: Callable[..., Any]
    dropout: Callable[..., Any]


def bind(backend: Any, kernels: str) -> Ops:
    """Returns the table for ``backend``: its fast versions, or the portable routines alone with ``"portable"``.

    A portable routine is given the namespace, ``xp``; one that is put together from others also the table, ``ops``.
    """
    table = SimpleNamespace(random_bits=backend.random_bits)
    for name in Ops._fields:  # those that are put together come after those that they are made of
        if hasattr(portable, name):
            routine = partial(getattr(portable, name), xp=backend.xp)
        else:
            from_others = getattr(convolution, name, None) or getattr(composed, name)
            routine = partial(from_others, xp=backend.xp, ops=table)
        setattr(table, name, routine if kernels == "portable" else backend.implementation(routine))
    return Ops(*(getattr(table, name) for name in Ops._fields))


def implementation(backend: Any, kernels: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the backend's fast version of one of portnn's own functions, or ``function`` itself.

    Of a method, ``SGD.update``, that is a function which takes the object first. With ``kernels="portable"``, and of
    what is not portnn's own, it is ``function``.
    """
    if kernels == "portable" or not is_ours(function) or not isinstance(function, FunctionType):
        return function
    # Without what serves those who call it alone: see ``backend.quiet``.
    own: Callable[..., Any] = getattr(function, "__wrapped__", function)
    return backend.implementation(own)


def is_ours(thing: Any) -> bool:
    """Whether a function or a class is portnn's own: a user's is checked where ours is trusted."""
    return (getattr(thing, "__module__", None) or "").startswith("portnn.")
