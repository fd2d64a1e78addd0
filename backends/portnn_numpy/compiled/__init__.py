"""Twins compiled by Numba, where it is installed: ``pip install "portnn[fast]"``. Without it nothing here is used.

NumPy runs through an array once for each operation; a compiled loop does all that is to be done with a number while it
is in a register. That pays where arrays are large: small ones go to the twins in the modules beside this one, and the
first fit of a small network compiles nothing. What is compiled is kept on disk for the next process.

All loops run on one thread: OpenBLAS's second thread waits busily between two products, and another one beside it would
only take turns with it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def twins() -> dict[str, Callable[..., Any]]:
    """The table of compiled twins, by the names of their portable ones; empty without Numba."""
    if isinstance(version(), Exception):
        return {}
    from portnn_numpy.compiled import convolution, elementwise, pooling, updates

    return {**elementwise.TWINS, **pooling.TWINS, **convolution.TWINS, **updates.TWINS}


@cache
def version() -> str | Exception:
    """Numba's version, or why it cannot be imported: it is missing, or too old for this NumPy."""
    try:
        import numba
    except Exception as error:  # some versions raise their own at a NumPy they do not know
        return error
    return str(numba.__version__)


def describe() -> str:
    """What ``python -m portnn info`` says."""
    found = version()
    if isinstance(found, ModuleNotFoundError):
        return 'not used: pip install "portnn[fast]" brings Numba'
    if isinstance(found, Exception):
        return f"not used: Numba does not work here ({found})"
    return f"Numba {found}"
