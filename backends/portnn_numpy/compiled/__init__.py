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


def twins() -> dict[str, Callable[..., Any]]:
    """The table of compiled twins, by the names of their portable ones; empty without Numba."""
    found = load()
    return {} if isinstance(found, Exception) else found


@cache
def load() -> dict[str, Callable[..., Any]] | Exception:
    """The table, or why there is none: Numba is missing, too old for this NumPy, or does not work here."""
    try:
        from portnn_numpy.compiled import convolution, elementwise, pooling, updates
    except Exception as error:  # some versions raise their own at a NumPy they do not know
        return error
    return {**elementwise.TWINS, **pooling.TWINS, **convolution.TWINS, **updates.TWINS}


def describe() -> str:
    """What ``python -m portnn info`` says."""
    found = load()
    if isinstance(found, ModuleNotFoundError):
        return 'not used: pip install "portnn[fast]" brings Numba'
    if isinstance(found, Exception):
        return f"not used: Numba does not work here ({found})"
    import numba

    return f"Numba {numba.__version__}"
