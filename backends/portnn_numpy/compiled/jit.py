"""Compilation of the loops, the cache of compiled code, and arrays as the loops take them."""

import contextlib
import tempfile
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import prange

from portnn.backend import tell
from portnn_numpy.compiled import pool, troubles

Array = Any
LEAST = 1 << 13  # elements: with fewer, a call costs more than it saves
SHARED = 1 << 15  # elements: with fewer, dividing a pass over them among threads costs more than it saves
LINE = 16  # numbers of float32 in a line of the cache
ROOM = 1 << 16  # bytes that Numba caches for one loop
# Numba divides what is written as ``prange``, and nothing else.
PRANGE = dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}


class LoopError(RuntimeError):
    """Numba could not compile a loop; ``__cause__`` says why."""


_lost: set[Any] = set()
_told: list[str] = []  # where compiled loops are kept, once the user has been told


def ran(loop: Any, *arguments: Any) -> bool:
    """Runs a loop; returns False if the loop does, or if Numba cannot compile it.

    A fast version then leaves the case to NumPy's; if Numba failed, a warning says so.
    """
    if loop in _lost:
        return False
    try:
        return loop(*arguments) is not False
    except LoopError as error:
        _lost.add(loop)
        name = loop.__name__.strip("_")
        troubles.note(troubles.LOOPS, f"NumPy, which is slower, replaces the compiled loop {name}: {error}")
    troubles.say()
    return False


def _compiler(*fastmath: str, parallel: Any = False) -> Callable[[Any], Any]:
    """A decorator that compiles a loop. NaN and infinity keep their meaning; the code is cached on disk if possible."""

    def decorate(function: Any) -> Any:
        loop = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath), parallel=parallel)(function)
        try:
            loop.enable_caching()
        except Exception as error:  # neither the package's nor the user's cache folder is writable
            troubles.note(troubles.CACHE, _not_kept("on disk", error))
        else:
            loop._cache = Cache(loop._cache)
            wanted, place = numba.config.CACHE_DIR, loop._cache.cache_path
            if wanted and not Path(place).is_relative_to(wanted):
                reason = f"NUMBA_CACHE_DIR={wanted} cannot be used"
                troubles.note(troubles.CACHE, f"{reason}: what Numba compiles is cached in {place} instead")
        # Numba only calls this for argument types that it has not compiled the loop for, so other calls cost nothing.
        loop._compile_for_args = partial(_compile, loop._compile_for_args)
        return loop

    return decorate


def _compile(numbas_own: Any, *arguments: Any, **named: Any) -> Any:
    try:
        compiled = numbas_own(*arguments, **named)
    except Exception as error:  # any exception: the arguments have been checked already
        raise LoopError(f"Numba could not compile a loop ({troubles.words(error)})") from error
    troubles.say()
    return compiled


class Cache:
    """Numba's cache of one loop. Its errors, for a full disk or a damaged file, only mean compiling again."""

    def __init__(self, numbas_own: Any):
        self.numbas_own = numbas_own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numbas_own, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            found = self.numbas_own.load_overload(signature, context)
            if found is None:
                _tell_once(self.numbas_own.cache_path)
            return found
        except Exception as error:  # a damaged file can raise anything
            place, reason = self.numbas_own.cache_path, troubles.words(error)
            troubles.note(troubles.CACHE, f"a file of Numba's cache in {place} is damaged ({reason}): it is replaced")
        with contextlib.suppress(Exception):  # reported when saving fails too
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


def _tell_once(place: str) -> None:
    if not _told:
        _told.append(place)
        tell(f"compiling loops for this processor, which takes seconds; they are kept in {place}")


def _not_kept(where: str, error: Exception) -> str:
    return (
        f"what Numba compiles cannot be cached {where} ({troubles.words(error)}): every process compiles it again, "
        "which takes seconds. Set the environment variable NUMBA_CACHE_DIR to a writable folder with free space"
    )


MATH = "contract", "nsz"  # a*b + c may be one instruction
jit = _compiler(*MATH)


class Loop:
    """A loop in two forms, of equal results: for one thread, and with its ``prange`` divided among the pool's.

    The second is used from ``least`` elements of its first argument on. Each is compiled when it is first used; where
    Numba compiles only the first, that one takes the place of the second.
    """

    def __init__(self, function: Callable[..., Any], least: int, contract: bool = True):
        self.__name__, self.py_func, self.least = function.__name__, function, least
        self.math = MATH if contract else ("nsz",)
        self.divides = True

    @cached_property  # Numba takes a millisecond to prepare a loop, and no network uses all
    def serial(self) -> Any:
        return _compiler(*self.math)(self.py_func)

    @cached_property
    def parallel(self) -> Any:
        f = self.py_func
        copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        copy.__module__, copy.__qualname__ = f.__module__, f"{f.__qualname__}_on_threads"  # it is cached by this name
        return _compiler(*self.math, parallel=PRANGE)(copy)

    def __call__(self, *arguments: Any) -> Any:
        if arguments[0].size < self.least or pool.threads() == 1 or not self.divides:
            return self.serial(*arguments)
        return pool.divided(self, arguments)

    def on_threads(self, *arguments: Any) -> Any:
        """Runs the second form, or from its first failure on the first."""
        try:
            return self.parallel(*arguments)
        except LoopError as error:  # nothing has run yet
            reason = error
        self.divides = False
        found = self.serial(*arguments)  # if Numba does not compile this one either, ``ran`` says so
        troubles.note(troubles.THREADS, f"the compiled loop {self.__name__.strip('_')} runs on one thread: {reason}")
        troubles.say()
        return found


def loop(least: int = SHARED, contract: bool = True) -> Callable[[Any], Loop]:
    """A decorator for a loop that may be divided among threads.

    Where a formula has several products to add, such as a*b + c*d, the compiler may join either one with the addition,
    and not the same one in each form, or at the end of an array: ``contract=False`` rounds every product.
    """
    return partial(Loop, least=least, contract=contract)


@jit
def _sum(x: Array) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i]
    return total


def describe() -> str:
    """Whether compiling works here, tried with a test loop; without warnings."""
    try:
        _sum.compile((numba.float64[::1],))
    except Exception as error:
        return f"not used: Numba {numba.__version__} does not compile here ({troubles.words(error)})"
    if isinstance(_sum._cache, Cache):
        _sum._cache.try_to_write()
    lost = troubles.found(troubles.LOOPS) + troubles.found(troubles.CACHE)[-1:]
    return "; ".join((f"Numba {numba.__version__}", *lost))


def flat(*arrays: Array) -> list[Array] | None:
    """Equally shaped arrays as 1-D views in memory order; None unless all are contiguous in the same order.

    Also None where an array is small, or not of one floating dtype that all share: NumPy's functions serve those.
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
    """The axes from the one with the largest stride to the one with the smallest."""
    return sorted(range(x.ndim), key=lambda axis: -x.strides[axis])


def empty_like(x: Array) -> tuple[Array, Array]:
    """A new array with the shape and memory order of one that ``flat`` takes, and its 1-D view."""
    y = np.empty_like(x)  # it keeps the order
    return y, (y if y.flags.c_contiguous else y.transpose(memory_order(x))).reshape(-1)


def writable(a: Array) -> Array:
    """The array contiguous and writable, as the loops are compiled for; a copy where necessary."""
    return a if a.flags.c_contiguous and a.flags.writeable else np.array(a, order="C")


@loop()
def _turn(x: Array, y: Array) -> None:
    """y (K, N) = x (N, K) turned: each cache line of x is read once."""
    n, k = x.shape
    for block in prange((k + LINE - 1) // LINE):
        left = block * LINE
        right = min(left + LINE, k)
        for i in range(n):
            row = x[i, left:right]
            for j in range(right - left):
                y[left + j, i] = row[j]


def turned(x: Array) -> Array | None:
    """A contiguous transpose of a large C-ordered matrix, made by all threads; None where NumPy should make it."""
    if x.size < SHARED or x.dtype.char not in "fd" or not x.dtype.isnative:
        return None
    y = np.empty((x.shape[1], x.shape[0]), x.dtype)
    return y if ran(_turn, writable(x), y) else None
