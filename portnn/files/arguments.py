"""The arguments that make another object like a given one: a layer, an optimizer, a schedule, a loss, a metric.

portnn's own classes keep each argument of their constructor as an attribute of the same name. A user's class that takes
arguments has a method ``config`` that returns them.
"""

from collections.abc import Iterator
from inspect import Parameter as Argument
from types import FunctionType
from typing import Any

from portnn.checks import signature_of
from portnn.layers.attributes import Parameter
from portnn.layers.layer import Layer
from portnn.ops import is_ours

MANY = (Argument.VAR_POSITIONAL, Argument.VAR_KEYWORD)


def arguments_of(thing: Any) -> dict[str, Any]:
    """The keyword arguments that make another object like ``thing``; the layers in a layer are not among them.

    TypeError where a user's class does not tell them, or tells others than its constructor takes.
    """
    made = type(thing)
    config = getattr(thing, "config", None)
    if callable(config):
        return _checked(thing, config())
    if is_ours(made.__init__):
        return {name: _kept(thing, name) for name in _names(made)}
    if lacks := _needed(thing):
        raise TypeError(
            f"{made.__name__} takes {', '.join(lacks)}, but has no method config that returns what it was given: write "
            f"def config(self): return {{{', '.join(f'{name!r}: ...' for name in lacks)}}}"
        )
    return {}


def tells_arguments(thing: Any) -> bool:
    """Whether ``arguments_of`` knows how another object like ``thing`` is made."""
    return callable(getattr(thing, "config", None)) or is_ours(type(thing).__init__) or not _needed(thing)


def takes_layers(made: type) -> bool:
    """Whether a layer's class is given its children one by one, ``SequentialLayer(*layers)``, or makes them itself."""
    return any(p.kind is Argument.VAR_POSITIONAL for p in _own_parameters(made))


def _names(made: type) -> Iterator[str]:
    """The names of the arguments; a constructor with ``**others`` passes them on to that of its base class."""
    line = [base for base in made.__mro__ if isinstance(vars(base).get("__init__"), FunctionType)]
    found: dict[str, None] = {}
    for base in line:
        parameters = list(signature_of(vars(base)["__init__"]).parameters.values())[1:]
        found.update(dict.fromkeys(p.name for p in parameters if p.kind not in MANY))
        if not any(p.kind is Argument.VAR_KEYWORD for p in parameters):
            break
    return iter(found)


def _kept(thing: Any, name: str) -> Any:
    if isinstance(getattr(type(thing), name, None), Parameter):  # bias=True: the layer has that parameter
        return name in thing.shapes
    return vars(thing)[name]


def _own_parameters(made: type) -> list[Argument]:
    try:
        return list(signature_of(_constructor(made)).parameters.values())[1:]
    except ValueError:  # some classes in C do not say
        return [Argument("arguments", Argument.POSITIONAL_OR_KEYWORD)]


def _constructor(made: type) -> Any:
    """The method that takes the arguments: ``__init__``, or ``__new__`` of a user's class that has only that one."""
    new: Any = made.__new__
    init: Any = made.__init__  # type: ignore[misc]
    return new if init is object.__init__ and new is not object.__new__ and not is_ours(new) else init


def _needed(thing: Any) -> list[str]:
    """The arguments that a user's class takes, besides the layers in it."""
    if _constructor(type(thing)) is object.__init__:
        return []
    has_layers = isinstance(thing, Layer) and bool(thing.layers)
    return [
        str(p).partition(":")[0].partition("=")[0]
        for p in _own_parameters(type(thing))
        if p.kind is not Argument.VAR_POSITIONAL or not has_layers
    ]


def _checked(thing: Any, given: Any) -> dict[str, Any]:
    """What ``config`` returned, if the constructor takes it."""
    made = type(thing)
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{made.__name__}.config must return a dict of arguments by name, got {given!r:.60}")
    try:
        signature_of(made).bind(**given)
    except TypeError as error:
        raise TypeError(
            f"{made.__name__}.config returned {', '.join(given) or 'no arguments'}, but its constructor takes "
            f"{signature_of(made)}: {error}"
        ) from None
    return given
