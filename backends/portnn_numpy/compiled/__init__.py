"""Twins compiled by Numba, where it is installed: ``python -m pip install numba``. Without it nothing here is used.

NumPy runs through an array once for each operation; a compiled loop does all that is to be done with a number while it
is in a register. That pays where arrays are large: small ones go to the twins in the modules beside this one, and the
first fit of a small network compiles nothing. What is compiled is kept on disk for the next process.

All loops run on one thread: OpenBLAS's second thread waits busily between two products, and another one beside it would
only take turns with it.

Numba has troubles of its own: a NumPy that it does not know, a loop that it cannot compile, a cache that is full or
damaged. None of them ends a training, and none is passed over in silence: ``CompiledLoopsWarning`` says it once.
"""

from collections.abc import Callable
from functools import cache, wraps
from inspect import signature
from typing import Any

from portnn_numpy import elementwise as elementwise_passes
from portnn_numpy import images
from portnn_numpy import updates as update_passes
from portnn_numpy.compiled import troubles
from portnn_numpy.compiled.troubles import CompiledLoopsWarning as CompiledLoopsWarning

NUMPYS = images.TWINS | elementwise_passes.TWINS | update_passes.TWINS
INSTALL = "python -m pip install numba"


def twins(asked: bool = False) -> dict[str, Callable[..., Any]]:
    """The table of compiled twins, by the names of their portable ones; empty where Numba does not work.

    That is warned of, but not where Numba is simply not installed, unless somebody has ``asked`` for it.
    """
    found = load()
    if not isinstance(found, Exception):
        return found
    if asked or not is_missing(found):
        troubles.note(troubles.LOOPS, f"loops compiled by Numba, which are quicker, are {_not_used(found)}")
        troubles.say()
    return {}


@cache
def load() -> dict[str, Callable[..., Any]] | Exception:
    """The table, or why there is none: Numba is missing, too old for this NumPy, or does not work here."""
    try:
        import numba

        if numba.config.DISABLE_JIT:  # the loops would run number by number, in Python
            return RuntimeError("the environment variable NUMBA_DISABLE_JIT is set")
        from portnn_numpy.compiled import convolution, elementwise, pooling, updates
    except Exception as error:  # some versions raise their own at a NumPy they do not know
        return error
    table = {**elementwise.TWINS, **pooling.TWINS, **convolution.TWINS, **updates.TWINS}
    numpys = NUMPYS | {"ops.convolution_gradient": _convolution_gradient}
    return {name: _guarded(name, twin, numpys.get(name)) for name, twin in table.items()}


def is_missing(found: Any) -> bool:
    """Whether there is no table because Numba is not installed."""
    return isinstance(found, ModuleNotFoundError) and found.name == "numba"


def _guarded(name: str, twin: Callable[..., Any], numpys: Callable[..., Any] | None) -> Callable[..., Any]:
    """A compiled twin that makes way for its NumPy twin, from the first time on that Numba cannot compile it.

    Without a NumPy twin the portable one takes its place, which a compiled one is given as ``plain``.
    """
    from portnn_numpy.compiled.jit import LEAST, LoopError

    works = True

    def give_up(error: Exception) -> None:
        nonlocal works
        works = False
        troubles.note(troubles.LOOPS, f"NumPy, which is slower, takes the place of {twin.__name__}: {error}")
        troubles.say()

    if numpys is None or "plain" in signature(twin).parameters:

        @wraps(twin)
        def call(*arguments: Any, plain: Any) -> Any:
            if works:
                try:
                    return twin(*arguments, plain=plain)
                except LoopError as error:
                    give_up(error)
            return plain(*arguments) if numpys is None else numpys(*arguments, plain=plain)

        return call

    # One more call of Python is nothing beside a loop over thousands of numbers, but the step of a small network would
    # feel it. So those that are called in each have their parameters written out, which is quicker, and small arrays
    # go to the NumPy twin from here: the compiled twin would send them there too.

    def biased(product: Any, bias: Any, activation: Any = None) -> Any:
        if works and product.size >= LEAST:
            try:
                return twin(product, bias, activation)
            except LoopError as error:
                give_up(error)
        return numpys(product, bias, activation)

    def chain(prime: Any, x: Any, y: Any, output_error: Any) -> Any:
        if works and y.size >= LEAST:
            try:
                return twin(prime, x, y, output_error)
            except LoopError as error:
                give_up(error)
        return numpys(prime, x, y, output_error)

    def update(optimizer: Any, parameters: Any, gradients: Any, slots: Any, hyper: Any) -> Any:
        if works:
            try:
                return twin(optimizer, parameters, gradients, slots, hyper)
            except LoopError as error:
                give_up(error)
        return numpys(optimizer, parameters, gradients, slots, hyper)

    def others(*arguments: Any) -> Any:
        if works:
            try:
                return twin(*arguments)
            except LoopError as error:
                give_up(error)
        return numpys(*arguments)

    written_out: dict[str, Any] = {"ops.biased": biased, "activations.chain": chain}
    return wraps(twin)(written_out.get(name, update if name.endswith(".update") else others))


def _convolution_gradient(seen: Any, output_error: Any, plan: Any, shape: Any, *, plain: Any) -> Any:
    """``plain``, also where the compiled twin has been on the way there: it keeps images in place of patches."""
    from portnn_numpy.compiled.convolution import Seen

    if isinstance(seen, Seen):
        (source,) = seen  # (groups, C/groups, H, W, N)
        groups, channels = source.shape[:2]
        x = images.channels_last(source.reshape(groups * channels, *source.shape[2:]))
        seen = images.patches(x, plan, groups)
    return plain(seen, output_error, plan, shape)


def describe() -> str:
    """What ``python -m portnn info`` says."""
    found = load()
    if isinstance(found, Exception):
        return _not_used(found)
    from portnn_numpy.compiled import jit

    return jit.describe()


def _not_used(found: Exception) -> str:
    if is_missing(found):
        return f"not used: Numba is not installed; {INSTALL} brings it"
    return f"not used: Numba does not work here ({troubles.words(found)})"
