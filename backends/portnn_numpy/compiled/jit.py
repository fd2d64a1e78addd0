"""How everything here is compiled and kept, and how arrays are handed over."""

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np

from portnn_numpy.compiled import troubles

Array = Any
LEAST = 1 << 13  # numbers: with fewer, a call costs more than it saves
ROOM = 1 << 16  # bytes: what Numba keeps of one loop


class LoopError(RuntimeError):
    """Numba could not compile a loop; the cause says why."""


_lost: set[Any] = set()


def ran(loop: Any, *arguments: Any) -> bool:
    """Runs a loop; false if it answers False, and from the first time on that Numba cannot compile it.

    A fast version then leaves the case to NumPy's, which is warned of.
    """
    if loop in _lost:
        return False
    try:
        return loop(*arguments) is not False
    except LoopError as error:
        _lost.add(loop)
        name = loop.__name__.strip("_")
        troubles.note(troubles.LOOPS, f"NumPy, which is slower, takes the place of the compiled loop {name}: {error}")
    troubles.say()
    return False


def _compiler(*fastmath: str) -> Callable[[Any], Any]:
    """A decorator. NaN and infinity stay what they are; what is compiled is kept on disk, where there is a place."""

    def decorate(function: Any) -> Any:
        loop = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath))(function)
        try:
            loop.enable_caching()
        except Exception as error:  # neither the package's folder nor the user's can be written to
            troubles.note(troubles.CACHE, _not_kept("on disk", error))
        else:
            loop._cache = Cache(loop._cache)
            wanted, place = numba.config.CACHE_DIR, loop._cache.cache_path
            if wanted and not Path(place).is_relative_to(wanted):
                reason = f"NUMBA_CACHE_DIR={wanted} cannot be used"
                troubles.note(troubles.CACHE, f"{reason}: what Numba compiles is kept in {place} instead")
        # Numba calls this for arrays of types that it has not compiled the loop for: where it has, nothing is slower.
        loop._compile_for_args = partial(_compile, loop._compile_for_args)
        return loop

    return decorate


def _compile(numbas_own: Any, *arguments: Any, **named: Any) -> Any:
    try:
        compiled = numbas_own(*arguments, **named)
    except Exception as error:  # of whatever kind: what the loops are called with has been looked at before
        raise LoopError(f"Numba could not compile a loop ({troubles.words(error)})") from error
    troubles.say()
    return compiled


class Cache:
    """Numba's cache of one loop. What it raises at a full disk or a damaged file only costs compiling again."""

    def __init__(self, numbas_own: Any):
        self.numbas_own = numbas_own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numbas_own, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return self.numbas_own.load_overload(signature, context)
        except Exception as error:  # a damaged file can raise anything
            place, reason = self.numbas_own.cache_path, troubles.words(error)
            troubles.note(
                troubles.CACHE, f"a file in which Numba kept a loop, in {place}, is damaged ({reason}): it is replaced"
            )
        with contextlib.suppress(Exception):  # told when the loop cannot be saved either
            self.numbas_own.flush()
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            self.numbas_own.save_overload(signature, compiled)
        except Exception as error:
            troubles.note(troubles.CACHE, _not_kept(f"in {self.numbas_own.cache_path}", error))

    def try_to_write(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=self.numbas_own.cache_path) as file:
                file.write(bytes(ROOM))
        except OSError as error:
            troubles.note(troubles.CACHE, _not_kept(f"in {self.numbas_own.cache_path}", error))


def _not_kept(where: str, error: Exception) -> str:
    return (
        f"what Numba compiles cannot be kept {where} ({troubles.words(error)}): every process compiles it again, which "
        "takes seconds. Set the environment variable NUMBA_CACHE_DIR to a folder that can be written to and has room"
    )


jit = _compiler("contract", "nsz")  # a*b + c may be one instruction


@jit
def _sum(x: Array) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i]
    return total


def describe() -> str:
    """How compiling goes here, tried out with a loop that nobody needs; nothing is warned of."""
    try:
        _sum.compile((numba.float64[::1],))
    except Exception as error:
        return f"not used: Numba {numba.__version__} does not compile here ({troubles.words(error)})"
    if isinstance(_sum._cache, Cache):
        _sum._cache.try_to_write()
    lost = troubles.found(troubles.LOOPS) + troubles.found(troubles.CACHE)[-1:]
    return "; ".join((f"Numba {numba.__version__}", *lost))


def flat(*arrays: Array) -> list[Array] | None:
    """The numbers of equally shaped arrays as they lie in memory, 1-D; None unless all lie without gaps in one order.

    Also None where an array is small or not of a floating dtype that all share: NumPy's functions serve those.
    """
    first = arrays[0]
    if first.size < LEAST or first.dtype.char not in "fd":
        return None
    order = None if first.flags.c_contiguous else memory_order(first)
    found = []
    for a in arrays:
        if a.dtype != first.dtype or a.shape != first.shape:
            return None
        a = a if order is None else a.transpose(order)
        if not a.flags.c_contiguous:
            return None
        found.append(writable(a).reshape(-1))
    return found


def memory_order(x: Array) -> list[int]:
    """The axes from the one with the largest steps in memory to the one with the smallest."""
    return sorted(range(x.ndim), key=lambda axis: -x.strides[axis])


def empty_like(x: Array) -> tuple[Array, Array]:
    """A new array in the shape and the order in memory of one that ``flat`` takes, and its numbers, 1-D."""
    y = np.empty_like(x)  # it keeps the order
    return y, (y if y.flags.c_contiguous else y.transpose(memory_order(x))).reshape(-1)


def writable(a: Array) -> Array:
    """Without gaps and writable, as the loops are compiled for; a copy where it must be."""
    return a if a.flags.c_contiguous and a.flags.writeable else np.array(a, order="C")
