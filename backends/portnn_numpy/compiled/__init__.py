"""Fast versions compiled by Numba, used if it is installed: ``python -m pip install numba``.

NumPy passes over an array once per operation; a compiled loop applies all operations to a value while it is in a
register. That pays where arrays are large: small ones are left to the functions of ``portnn_numpy``, and the first fit
of a small network compiles nothing but cross-entropy of class numbers (``_losses.classes``), if that. Compiled code is
cached on disk for the next process.

Within a public call the threads of ``pool.py`` divide the loops, and the products of matrices, which OpenBLAS computes
in parts on these same threads. Results do not depend on their number.

Numba itself can fail: it may not support this NumPy or compile a loop, and its cache may be full or damaged. No failure
ends training, and none is silent: ``CompiledLoopsWarning`` reports each once.
"""

from functools import cache

from portnn_numpy.compiled import troubles
from portnn_numpy.compiled.troubles import CompiledLoopsWarning as CompiledLoopsWarning

INSTALL = "python -m pip install numba"


def is_usable(asked: bool = False) -> bool:
    """Whether Numba works here. It warns if not; where Numba is not installed, only if the user ``asked`` for it."""
    error = trouble()
    if error is None:
        return True
    if asked or not is_missing(error):
        troubles.note(troubles.LOOPS, f"loops compiled by Numba, which are faster, are {_not_used(error)}")
        troubles.say()
    return False


@cache
def trouble() -> Exception | None:
    """Why nothing can be compiled: Numba is missing, too old for this NumPy, or broken. None if all is well."""
    try:
        import numba

        if numba.config.DISABLE_JIT:  # the loops would run in Python, element by element
            return RuntimeError("the environment variable NUMBA_DISABLE_JIT is set")
        from portnn_numpy.compiled import activations, losses, ops, optimizers, training  # noqa: F401 - can they be?
    except Exception as error:  # some versions raise their own for an unsupported NumPy
        return error
    return None


def is_missing(error: Exception | None) -> bool:
    """Whether the error is that Numba is not installed."""
    return isinstance(error, ModuleNotFoundError) and error.name == "numba"


def version() -> str:
    """Numba's version."""
    import numba

    return str(numba.__version__)


def describe() -> str:
    """What ``python -m portnn info`` prints about compiled loops."""
    error = trouble()
    if error is not None:
        return _not_used(error)
    from portnn_numpy.compiled import jit

    return jit.describe()


def threads() -> str:
    """What ``python -m portnn info`` prints about the threads of compiled loops, where Numba works."""
    from portnn_numpy.compiled import pool

    return pool.describe()


def _not_used(error: Exception) -> str:
    if is_missing(error):
        return f"not used: Numba is not installed; {INSTALL} installs it"
    return f"not used: Numba does not work here ({troubles.words(error)})"
