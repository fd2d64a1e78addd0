"""Fast versions of portnn's functions: how a backend package's own is found, and what it leaves to the next one."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache, partial, update_wrapper
from typing import Any


def fast_version(function: Callable[..., Any], packages: Sequence[str]) -> Callable[..., Any]:
    """Returns the version of one of portnn's own functions in ``packages``, the fastest first, or the function itself.

    A package mirrors the library: ``portnn.losses.mse`` is looked up in its module ``losses`` under the name ``mse``,
    the method ``portnn.optimizers.SGD.update`` as ``SGD.update`` in ``optimizers``, and functions of a subpackage,
    ``portnn.ops`` or ``portnn.training``, in one module of the subpackage's name. Signature and meaning are those of
    the library's function. A version returns ``NotImplemented`` for a case that it leaves to the next package, or after
    the last one to ``function``.
    """
    own = function.func if isinstance(function, partial) else function
    versions = []
    for package in packages:
        if (version := _namesake(own, package)) is not None:
            versions.append(version)
            if not _leaves_cases(version):
                break
    else:
        versions.append(function)
    return versions[0] if len(versions) == 1 else _in_turn(versions, own)


def _namesake(function: Any, package: str) -> Callable[..., Any] | None:
    """The function of the same name in the package's module of the same name."""
    module = f"{package}.{function.__module__.split('.')[1]}"
    found: Any = importlib.import_module(module) if _is_module(module) else None
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # the package that should contain it is missing
        if error.name is None or not name.startswith(error.name):
            raise
        return False


def _leaves_cases(version: Any) -> bool:
    """Whether it mentions ``NotImplemented`` anywhere: if not, its return value need not be checked."""
    code = getattr(version, "__code__", None)  # the array library's own functions have none
    return code is not None and "NotImplemented" in code.co_names


def _in_turn(versions: Sequence[Callable[..., Any]], own: Callable[..., Any]) -> Callable[..., Any]:
    """One callable that tries each version until one does not return ``NotImplemented``.

    It is written out for two to five parameters, which covers the routines called in each step: packing and unpacking
    arguments costs time in every call.
    """
    if len(versions) > 3:
        versions = [*versions[:2], _in_turn(versions[2:], own)]
    first, second, last = versions if len(versions) == 3 else (*versions, versions[-1])

    def two(a: Any, b: Any) -> Any:
        answer = first(a, b)
        if answer is NotImplemented:
            answer = second(a, b)
        return last(a, b) if answer is NotImplemented else answer

    def three(a: Any, b: Any, c: Any) -> Any:
        answer = first(a, b, c)
        if answer is NotImplemented:
            answer = second(a, b, c)
        return last(a, b, c) if answer is NotImplemented else answer

    def four(a: Any, b: Any, c: Any, d: Any) -> Any:
        answer = first(a, b, c, d)
        if answer is NotImplemented:
            answer = second(a, b, c, d)
        return last(a, b, c, d) if answer is NotImplemented else answer

    def five(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        answer = first(a, b, c, d, e)
        if answer is NotImplemented:
            answer = second(a, b, c, d, e)
        return last(a, b, c, d, e) if answer is NotImplemented else answer

    def others(*arguments: Any) -> Any:
        answer = first(*arguments)
        if answer is NotImplemented:
            answer = second(*arguments)
        return last(*arguments) if answer is NotImplemented else answer

    written_out: dict[int, Any] = {2: two, 3: three, 4: four, 5: five}
    call = written_out.get(first.__code__.co_argcount, others)
    if call is not others:
        call.__defaults__ = first.__defaults__
    return update_wrapper(call, own)
