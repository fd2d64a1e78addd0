"""Fast versions compiled by Numba, where it is installed: ``python -m pip install numba``. Without it none is used.

NumPy runs through an array once for each operation; a compiled loop does all that is to be done with a number while it
is in a register. That pays where arrays are large: small ones are left to the functions of ``portnn_numpy``, and the
first fit of a small network compiles nothing. What is compiled is kept on disk for the next process.

All loops run on one thread: OpenBLAS's second thread waits busily between two products, and another one beside it would
only take turns with it.

Numba has troubles of its own: a NumPy that it does not know, a loop that it cannot compile, a cache that is full or
damaged. None of them ends a training, and none is passed over in silence: ``CompiledLoopsWarning`` says it once.
"""

from functools import cache

from portnn_numpy.compiled import troubles
from portnn_numpy.compiled.troubles import CompiledLoopsWarning as CompiledLoopsWarning

INSTALL = "python -m pip install numba"


def is_usable(asked: bool = False) -> bool:
    """Whether Numba works here. If not, that is warned of, but not where Numba is simply not installed, unless somebody
    has ``asked`` for it.
    """
    error = trouble()
    if error is None:
        return True
    if asked or not is_missing(error):
        troubles.note(troubles.LOOPS, f"loops compiled by Numba, which are quicker, are {_not_used(error)}")
        troubles.say()
    return False


@cache
def trouble() -> Exception | None:
    """Why nothing can be compiled: Numba is missing, too old for this NumPy, or does not work here. None: it can."""
    try:
        import numba

        if numba.config.DISABLE_JIT:  # the loops would run number by number, in Python
            return RuntimeError("the environment variable NUMBA_DISABLE_JIT is set")
        from portnn_numpy.compiled import activations, ops, optimizers  # noqa: F401 - whether they can be imported
    except Exception as error:  # some versions raise their own at a NumPy they do not know
        return error
    return None


def is_missing(error: Exception | None) -> bool:
    """Whether the trouble is that Numba is not installed."""
    return isinstance(error, ModuleNotFoundError) and error.name == "numba"


def describe() -> str:
    """What ``python -m portnn info`` says."""
    error = trouble()
    if error is not None:
        return _not_used(error)
    from portnn_numpy.compiled import jit

    return jit.describe()


def _not_used(error: Exception) -> str:
    if is_missing(error):
        return f"not used: Numba is not installed; {INSTALL} brings it"
    return f"not used: Numba does not work here ({troubles.words(error)})"
