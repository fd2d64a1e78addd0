"""The classes and functions that a file may name: portnn's own, and those that the caller gives.

A name is looked up in these tables and nowhere else: nothing is imported.
"""

from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from portnn import activations, layers, losses, metrics, optimizers, schedules
from portnn.files.errors import FileError
from portnn.functions import is_same, name_of
from portnn.layers import Layer
from portnn.ops import is_ours


def _classes(*modules: ModuleType) -> dict[str, type]:
    """The public classes that these modules define, but for base classes and types of dicts."""
    return {
        name: thing
        for module in modules
        for name, thing in vars(module).items()
        if isinstance(thing, type) and thing.__module__.startswith(module.__name__)
        if name[0] != "_" and not issubclass(thing, dict) and thing not in BASES
    }


def _functions() -> dict[str, Any]:
    pairs = [*activations.PAIRS.values(), *activations.FOREIGN.values(), *losses.PAIRS.values()]
    found = {function.__name__: function for pair in pairs for function in pair}
    own = {name: f for name, f in vars(metrics).items() if isinstance(f, FunctionType) and is_ours(f)}
    return found | {name: f for name, f in own.items() if name[0] != "_"}


BASES = (optimizers.Optimizer, metrics.Metric, metrics.ClassScore)  # which other classes derive from, and no more
LAYERS: dict[str, type] = {name: getattr(layers, name) for name in layers.__all__ if name != "Layer"}
CLASSES = _classes(optimizers, schedules, losses, metrics)
FUNCTIONS = _functions()


# The module of portnn from which a class or function comes that is given as one of these arguments.
ROLES = {
    "activation": "activations",
    "activation_prime": "activations",
    "learning_rate": "schedules",
    "schedule": "schedules",
}


def check_role(what: str, thing: Any, module: str) -> None:
    """FileError for one of portnn's own classes and functions in the place of another kind: a schedule as a metric."""
    made = thing if isinstance(thing, FunctionType) else type(thing)
    if is_ours(made) and made.__module__ != f"portnn.{module}":
        raise FileError(f"the file has {name_of(thing)} as {what}, which is none of portnn's {module}")


class Known:
    """What the names in a file stand for; ``given`` are the caller's own classes, functions and objects."""

    def __init__(self, given: Iterable[Any] = ()):
        self.layers, self.classes, self.given = dict(LAYERS), dict(CLASSES), dict[str, Any]()
        for thing in _flat(given):
            name = name_of(thing)
            if name in self.given and not is_same(self.given[name], thing):
                raise ValueError(f"layers= holds two different things called {name}: rename one of them")
            self.given[name] = thing
            if isinstance(thing, type):
                self._add_class(name, thing)

    def _add_class(self, name: str, thing: type) -> None:
        if name in LAYERS or name in CLASSES:
            if thing in (LAYERS.get(name), CLASSES.get(name)):
                return
            raise ValueError(f"layers= holds a class {name}, which is the name of one of portnn's own: rename yours")
        (self.layers if issubclass(thing, Layer) else self.classes)[name] = thing

    def missing(self, described: Any) -> list[str]:
        """The names in a description, as a file holds it, that neither portnn nor the caller knows."""
        found: dict[str, None] = {}
        rest = [described]
        while rest:
            part = rest.pop()
            if isinstance(part, dict):
                name = part.get("class", part.get("given"))
                if isinstance(name, str) and name not in self.given | self.layers | self.classes:
                    found[name] = None
                part = [*part.values()]
            rest += part if isinstance(part, list) else []
        return list(found)

    def make(self, made: type, arguments: dict[str, Any], inside: Iterable[Any] = ()) -> Any:
        """A new object; FileError where the constructor refuses what the file holds."""
        for name in ROLES.keys() & arguments.keys() if is_ours(made) else ():
            check_role(f"{name} of {made.__name__}", arguments[name], ROLES[name])
        try:
            return made(*inside, **arguments)
        except Exception as error:  # a user's constructor may raise anything
            given = ", ".join(f"{name}={value!r:.40}" for name, value in arguments.items())
            raise FileError(
                f"{made.__name__}({given:.200}) of the file cannot be made: {type(error).__name__}: {str(error)[:300]}"
            ) from error


def _flat(given: Any) -> list[Any]:
    """The things that a caller gave; a loss and its derivative may be a tuple."""
    if isinstance(given, (str, bytes, dict, type)) or not isinstance(given, Iterable):
        raise TypeError(f"layers must be a list of your own classes and functions, layers=[Gain], got {given!r:.60}")
    several = lambda thing: isinstance(thing, (tuple, list)) and not callable(thing)  # noqa: E731
    found = [part for thing in given for part in (thing if several(thing) else [thing])]
    for thing in found:
        if isinstance(thing, (str, bytes, Layer)):
            kind = type(thing).__name__
            advice = f"write layers=[{kind}]" if isinstance(thing, Layer) else "give the class itself, layers=[Gain]"
            raise TypeError(f"layers takes classes and functions, got {thing!r:.60}: {advice}")
    return found
