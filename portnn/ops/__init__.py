"""The routines that the array API standard does not have, gathered for one backend in an immutable table.

``windows.py`` computes sizes and slices, in pure Python; ``portable.py`` holds a portable version of every routine, for
any namespace, and ``convolution.py``, ``resampling.py`` and ``composed.py`` hold those that are composed of others. A
backend may have a fast version of each, of the same name, signature and meaning, in its own module ``ops``.
"""

from collections.abc import Callable
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

from portnn.ops import composed, convolution, portable, resampling

COMPOSED = (convolution, resampling, composed)


class Ops(NamedTuple):
    """The routines of one backend; a layer's are in ``self.ops``."""

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
    # composed of others
    convolution: Callable[..., Any]
    convolution_gradient: Callable[..., Any]
    convolution_backward: Callable[..., Any]
    affine: Callable[..., Any]
    column_sums: Callable[..., Any]
    scaled: Callable[..., Any]
    scaled_backward: Callable[..., Any]
    normalize: Callable[..., Any]
    normalize_backward: Callable[..., Any]
    dropout: Callable[..., Any]
    random_maps: Callable[..., Any]
    resample: Callable[..., Any]
    resample_backward: Callable[..., Any]


def bind(backend: Any, kernels: str) -> Ops:
    """Returns the table for ``backend``: its fast versions, or the portable routines alone with ``"portable"``.

    A portable routine gets the namespace ``xp`` as an argument; one composed of others also the table ``ops``.
    """
    table = SimpleNamespace(random_bits=backend.random_bits)
    for name in Ops._fields:  # those composed of others come after them
        if hasattr(portable, name):
            routine = partial(getattr(portable, name), xp=backend.xp)
        else:
            from_others = next(getattr(module, name) for module in COMPOSED if hasattr(module, name))
            routine = partial(from_others, xp=backend.xp, ops=table)
        setattr(table, name, routine if kernels == "portable" else backend.implementation(routine))
    return Ops(*(getattr(table, name) for name in Ops._fields))


def implementation(backend: Any, kernels: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the backend's fast version of one of portnn's own functions, or ``function`` itself.

    For a method, ``SGD.update``, the result is a function that takes the object first. With ``kernels="portable"``, and
    for functions that are not portnn's own, it is ``function``.
    """
    if kernels == "portable" or not is_ours(function) or not isinstance(function, FunctionType):
        return function
    # Without the decorator for direct calls: see ``backend.quiet``.
    own: Callable[..., Any] = getattr(function, "__wrapped__", function)
    return backend.implementation(own)


def is_ours(thing: Any) -> bool:
    """Whether a function or a class is portnn's own; the results of users' code are checked."""
    return (getattr(thing, "__module__", None) or "").startswith("portnn.")
